//! Resets of a running processor, in any order of steps: a replay is complete, in order, and marked exactly.

use std::{collections::BTreeSet, vec::Vec};

use proptest::{collection, prelude::*};

use super::{
    assert_settled, by_sequence, disturbance, faults, on_error, repair, reshape, scenario, test_cluster::TestCluster,
};
use crate::{
    command::{Change, Outcome},
    hash,
    id::{Epoch, Position},
    limits::Limits,
    processor::OnError,
    replay::ResetTo,
};

/// One reset.
struct Reset {
    /// The last epoch before it.
    epoch: Epoch,
    /// The position to which it moved the processor.
    from: u64,
    /// The events that had been passed before it, or before an earlier one.
    passed: BTreeSet<u64>,
    /// Events of letters that it dropped and that were never handled.
    unhandled: BTreeSet<u64>,
}

/// A naive record of all resets.
#[derive(Default)]
struct Resets {
    all: Vec<Reset>,
    /// Whether the last replay was ended by an operator.
    ended: bool,
    /// The last epoch before each end of a replay by an operator.
    ends: Vec<Epoch>,
    /// Events that a reset skipped.
    skipped: BTreeSet<u64>,
}

impl Resets {
    fn reset(&mut self, cluster: &mut TestCluster, to: ResetTo) {
        let processor = cluster.processor();
        let passed = (0..cluster.log.len() as u64).filter(|position| {
            let hash = hash::sequence(cluster.log[*position as usize].as_bytes());
            let (_, share) = processor.share_of(hash).expect("every hash has a segment");
            !share.token.wants(hash, Position(*position))
        });
        let mut passed: BTreeSet<u64> = passed.collect();
        let current = passed.clone();
        passed.extend(self.all.iter().flat_map(|before| &before.passed));
        let epoch = cluster.state.issued.epoch;
        let is_done = matches!(cluster.change(Change::Reset("p".into(), to, None)), Outcome::Changed(_));
        let from = match to {
            ResetTo::Beginning => 0,
            ResetTo::Head => cluster.log.len() as u64,
            ResetTo::At(position) => position.0,
            ResetTo::ReplayEnd => {
                self.ended |= is_done;
                self.ends.extend(is_done.then_some(epoch));
                return;
            }
        };
        if is_done {
            self.skipped.extend((0..from).filter(|position| !current.contains(position)));
            self.ended = false;
            let dropped = cluster.processor().replay.iter().flat_map(|replay| replay.dropped.values().flatten());
            let unhandled = dropped.filter(|letter| !letter.replaying).map(|letter| letter.position.0).collect();
            self.all.push(Reset { epoch, from, passed, unhandled });
        }
    }

    /// Returns whether an event must be marked as a replay for a handler that has received this epoch, if that is
    /// certain.
    fn replays(&self, position: u64, epoch: Epoch) -> Option<bool> {
        // An event before the position of a reset is a letter that the reset has kept as it was.
        let reset = self.all.iter().rev().find(|reset| reset.epoch < epoch && reset.from <= position);
        let Some(reset) = reset else { return Some(false) };
        let replays = reset.passed.contains(&position) && !reset.unhandled.contains(&position);
        // After the end of a replay, its letters are marked, and letters from before the reset are as they were.
        let ended = self.ends.iter().any(|end| *end >= reset.epoch && *end < epoch);
        (!(ended && replays)).then_some(replays)
    }

    fn assert_marked(&self, cluster: &TestCluster) {
        for call in &cluster.calls {
            let replays = self.replays(call.position, call.epoch);
            assert!(replays.is_none_or(|replays| call.replaying == replays), "{call:?}");
        }
    }

    /// Checks that no event was lost: each was handled some time, or skipped by a reset.
    fn assert_nothing_lost(&self, cluster: &TestCluster) {
        let handled: BTreeSet<u64> = cluster.calls.iter().filter(|call| call.ok).map(|call| call.position).collect();
        for position in 0..cluster.log.len() as u64 {
            let skipped = self.skipped.contains(&position);
            assert!(skipped || handled.contains(&position), "event {position} was never handled");
        }
    }

    /// Checks P5 for the time since the last reset.
    fn assert_complete_in_order(&self, cluster: &TestCluster, skips: bool) {
        let Some(last) = self.all.last() else { return };
        let mut first = std::collections::BTreeMap::new();
        for (nth, call) in cluster.calls.iter().enumerate().filter(|(_, call)| call.ok && call.epoch > last.epoch) {
            first.entry(call.position).or_insert(nth);
        }
        for (sequence, positions) in by_sequence(cluster) {
            let replayed = positions.iter().filter(|position| **position >= last.from);
            let needed = replayed.clone().filter(|position| !self.ended || !last.passed.contains(position));
            for position in needed.filter(|_| !skips) {
                assert!(first.contains_key(position), "{sequence}: event {position} was not handled after the reset");
            }
            let order: Vec<_> = replayed.filter_map(|position| first.get(position)).collect();
            assert!(order.is_sorted(), "{sequence}: handled in the order {order:?}");
        }
    }
}

/// A random step: one of the others, or a reset.
#[derive(Clone, Copy, Debug)]
enum Action {
    Other(reshape::Action),
    Reset(ResetTo),
}

fn action() -> impl Strategy<Value = Action> {
    let to = prop_oneof![
        2 => Just(ResetTo::Beginning),
        1 => Just(ResetTo::Head),
        3 => (0_u64..60).prop_map(|position| ResetTo::At(Position(position))),
        1 => Just(ResetTo::ReplayEnd),
    ];
    prop_oneof![
        40 => disturbance().prop_map(|other| Action::Other(reshape::Action::Other(other))),
        1 => reshape::reshape().prop_map(Action::Other),
        1 => to.prop_map(Action::Reset),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, max_shrink_iters: 3_000, ..ProptestConfig::default() })]

    #[test]
    fn p5_a_replay_is_complete_in_order_and_marked_exactly(
        on_error in on_error(),
        faults in faults(),
        actions in collection::vec(action(), 0..600),
    ) {
        let skips = on_error == OnError::Skip || !faults.skip.is_empty();
        let mut cluster = TestCluster::new(3, on_error, Limits::DEFAULT, faults);
        let mut resets = Resets::default();
        for action in actions {
            match action {
                Action::Other(action) => reshape::perform(&mut cluster, action),
                Action::Reset(to) => resets.reset(&mut cluster, to),
            }
        }
        cluster.operator_changes += resets.all.len();
        repair(&mut cluster);
        assert_settled(&cluster);
        resets.assert_marked(&cluster);
        resets.assert_complete_in_order(&cluster, skips);
        if !skips {
            resets.assert_nothing_lost(&cluster);
        }
    }
}

#[test]
fn p4_progress_in_flight_cannot_skip_a_part_of_a_replay() {
    let mut cluster = scenario(&[]);
    for nth in 0..30 {
        cluster.append(&std::format!("s{}", nth % 6));
    }
    cluster.settle(cluster.now + 60_000);
    for _ in 0..10 {
        cluster.append("s1");
    }
    // Takes steps until progress is in flight, and resets before it is judged.
    while cluster.nodes.values().all(|node| node.progress.is_none()) {
        let step = cluster.enabled().first().expect("the new events are to be handled").clone();
        cluster.take(step);
    }
    let mut resets = Resets::default();
    resets.reset(&mut cluster, ResetTo::Beginning);
    assert!(cluster.processor().segments.values().all(|share| share.token.low() == Position(0)));
    assert!(cluster.settle(cluster.now + 60_000));
    resets.assert_marked(&cluster);
    resets.assert_complete_in_order(&cluster, false);
    let replayed = cluster.calls.iter().filter(|call| call.ok && call.replaying).count();
    assert!(replayed >= 30, "{replayed} events were replayed");
}
