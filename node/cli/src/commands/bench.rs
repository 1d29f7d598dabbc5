//! `evener bench`

use std::time::Duration;

use evener_core::limits::Limits;

use super::{
    args::duration,
    demo::{program, runtime},
    output::{Format, count, say},
};
use crate::bench::{Options, ResultLine, run};
use evener::{codes, error::ApiError};

/// Benchmark against the machine's own limits
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Benchmark durable appends against the disk's own sync rate
    Append(Args),
}

/// The arguments of a benchmark.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Duration of each measurement
    #[arg(long = "for", value_name = "TIME", default_value = "5s", value_parser = duration)]
    time: Duration,
    /// Numbers of writers, each with one append of one event in flight
    #[arg(long, value_name = "N,…", default_value = "1,64,1024", value_delimiter = ',')]
    #[arg(value_parser = bounded::<16_384>)]
    writers: Vec<usize>,
    /// Events per append in the batch measurement (1 for none)
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = bounded::<5_000>)]
    batch: usize,
    /// Numbers of server processes
    #[arg(long, value_name = "N,…", default_value = "1,3", value_delimiter = ',', value_parser = bounded::<9>)]
    nodes: Vec<usize>,
    /// Payload size in bytes
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = bounded::<1_000_000>)]
    bytes: usize,
    /// Output format
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<Format>,
}

impl Command {
    /// Runs the benchmark.
    pub(super) fn run(self) -> Result<(), ApiError> {
        let Self::Append(Args { time, writers, batch, nodes, bytes, output }) = self;
        check_append_size(batch, bytes)?;
        let options = Options { time, writers, batch, nodes, bytes, program: program()? };
        let format = output.unwrap_or(Format::Table);
        let table = matches!(format, Format::Table);
        let report = |line: &ResultLine| {
            if table {
                // If the pipe is closed, the next write exits the process.
                let _ = say(&format!("{}\n", text(line)));
            }
        };
        let results = runtime()?.block_on(run(&options, report));
        let Some(results) = results.map_err(|error| ApiError::new(&codes::HARNESS, error))? else {
            let error = ApiError::new(&codes::INTERRUPTED, "the benchmark was interrupted");
            return Err(error.hint("run it again, or shorter with --for"));
        };
        if table { Ok(()) } else { format.show(&results, String::new) }
    }
}

/// Checks that an append of the batch measurement, with the overhead of each event, is within the limit.
fn check_append_size(batch: usize, bytes: usize) -> Result<(), ApiError> {
    const EVENT_OVERHEAD_BYTES: usize = 100;
    let max = Limits::DEFAULT.append_bytes_max as usize;
    if batch * (bytes + EVENT_OVERHEAD_BYTES) <= max {
        return Ok(());
    }
    let (batch, bytes, max) = (count(batch as u64), count(bytes as u64), count(max as u64));
    let message = format!("{batch} events of {bytes} bytes exceed the limit of one append, {max} bytes");
    Err(ApiError::new(&codes::USAGE, message)
        .hint("use smaller values for --bytes or --batch; --batch 1 omits the batch measurement"))
}

/// Parses a number from 1 to `MAX`.
fn bounded<const MAX: usize>(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (1..=MAX).contains(number));
    number.ok_or_else(|| format!("it must be a whole number from 1 to {}", count(MAX as u64)))
}

fn text(line: &ResultLine) -> String {
    match line {
        ResultLine::Baseline(baseline) => format!(
            "fdatasync baseline, one at a time: {}/s, p50 {} us, p99 {} us\n\n\
             nodes writers batch   events/s  per fdatasync   p50 us   p99 us  CPU s/M events  idle    stored",
            baseline.fdatasync_per_s, baseline.p50_us, baseline.p99_us
        ),
        ResultLine::Row(row) => format!(
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_append_over_the_limit_is_rejected_before_the_run() {
        assert!(check_append_size(100, 200).is_ok() && check_append_size(1, 999_900).is_ok());
        let refused = check_append_size(1_000, 3_000).unwrap_err();
        assert!(refused.message.starts_with("1,000 events of 3,000 bytes") && refused.hint.contains("--batch 1"));
        assert!(bounded::<9>("9").is_ok());
        for wrong in ["0", "10", "x", ""] {
            assert_eq!(bounded::<9>(wrong).unwrap_err(), "it must be a whole number from 1 to 9");
        }
    }
}
