//! Words of the contract that nothing stands behind yet: they take anything and say so.

use evener::{engine::Verb, error::ApiError};

/// Whatever is said.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    #[allow(dead_code, reason = "taken so that the answer is about the command and not about its arguments")]
    rest: Vec<String>,
}

impl Args {
    /// Says that `verb` is not built yet.
    pub fn run(self, verb: Verb) -> Result<(), ApiError> {
        Err(ApiError::not_yet(&format!("`{}`", verb.row().words)))
    }
}
