//! A backlog is sent in parts, each within its bounds, with the same result as if sent at once (P4, P10).

use std::{string::String, vec::Vec};

use proptest::{collection, prelude::*};

use super::{
    Step, assert_all_handled_in_order, assert_settled, on_error,
    test_cluster::{Faults, TestCluster},
};
use crate::{
    id::{NodeId, Position, SegmentId},
    letter::Letter,
    limits::Limits,
    processor::OnError,
};

/// Takes only these steps until none is left; returns how often progress was judged.
fn take_only(cluster: &mut TestCluster, allowed: impl Fn(&Step) -> bool) -> usize {
    let mut judged = 0;
    while let Some(step) = cluster.enabled().into_iter().find(&allowed) {
        judged += usize::from(matches!(step, Step::JudgeProgress(_)));
        cluster.take(step);
    }
    judged
}

/// Lets events fail and be retried for a minute, while the log judges no progress.
fn retry_without_judging(cluster: &mut TestCluster) {
    let until = cluster.now + 60_000;
    loop {
        take_only(cluster, |step| !matches!(step, Step::JudgeProgress(_) | Step::HandOver(_)));
        let Some(wake) = cluster.next_wake().filter(|wake| *wake < until) else { return };
        cluster.pass(wake);
    }
}

/// Sends all pending progress, while no handler is called; returns the number of commands.
fn send_all(cluster: &mut TestCluster) -> usize {
    let allowed = |step: &Step| matches!(step, Step::JudgeProgress(_) | Step::Tick(_) | Step::Mail(_));
    let judged = take_only(cluster, allowed);
    // Progress over foreign events is sent a second later.
    cluster.pass(cluster.now + 1_000);
    judged + take_only(cluster, allowed)
}

type Share = (SegmentId, Position, Option<NodeId>, Option<Position>);
type SetAsideContent = (String, Vec<Letter>, String, u32, Option<NodeId>);

/// Returns the state of the log without times.
fn known(cluster: &TestCluster) -> (Vec<Share>, Vec<SetAsideContent>, u64) {
    let processor = cluster.processor();
    let shares = processor.segments.iter().map(|(id, share)| {
        (*id, share.token.low(), share.claim.owner, share.stalled.as_ref().map(|stall| stall.position))
    });
    let set_aside = processor.set_aside.iter().map(|(key, aside)| {
        let letters = aside.letters.iter().cloned().collect();
        (key.name.clone(), letters, aside.cause.clone(), aside.wait_ms, aside.loan.map(|loan| loan.node))
    });
    (shares.collect(), set_aside.collect(), processor.skipped)
}

fn cluster_of(on_error: OnError, faults: &Faults, room: Option<usize>) -> TestCluster {
    let mut cluster = TestCluster::new(8, on_error, Limits::DEFAULT, Faults { room, ..faults.clone() });
    (0..60).for_each(|nth| cluster.append(&std::format!("s{}", nth % 30)));
    cluster
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn p10_a_backlog_sent_in_parts_has_the_same_result_as_sent_at_once(
        on_error in on_error(),
        fail in collection::btree_map(0_u64..60, 1_u32..8, 0..40),
        skip in collection::btree_set(0_u64..60, 0..6),
        unable in collection::btree_map(0_u64..60, 1_u32..8, 0..4),
        room in 1_usize..8,
    ) {
        let faults = Faults { fail, skip, unable, ..Faults::default() };
        let clusters = [None, Some(room)].map(|room| {
            let mut cluster = cluster_of(on_error, &faults, room);
            retry_without_judging(&mut cluster);
            send_all(&mut cluster);
            cluster
        });
        prop_assert_eq!(known(&clusters[0]), known(&clusters[1]));
    }
}

#[test]
fn p10_many_segments_with_long_causes_drain_once_the_log_continues() {
    let limits = Limits { cause_bytes_max: 65_536, ..Limits::DEFAULT };
    let fail = (0..400).map(|position| (position, 3)).collect();
    let faults = Faults { fail, cause_bytes: 65_536, ..Faults::default() };
    let mut cluster = TestCluster::new(64, OnError::SetAside, limits, faults);
    (0..400).for_each(|nth| cluster.append(&std::format!("s{nth}")));
    retry_without_judging(&mut cluster);
    let causes = cluster.processor().set_aside.values().map(|aside| aside.cause.len()).max();
    assert_eq!(causes, None, "no progress was judged yet");
    assert!(send_all(&mut cluster) > 40, "25 MB do not fit a few entries");
    assert!(cluster.settle(cluster.now + 600_000));
    assert_all_handled_in_order(&cluster, false);
    assert_settled(&cluster);
}

#[test]
fn p10_retries_while_no_progress_can_be_sent_add_no_letters() {
    let faults = Faults { fail: [(0, 1_000)].into(), ..Faults::default() };
    let mut cluster = TestCluster::new(1, OnError::Stop, Limits::DEFAULT, faults);
    cluster.append("s0");
    for _ in 0..20 {
        retry_without_judging(&mut cluster);
    }
    assert!(cluster.calls.len() > 100, "{}", cluster.calls.len());
    let node = cluster.calls[0].node;
    cluster.take(Step::JudgeProgress(node));
    take_only(&mut cluster, |step| matches!(step, Step::Tick(_) | Step::Mail(_)));
    let (_, progress) = cluster.nodes[&node].progress.as_ref().expect("the next progress is sent");
    assert_eq!(progress.letters.len(), 1, "only the latest attempt counts");
}
