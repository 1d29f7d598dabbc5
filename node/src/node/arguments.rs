//! The arguments of a program that embeds a node: the flags of the settings and nothing else. An unknown flag or
//! `--help` must not start a node.

use std::{
    ffi::OsString,
    fmt::Write,
    path::{Path, PathBuf},
};

use crate::{
    codes,
    error::ApiError,
    settings::{Setting, TABLE, nearest},
};

/// The parsed arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Arguments {
    /// Settings.
    Flags(Flags),
    /// `--help` or `-h` was given.
    Help,
}

/// Settings that were given as flags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Flags {
    /// The settings file, if one is named.
    pub(super) config: Option<PathBuf>,
    /// Name of the setting and its text.
    pub(super) given: Vec<(&'static str, String)>,
}

impl Arguments {
    /// Parses the arguments after the program's name. Arguments after `--` belong to the program.
    ///
    /// # Errors
    /// If one is not a flag of a node, or its value is missing.
    pub(super) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, ApiError> {
        let mut arguments = arguments.into_iter().map(text).peekable();
        let mut flags = Flags::default();
        while let Some(argument) = arguments.next().transpose()? {
            let Some(flag) = argument.strip_prefix("--") else {
                if argument == "-h" {
                    return Ok(Self::Help);
                }
                return Err(unknown(&argument));
            };
            let (flag, value) = match flag.split_once('=') {
                Some((flag, value)) => (flag, Some(value.to_owned())),
                None => (flag, None),
            };
            let mut value = || match value.clone() {
                Some(value) => Ok(value),
                None => arguments
                    .next_if(|next| !next.as_ref().is_ok_and(|next| next.starts_with("--")))
                    .unwrap_or_else(|| Err(wrong(format!("--{flag} needs a value")))),
            };
            match (flag, TABLE.iter().find(|setting| setting.flag == flag)) {
                ("", _) => break,
                ("help", _) => return Ok(Self::Help),
                ("config", _) => flags.config = Some(value()?.into()),
                (_, Some(setting)) if setting.is_switch() => {
                    flags.given.push((setting.name, value_of_switch(&argument)));
                }
                (_, Some(setting)) => flags.given.push((setting.name, value()?)),
                (_, None) => return Err(unknown(&argument)),
            }
        }
        Ok(Self::Flags(flags))
    }
}

/// Returns the value of a switch: `true`, unless it has `=true` or `=false`.
fn value_of_switch(argument: &str) -> String {
    argument.split_once('=').map_or("true", |(_, value)| value).to_owned()
}

fn text(argument: OsString) -> Result<String, ApiError> {
    argument.into_string().map_err(|argument| wrong(format!("the argument {argument:?} is no text in UTF-8")))
}

fn wrong(message: String) -> ApiError {
    ApiError::new(&codes::USAGE, message).hint("--help lists the flags")
}

fn unknown(argument: &str) -> ApiError {
    let flag = argument.split_once('=').map_or(argument, |(flag, _)| flag);
    let known = TABLE.iter().map(|setting| format!("--{}", setting.flag)).chain(["--config".to_owned()]);
    let near = nearest(flag, known).filter(|_| flag.starts_with("--"));
    let meant = near.map(|near| format!("did you mean {near}? ")).unwrap_or_default();
    wrong(format!("this program has no argument {flag:?}")).hint(format!(
        "{meant}--help lists the flags; a program that has arguments of its own takes them behind `--`, or gives \
         `Node::from_args` those of the node"
    ))
}

/// Returns the text of `--help`.
pub(super) fn help(program: &Path) -> String {
    let program = program.file_name().map_or_else(|| "program".into(), |name| name.to_string_lossy());
    let mut text = format!(
        "Usage: {program} [FLAGS] [-- ARGUMENTS OF ITS OWN]\n\n\
         This program runs an Evener node. Flags go before variables, before evener.toml, before defaults.\n\n"
    );
    let mut row = |flag: &str, about: &str| writeln!(text, "  {flag}\n          {about}").expect("a text takes all");
    for setting in TABLE {
        let Setting { flag, kind, about, default, .. } = setting;
        let value = if setting.is_switch() { String::new() } else { format!(" <{kind}>") };
        let unset = if default.is_empty() { "none" } else { default };
        row(&format!("--{flag}{value}"), &format!("{about} [default: {unset}] [variable: {}]", setting.variable()));
    }
    row("--config <FILE>", "The settings file [default: evener.toml, if there is one] [variable: EVENER_CONFIG]");
    row("-h, --help", "Print this");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments, ApiError> {
        Arguments::parse(line.split(' ').filter(|word| !word.is_empty()).map(OsString::from))
    }

    #[test]
    fn flags_of_settings_are_taken_as_serve_takes_them() {
        let check = |line: &str, expected: &[(&'static str, &str)]| {
            let given = expected.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
            assert_eq!(parse(line), Ok(Arguments::Flags(Flags { config: None, given })), "of {line}");
        };
        check("", &[]);
        check(
            "--name=a --bootstrap --join b:1,c:2",
            &[("node.name", "a"), ("cluster.bootstrap", "true"), ("cluster.join", "b:1,c:2")],
        );
        check("--bootstrap=false", &[("cluster.bootstrap", "false")]);
        check("--data -x", &[("node.data", "-x")]);
        check("--data x -- run --verbose --name a", &[("node.data", "x")]);
        let file = Flags { config: Some("a.toml".into()), ..Flags::default() };
        assert_eq!(parse("--config a.toml"), Ok(Arguments::Flags(file)));
    }

    #[test]
    fn what_is_no_flag_of_a_node_is_refused_with_what_was_meant() {
        for (line, message) in [
            ("--verbose", "this program has no argument \"--verbose\""),
            ("--data x run", "this program has no argument \"run\""),
            ("-n 3", "this program has no argument \"-n\""),
            ("--port=80", "this program has no argument \"--port\""),
            ("--name --bootstrap", "--name needs a value"),
            ("--name", "--name needs a value"),
        ] {
            let error = parse(line).expect_err(line);
            assert!(error.is(&codes::USAGE), "{line}: {error}");
            assert_eq!(error.message, message, "{line}");
            assert!(error.hint.contains("--help"), "{line}: {}", error.hint);
        }
        let error = parse("--nmae a").expect_err("it is misspelt");
        assert!(error.hint.starts_with("did you mean --name? "), "{}", error.hint);
    }

    #[test]
    fn help_is_asked_for_in_any_place_before_the_programs_own_and_names_every_flag() {
        for line in ["--help", "-h", "--data x --help --verbose"] {
            assert_eq!(parse(line), Ok(Arguments::Help), "{line}");
        }
        assert_eq!(parse("-- --help"), Ok(Arguments::Flags(Flags::default())));
        let help = help(Path::new("/usr/bin/balances"));
        assert!(help.starts_with("Usage: balances "), "{help}");
        assert!(TABLE.iter().all(|setting| help.contains(&format!("\n  --{}", setting.flag))), "{help}");
    }
}
