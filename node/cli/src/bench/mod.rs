//! `evener bench append`: the durable rate, beside what the same disk can do at all, in the same run.
//!
//! The servers are processes of their own, and so is the load: this one, through the public client. What was
//! acknowledged is read back and counted before a line is printed.

mod append;
mod disk;

use std::{path::PathBuf, time::Duration};

use serde::Serialize;

use crate::harness::{Interrupt, Nodes};

pub use append::Row;
pub use disk::Baseline;

/// The longest time that is told apart from longer ones: a minute, in microseconds.
const TIME_US_MAX: u64 = 60_000_000;

/// What one can say of a run.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long each line is measured.
    pub time: Duration,
    /// Numbers of writers.
    pub writers: Vec<usize>,
    /// Events of one append, where more than one.
    pub batch: usize,
    /// Numbers of processes.
    pub nodes: Vec<usize>,
    /// Bytes of a payload.
    pub bytes: usize,
    /// The program whose `serve` is run: usually this one.
    pub program: PathBuf,
}

/// All lines of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Results {
    /// What the disk can do.
    pub baseline: Baseline,
    /// What we do.
    pub rows: Vec<Row>,
}

/// Runs it; `tell` is given each line as soon as it is there. None where it was interrupted.
///
/// # Errors
///
/// Where it could not be carried out, or events that were acknowledged are not there.
pub async fn run(options: &Options, mut report: impl FnMut(&ResultLine)) -> Result<Option<Results>, String> {
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

/// The lines with so many nodes.
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

/// One line of what is told.
#[derive(Clone, Debug)]
pub enum ResultLine {
    /// What the disk can do.
    Baseline(Baseline),
    /// What we do.
    Row(Row),
}
