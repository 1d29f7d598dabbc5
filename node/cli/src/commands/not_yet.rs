//! Commands that are not built yet: they accept any arguments and return an error.

use evener::{engine::Verb, error::ApiError};

/// Any arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    #[allow(dead_code, reason = "accepted so that the error is about the command and not its arguments")]
    rest: Vec<String>,
}

impl Args {
    /// Returns the error that `verb` is not built yet.
    pub(super) fn run(self, verb: Verb) -> Result<(), ApiError> {
        Err(ApiError::not_yet(&format!("`{}`", verb.entry().words)))
    }
}
