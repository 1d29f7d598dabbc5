//! `evener bench`

use std::time::Duration;

use super::{
    args::duration,
    demo::{program, runtime},
    output::{Format, say},
};
use crate::{
    bench::{Line, Options, run},
    codes,
    error::ApiError,
};

/// Measure, beside what the machine can do at all
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// The durable rate of appends, beside the disk's own
    Append(Args),
}

/// What is measured.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How long each line is measured
    #[arg(long = "for", value_name = "TIME", default_value = "5s", value_parser = duration)]
    time: Duration,
    /// Numbers of writers, each with one append of one event on its way
    #[arg(long, value_name = "N,…", default_value = "1,64,1024", value_delimiter = ',')]
    writers: Vec<usize>,
    /// Events of an append in the line with batches; 1 leaves it out
    #[arg(long, value_name = "N", default_value_t = 100)]
    batch: usize,
    /// Numbers of processes
    #[arg(long, value_name = "N,…", default_value = "1,3", value_delimiter = ',')]
    nodes: Vec<usize>,
    /// Bytes of a payload
    #[arg(long, value_name = "N", default_value_t = 200)]
    bytes: usize,
    /// How to show the figures
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<Format>,
}

impl Command {
    /// Runs it.
    pub fn run(self) -> Result<(), ApiError> {
        let Self::Append(Args { time, writers, batch, nodes, bytes, output }) = self;
        let options = Options { time, writers, batch, nodes, bytes, program: program()? };
        let format = output.unwrap_or(Format::Table);
        let table = matches!(format, Format::Table);
        let figures = runtime()?.block_on(run(&options, |line| {
            if table {
                // A closed pipe ends the command at its next line.
                let _ = say(&format!("{}\n", text(line)));
            }
        }));
        let figures = figures.map_err(|error| ApiError::new(&codes::RIG, error))?;
        if table { Ok(()) } else { format.show(&figures, String::new) }
    }
}

fn text(line: &Line) -> String {
    match line {
        Line::Baseline(baseline) => format!(
            "fdatasync alone, one after the other: {}/s, p50 {} us, p99 {} us\n\n\
             nodes writers batch   events/s  per fdatasync   p50 us   p99 us  CPU s/M events  idle    stored",
            baseline.fdatasync_per_s, baseline.p50_us, baseline.p99_us
        ),
        Line::Row(row) => format!(
            "{:>5} {:>7} {:>5} {:>10.0} {:>14.2} {:>8} {:>8} {:>15.1} {:>5.2} {:>9}",
            row.nodes,
            row.writers,
            row.batch,
            row.events_per_s,
            row.appends_per_fdatasync,
            row.p50_us,
            row.p99_us,
            row.cpu_s_per_million,
            row.idle_share,
            row.stored
        ),
    }
}
