//! The plan of a run, which follows from its seed: duration, number of clients, kinds of faults and their frequency.
//!
//! Each kind of fault is off in half of the seeds: a combination of all can hide the effect of one.
//!
//! The derived `Debug` of a plan is the first line of the trace, so that the names of its fields and variants are part
//! of the trace's hash.

use std::time::Duration;

use super::sim_rng::SimRng;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// A machine loses power: unsynced writes may be lost, sector by sector.
    PowerCut,
    /// A process is killed; its machine keeps running, and loses no write.
    Kill,
    /// All machines lose power at once.
    Blackout,
    /// A node neither sends nor receives messages.
    Isolate,
    /// A node receives but does not send messages, or the reverse.
    OneWay,
    /// Messages are slow.
    SlowWire,
    /// A disk is slow.
    SlowDisk,
    /// A write or sync fails: the node must stop by itself.
    BrokenDisk,
    /// A wall clock is minutes ahead or behind for a while.
    ClockJump,
}

/// All kinds of faults.
pub const FAULT_KINDS: [FaultKind; 9] = [
    FaultKind::PowerCut,
    FaultKind::Kill,
    FaultKind::Blackout,
    FaultKind::Isolate,
    FaultKind::OneWay,
    FaultKind::SlowWire,
    FaultKind::SlowDisk,
    FaultKind::BrokenDisk,
    FaultKind::ClockJump,
];

/// A change of the members during the faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turnover {
    /// No change. The name is printed into the trace, and so cannot change.
    Nobody,
    /// One more node joins.
    Joins,
    /// A node leaves.
    Leaves,
    /// A node loses its disk. It must not return under its old identity: it is removed, and joins as a new member.
    Wiped,
}

/// The plan of a run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed that determines everything else.
    pub seed: u64,
    /// The virtual time with faults.
    pub safety: Duration,
    /// The virtual time after the faults within which the cluster must recover.
    pub liveness: Duration,
    /// The kinds of faults that occur.
    pub kinds: Vec<FaultKind>,
    /// The maximum time between two faults.
    pub pause_max: Duration,
    /// The maximum duration of a fault.
    pub fault_max: Duration,
    /// The number of initial nodes.
    pub founders: usize,
    /// The change of the members.
    pub turnover: Turnover,
    /// Whether operators pause, reset, release, claim, split, merge, move, retry, create and delete.
    pub meddled: bool,
    /// The number of clients that append.
    pub clients: u64,
    /// The size of a chunk, small enough that chunks are sealed and truncated.
    pub chunk_bytes: u64,
}

impl Plan {
    /// Creates the plan of a seed.
    #[must_use]
    pub fn new(seed: u64, safety: Duration) -> Self {
        let mut rng = SimRng::new(seed).derive("plan");
        let mut kinds: Vec<_> = FAULT_KINDS.into_iter().filter(|_| rng.once_in(2)).collect();
        if kinds.is_empty() {
            kinds.push(rng.pick(&FAULT_KINDS));
        }
        let mut membership_rng = SimRng::new(seed).derive("turnover");
        Self {
            seed,
            safety,
            founders: membership_rng.pick(&[3, 3, 3, 5]),
            turnover: membership_rng.pick(&[Turnover::Nobody, Turnover::Joins, Turnover::Leaves, Turnover::Wiped]),
            meddled: membership_rng.once_in(2),
            liveness: Duration::from_secs(60),
            kinds,
            pause_max: Duration::from_secs(rng.between(2, 5)),
            fault_max: Duration::from_secs(rng.between(2, 5)),
            clients: rng.between(3, 8),
            chunk_bytes: rng.pick(&[64 << 10, 128 << 10, 1 << 20]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_fault_occurs_in_about_half_of_the_seeds_and_at_least_one_in_each() {
        let plans: Vec<_> = (0..400).map(|seed| Plan::new(seed, Duration::from_secs(60))).collect();
        assert!(plans.iter().all(|plan| !plan.kinds.is_empty()));
        for kind in FAULT_KINDS {
            let on = plans.iter().filter(|plan| plan.kinds.contains(&kind)).count();
            assert!((150..=250).contains(&on), "{kind:?} occurs in {on} of 400");
        }
    }
}
