//! The command line, checked against the table of verbs and the documented interface.

use clap::{CommandFactory, Parser};

use super::{Cli, usage};
use evener::engine::{Effect, TABLE};

#[test]
fn clap_accepts_the_definition() {
    usage::command().debug_assert();
}

#[test]
fn every_verb_has_a_command_with_a_help_text() {
    let root = Cli::command();
    for row in TABLE {
        let found = row.words.split(' ').try_fold(&root, |command, word| command.find_subcommand(word));
        let found = found.unwrap_or_else(|| panic!("there is no `evener {}`", row.words));
        assert!(found.get_about().is_some(), "{}", row.words);
        let takes = |flag: &str| found.get_arguments().any(|arg| arg.get_long() == Some(flag));
        if matches!(row.effect, Effect::Changes | Effect::Destroys) {
            assert!(takes("reason") && takes("dry-run") && takes("server"), "{}", row.words);
            assert_eq!(takes("yes"), row.effect == Effect::Destroys, "{}", row.words);
        }
    }
}

#[test]
fn unimplemented_commands_report_that_with_any_arguments() {
    for line in [
        "processor promote p",
        "dead-letter edit p --sequence s",
        "processor create p --webhook http://x",
        "processor create p --exec cat --start 2026-01-01T00:00:00Z",
        "backup /tmp/x",
        "restore",
        "verify --all",
        "repair",
        "top",
        "doctor",
        "bundle",
        "why p/3",
    ] {
        let cli = Cli::try_parse_from(["evener"].into_iter().chain(line.split(' '))).unwrap();
        let error = cli.command.run().unwrap_err();
        assert_eq!((error.code.as_ref(), error.exit_code()), ("EV0900", 4), "{line}");
    }
}

#[test]
fn every_valid_name_can_be_given_on_the_command_line() {
    let names =
        ["p", "...", ".p", "%2e", "a?b#c", "a=b", "=", "+", "@file", "help", "ü", "a:b", "~", "*", "$x", "\"", "'"];
    for name in names {
        assert_eq!(evener_core::name::check(name), Ok(()));
        let lines: [&[&str]; 5] = [
            &["processor", "show", name],
            &["processor", "claim", name, "--segment", "3", "--node", name],
            &["dead-letter", "retry", name, "--all"],
            &["wait", "caught-up", name],
            &["cluster", "leave", name],
        ];
        for line in lines {
            let cli = Cli::try_parse_from(["evener"].iter().chain(line));
            assert!(cli.is_ok(), "{line:?}: {}", cli.err().map(|error| error.to_string()).unwrap_or_default());
        }
    }
}

#[test]
fn flags_of_settings_reach_the_settings() {
    let line = ["evener", "config", "--lease", "7s", "--bootstrap", "--join", "a:1,b:2", "--name", "n"];
    let Cli { command: super::Command::Config(_) } = Cli::try_parse_from(line).unwrap() else { panic!("it is config") };
    let matches = Cli::command().try_get_matches_from(line).unwrap();
    let flags = <super::serve::Flags as clap::FromArgMatches>::from_arg_matches(
        matches.subcommand_matches("config").expect("it is config"),
    );
    let settings = flags.unwrap().load().unwrap().settings;
    assert_eq!((settings.lease.as_secs(), settings.bootstrap, settings.join.len()), (7, true, 2));
}

#[test]
fn config_rejects_a_log_filter_that_serve_would_reject() {
    let cli = Cli::try_parse_from(["evener", "config", "-o", "json", "--log-filter", "x=y=z"]).unwrap();
    let error = cli.command.run().unwrap_err();
    assert!(error.is(&evener::codes::BAD_SETTING) && error.message.contains("x=y=z"), "{error}");
}
