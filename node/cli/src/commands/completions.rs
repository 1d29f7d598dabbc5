//! `evener completions SHELL`

use clap::CommandFactory;

use super::{Cli, output::say};
use evener::error::ApiError;

/// Write a completion script to stdout
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The shell to complete for
    shell: clap_complete::Shell,
}

impl Args {
    /// Writes the script.
    pub(super) fn run(self) -> Result<(), ApiError> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "evener", &mut script);
        say(&String::from_utf8_lossy(&script))
    }
}
