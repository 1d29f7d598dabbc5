//! The flood breaker: when too many sequences of a segment fail at once, the sequences are not the cause, and setting
//! all of them aside would only fill the limits. The segment is paused instead (P6 names this exception).

use alloc::collections::BTreeSet;
use core::time::Duration;

use crate::time::Moment;

/// It is a flood if more than a tenth of the sequences seen in this time fail, ...
pub const FLOOD_WINDOW: Duration = Duration::from_secs(60);
/// ... and at least so many of them.
pub const FLOOD_SEQUENCES_MIN: usize = 20;
/// How long a flooded segment is paused.
pub const FLOOD_REST: Duration = Duration::from_secs(30);

/// The sequences that were seen and that failed since a moment.
#[derive(Clone, Debug)]
pub(super) struct Flood {
    since: Moment,
    seen: BTreeSet<u64>,
    failed: BTreeSet<u64>,
}

impl Flood {
    /// The maximum number that is counted: the proportion is clear by then.
    const SEQUENCES_MAX: usize = 4_096;

    pub(super) const fn new(since: Moment) -> Self {
        Self { since, seen: BTreeSet::new(), failed: BTreeSet::new() }
    }

    /// Counts a sequence with an event for the handler.
    pub(super) fn saw(&mut self, now: Moment, hash: u64) {
        self.turn(now);
        if self.seen.len() < Self::SEQUENCES_MAX {
            self.seen.insert(hash);
        }
    }

    /// Counts a sequence for which the handler failed.
    pub(super) fn failed(&mut self, now: Moment, hash: u64) {
        self.turn(now);
        if self.failed.len() < Self::SEQUENCES_MAX {
            self.failed.insert(hash);
        }
    }

    fn turn(&mut self, now: Moment) {
        if now.since(self.since) > FLOOD_WINDOW {
            *self = Self::new(now);
        }
    }

    pub(super) fn is_one(&self) -> bool {
        self.failed.len() >= FLOOD_SEQUENCES_MIN && self.failed.len() * 10 > self.seen.len()
    }
}
