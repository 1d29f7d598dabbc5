//! `evener demo`

use std::{path::PathBuf, time::Duration};

use super::{args::duration, output::say};
use crate::{
    codes,
    demo::{Break, Options, run, run_handler},
    error::ApiError,
};

/// Run three nodes, a load and a judge on this machine, and kill nodes meanwhile
///
/// Nothing is left behind unless a promise breaks. The last line on standard output is one JSON object.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How long the load runs
    #[arg(long = "for", value_name = "TIME", default_value = "30s", value_parser = duration)]
    time: Duration,
    /// No live view
    #[arg(long)]
    headless: bool,
    /// Plant this fault into the record that is judged, to see that it is found
    #[arg(long = "break", value_name = "FAULT")]
    fault: Option<Break>,
}

impl Args {
    /// Runs it.
    pub fn run(self) -> Result<(), ApiError> {
        let Self { time, headless, fault } = self;
        let program = program()?;
        let report = runtime()?.block_on(run(Options { time, headless, fault, program }));
        let report = report.map_err(|error| ApiError::new(&codes::RIG, error))?;
        let json = serde_json::to_string(&report).map_err(|error| ApiError::new(&codes::BUG, error.to_string()))?;
        say(&format!("{json}\n"))?;
        match report.broken().first() {
            None => Ok(()),
            Some(first) => {
                let error = ApiError::new(&codes::BROKEN, first.clone());
                // What somebody asked for is nothing to report.
                Err(match fault {
                    Some(_) => error.hint("nothing: `--break` planted a fault, and the judge has found what is wrong"),
                    None => error,
                })
            }
        }
    }
}

/// A handler program of the demo
#[derive(Debug, clap::Args)]
pub struct HandlerArgs {
    folder: PathBuf,
}

impl HandlerArgs {
    /// Handles events until its input ends.
    pub fn run(self) -> Result<(), ApiError> {
        run_handler(&self.folder).map_err(|error| ApiError::new(&codes::FILE, error.to_string()))
    }
}

/// This very program.
pub(super) fn program() -> Result<PathBuf, ApiError> {
    std::env::current_exe().map_err(|error| ApiError::new(&codes::RIG, format!("cannot find this program: {error}")))
}

/// Threads for many clients.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, ApiError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(|error| ApiError::new(&codes::RIG, format!("cannot start threads: {error}")))
}
