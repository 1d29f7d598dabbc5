//! Waits between attempts.

use core::time::Duration;

use serde::{Deserialize, Serialize};

/// Waits that double from `first_ms` up to `max_ms`, for a number of attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backoff {
    /// The wait after the first failure.
    pub first_ms: u32,
    /// The longest wait.
    pub max_ms: u32,
    /// The number of attempts after which no further one is made automatically.
    pub attempts: u32,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first_ms: 1_000, max_ms: 60_000, attempts: 10 }
    }
}

impl Backoff {
    /// Returns the wait after the `attempt`-th failure in a row, counting from 1. `random`, in 1/65536, shortens it by
    /// up to a tenth, so that work that failed at the same time is not retried at the same time.
    #[must_use]
    pub fn wait(self, attempt: u32, random: u16) -> Duration {
        debug_assert!(attempt > 0, "there is no wait before the first attempt");
        self.with_jitter(u64::from(self.first_ms) << attempt.saturating_sub(1).min(32), random)
    }

    /// Returns the wait after one of this length, if attempts are not counted.
    #[must_use]
    pub fn after(self, wait: Duration, random: u16) -> Duration {
        let before = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        self.with_jitter(before.saturating_mul(2).max(u64::from(self.first_ms)), random)
    }

    fn with_jitter(self, whole_ms: u64, random: u16) -> Duration {
        let whole = whole_ms.min(u64::from(self.max_ms));
        Duration::from_millis(whole - (whole * u64::from(random) / 10) / 65_536)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let waits = (1..=9).map(|attempt| Backoff::default().wait(attempt, 0).as_secs());
        assert_eq!(waits.collect::<alloc::vec::Vec<_>>(), [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    }

    proptest! {
        #[test]
        fn jitter_shortens_a_wait_by_at_most_a_tenth(attempt in 1_u32.., random: u16, first_ms: u32, max_ms: u32) {
            let backoff = Backoff { first_ms, max_ms, attempts: 10 };
            let (whole, wait) = (backoff.wait(attempt, 0), backoff.wait(attempt, random));
            prop_assert!(whole <= Duration::from_millis(u64::from(max_ms)));
            prop_assert!(wait <= whole && whole - wait <= whole / 10);
            prop_assert!(wait <= backoff.wait(attempt.saturating_add(1), 0), "a later wait is no shorter");
        }
    }
}
