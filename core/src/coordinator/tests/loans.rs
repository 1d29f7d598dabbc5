//! Loans, and their effect on a database that checks the epochs that handlers receive (P4).

use std::{vec, vec::Vec};

use proptest::{collection, prelude::*};

use super::{
    Disturbance, SEQUENCES, Step, assert_all_handled_in_order, assert_settled, run,
    test_cluster::{Faults, NODES, TestCluster},
};
use crate::{
    command::{Change, LetterChange},
    id::{Epoch, NodeId, SegmentId},
    letter::Loan,
    limits::Limits,
    processor::OnError,
};

/// The first failure is the owner's, the next try is lent.
const LIMITS: Limits = Limits { own_attempts: 1, ..Limits::DEFAULT };

/// Loans are given, taken back because of deaths and by operators, and overlap with hand-overs.
fn loan_disturbance() -> impl Strategy<Value = Disturbance> {
    let node = 1..=NODES;
    let change =
        prop_oneof![3 => Just(LetterChange::Retry), 1 => Just(LetterChange::Skip), 1 => Just(LetterChange::Drop)];
    prop_oneof![
        12 => (0..2 * SEQUENCES).prop_map(Disturbance::Append),
        1 => node.clone().prop_map(Disturbance::Kill),
        1 => node.clone().prop_map(Disturbance::Fence),
        4 => node.clone().prop_map(Disturbance::Restart),
        2 => Just(Disturbance::Balance),
        2 => node.clone().prop_map(Disturbance::Move),
        1 => node.clone().prop_map(Disturbance::Drain),
        8 => Just(Disturbance::PassTime),
        3 => node.clone().prop_map(Disturbance::ToggleHang),
        2 => any::<usize>().prop_map(Disturbance::Split),
        2 => any::<usize>().prop_map(Disturbance::Merge),
        6 => (0_usize..1_000).prop_map(Disturbance::DelayedWrite),
        3 => (0..2 * SEQUENCES, change).prop_map(|(sequence, change)| Disturbance::ChangeLetters(sequence, change)),
        60 => (0_usize..1_000).prop_map(Disturbance::TakeStep),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, max_shrink_iters: 3_000, ..ProptestConfig::default() })]

    /// Whatever is lent, taken back, handed over, lost and delayed: the database accepts no write under a right that
    /// was taken away, once a newer holder has written ([`super::database`]); and it does not lock out a valid holder:
    /// in the end everything is handled, and a refusal by the database does not count as an attempt.
    #[test]
    fn p4_no_former_holder_changes_a_database_that_checks_the_epoch(
        fail in collection::btree_map(0_u64..60, 1_u32..6, 5..15),
        steps in collection::vec(loan_disturbance(), 300..900),
    ) {
        run(1, OnError::SetAside, Faults { fail, ..Faults::default() }, LIMITS, &steps);
    }
}

/// Returns a cluster with one segment and a sequence whose first event fails once: the next try runs at the borrower.
fn lent() -> (TestCluster, NodeId, Loan) {
    let faults = Faults { fail: [(0, 1)].into(), ..Faults::default() };
    let mut cluster = TestCluster::new(1, OnError::SetAside, LIMITS, faults);
    let owner = cluster.processor().segments[&SegmentId(0)].claim.owner.expect("it was balanced");
    cluster.append("lent");
    cluster.run_until(|cluster| loan_of(cluster).is_some());
    let loan = loan_of(&cluster).expect("it was waited for");
    cluster.slow.insert(loan.node);
    cluster.run_until(|cluster| cluster.is_trying(loan.node));
    (cluster, owner, loan)
}

fn loan_of(cluster: &TestCluster) -> Option<Loan> {
    cluster.processor().set_aside.values().find_map(|set_aside| set_aside.loan)
}

fn claim(cluster: &TestCluster) -> Epoch {
    cluster.processor().segments[&SegmentId(0)].claim.epoch
}

fn finish(cluster: &mut TestCluster) {
    cluster.slow.clear();
    assert!(cluster.settle(cluster.now + 600_000));
    assert_all_handled_in_order(cluster, false);
    assert_settled(cluster);
}

/// Returns the attempts at the lent event, and which of them succeeded.
fn attempts(cluster: &TestCluster) -> Vec<(u32, bool)> {
    cluster.calls.iter().filter(|call| call.position == 0).map(|call| (call.attempt, call.ok)).collect()
}

#[test]
fn p4_a_lost_borrower_writes_nothing_once_another_node_has_written() {
    let (mut cluster, owner, loan) = lent();
    let before = claim(&cluster);
    cluster.kill(loan.node);
    assert!(claim(&cluster) > before, "the loan was taken back without a report");
    assert_eq!(cluster.processor().segments[&SegmentId(0)].claim.owner, Some(owner));
    cluster.append("other");
    cluster.run_until(|cluster| cluster.calls.iter().any(|call| call.position == 1));
    assert_eq!(cluster.database.delayed.len(), 1);
    assert!(!cluster.database.write_delayed(0), "the owner has written under the new epoch");
    finish(&mut cluster);
}

#[test]
fn p4_an_operators_retry_of_a_lent_sequence_fences_its_borrower() {
    for change in [LetterChange::Retry, LetterChange::Skip, LetterChange::Drop] {
        let (mut cluster, _, loan) = lent();
        cluster.change_letters("lent", change);
        cluster.append("other");
        cluster.run_until(|cluster| cluster.calls.iter().any(|call| call.position == 1));
        cluster.slow.clear();
        cluster.run_until(|cluster| !cluster.is_trying(loan.node));
        let delayed = !cluster.database.delayed.is_empty() && cluster.database.write_delayed(0);
        let lent = cluster.calls.iter().any(|call| call.ok && call.position == 0 && call.node == loan.node);
        assert!(!delayed && !lent, "{change:?}");
        assert!(cluster.settle(cluster.now + 600_000));
        assert_settled(&cluster);
    }
}

#[test]
fn an_owner_treats_a_renewed_claim_as_a_new_one() {
    let (mut cluster, owner, loan) = lent();
    cluster.slow.insert(owner);
    cluster.append("other");
    cluster.run_until(|cluster| cluster.is_running(owner));
    cluster.kill(loan.node);
    cluster.run_until(|cluster| !cluster.is_running(owner));
    assert_eq!(cluster.database.delayed.len(), 2, "the owner's handlers under the old epoch are stopped");
    cluster.slow.clear();
    cluster.run_until(|cluster| cluster.calls.iter().any(|call| call.position == 1));
    assert!(!cluster.database.write_delayed(0) && !cluster.database.write_delayed(0));
    finish(&mut cluster);
    assert_eq!(attempts(&cluster), [(1, false), (2, true)]);
}

#[test]
fn a_loan_older_than_a_hand_over_is_refused_once_without_counting_as_an_attempt() {
    let (mut cluster, owner, loan) = lent();
    let next = (1..=NODES).map(NodeId).find(|node| ![owner, loan.node].contains(node)).expect("there are three");
    cluster.change(Change::Claim("p".into(), SegmentId(0), next));
    cluster.append("other");
    cluster.run_until(|cluster| cluster.calls.iter().any(|call| call.position == 1 && call.node == next));
    assert_eq!(loan_of(&cluster), Some(loan), "a hand-over changes no loan");
    finish(&mut cluster);
    assert_eq!(cluster.database.refused, 1);
    assert_eq!(attempts(&cluster), vec![(1, false), (2, false), (2, true)]);
}

#[test]
fn a_leaving_node_returns_its_loans_and_fences_no_node() {
    let (mut cluster, _, loan) = lent();
    let before = claim(&cluster);
    cluster.faults.fail.insert(0, 1);
    cluster.drain(loan.node);
    while let Some(step) = cluster.enabled().first().cloned() {
        cluster.take(step);
    }
    assert_eq!(loan_of(&cluster), Some(loan), "a running try may end");
    cluster.slow.clear();
    cluster.run_until(|cluster| loan_of(cluster).is_none_or(|other| other.node != loan.node));
    cluster.kill(loan.node);
    assert_eq!((claim(&cluster), cluster.database.delayed.len()), (before, 0));
    finish(&mut cluster);
    assert_eq!(attempts(&cluster), [(1, false), (2, false), (3, true)]);
}

#[test]
fn a_leaving_node_returns_loans_that_wait_for_a_retry() {
    let faults = Faults { fail: [(0, 1)].into(), ..Faults::default() };
    let mut cluster = TestCluster::new(1, OnError::SetAside, LIMITS, faults);
    cluster.append("lent");
    cluster.run_until(|cluster| loan_of(cluster).is_some());
    let (before, first) = (claim(&cluster), loan_of(&cluster).expect("it was waited for"));
    cluster.drain(first.node);
    cluster.run_until(|cluster| loan_of(cluster).is_some_and(|other| other.node != first.node));
    assert_eq!(cluster.calls.len(), 1, "the scheduled letter was not tried");
    assert_eq!(claim(&cluster), before);
    finish(&mut cluster);
}

#[test]
fn a_leaving_borrower_returns_loans_that_it_has_not_begun() {
    let faults = Faults { fail: [(0, 1)].into(), ..Faults::default() };
    let mut cluster = TestCluster::new(1, OnError::SetAside, LIMITS, faults);
    cluster.append("lent");
    cluster.run_until(|cluster| loan_of(cluster).is_some());
    let take_all_steps = |cluster: &mut TestCluster| {
        while let Some(step) = cluster.enabled().first().cloned() {
            cluster.take(step);
        }
    };
    take_all_steps(&mut cluster);
    // No other node could take the loan, and nothing else is to be sent.
    (1..=NODES).for_each(|node| cluster.drain(NodeId(node)));
    take_all_steps(&mut cluster);
    assert_eq!(loan_of(&cluster), None);
}

#[test]
fn a_leaving_borrower_with_progress_in_flight_returns_its_other_loans() {
    let faults = Faults { fail: [(0, 1), (1, 1)].into(), ..Faults::default() };
    let mut cluster = TestCluster::new(1, OnError::SetAside, LIMITS, faults);
    let lent_to = |cluster: &TestCluster, node| {
        let loans = cluster.processor().set_aside.values().filter_map(|set_aside| set_aside.loan);
        loans.filter(|loan| loan.node == node).count()
    };
    cluster.append("one");
    cluster.run_until(|cluster| loan_of(cluster).is_some());
    let borrower = loan_of(&cluster).expect("it was waited for").node;
    cluster.pass(cluster.now + 500);
    cluster.append("other");
    cluster.run_until(|cluster| lent_to(cluster, borrower) == 2);
    cluster.run_until(|cluster| cluster.nodes[&borrower].progress.is_some());
    // The first one was tried, and the result is in flight; the other is not due.
    cluster.drain(borrower);
    while let Some(step) = cluster.enabled().into_iter().find(|step| *step != Step::JudgeProgress(borrower)) {
        cluster.take(step);
    }
    cluster.take(Step::JudgeProgress(borrower));
    while let Some(step) = cluster.enabled().first().cloned() {
        cluster.take(step);
    }
    assert_eq!(lent_to(&cluster, borrower), 0);
}
