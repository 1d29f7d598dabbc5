//! `evener serve`

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, FromArgMatches};

use crate::{
    error::ApiError,
    settings::{Loaded, Sources, TABLE},
};

/// Run a node
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    flags: Flags,
}

/// The flags of all settings, made from their table.
#[derive(Debug, Default)]
pub struct Flags {
    config: Option<PathBuf>,
    given: Vec<(&'static str, String)>,
}

impl clap::Args for Flags {
    fn augment_args(command: clap::Command) -> clap::Command {
        let config = Arg::new("config").long("config").value_name("FILE").value_parser(clap::value_parser!(PathBuf));
        let mut command = command.arg(config.help("The settings file [default: evener.toml, if there is one]"));
        for setting in TABLE {
            let unset = if setting.default.is_empty() { "none" } else { setting.default };
            let help = format!("{} [default: {unset}]", setting.about);
            let arg = Arg::new(setting.name).long(setting.flag).help(help);
            command = command.arg(if setting.is_switch() {
                arg.action(ArgAction::SetTrue)
            } else {
                arg.value_name(setting.kind)
            });
        }
        command
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut flags = Self::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.config = matches.get_one::<PathBuf>("config").cloned();
        for setting in TABLE {
            if setting.is_switch() {
                self.given.extend(matches.get_flag(setting.name).then(|| (setting.name, "true".to_owned())));
            } else if let Some(value) = matches.get_one::<String>(setting.name) {
                self.given.push((setting.name, value.clone()));
            }
        }
        Ok(())
    }
}

impl Flags {
    /// The settings in force, and where each comes from.
    pub fn load(self) -> Result<Loaded, ApiError> {
        Sources::of_process(self.given, self.config.as_deref())?.load()
    }
}

impl Args {
    /// Runs the node until it is told to stop.
    pub fn run(self) -> Result<(), ApiError> {
        let settings = self.flags.load()?.settings;
        settings.check()?;
        Err(ApiError::not_yet("`serve`"))
    }
}
