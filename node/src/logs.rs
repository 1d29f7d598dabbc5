//! The log on stderr, as text or JSON.

use std::{io::IsTerminal, panic};

use tracing_subscriber::EnvFilter;

use crate::{
    codes,
    error::ApiError,
    log_writer::LogWriter,
    settings::{LogFormat, Settings},
};

/// The log of this process. Dropping it flushes the remaining lines, if stderr is being read.
pub struct Log(LogWriter);

impl Log {
    /// Writes plain text that is not a log line.
    pub fn print(&self, text: &str) {
        self.0.print(text.as_bytes());
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.0.flush();
    }
}

/// Starts logging as configured, including panics.
pub fn start(settings: &Settings) -> Result<Log, ApiError> {
    let failed =
        |error| ApiError::new(&codes::START, format!("failed to start the thread that writes the log: {error}"));
    let writer = LogWriter::start(std::io::stderr()).map_err(failed)?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter(settings)?).with_writer(writer.clone());
    // A process has one subscriber; if the embedding program has set its own, that one is kept.
    let ours = match settings.log {
        LogFormat::Json => lines.json().try_init(),
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).with_target(false).try_init(),
    };
    if ours.is_ok() {
        // A panic must not block on stderr either.
        panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
    }
    Ok(Log(writer))
}

/// Returns the filter of log lines.
pub fn filter(settings: &Settings) -> Result<EnvFilter, ApiError> {
    EnvFilter::try_new(&settings.log_filter).map_err(|error| {
        let message = format!("log.filter is '{}': {error}", settings.log_filter);
        ApiError::new(&codes::BAD_SETTING, message).hint("it must be like `info` or `info,evener_cluster=debug`")
    })
}
