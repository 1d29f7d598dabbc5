//! Log lines: on stderr, for people or as JSON.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::{
    codes,
    error::ApiError,
    settings::{LogFormat, Settings},
};

/// From now on log lines are written as the settings say.
pub fn start(settings: &Settings) -> Result<(), ApiError> {
    let lines = tracing_subscriber::fmt().with_env_filter(filter(settings)?).with_writer(std::io::stderr);
    // A process has one subscriber; where the program that embeds us has set its own, that one stays.
    let _ = match settings.log {
        LogFormat::Json => lines.json().try_init(),
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).with_target(false).try_init(),
    };
    Ok(())
}

/// Which lines are written.
pub fn filter(settings: &Settings) -> Result<EnvFilter, ApiError> {
    EnvFilter::try_new(&settings.log_filter).map_err(|error| {
        let message = format!("log.filter is '{}': {error}", settings.log_filter);
        ApiError::new(&codes::BAD_SETTING, message).hint("it must be like `info` or `info,evener_cluster=debug`")
    })
}
