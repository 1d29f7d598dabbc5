//! Finds wall clocks that are off: a node compares its wall clock with those of the others.
//!
//! Wall clocks are stamped into entries and shown to people; no safety decision depends on them (P9). A leader whose
//! clock is off still writes times that no later leader can take back, as the log's time never goes back. So it passes
//! leadership on, and until another node takes it, it stamps the time of the other clocks.

use alloc::vec::Vec;
use core::time::Duration;

/// A clock that differs from the group's by more than this is off.
pub const CLOCK_OFF_MAX: Duration = Duration::from_secs(2);

/// Returns by how many milliseconds this node's clock is ahead of the group's median, given how far each other voter's
/// clock is ahead of this one. Returns `None` if too few clocks are known: of two clocks that differ, either may be
/// off.
#[must_use]
pub fn ahead(others: &[i64], voters: usize) -> Option<i64> {
    let mut clocks: Vec<i64> = others.iter().copied().chain([0]).collect();
    if clocks.len() < 3 || clocks.len() * 2 <= voters {
        return None;
    }
    clocks.sort_unstable();
    let (low, high) = (clocks[(clocks.len() - 1) / 2], clocks[clocks.len() / 2]);
    // Of the two in the middle, the one closer to this node's clock.
    let median = if low.unsigned_abs() <= high.unsigned_abs() { low } else { high };
    Some(median.saturating_neg())
}

/// Returns whether a clock that is so many milliseconds ahead or behind is off.
#[must_use]
pub fn is_off(ahead_ms: i64) -> bool {
    u128::from(ahead_ms.unsigned_abs()) > CLOCK_OFF_MAX.as_millis()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(others: &[i64], voters: usize, expected: Option<i64>) {
        assert_eq!(ahead(others, voters), expected, "{others:?} of {voters}");
    }

    #[test]
    fn a_clock_is_compared_with_the_median_of_the_group() {
        check(&[-3_600_000, -3_600_100], 3, Some(3_600_000));
        check(&[3_600_000, 3_600_100], 3, Some(-3_600_000));
        check(&[3_600_000, 10], 3, Some(-10));
        check(&[-5_000, 3_600_000], 3, Some(0));
        check(&[-5_000, -5_000, 0, 10], 5, Some(0));
        check(&[-5_000, -5_001, 10], 5, Some(0));
        check(&[i64::MIN, i64::MIN], 3, Some(i64::MAX));
    }

    #[test]
    fn too_few_clocks_give_no_median() {
        check(&[], 1, None);
        check(&[-3_600_000], 3, None);
        check(&[-3_600_000, -3_600_000], 7, None);
    }

    #[test]
    fn a_clock_is_off_beyond_two_seconds_either_way() {
        assert!(!is_off(2_000) && !is_off(-2_000));
        assert!(is_off(2_001) && is_off(-2_001) && is_off(i64::MIN));
    }
}
