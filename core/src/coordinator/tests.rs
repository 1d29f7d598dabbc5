//! The state machines against the promises P4, P5, P6 and P7, in any order of steps.

mod database;
mod fence;
mod loans;
mod parts;
mod replay;
mod reshape;
mod test_cluster;

use std::{
    collections::{BTreeMap, BTreeSet},
    string::String,
    vec,
    vec::Vec,
};

use proptest::{collection, option, prelude::*};

use self::test_cluster::{BATCH, Faults, NODES, Step, TestCluster};
use crate::{
    command::{Change, LetterChange, LetterMove},
    id::{NodeId, Position, SegmentId},
    limits::{LimitName, Limits},
    processor::OnError,
};

const SEQUENCES: u64 = 6;

/// A random step.
#[derive(Clone, Copy, Debug)]
enum Disturbance {
    Append(u64),
    Kill(u64),
    Fence(u64),
    Restart(u64),
    Balance,
    Drain(u64),
    Pause(bool),
    PassTime,
    LoseProgressAnswer(u64),
    LoseHandOverAnswer(u64, bool),
    WorkerDies(u64),
    /// A delayed write of a stopped handler reaches its database.
    DelayedWrite(usize),
    ChangeLetters(u64, LetterChange),
    /// An operator moves the first segment to this node.
    Move(u64),
    Split(usize),
    Merge(usize),
    /// The handlers of a node hang, or continue.
    ToggleHang(u64),
    TakeStep(usize),
}

fn disturbance() -> impl Strategy<Value = Disturbance> {
    let node = 1..=NODES;
    prop_oneof![
        14 => (0..SEQUENCES).prop_map(Disturbance::Append),
        1 => node.clone().prop_map(Disturbance::Kill),
        1 => node.clone().prop_map(Disturbance::Fence),
        2 => node.clone().prop_map(Disturbance::Restart),
        3 => Just(Disturbance::Balance),
        1 => node.clone().prop_map(Disturbance::Drain),
        1 => any::<bool>().prop_map(Disturbance::Pause),
        6 => Just(Disturbance::PassTime),
        3 => node.clone().prop_map(Disturbance::LoseProgressAnswer),
        3 => (node.clone(), any::<bool>()).prop_map(|(node, judged)| Disturbance::LoseHandOverAnswer(node, judged)),
        1 => node.prop_map(Disturbance::WorkerDies),
        3 => (0_usize..1_000).prop_map(Disturbance::DelayedWrite),
        80 => (0_usize..1_000).prop_map(Disturbance::TakeStep),
    ]
}

/// Steps that interrupt no handler.
fn harmless() -> impl Strategy<Value = Disturbance> {
    let node = 1..=NODES;
    prop_oneof![
        14 => (0..SEQUENCES).prop_map(Disturbance::Append),
        3 => Just(Disturbance::Balance),
        1 => any::<bool>().prop_map(Disturbance::Pause),
        2 => node.clone().prop_map(Disturbance::Move),
        6 => Just(Disturbance::PassTime),
        3 => node.clone().prop_map(Disturbance::LoseProgressAnswer),
        3 => (node, any::<bool>()).prop_map(|(node, judged)| Disturbance::LoseHandOverAnswer(node, judged)),
        80 => (0_usize..1_000).prop_map(Disturbance::TakeStep),
    ]
}

fn faults() -> impl Strategy<Value = Faults> {
    let fail = collection::btree_map(0_u64..60, 1_u32..8, 0..8);
    let unable = collection::btree_map(0_u64..60, 1_u32..8, 0..4);
    let (refuse, skip) = (collection::btree_set(0_u64..60, 0..3), collection::btree_set(0_u64..60, 0..6));
    let all = (fail, refuse, skip, unable, option::of(1_usize..6));
    all.prop_map(|(fail, refuse, skip, unable, room)| Faults { fail, refuse, skip, unable, room, cause_bytes: 0 })
}

fn on_error() -> impl Strategy<Value = OnError> {
    prop_oneof![3 => Just(OnError::SetAside), 1 => Just(OnError::Stop), 1 => Just(OnError::Skip)]
}

fn disturb(cluster: &mut TestCluster, disturbance: Disturbance) {
    match disturbance {
        Disturbance::Append(sequence) => cluster.append(&std::format!("s{sequence}")),
        Disturbance::Kill(node) => cluster.kill(NodeId(node)),
        Disturbance::Fence(node) => cluster.fence(NodeId(node)),
        Disturbance::Restart(node) if cluster.nodes.contains_key(&NodeId(node)) => {}
        Disturbance::Restart(node) => cluster.begin(node),
        Disturbance::Balance => cluster.balance(),
        Disturbance::Drain(node) => cluster.drain(NodeId(node)),
        Disturbance::Pause(paused) => drop(cluster.change(Change::Pause("p".into(), paused))),
        Disturbance::PassTime => {
            if let Some(wake) = cluster.next_wake() {
                cluster.pass(wake);
            }
        }
        Disturbance::LoseProgressAnswer(node) => {
            let step = Step::LoseProgressAnswer(NodeId(node));
            if cluster.enabled().contains(&Step::JudgeProgress(NodeId(node))) {
                cluster.take(step);
            }
        }
        Disturbance::LoseHandOverAnswer(node, judged) => {
            if cluster.enabled().contains(&Step::HandOver(NodeId(node))) {
                cluster.take(Step::LoseHandOverAnswer(NodeId(node), judged));
            }
        }
        Disturbance::WorkerDies(node) => cluster.worker_dies(NodeId(node)),
        Disturbance::DelayedWrite(which) => {
            cluster.database.write_delayed(which);
        }
        Disturbance::ChangeLetters(sequence, change) => cluster.change_letters(&std::format!("s{sequence}"), change),
        Disturbance::Move(node) => {
            cluster.change(Change::Claim("p".into(), SegmentId(0), NodeId(node)));
            cluster.change(Change::Unpin("p".into(), SegmentId(0)));
        }
        Disturbance::Split(which) => cluster.split(which),
        Disturbance::Merge(which) => cluster.merge(which),
        Disturbance::ToggleHang(node) => {
            if !cluster.slow.remove(&NodeId(node)) {
                cluster.slow.insert(NodeId(node));
            }
        }
        Disturbance::TakeStep(which) => {
            let enabled = cluster.enabled();
            if !enabled.is_empty() {
                cluster.take(enabled[which % enabled.len()].clone());
            }
        }
    }
}

/// Brings all nodes back and resumes everything; from now on nothing fails.
fn repair(cluster: &mut TestCluster) {
    cluster.slow.clear();
    cluster.change(Change::Pause("p".into(), false));
    for node in 1..=NODES {
        if cluster.nodes.contains_key(&NodeId(node)) {
            cluster.fence(NodeId(node)); // it may be draining, and its next session is not
        } else {
            cluster.begin(node);
        }
    }
    // A sequence that waits for an operator blocks its segment while a limit is reached, so that the cluster does not
    // settle without an operator.
    cluster.settle(cluster.now + 300_000);
    cluster.faults = Faults { skip: core::mem::take(&mut cluster.faults.skip), ..Faults::default() };
    // After a limit was reached there may be more to retry once there is room.
    let rounds = (0..6).map(|_| {
        cluster.retry_all();
        cluster.settle(cluster.now + 120_000)
    });
    assert_eq!(rounds.last(), Some(true), "the cluster does not settle");
}

fn by_sequence(cluster: &TestCluster) -> BTreeMap<&String, Vec<u64>> {
    let mut sequences = BTreeMap::<_, Vec<u64>>::new();
    for (position, sequence) in cluster.log.iter().enumerate() {
        sequences.entry(sequence).or_default().push(position as u64);
    }
    sequences
}

/// Checks P5: every event was handled, and when it was handled first, all earlier events of its sequence had been.
fn assert_all_handled_in_order(cluster: &TestCluster, skips: bool) {
    let mut first = BTreeMap::new();
    for (nth, call) in cluster.calls.iter().enumerate().filter(|(_, call)| call.ok) {
        first.entry(call.position).or_insert(nth);
    }
    for (sequence, positions) in by_sequence(cluster) {
        let places: Vec<_> = positions.iter().map(|position| first.get(position)).collect();
        if !skips {
            assert!(
                places.iter().all(Option::is_some),
                "{sequence}: not all of {positions:?} were handled: {places:?}"
            );
        }
        let handled: Vec<_> = places.into_iter().flatten().collect();
        assert!(handled.is_sorted(), "{sequence}: {positions:?} were handled in the order {handled:?}");
    }
}

/// Checks P3: events that handlers skip are counted once, however often and by however many nodes that is reported.
fn assert_skips_are_counted_once(cluster: &TestCluster) {
    let skipped = cluster.faults.skip.range(..cluster.log.len() as u64).count();
    assert_eq!(cluster.processor().skipped, skipped as u64);
}

fn assert_settled(cluster: &TestCluster) {
    let processor = cluster.processor();
    assert!(processor.set_aside.is_empty() && processor.letters == 0, "{:?}", processor.set_aside);
    for (id, share) in &processor.segments {
        assert_eq!(share.token.low(), Position(cluster.log.len() as u64), "segment {id}");
        assert_eq!(share.stalled, None, "segment {id}");
    }
}

/// Checks that only interrupted events are handled again: at most a batch per segment and kill.
fn assert_few_handled_again(cluster: &TestCluster) {
    let mut handled = BTreeMap::<u64, usize>::new();
    for call in cluster.calls.iter().filter(|call| call.ok) {
        *handled.entry(call.position).or_default() += 1;
    }
    let again: usize = handled.values().map(|times| times - 1).sum();
    // Per segment a batch, and as many letters as are tried at once (all sequences of the test). The claim is also
    // renewed if an operator takes a sequence from the node to which it is lent; that counts like a kill.
    let allowed =
        (cluster.kills + cluster.operator_changes) * (cluster.processor().segments.len() * BATCH + SEQUENCES as usize);
    assert!(again <= allowed, "{again} were handled again after {} kills", cluster.kills);
}

/// Checks that the waits between the attempts at one event are those of the schedule, or longer.
fn assert_waits(cluster: &TestCluster) {
    let mut last = BTreeMap::<u64, (u32, u64)>::new();
    for call in &cluster.calls {
        if let Some((attempt, at)) = last.get(&call.position)
            && call.attempt == attempt + 1
        {
            let wait = test_cluster::BACKOFF.wait(*attempt, u16::MAX).as_millis() as u64;
            assert!(call.at >= at + wait, "event {} was tried again after {} ms", call.position, call.at - at);
        }
        if !call.ok {
            last.insert(call.position, (call.attempt, call.at));
        }
    }
}

/// Checks that a refusal by the database is no attempt: only planned failures count. Nor does a try whose handler could
/// not be called, except for a segment that waits with its event.
fn assert_refusals_do_not_count(cluster: &TestCluster, faults: &Faults, on_error: OnError) {
    for call in &cluster.calls {
        let planned = [&faults.fail, &faults.unable].map(|plan| plan.get(&call.position).copied().unwrap_or_default());
        let unable = if on_error == OnError::Stop { planned[1] } else { 0 };
        let planned = planned[0].saturating_add(unable);
        assert!(call.attempt <= planned.saturating_add(1), "{call:?} after {planned} failures");
    }
}

fn run(segments: u32, on_error: OnError, faults: Faults, limits: Limits, steps: &[Disturbance]) -> TestCluster {
    let skips = on_error == OnError::Skip || steps.iter().any(|step| matches!(step, Disturbance::ChangeLetters(..)));
    let planned = faults.clone();
    let mut cluster = TestCluster::new(segments, on_error, limits, faults);
    for step in steps {
        disturb(&mut cluster, *step);
    }
    repair(&mut cluster);
    assert_all_handled_in_order(&cluster, skips);
    assert_settled(&cluster);
    if !skips {
        assert_skips_are_counted_once(&cluster);
    }
    assert_few_handled_again(&cluster);
    if cluster.operator_changes == 0 {
        assert_waits(&cluster); // a retry by an operator follows no schedule
    }
    assert_refusals_do_not_count(&cluster, &planned, on_error);
    // After a bar has ended, segments may return to the node.
    cluster.pass(cluster.now + u64::from(limits.unable_bar_ms));
    assert!(cluster.settle(cluster.now + 60_000), "the segments do not return");
    let index = cluster.index;
    cluster.pass(cluster.now + 3_600_000);
    assert!(cluster.settle(cluster.now), "no timer is set");
    assert_eq!(cluster.index, index, "an idle cluster writes nothing");
    cluster
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, max_shrink_iters: 3_000, ..ProptestConfig::default() })]

    #[test]
    fn p5_all_events_are_handled_in_order_despite_faults(
        on_error in on_error(),
        faults in faults(),
        steps in collection::vec(disturbance(), 0..600),
    ) {
        run(3, on_error, faults, Limits::DEFAULT, &steps);
    }

    #[test]
    fn without_interrupted_handlers_no_event_is_handled_again(
        on_error in on_error(),
        unable in collection::btree_map(0_u64..60, 1_u32..8, 0..4),
        steps in collection::vec(harmless(), 0..300),
    ) {
        let mut cluster = TestCluster::new(3, on_error, Limits::DEFAULT, Faults { unable, ..Faults::default() });
        for step in steps {
            // The result of a try is judged before the event is tried again.
            if !matches!(step, Disturbance::PassTime) || cluster.enabled().is_empty() {
                disturb(&mut cluster, step);
            }
        }
        cluster.change(Change::Pause("p".into(), false));
        cluster.settle(cluster.now + 600_000);
        assert_few_handled_again(&cluster);
    }

    #[test]
    fn p6_limits_stall_and_lose_nothing(faults in faults(), steps in collection::vec(disturbance(), 0..600)) {
        let limits = Limits { sequences_max: 2, letters_max: 3, ..Limits::DEFAULT };
        run(3, OnError::SetAside, faults, limits, &steps);
    }
}

fn scenario(faults: &[(u64, u32)]) -> TestCluster {
    let faults = Faults { fail: faults.iter().copied().collect(), ..Faults::default() };
    TestCluster::new(3, OnError::SetAside, Limits::DEFAULT, faults)
}

#[test]
fn p6_a_failing_sequence_delays_itself_only() {
    let mut cluster = scenario(&[(0, u32::MAX)]);
    for nth in 0..30 {
        cluster.append(&std::format!("s{}", nth % SEQUENCES));
    }
    assert!(cluster.settle(cluster.now + 600_000), "the cluster does not settle");
    let handled: BTreeSet<u64> = cluster.calls.iter().filter(|call| call.ok).map(|call| call.position).collect();
    let others: BTreeSet<u64> = (0..30).filter(|position| position % SEQUENCES != 0).collect();
    assert_eq!(handled, others);
    assert_eq!((cluster.processor().set_aside.len(), cluster.processor().letters), (1, 5));
    let low = cluster.processor().low();
    assert_eq!(low, Some(Position(30)), "the tokens advanced");
    let attempts: Vec<u32> = cluster.calls.iter().filter(|call| !call.ok).map(|call| call.attempt).collect();
    assert_eq!(attempts, (1..=test_cluster::BACKOFF.attempts).collect::<Vec<_>>());
    let at: Vec<NodeId> = cluster.calls.iter().filter(|call| !call.ok).map(|call| call.node).collect();
    assert!(at[..3].iter().all(|node| *node == at[0]) && at[3..].iter().all(|node| *node != at[0]), "{at:?}");
}

#[test]
fn p6_a_sequence_that_reached_its_limit_is_finished_in_order() {
    let faults = Faults { fail: [(0, 2)].into(), ..Faults::default() };
    let limits = Limits { letters_max: 2, ..Limits::DEFAULT };
    let mut cluster = TestCluster::new(3, OnError::SetAside, limits, faults);
    for nth in 0..12 {
        cluster.append(&std::format!("s{}", nth % 2));
    }
    assert!(cluster.settle(cluster.now + 600_000), "no room after ten minutes");
    assert_all_handled_in_order(&cluster, false);
    assert_settled(&cluster);
    assert_few_handled_again(&cluster);
}

#[test]
fn a_stalled_segment_reports_the_limit_it_reached() {
    let faults = Faults { fail: [(0, 2)].into(), ..Faults::default() };
    let limits = Limits { letters_max: 1, ..Limits::DEFAULT };
    let mut cluster = TestCluster::new(1, OnError::SetAside, limits, faults);
    (0..3).for_each(|_| cluster.append("s0"));
    let stalled = |cluster: &TestCluster| {
        let mut segments = cluster.nodes.values().flat_map(|node| node.coordinator.segments());
        segments.find(|segment| segment.phase == super::STALLED)
    };
    while stalled(&cluster).is_none() {
        let step = cluster.enabled().first().cloned().expect("it is not settled before it is stalled");
        cluster.take(step);
    }
    let segment = stalled(&cluster).expect("a segment is stalled");
    let reason = segment.reason.expect("a stalled segment has a reason");
    let full = matches!(&reason, super::Halt::Limit(reached) if reached.limit == LimitName::Letters);
    assert!(full && segment.until.is_some(), "{reason:?}");
    assert!(cluster.settle(cluster.now + 600_000) && stalled(&cluster).is_none(), "the segment is still stalled");
}

#[test]
fn a_sequence_stays_set_aside_while_refused_letters_are_sent_again() {
    let faults = Faults { fail: [(0, 1)].into(), ..Faults::default() };
    let limits = Limits { letters_max: 1, ..Limits::DEFAULT };
    let mut cluster = TestCluster::new(3, OnError::SetAside, limits, faults);
    (0..2).for_each(|_| cluster.append("s0"));
    // Letters that had room are done, and those that had none are in flight again.
    let sent_again = |cluster: &TestCluster| {
        let sent = cluster
            .nodes
            .values()
            .filter_map(|node| node.progress.as_ref())
            .flat_map(|(_, progress)| &progress.letters);
        cluster.calls.len() > 1
            && cluster.processor().set_aside.is_empty()
            && sent.filter_map(LetterMove::holds).count() > 0
    };
    while !sent_again(&cluster) {
        match cluster.enabled().first().cloned() {
            Some(step) => cluster.take(step),
            None => cluster.pass(cluster.next_wake().expect("a retry is scheduled")),
        }
    }
    // Meanwhile a new view arrives, and the sequence continues.
    cluster.change(Change::Pause("p".into(), true));
    cluster.change(Change::Pause("p".into(), false));
    cluster.append("s0");
    while let Some(step) = cluster.enabled().into_iter().find(|step| !matches!(step, Step::JudgeProgress(_))) {
        cluster.take(step);
    }
    assert!(cluster.calls.iter().all(|call| call.position < 2), "event 2 overtakes the letters");
    assert!(cluster.settle(cluster.now + 600_000));
    assert_all_handled_in_order(&cluster, false);
    assert_settled(&cluster);
}

#[test]
fn p5_a_sequence_stays_set_aside_if_the_answer_about_its_refused_letters_is_lost() {
    let faults = Faults { fail: [(0, u32::MAX), (1, 1)].into(), ..Faults::default() };
    let limits = Limits { sequences_max: 1, ..Limits::DEFAULT };
    let mut cluster = TestCluster::new(3, OnError::SetAside, limits, faults);
    ["s5", "s1"].into_iter().for_each(|sequence| cluster.append(sequence));
    let (_, share) = cluster.processor().share_of(crate::hash::sequence(b"s1")).unwrap();
    let owner = share.claim.owner.unwrap();
    let has_sent = |cluster: &TestCluster| {
        let sent = cluster.nodes[&owner].progress.as_ref();
        sent.is_some_and(|(_, progress)| progress.letters.iter().any(|letter| letter.holds() == Some(Position(1))))
    };
    cluster.run_until(has_sent);
    cluster.take(Step::JudgeProgress(owner));
    cluster.run_until(has_sent);
    cluster.take(Step::LoseProgressAnswer(owner)); // there is no room yet
    assert_eq!(cluster.processor().set_aside.len(), 1);

    // Meanwhile a new view arrives, and the sequence continues.
    cluster.change(Change::Pause("p".into(), true));
    cluster.change(Change::Pause("p".into(), false));
    cluster.append("s1");
    while let Some(step) = cluster.enabled().into_iter().find(|step| !matches!(step, Step::JudgeProgress(_))) {
        cluster.take(step);
    }
    assert!(cluster.calls.iter().all(|call| call.position < 2), "event 2 overtakes the one that failed");
}

#[test]
fn a_stalled_segment_moves_to_another_node_after_three_attempts_and_continues() {
    let faults = Faults { fail: [(0, 4)].into(), ..Faults::default() };
    let mut cluster = TestCluster::new(3, OnError::Stop, Limits::DEFAULT, faults);
    (0..4).for_each(|_| cluster.append("s0"));
    assert!(cluster.settle(cluster.now + 600_000));
    assert_all_handled_in_order(&cluster, false);
    assert_settled(&cluster);
    assert_waits(&cluster);
    let first: Vec<_> = cluster.calls.iter().filter(|call| call.position == 0).collect();
    let attempts: Vec<u32> = first.iter().map(|call| call.attempt).collect();
    assert_eq!(attempts, [1, 2, 3, 4, 5]);
    assert!(first[2].node == first[0].node && first[3].node != first[0].node, "{first:?}");
}

#[test]
fn p6_a_segment_whose_handler_cannot_be_called_moves_to_another_node() {
    let faults = Faults { unable: [(0, 4)].into(), ..Faults::default() };
    let mut cluster = TestCluster::new(3, OnError::SetAside, Limits::DEFAULT, faults);
    (0..4).for_each(|_| cluster.append("s0"));
    let hash = crate::hash::sequence(b"s0");
    let owner = cluster.processor().share_of(hash).and_then(|(_, share)| share.claim.owner);
    assert!(cluster.settle(cluster.now + 600_000));
    assert_all_handled_in_order(&cluster, false);
    assert_settled(&cluster);
    assert!(owner.is_some_and(|owner| cluster.calls[0].node != owner), "{owner:?}: {:?}", cluster.calls);
    assert_eq!(cluster.calls.iter().map(|call| call.attempt).collect::<Vec<_>>(), [1; 4], "no event ever failed");
    assert_eq!(cluster.processor().skipped, 0);
}

#[test]
fn events_handled_before_the_handler_became_unavailable_are_not_handled_again() {
    for nth in 0..BATCH as u64 {
        let faults = Faults { unable: [(nth, 1)].into(), ..Faults::default() };
        let mut cluster = TestCluster::new(1, OnError::SetAside, Limits::DEFAULT, faults);
        (0..BATCH).for_each(|_| cluster.append("s0"));
        assert!(cluster.settle(cluster.now + 600_000));
        assert_all_handled_in_order(&cluster, false);
        assert_settled(&cluster);
        let handled: Vec<u64> = cluster.calls.iter().map(|call| call.position).collect();
        assert_eq!(handled, (0..BATCH as u64).collect::<Vec<_>>(), "each once");
    }
}

#[test]
fn a_stopping_node_does_not_wait_for_stalled_events() {
    // An event whose handler cannot be called, one that failed, and a backlog behind each.
    let faults = Faults { unable: [(0, u32::MAX)].into(), fail: [(1, u32::MAX)].into(), ..Faults::default() };
    let mut cluster = TestCluster::new(3, OnError::SetAside, Limits::DEFAULT, faults);
    (0..20).for_each(|nth| cluster.append(&std::format!("s{nth}")));
    let settled = |cluster: &TestCluster| cluster.nodes.values().all(|node| node.coordinator.is_settled());
    cluster.settle(cluster.now + 30_000);
    assert!(!settled(&cluster), "a waiting event may be tried at any time");
    cluster.change(Change::Pause("p".into(), true));
    while let Some(step) = cluster.enabled().first().cloned() {
        cluster.take(step);
    }
    assert!(settled(&cluster));
    assert!(cluster.processor().segments.values().any(|share| share.token.low().0 < 20), "with events left");
}

#[test]
fn a_planned_move_handles_nothing_again() {
    let mut cluster = scenario(&[]);
    for nth in 0..200 {
        cluster.append(&std::format!("s{}", nth % 20));
        let (steps, leaving) = (cluster.enabled(), NodeId(nth / 20 % NODES + 1));
        if let Some(step) = steps.get(nth as usize % steps.len().max(1)) {
            cluster.take(step.clone());
        }
        if nth % 20 == 10 {
            cluster.drain(leaving);
            cluster.balance();
            assert!(cluster.settle(cluster.now + 60_000));
            assert!(cluster.processor().segments.values().all(|share| share.claim.owner != Some(leaving)));
            cluster.fence(leaving); // returns with a new session
            cluster.balance();
        }
    }
    assert!(cluster.settle(cluster.now + 60_000));
    assert_eq!(cluster.calls.len(), 200, "each event once");
    assert_all_handled_in_order(&cluster, false);
}

#[test]
fn p5_reports_of_an_earlier_worker_settle_nothing_of_its_successor() {
    let mut cluster = scenario(&[(2, 1)]);
    cluster.append("s5");
    assert!(cluster.settle(cluster.now + 60_000), "the idle worker did not stop");
    let (_, share) = cluster.processor().share_of(crate::hash::sequence(b"s5")).unwrap();
    let owner = share.claim.owner.unwrap();
    cluster.append("s0"); // of another segment
    cluster.run_until(|cluster| cluster.nodes[&owner].progress.is_some());

    // While that is in flight a new worker begins; its first event fails.
    ["s5", "s1", "s5"].into_iter().for_each(|sequence| cluster.append(sequence));
    while cluster.calls.last().is_none_or(|call| call.position != 2) {
        let step = cluster.enabled().into_iter().find(|step| *step != Step::JudgeProgress(owner));
        cluster.take(step.expect("the event is reached"));
    }
    cluster.take(Step::JudgeProgress(owner));
    // The worker reports before the next progress is sent.
    let works = |step: &Step| matches!(step, Step::WorkerMail(..) | Step::Handle(..));
    while let Some(step) = cluster.enabled().into_iter().find(works) {
        cluster.take(step);
    }
    assert!(cluster.settle(cluster.now + 60_000));
    assert_all_handled_in_order(&cluster, false);
    assert_settled(&cluster);
}
