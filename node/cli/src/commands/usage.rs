//! A wrong command line: clap's words, with tips where its own lead nowhere, our code and its exit status.

use std::{io::IsTerminal, process::ExitCode};

use clap::{
    Command, CommandFactory,
    builder::StyledStr,
    error::{ContextKind, ContextValue, ErrorKind},
};

use super::Cli;
use evener::codes;

/// The command line, ready to be matched.
pub fn command() -> Command {
    taking_negatives(Cli::command())
}

/// `--from -1` is a value that is wrong and not a flag that is unknown: the option's own parser says so.
fn taking_negatives(command: Command) -> Command {
    let command = command.mut_args(|arg| {
        let takes = arg.get_long().is_some() && arg.get_action().takes_values();
        if takes { arg.allow_negative_numbers(true) } else { arg }
    });
    command.mut_subcommands(taking_negatives)
}

/// Says what is wrong with the command line `words`, or shows help, which is no error.
pub fn complain(mut error: clap::Error, words: impl Iterator<Item = String>) -> ExitCode {
    if !error.use_stderr() {
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    improve(&mut error, &words.collect::<Vec<_>>());
    let text = error.render();
    if std::io::stderr().is_terminal() {
        eprint!("{}", text.ansi());
    } else {
        eprint!("{text}");
    }
    if error.kind() != ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        eprintln!("\ncode: {} ({})", codes::USAGE.id, codes::USAGE.title);
    }
    ExitCode::from(codes::USAGE.exit_code())
}

/// Puts the tips that help in place of those that do not.
fn improve(error: &mut clap::Error, words: &[String]) {
    if let Some(tip) = tip(error, words.iter().cloned()) {
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip]));
    }
    suggest_built_commands(error, &called(words.iter().cloned()));
}

/// Leaves out of the suggestions what is hidden or not built yet.
fn suggest_built_commands(error: &mut clap::Error, command: &Command) {
    let kind = ContextKind::SuggestedSubcommand;
    let suggested = match error.get(kind) {
        Some(ContextValue::String(word)) => vec![word.clone()],
        Some(ContextValue::Strings(words)) => words.clone(),
        _ => return,
    };
    let about = |command: &Command| command.get_about().map(ToString::to_string).unwrap_or_default();
    let built = |word: &String| {
        let found = command.find_subcommand(word);
        found.is_some_and(|found| !found.is_hide_set() && !about(found).ends_with(NOT_BUILT))
    };
    let suggested: Vec<String> = suggested.into_iter().filter(built).collect();
    error.remove(kind);
    if !suggested.is_empty() {
        error.insert(kind, ContextValue::Strings(suggested));
    }
}

/// How the help of a command ends that is not built yet.
const NOT_BUILT: &str = "(not built yet)";

/// A tip for a flag that is a word by its place (`--stream x` for `x`), and for a word that is a flag's value. Clap
/// would say how to pass it as the value of something else.
fn tip(error: &clap::Error, words: impl Iterator<Item = String>) -> Option<StyledStr> {
    if error.kind() != ErrorKind::UnknownArgument {
        return None;
    }
    let ContextValue::String(wrong) = error.get(ContextKind::InvalidArg)? else { return None };
    let command = called(words);
    let name = command.get_bin_name().unwrap_or("evener").to_owned();
    let Some(flag) = wrong.strip_prefix("--") else {
        let file = command.get_arguments().find(|arg| arg.get_long() == Some("file"))?;
        return (!wrong.starts_with('-'))
            .then(|| format!("a file is named with --{}: {name} --file {wrong}", file.get_id()).into());
    };
    let place = command.get_positionals().find(|arg| arg.get_id().as_str().trim_end_matches('s') == flag)?;
    Some(format!("it is named without a flag: {name} {}", place.get_id().as_str().to_uppercase()).into())
}

/// The command that the words call, as far as they call one.
fn called(words: impl Iterator<Item = String>) -> Command {
    let mut command = command();
    command.build();
    for word in words.skip(1) {
        match command.find_subcommand(&word) {
            Some(next) => command = next.clone(),
            None => break,
        }
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(line: &str) -> String {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let mut error = command().try_get_matches_from(&words).expect_err("the line is wrong");
        improve(&mut error, &words);
        error.render().to_string()
    }

    #[test]
    fn a_word_that_is_given_as_a_flag_finds_its_place() {
        for (line, tip) in [
            ("evener append --stream x --type t", "it is named without a flag: evener append STREAM"),
            ("evener processor show --name x", "it is named without a flag: evener processor show NAME"),
            ("evener wait caught-up --name x", "it is named without a flag: evener wait caught-up NAMES"),
            ("evener import --file x", "it is named without a flag: evener import FILE"),
            ("evener export x", "a file is named with --file: evener export --file x"),
        ] {
            assert!(told(line).contains(tip), "{}", told(line));
        }
    }

    #[test]
    fn what_is_misspelt_keeps_the_tip_of_the_nearest() {
        assert!(told("evener read --tags x").contains("'--tag'"), "{}", told("evener read --tags x"));
    }

    #[test]
    fn only_what_is_built_is_suggested() {
        let told = told("evener sevre");
        assert!(told.contains("'serve'") && !told.contains("reserve") && !told.contains("restore"), "{told}");
        for (line, not_built) in [
            ("evener verfy", "'verify'"),
            ("evener docter", "'doctor'"),
            ("evener processor splt p", "'split'"),
            ("evener dead-letter edt p", "'edit'"),
        ] {
            let told = super::tests::told(line);
            assert!(!told.contains(not_built), "{line}: {told}");
        }
        assert!(super::tests::told("evener processor pasue p").contains("'pause'"));
    }

    #[test]
    fn the_stream_of_an_append_may_be_given_as_its_subject_and_once() {
        let parsed = |line: &str| command().try_get_matches_from(line.split(' ')).map(drop);
        parsed("evener append --subject x --type t").unwrap();
        assert_eq!(parsed("evener append y --subject x --type t").unwrap_err().kind(), ErrorKind::ArgumentConflict);
    }

    #[test]
    fn an_empty_name_is_none() {
        for words in [["processor", "show", ""], ["dead-letter", "list", ""], ["cluster", "leave", ""]] {
            let error = command().try_get_matches_from(["evener"].iter().chain(&words)).expect_err("it is no name");
            assert_eq!(error.kind(), ErrorKind::InvalidValue, "{words:?}");
        }
    }

    #[test]
    fn a_choice_that_is_missing_names_both() {
        let told = told("evener dead-letter retry p");
        assert!(told.contains("--sequence <SEQUENCE>|--all"), "{told}");
    }

    #[test]
    fn a_number_below_zero_is_a_wrong_number_and_no_unknown_flag() {
        for line in ["evener read --from -1", "evener append s --type t --marker -1", "evener wait voters -1"] {
            assert!(told(line).contains("it must be a whole number, from"), "{}", told(line));
        }
        assert!(told("evener bench append --nodes 0").contains("from 1 to 9"));
        assert!(told("evener read --limit x").contains("it must be a whole number, from 0 on"));
        assert!(told("evener dead-letter retry p --all --component 70000").contains("too large"));
        assert!(told("evener processor create p --exec x --segments 0").contains("from 1 on"));
    }
}
