//! The baseline: appending to a file and `fdatasync`, one after the other, as a single writer must.

use std::{
    fs::File,
    io::Write,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use serde::Serialize;

/// What the disk can do.
#[derive(Clone, Debug, Serialize)]
pub struct Baseline {
    /// Appends of one payload, each synced before the next.
    pub fdatasync_per_s: f64,
    /// The middle of their times.
    pub p50_us: u64,
    /// 99 of 100 take no longer.
    pub p99_us: u64,
}

/// Measures it where the data of the benchmark goes.
///
/// # Errors
///
/// Where the disk refuses.
pub fn measure(bytes: usize, time: Duration) -> Result<Baseline, String> {
    let describe = |error: std::io::Error| format!("the disk could not be measured: {error}");
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
