//! The command line: one file per command. Commands send requests and show replies; the requests are defined by
//! `engine`, the errors by `codes`.

mod args;
mod leaderless;
mod output;
mod usage;

mod demo;
mod serve;

mod append;
mod export;
mod fold;
mod import;
mod read;
mod tail;

mod dead_letter;
mod operations;
mod processor;

mod cluster;
mod status;
mod wait;

mod bench;

mod completions;
mod config;
mod explain;
mod man;
mod not_yet;

#[cfg(test)]
mod tests;

use std::process::ExitCode;

use clap::{FromArgMatches, Parser, Subcommand};

use evener::{codes, error::ApiError};

pub(crate) use args::Server;
pub(crate) use output::Format;

/// An event store and event processor in one
#[derive(Debug, Parser)]
#[command(name = "evener", version, after_help = exit_codes(), max_term_width = 110)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Args),
    #[command(hide = true)]
    DemoHandler(demo::HandlerArgs),
    Serve(serve::Args),
    Import(import::Args),
    Export(export::Args),
    Append(append::Args),
    Read(read::Args),
    Tail(tail::Args),
    /// Manage processors
    #[command(subcommand)]
    Processor(processor::Command),
    /// Manage the events that processors have set aside
    #[command(subcommand)]
    DeadLetter(dead_letter::Command),
    /// Manage the members of the cluster
    #[command(subcommand)]
    Cluster(cluster::Command),
    Operations(operations::Command),
    /// Wait for a condition
    #[command(subcommand)]
    Wait(wait::Command),
    Status(status::Args),
    /// Benchmark against the machine's own limits
    #[command(subcommand)]
    Bench(bench::Command),
    Config(config::Args),
    Explain(explain::Args),
    Completions(completions::Args),
    Man(man::Args),
    /// Back up the log and the state (not built yet)
    #[command(hide = true)]
    Backup(not_yet::Args),
    /// Restore a backup (not built yet)
    #[command(hide = true)]
    Restore(not_yet::Args),
    /// Verify all data on disk (not built yet)
    #[command(hide = true)]
    Verify(not_yet::Args),
    /// Repair damaged data from the other nodes (not built yet)
    #[command(hide = true)]
    Repair(not_yet::Args),
    /// Show a live view on the terminal (not built yet)
    #[command(hide = true)]
    Top(not_yet::Args),
    /// Diagnose problems (not built yet)
    #[command(hide = true)]
    Doctor(not_yet::Args),
    /// Collect the data for a bug report (not built yet)
    #[command(hide = true)]
    Bundle(not_yet::Args),
    /// Explain the placement of a segment (not built yet)
    #[command(hide = true)]
    Why(not_yet::Args),
}

/// Runs the command that this process was started with.
pub fn main() -> ExitCode {
    let matches = match usage::command().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => return usage::print_usage_error(error, std::env::args()),
    };
    let cli = Cli::from_arg_matches(&matches).expect("the matches are of this command");
    match cli.command.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::print_error(&error);
            ExitCode::from(error.exit_code())
        }
    }
}

impl Command {
    fn run(self) -> Result<(), ApiError> {
        match self {
            Self::Demo(args) => args.run(),
            Self::DemoHandler(args) => args.run(),
            Self::Serve(args) => args.run(),
            Self::Import(args) => args.run(),
            Self::Export(args) => args.run(),
            Self::Append(args) => args.run(),
            Self::Read(args) => args.run(),
            Self::Tail(args) => args.run(),
            Self::Processor(command) => command.run(),
            Self::DeadLetter(command) => command.run(),
            Self::Cluster(command) => command.run(),
            Self::Operations(command) => command.run(),
            Self::Wait(command) => command.run(),
            Self::Status(args) => args.run(),
            Self::Bench(command) => command.run(),
            Self::Config(args) => args.run(),
            Self::Explain(args) => args.run(),
            Self::Completions(args) => args.run(),
            Self::Man(args) => args.run(),
            Self::Backup(_) => Err(ApiError::not_yet("`backup`")),
            Self::Restore(_) => Err(ApiError::not_yet("`restore`")),
            Self::Verify(_) => Err(ApiError::not_yet("`verify`")),
            Self::Repair(_) => Err(ApiError::not_yet("`repair`")),
            Self::Top(_) => Err(ApiError::not_yet("`top`").hint("the page of a node shows the same, live")),
            Self::Doctor(_) => Err(ApiError::not_yet("`doctor`")),
            Self::Bundle(_) => Err(ApiError::not_yet("`bundle`")),
            Self::Why(_) => {
                Err(ApiError::not_yet("`why`").hint("`evener processor show NAME` shows the reason for each segment"))
            }
        }
    }
}

fn exit_codes() -> String {
    let codes = codes::EXIT_CODES.iter().map(|(code, meaning)| format!("\n  {code}  {meaning}"));
    format!("Exit status:{}", codes.collect::<String>())
}

/// Runs a client's work to completion; Ctrl-C ends the process.
fn block_on<T>(work: impl Future<Output = Result<T, ApiError>>) -> Result<T, ApiError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| ApiError::new(&codes::START, format!("failed to start: {error}")))?;
    runtime.block_on(work)
}
