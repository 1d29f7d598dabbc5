//! The baseline: a single writer that appends to a file and calls `fdatasync`, one after the other.

use std::{
    fs::File,
    io::Write,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use serde::Serialize;

/// The sync rate of the disk.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Baseline {
    /// Writes of one payload per second, each synced before the next.
    pub fdatasync_per_s: f64,
    /// The median latency.
    pub p50_us: u64,
    /// The 99th percentile of the latency.
    pub p99_us: u64,
}

/// Measures the disk that holds the benchmark's data.
///
/// # Errors
///
/// If a write or sync fails.
pub(super) fn measure(bytes: usize, time: Duration) -> Result<Baseline, String> {
    let describe = |error: std::io::Error| format!("failed to measure the disk: {error}");
    let mut file: File = tempfile::tempfile().map_err(describe)?;
    let payload = vec![7_u8; bytes];
    let mut times = Histogram::<u64>::new_with_max(super::TIME_US_MAX, 3).map_err(|error| error.to_string())?;
    let start = Instant::now();
    while start.elapsed() < time {
        let at = Instant::now();
        file.write_all(&payload).and_then(|()| file.sync_data()).map_err(describe)?;
        times.saturating_record(u64::try_from(at.elapsed().as_micros()).unwrap_or(u64::MAX));
    }
    Ok(Baseline {
        fdatasync_per_s: (times.len() as f64 / start.elapsed().as_secs_f64()).round(),
        p50_us: times.value_at_quantile(0.5),
        p99_us: times.value_at_quantile(0.99),
    })
}
