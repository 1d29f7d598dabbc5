//! How long to wait before trying again.

use core::time::Duration;

use serde::{Deserialize, Serialize};

/// Waits that double from `first_ms` up to `max_ms`, for so many attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backoff {
    /// The wait after the first failure.
    pub first_ms: u32,
    /// No wait is longer.
    pub max_ms: u32,
    /// After so many attempts no further one is made by itself.
    pub attempts: u32,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first_ms: 1_000, max_ms: 60_000, attempts: 10 }
    }
}

impl Backoff {
    /// The wait after the `attempt`-th failure in a row, counting from 1. `draw`, in 1/65536, takes up to a
    /// tenth of it away, so that what failed together does not come back together.
    #[must_use]
    pub fn wait(self, attempt: u32, draw: u16) -> Duration {
        debug_assert!(attempt > 0, "there is no wait before the first attempt");
        let doubled = u64::from(self.first_ms) << attempt.saturating_sub(1).min(32);
        let whole = doubled.min(u64::from(self.max_ms));
        Duration::from_millis(whole - (whole * u64::from(draw) / 10) / 65_536)
    }
}
