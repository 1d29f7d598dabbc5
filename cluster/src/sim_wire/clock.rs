//! A wall clock that follows the paused one, and may be wrong.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use evener_core::time::Timestamp;
use tokio::time::Instant;

use crate::transport::Clock;

/// The wall clock of one host. A clone is the same clock.
#[derive(Clone, Debug)]
pub struct SimClock {
    start: Instant,
    epoch: Timestamp,
    off_ms: Arc<AtomicI64>,
    suspended_ms: Arc<AtomicU64>,
}

impl SimClock {
    /// Creates a clock that shows `epoch` now. Must be called within a runtime.
    #[must_use]
    pub fn new(epoch: Timestamp) -> Self {
        Self { start: Instant::now(), epoch, off_ms: Arc::default(), suspended_ms: Arc::default() }
    }

    /// Sets its error in milliseconds: positive if ahead, negative if behind.
    pub fn set_offset(&self, ms: i64) {
        self.off_ms.store(ms, Ordering::Relaxed);
    }

    /// Suspends the machine for this time, at once: its wall clock and the time since its start advance, tokio's does
    /// not.
    pub fn suspend(&self, time: Duration) {
        self.suspended_ms.fetch_add(time.as_millis() as u64, Ordering::Relaxed);
    }
}

impl Clock for SimClock {
    fn boot(&self) -> Duration {
        self.start.elapsed() + Duration::from_millis(self.suspended_ms.load(Ordering::Relaxed))
    }

    fn wall(&self) -> Timestamp {
        let right = self.epoch.after(self.boot());
        let off = self.off_ms.load(Ordering::Relaxed);
        let by = Duration::from_millis(off.unsigned_abs());
        if off < 0 {
            Timestamp(right.since(Timestamp(0)).saturating_sub(by).as_millis() as u64)
        } else {
            right.after(by)
        }
    }
}
