//! What a seed does to its run: how long, how many clients, which kinds of faults and how often.
//!
//! Each kind is off in half of the seeds: everything at once hides what one fault alone would show.

use std::time::Duration;

use super::sim_rng::SimRng;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// A machine loses its power: what was not synced may be gone, sector by sector.
    PowerCut,
    /// A process is killed; its machine goes on, and loses nothing that was written.
    Kill,
    /// All machines lose their power at once.
    Blackout,
    /// A node hears nobody and is heard by nobody.
    Isolate,
    /// A node hears, and is not heard; or the other way.
    OneWay,
    /// Messages take long.
    SlowWire,
    /// A disk takes long.
    SlowDisk,
    /// A write or a sync fails: the node must stop by itself.
    BrokenDisk,
    /// A wall clock is minutes ahead or behind for a while.
    ClockJump,
}

/// All kinds.
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

/// Who comes or goes in the middle, whatever the faults do meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turnover {
    /// Nobody.
    Nobody,
    /// A node more joins.
    Joins,
    /// A node leaves for ever.
    Leaves,
    /// A node loses its disk: it must not come back as what it was; it is removed, and joins as another.
    Wiped,
}

/// What a seed does to its run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// From which everything follows.
    pub seed: u64,
    /// Virtual time with faults.
    pub safety: Duration,
    /// Virtual time after which, without faults, everything must be well again.
    pub liveness: Duration,
    /// Which faults.
    pub kinds: Vec<FaultKind>,
    /// Between the end of one and the beginning of the next, at most.
    pub pause_max: Duration,
    /// How long one lasts, at most.
    pub fault_max: Duration,
    /// Nodes that the cluster begins with.
    pub founders: usize,
    /// Who comes or goes.
    pub turnover: Turnover,
    /// People pause, release, claim, retry, create and delete.
    pub meddled: bool,
    /// Clients that append.
    pub clients: u64,
    /// The size of a chunk, small enough that chunks are sealed and cut.
    pub chunk_bytes: u64,
}

impl Plan {
    /// The plan of a seed.
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
    fn each_kind_is_on_in_about_half_of_the_seeds_and_some_kind_always() {
        let plans: Vec<_> = (0..400).map(|seed| Plan::new(seed, Duration::from_secs(60))).collect();
        assert!(plans.iter().all(|plan| !plan.kinds.is_empty()));
        for kind in FAULT_KINDS {
            let on = plans.iter().filter(|plan| plan.kinds.contains(&kind)).count();
            assert!((150..=250).contains(&on), "{kind:?} is on in {on} of 400");
        }
    }
}
