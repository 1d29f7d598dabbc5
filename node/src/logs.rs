//! Log lines: on stderr, for people or as JSON.

use std::{io::IsTerminal, panic};

use tracing_subscriber::EnvFilter;

use crate::{
    codes,
    error::ApiError,
    log_writer::LogWriter,
    settings::{LogFormat, Settings},
};

/// The log of this process. When it is dropped, the last lines are written, if somebody takes them.
pub struct Log(LogWriter);

impl Log {
    /// Writes text that is no log line, for people.
    pub fn print(&self, text: &str) {
        self.0.print(text.as_bytes());
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.0.flush();
    }
}

/// Writes log lines as the settings say from now on, panics included.
pub fn start(settings: &Settings) -> Result<Log, ApiError> {
    let failed =
        |error| ApiError::new(&codes::START, format!("failed to start the thread that writes the log: {error}"));
    let writer = LogWriter::start(std::io::stderr()).map_err(failed)?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter(settings)?).with_writer(writer.clone());
    // A process has one subscriber; where the program that embeds us has set its own, that one stays.
    let ours = match settings.log {
        LogFormat::Json => lines.json().try_init(),
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).with_target(false).try_init(),
    };
    if ours.is_ok() {
        // What a panic prints must not wait for a reader either.
        panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
    }
    Ok(Log(writer))
}

/// Which lines are written.
pub fn filter(settings: &Settings) -> Result<EnvFilter, ApiError> {
    EnvFilter::try_new(&settings.log_filter).map_err(|error| {
        let message = format!("log.filter is '{}': {error}", settings.log_filter);
        ApiError::new(&codes::BAD_SETTING, message).hint("it must be like `info` or `info,evener_cluster=debug`")
    })
}
