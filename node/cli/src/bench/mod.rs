//! `evener bench append`: the rate of durable appends, compared with the sync rate of the same disk in the same run.
//!
//! Each server is a process of its own; this process generates the load through the public client. Acknowledged events
//! are read back and counted before a line is printed.

mod append;
mod disk;

use std::{path::PathBuf, time::Duration};

use serde::Serialize;

use crate::harness::{Interrupt, Nodes};

pub(crate) use append::Row;
pub(crate) use disk::Baseline;

/// The largest latency that the histograms hold: a minute, in microseconds.
const TIME_US_MAX: u64 = 60_000_000;

/// The options of a run.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// How long each line is measured.
    pub time: Duration,
    /// Numbers of writers, one line each.
    pub writers: Vec<usize>,
    /// Events per append of the batch line; 1 for no such line.
    pub batch: usize,
    /// Numbers of server processes.
    pub nodes: Vec<usize>,
    /// Bytes of a payload.
    pub bytes: usize,
    /// The program that provides `serve`: usually this one.
    pub program: PathBuf,
}

/// All lines of a run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Results {
    /// The disk's own rate.
    pub baseline: Baseline,
    /// The measurements.
    pub rows: Vec<Row>,
}

/// Runs the benchmark and passes each line to `report` as soon as it is measured. Returns none if interrupted.
///
/// # Errors
///
/// If the run fails, or acknowledged events are missing.
pub(crate) async fn run(options: &Options, mut report: impl FnMut(&ResultLine)) -> Result<Option<Results>, String> {
    let mut interrupt = Interrupt::listen();
    let mut results = Results { baseline: disk::measure(options.bytes, Duration::from_secs(2))?, rows: Vec::new() };
    report(&ResultLine::Baseline(results.baseline.clone()));
    for count in &options.nodes {
        let folder = tempfile::Builder::new().prefix("evener-bench-").tempdir().map_err(|error| error.to_string())?;
        let mut nodes = Nodes::new(&options.program, folder.path(), *count)?;
        let measured = tokio::select! {
            measured = measure_rows(options, &mut nodes, *count, &mut results, &mut report) => measured.map(Some),
            () = interrupt.next() => Ok(None),
        };
        nodes.stop().await;
        if measured?.is_none() {
            return Ok(None);
        }
    }
    Ok(Some(results))
}

/// Measures all lines with `count` nodes.
async fn measure_rows(
    options: &Options,
    nodes: &mut Nodes,
    count: usize,
    results: &mut Results,
    report: &mut impl FnMut(&ResultLine),
) -> Result<(), String> {
    nodes.start().await?;
    let singles = options.writers.iter().map(|writers| (*writers, 1));
    let batches = (options.batch > 1).then_some((16, options.batch));
    for (writers, batch) in singles.chain(batches) {
        let row = append::measure(options, nodes, count, writers, batch, &results.baseline).await?;
        report(&ResultLine::Row(row.clone()));
        results.rows.push(row);
    }
    Ok(())
}

/// One line of the output.
#[derive(Clone, Debug)]
pub(crate) enum ResultLine {
    /// The disk's own rate.
    Baseline(Baseline),
    /// A measurement.
    Row(Row),
}
