//! Errors in the command line: clap's message, with better tips in some cases, and our code and exit status.

use std::{io::IsTerminal, process::ExitCode};

use clap::{
    Command, CommandFactory,
    builder::StyledStr,
    error::{ContextKind, ContextValue, ErrorKind},
};

use super::Cli;
use evener::{codes, settings};

/// Returns the command line's definition.
pub(super) fn command() -> Command {
    taking_negatives(Cli::command())
}

/// Lets options accept negative numbers, so that `--from -1` is an invalid value and not an unknown flag.
fn taking_negatives(command: Command) -> Command {
    let command = command.mut_args(|arg| {
        let takes = arg.get_long().is_some() && arg.get_action().takes_values();
        if takes { arg.allow_negative_numbers(true) } else { arg }
    });
    command.mut_subcommands(taking_negatives)
}

/// Prints the error in the command line `words`, or the help, which is not an error.
pub(super) fn print_usage_error(mut error: clap::Error, words: impl Iterator<Item = String>) -> ExitCode {
    if !error.use_stderr() {
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    improve_tips(&mut error, &words.collect::<Vec<_>>());
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

/// Replaces clap's tips by better ones.
fn improve_tips(error: &mut clap::Error, words: &[String]) {
    if let Some(tip) = tip(error, words.iter().cloned()) {
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip]));
    }
    suggest_flag(error, words);
    suggest_command(error, &called_command(words.iter().cloned()));
}

/// Suggests the commands with the most similar name at any level: `evener processor pause` for `evener pause`. Hidden
/// and unimplemented commands are never suggested.
fn suggest_command(error: &mut clap::Error, command: &Command) {
    let Some(ContextValue::String(wrong)) = error.get(ContextKind::InvalidSubcommand) else { return };
    let all = built(&self::command(), "evener");
    let nearest = settings::nearest(wrong, all.iter().map(|(_, name)| name.clone()));
    let near: Vec<&String> =
        all.iter().filter(|(_, name)| Some(name) == nearest.as_ref()).map(|(path, _)| path).collect();
    error.remove(ContextKind::SuggestedSubcommand);
    error.remove(ContextKind::Suggested);
    let here = format!("{} {}", command.get_bin_name().unwrap_or("evener"), nearest.as_deref().unwrap_or_default());
    match (nearest, &near[..]) {
        (None, _) | (_, []) => {}
        (Some(name), near) if near.contains(&&here) => {
            error.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(vec![name]));
        }
        (_, near) => {
            let near = near.iter().map(|path| format!("'{path}'")).collect::<Vec<_>>().join(" or ");
            let tip = format!("there is {near}").into();
            error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip]));
        }
    }
}

/// Returns the visible, implemented commands below `command`, each with its full path and its name.
fn built(command: &Command, path: &str) -> Vec<(String, String)> {
    let is_built = |about: &StyledStr| !about.to_string().ends_with(NOT_BUILT);
    let shown = command
        .get_subcommands()
        .filter(|found| !found.is_hide_set() && found.get_name() != "help" && found.get_about().is_none_or(is_built));
    let all = shown.flat_map(|found| {
        let path = format!("{path} {}", found.get_name());
        let below = built(found, &path);
        [(path, found.get_name().to_owned())].into_iter().chain(below)
    });
    all.collect()
}

/// Suggests a flag of the intended command if the unknown flag precedes the command's name: clap considers only flags
/// of the command before it.
fn suggest_flag(error: &mut clap::Error, words: &[String]) {
    if error.kind() != ErrorKind::UnknownArgument {
        return;
    }
    let Some(ContextValue::String(wrong)) = error.get(ContextKind::InvalidArg) else { return };
    let Some(wrong) = wrong.strip_prefix("--").map(str::to_owned) else { return };
    let flags = |command: &Command| -> Vec<String> {
        command.get_arguments().filter_map(|arg| arg.get_long()).map(str::to_owned).collect()
    };
    let (here, mut intended_command) = (flags(&called_command(words.iter().cloned())), intended_command(words));
    let there = flags(&intended_command);
    let nearest = settings::nearest(&wrong, here.iter().chain(&there).cloned());
    match nearest {
        Some(flag) if !here.contains(&flag) => {
            let name = intended_command.get_bin_name().unwrap_or("evener");
            let tip = format!("the flag follows the command: {name} --{flag}").into();
            error.remove(ContextKind::SuggestedArg);
            error.insert(ContextKind::Usage, ContextValue::StyledStr(intended_command.render_usage()));
            error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip]));
        }
        Some(_) => {}
        // A text that starts like a flag is rarely meant as a value, which clap suggests.
        None if is_to_pass_as_value(error) => {
            error.remove(ContextKind::Suggested);
        }
        None => {}
    }
}

fn is_to_pass_as_value(error: &clap::Error) -> bool {
    let Some(ContextValue::StyledStrs(tips)) = error.get(ContextKind::Suggested) else { return false };
    tips.iter().all(|tip| tip.to_string().starts_with("to pass "))
}

/// The end of the help of an unimplemented command.
const NOT_BUILT: &str = "(not built yet)";

/// Returns a tip for a flag that is a positional argument (`--stream x` for `x`), and for an argument that is a flag's
/// value. Clap would suggest passing it as another value.
fn tip(error: &clap::Error, words: impl Iterator<Item = String>) -> Option<StyledStr> {
    if error.kind() != ErrorKind::UnknownArgument {
        return None;
    }
    let ContextValue::String(wrong) = error.get(ContextKind::InvalidArg)? else { return None };
    let command = called_command(words);
    let name = command.get_bin_name().unwrap_or("evener").to_owned();
    let Some(flag) = wrong.strip_prefix("--") else {
        let file = command.get_arguments().find(|arg| arg.get_long() == Some("file"))?;
        return (!wrong.starts_with('-'))
            .then(|| format!("give the file with --{}: {name} --file {wrong}", file.get_id()).into());
    };
    let place = command.get_positionals().find(|arg| arg.get_id().as_str().trim_end_matches('s') == flag)?;
    Some(format!("it is given without a flag: {name} {}", place.get_id().as_str().to_uppercase()).into())
}

/// Returns the command that the words call if unknown words between them are ignored.
fn intended_command(words: &[String]) -> Command {
    let mut command = command();
    command.build();
    for word in words.iter().skip(1) {
        if let Some(next) = command.find_subcommand(word) {
            command = next.clone();
        }
    }
    command
}

/// Returns the command that the words call, up to the first unknown word.
fn called_command(words: impl Iterator<Item = String>) -> Command {
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

    fn rendered(line: &str) -> String {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let mut error = command().try_get_matches_from(&words).expect_err("the line is wrong");
        improve_tips(&mut error, &words);
        error.render().to_string()
    }

    #[test]
    fn a_positional_argument_given_as_a_flag_gets_a_tip() {
        for (line, tip) in [
            ("evener append --stream x --type t", "it is given without a flag: evener append STREAM"),
            ("evener processor show --name x", "it is given without a flag: evener processor show NAME"),
            ("evener wait caught-up --name x", "it is given without a flag: evener wait caught-up NAMES"),
            ("evener import --file x", "it is given without a flag: evener import FILE"),
            ("evener export x", "give the file with --file: evener export --file x"),
        ] {
            assert!(rendered(line).contains(tip), "{}", rendered(line));
        }
    }

    #[test]
    fn a_misspelt_flag_keeps_the_nearest_suggestion() {
        assert!(rendered("evener read --tags x").contains("'--tag'"), "{}", rendered("evener read --tags x"));
    }

    #[test]
    fn only_implemented_commands_are_suggested() {
        let text = rendered("evener sevre");
        assert!(text.contains("'serve'") && !text.contains("reserve") && !text.contains("restore"), "{text}");
        for (line, not_built) in [
            ("evener verfy", "'verify'"),
            ("evener docter", "'doctor'"),
            ("evener processor promte p", "'promote'"),
            ("evener dead-letter edt p", "'edit'"),
        ] {
            let text = super::tests::rendered(line);
            assert!(!text.contains(not_built), "{line}: {text}");
        }
        assert!(super::tests::rendered("evener processor pasue p").contains("'pause'"));
    }

    #[test]
    fn a_command_is_suggested_by_its_full_path_at_any_level() {
        for (line, suggested) in [
            ("evener pause p", "there is 'evener processor pause'\n"),
            ("evener pause p --reason x", "there is 'evener processor pause'\n"),
            ("evener pasue p", "there is 'evener processor pause'\n"),
            ("evener retry p --all", "there is 'evener dead-letter retry'\n"),
            ("evener leave n1", "there is 'evener cluster leave'\n"),
            ("evener balanced", "there is 'evener wait balanced'\n"),
            ("evener processor retry p", "there is 'evener dead-letter retry'\n"),
            (
                "evener show p",
                "there is 'evener processor show' or 'evener dead-letter show' or 'evener operations show'\n",
            ),
            ("evener operation", "a similar subcommand exists: 'operations'\n"),
            ("evener operation show x", "a similar subcommand exists: 'operations'\n"),
            ("evener processors", "a similar subcommand exists: 'processor'\n"),
            ("evener processor lst", "a similar subcommand exists: 'list'\n"),
        ] {
            let text = rendered(line);
            assert!(text.contains(&format!("tip: {suggested}")) && text.matches("tip:").count() == 1, "{line}: {text}");
        }
        assert!(!rendered("evener xyzzy").contains("tip:"));
    }

    #[test]
    fn each_command_is_found_if_a_letter_or_the_words_before_it_are_missing() {
        for (path, name) in built(&command(), "evener") {
            let words = path.split(' ').count();
            if words > 2 && command().find_subcommand(&name).is_none() {
                assert!(rendered(&format!("evener {name}")).contains(&format!("'{path}'")), "{path}");
            }
            let misspelt = format!("{}{}", &name[..name.len() - 2], &name[name.len() - 1..]);
            if name.len() > 4 && words == 2 {
                assert!(rendered(&format!("evener {misspelt}")).contains(&format!("'{name}'")), "{misspelt}");
            }
        }
    }

    #[test]
    fn a_misspelt_flag_is_found_at_any_place() {
        let changing = built(&command(), "evener").into_iter().map(|(path, _)| path).filter(|path| {
            let words: Vec<String> = path.split(' ').map(str::to_owned).collect();
            intended_command(&words).get_arguments().any(|arg| arg.get_long() == Some("reason"))
        });
        for path in changing {
            let words = path.strip_prefix("evener ").unwrap();
            for line in [format!("{path} --reasn x"), format!("evener --reasn x {words}")] {
                let text = rendered(&line);
                assert!(text.contains("--reason") && text.matches("tip:").count() == 1, "{line}: {text}");
                assert!(!text.contains("--version"), "{line}: {text}");
            }
        }
        let text = rendered("evener operations show --reasn x");
        assert!(!text.contains("to pass"), "{text}");
    }

    #[test]
    fn the_stream_of_an_append_may_be_given_as_its_subject_and_once() {
        let parsed = |line: &str| command().try_get_matches_from(line.split(' ')).map(drop);
        parsed("evener append --subject x --type t").unwrap();
        assert_eq!(parsed("evener append y --subject x --type t").unwrap_err().kind(), ErrorKind::ArgumentConflict);
    }

    #[test]
    fn an_empty_name_is_rejected() {
        for words in [["processor", "show", ""], ["dead-letter", "list", ""], ["cluster", "leave", ""]] {
            let error = command().try_get_matches_from(["evener"].iter().chain(&words)).expect_err("it is no name");
            assert_eq!(error.kind(), ErrorKind::InvalidValue, "{words:?}");
        }
    }

    #[test]
    fn a_missing_choice_names_both_options() {
        let text = rendered("evener dead-letter retry p");
        assert!(text.contains("--sequence <SEQUENCE>|--all"), "{text}");
    }

    #[test]
    fn a_negative_number_is_an_invalid_number_and_not_an_unknown_flag() {
        for line in ["evener read --from -1", "evener append s --type t --marker -1", "evener wait voters -1"] {
            assert!(rendered(line).contains("it must be a whole number, from"), "{}", rendered(line));
        }
        assert!(rendered("evener bench append --nodes 0").contains("from 1 to 9"));
        assert!(rendered("evener read --limit x").contains("it must be a whole number, from 0 on"));
        assert!(rendered("evener dead-letter retry p --all --component 70000").contains("too large"));
        assert!(rendered("evener processor create p --exec x --segments 0").contains("from 1 on"));
    }
}
