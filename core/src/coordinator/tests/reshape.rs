//! Splits and merges of live segments by command, in any order of steps.

use proptest::{collection, prelude::*};

use super::{
    Disturbance, Faults, assert_all_handled_in_order, assert_few_handled_again, assert_settled, disturb, disturbance,
    faults, harmless, on_error, repair, scenario, test_cluster::TestCluster,
};
use crate::{
    command::{Change, Outcome},
    id::{NodeId, Position, SegmentId},
    limits::Limits,
    processor::OnError,
};

/// A random step: one of the others, or a command.
#[derive(Clone, Copy, Debug)]
pub(super) enum Action {
    Other(Disturbance),
    Split(Option<u32>),
    Merge(Option<u32>),
    Move(u32, u64),
}

pub(super) fn reshape() -> impl Strategy<Value = Action> {
    let segment = prop_oneof![Just(None), (0_u32..8).prop_map(Some)];
    prop_oneof![
        3 => segment.clone().prop_map(Action::Split),
        3 => segment.prop_map(Action::Merge),
        1 => (0_u32..4, 1_u64..=3).prop_map(|(segment, node)| Action::Move(segment, node)),
    ]
}

pub(super) fn perform(cluster: &mut TestCluster, action: Action) {
    let p = || "p".into();
    match action {
        Action::Other(disturbance) => disturb(cluster, disturbance),
        Action::Split(segment) if cluster.processor().segments.len() < 12 => {
            drop(cluster.change(Change::Split(p(), segment.map(SegmentId))));
        }
        Action::Split(_) => {}
        Action::Merge(segment) => drop(cluster.change(Change::Merge(p(), segment.map(SegmentId)))),
        Action::Move(segment, node) => {
            cluster.change(Change::Move(p(), SegmentId(segment), NodeId(node)));
            cluster.change(Change::Unpin(p(), SegmentId(segment)));
        }
    }
}

fn among(others: impl Strategy<Value = Disturbance>) -> impl Strategy<Value = Action> {
    prop_oneof![30 => others.prop_map(Action::Other), 1 => reshape()]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, max_shrink_iters: 3_000, ..ProptestConfig::default() })]

    #[test]
    fn p5_all_events_are_handled_in_order_across_splits_and_merges(
        on_error in on_error(),
        faults in faults(),
        actions in collection::vec(among(disturbance()), 0..600),
    ) {
        let mut cluster = TestCluster::new(3, on_error, Limits::DEFAULT, faults);
        for action in actions {
            perform(&mut cluster, action);
        }
        repair(&mut cluster);
        assert_all_handled_in_order(&cluster, on_error == OnError::Skip);
        assert_settled(&cluster);
        let processor = cluster.processor();
        prop_assert!(processor.segments.values().all(|share| share.reshape.is_none() && share.claim.owner.is_some()));
    }

    #[test]
    fn p4_no_event_is_handled_again_by_a_split_or_a_merge(actions in collection::vec(among(harmless()), 0..400)) {
        let mut cluster = TestCluster::new(3, OnError::SetAside, Limits::DEFAULT, Faults::default());
        for action in actions {
            perform(&mut cluster, action);
        }
        cluster.change(Change::Pause("p".into(), false));
        prop_assert!(cluster.settle(cluster.now + 600_000));
        assert_few_handled_again(&cluster);
        assert_settled(&cluster);
    }
}

#[test]
fn a_merge_of_segments_of_two_nodes_waits_for_both_and_keeps_both_tokens() {
    let mut cluster = scenario(&[]);
    for nth in 0..30 {
        cluster.append(&std::format!("s{}", nth % 6));
    }
    cluster.settle(cluster.now + 60_000);
    // Three segments: 0 and 2 are siblings, 1 is whole.
    let owners = |cluster: &TestCluster| -> std::vec::Vec<_> {
        cluster.processor().segments.values().map(|share| share.claim.owner).collect()
    };
    assert_ne!(owners(&cluster)[0], owners(&cluster)[2]);
    assert_eq!(cluster.change(Change::Merge("p".into(), Some(SegmentId(2)))), Outcome::Changed(1));
    assert_eq!(cluster.processor().segments.len(), 3, "both are still owned");
    assert!(cluster.settle(cluster.now + 60_000));
    assert_eq!(cluster.processor().segments.len(), 2);
    for _ in 0..3 {
        assert_eq!(cluster.change(Change::Split("p".into(), None)), Outcome::Changed(1));
        assert!(cluster.settle(cluster.now + 60_000));
    }
    assert_eq!(cluster.processor().segments.len(), 5);
    for nth in 0..30 {
        cluster.append(&std::format!("s{}", nth % 6));
    }
    assert!(cluster.settle(cluster.now + 60_000));
    assert_all_handled_in_order(&cluster, false);
    assert_few_handled_again(&cluster);
    assert!(cluster.processor().segments.values().all(|share| share.token.low() == Position(60)));
}

#[test]
fn p10_splits_and_merges_do_not_multiply_the_bars_of_a_claim() {
    let mut cluster = scenario(&[]);
    cluster.settle(cluster.now + 60_000);
    cluster.change(Change::Release("p".into(), SegmentId(1)));
    assert!(cluster.settle(cluster.now + 1_000));
    for _ in 0..6 {
        cluster.change(Change::Split("p".into(), Some(SegmentId(1))));
        assert!(cluster.settle(cluster.now + 1_000));
        cluster.change(Change::Merge("p".into(), Some(SegmentId(1))));
        assert!(cluster.settle(cluster.now + 1_000));
    }
    assert!(cluster.processor().segments.values().all(|share| share.claim.bars.len() <= 1));
}
