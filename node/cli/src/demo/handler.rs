//! The demo's handler program: writes one line per event to a file of its own, then answers.

use std::{
    fs::OpenOptions,
    io::{self, BufRead, Write},
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::Deserialize;

use super::records::Handled;

#[derive(Deserialize)]
struct Delivery {
    delivery: u64,
    segment: u32,
    epoch: u64,
    attempt: u32,
    event: Event,
}

#[derive(Deserialize)]
struct Event {
    position: u64,
    subject: String,
    data: Data,
}

/// The data that the load puts into each event.
#[derive(Deserialize)]
struct Data {
    number: u64,
}

/// Handles events from standard input until it ends.
///
/// # Errors
///
/// If the file cannot be written, or a delivery is malformed.
pub(crate) fn run(folder: &Path) -> io::Result<()> {
    let path = folder.join(format!("{}.ndjson", std::process::id()));
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    let mut out = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        let Delivery { delivery, segment, epoch, attempt, event } = serde_json::from_str(&line?)?;
        let Event { position, subject: stream, data: Data { number } } = event;
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let at_us = u64::try_from(at.as_micros()).unwrap_or(u64::MAX);
        let handled = Handled { position, stream, number, segment, epoch, attempt, at_us };
        let mut line = serde_json::to_vec(&handled)?;
        line.push(b'\n');
        // One write per line, so that a kill can cut off only the last line.
        file.write_all(&line)?;
        writeln!(out, "{{\"delivery\":{delivery},\"ok\":true}}")?;
        out.flush()?;
    }
    Ok(())
}
