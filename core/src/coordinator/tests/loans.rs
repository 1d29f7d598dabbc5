//! Loans, and their effect on a database that checks the epochs that handlers receive (P4).

use std::{vec, vec::Vec};

use proptest::{collection, prelude::*};

use super::{
    Chaos, SEQUENCES, Step, assert_all_handled_in_order, assert_settled, run,
    world::{Faults, NODES, World},
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

/// Loans are given, taken back because of deaths and by persons, and overlap with hand-overs.
fn chaos_of_loans() -> impl Strategy<Value = Chaos> {
    let node = 1..=NODES;
    let change =
        prop_oneof![3 => Just(LetterChange::Retry), 1 => Just(LetterChange::Skip), 1 => Just(LetterChange::Drop)];
    prop_oneof![
        12 => (0..2 * SEQUENCES).prop_map(Chaos::Append),
        1 => node.clone().prop_map(Chaos::Kill),
        1 => node.clone().prop_map(Chaos::Fence),
        4 => node.clone().prop_map(Chaos::Revive),
        2 => Just(Chaos::Balance),
        2 => node.clone().prop_map(Chaos::Move),
        1 => node.clone().prop_map(Chaos::Drain),
        8 => Just(Chaos::Pass),
        3 => node.clone().prop_map(Chaos::Slow),
        2 => any::<usize>().prop_map(Chaos::Split),
        2 => any::<usize>().prop_map(Chaos::Merge),
        6 => (0_usize..1_000).prop_map(Chaos::WriteLate),
        3 => (0..2 * SEQUENCES, change).prop_map(|(sequence, change)| Chaos::Person(sequence, change)),
        60 => (0_usize..1_000).prop_map(Chaos::Go),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, max_shrink_iters: 3_000, ..ProptestConfig::default() })]

    /// Whatever is lent, taken back, handed over, lost and delayed: the database accepts no write under a right that
    /// was taken away, once a newer holder has written ([`super::database`]); and it does not lock out a valid holder:
    /// in the end everything is handled, and a refusal by the database does not count as an attempt.
    #[test]
    fn p4_a_database_that_checks_the_epoch_is_changed_by_no_late_holder(
        fail in collection::btree_map(0_u64..60, 1_u32..6, 5..15),
        steps in collection::vec(chaos_of_loans(), 300..900),
    ) {
        run(1, OnError::SetAside, Faults { fail, ..Faults::default() }, LIMITS, &steps);
    }
}

/// Returns a cluster with one segment and a sequence whose first event fails once: the next try runs at the borrower.
fn lent() -> (World, NodeId, Loan) {
    let faults = Faults { fail: [(0, 1)].into(), ..Faults::default() };
    let mut world = World::new(1, OnError::SetAside, LIMITS, faults);
    let owner = world.processor().segments[&SegmentId(0)].claim.owner.expect("it was balanced");
    world.append("lent");
    world.until(|world| loan_of(world).is_some());
    let loan = loan_of(&world).expect("it was waited for");
    world.slow.insert(loan.node);
    world.until(|world| world.is_trying(loan.node));
    (world, owner, loan)
}

fn loan_of(world: &World) -> Option<Loan> {
    world.processor().set_aside.values().find_map(|set_aside| set_aside.loan)
}

fn claim(world: &World) -> Epoch {
    world.processor().segments[&SegmentId(0)].claim.epoch
}

fn finish(world: &mut World) {
    world.slow.clear();
    assert!(world.settle(world.now + 600_000));
    assert_all_handled_in_order(world, false);
    assert_settled(world);
}

/// Returns the attempts at the lent event, and which of them succeeded.
fn attempts(world: &World) -> Vec<(u32, bool)> {
    world.calls.iter().filter(|call| call.position == 0).map(|call| (call.attempt, call.ok)).collect()
}

#[test]
fn p4_a_lost_borrower_writes_nothing_once_another_has_written() {
    let (mut world, owner, loan) = lent();
    let before = claim(&world);
    world.kill(loan.node);
    assert!(claim(&world) > before, "what was lent was taken back without a word");
    assert_eq!(world.processor().segments[&SegmentId(0)].claim.owner, Some(owner));
    world.append("other");
    world.until(|world| world.calls.iter().any(|call| call.position == 1));
    assert_eq!(world.database.late.len(), 1);
    assert!(!world.database.write_late(0), "the owner has written under the new epoch");
    finish(&mut world);
}

#[test]
fn p4_a_person_who_retries_what_is_lent_fences_its_holder() {
    for change in [LetterChange::Retry, LetterChange::Skip, LetterChange::Drop] {
        let (mut world, _, loan) = lent();
        world.person("lent", change);
        world.append("other");
        world.until(|world| world.calls.iter().any(|call| call.position == 1));
        world.slow.clear();
        world.until(|world| !world.is_trying(loan.node));
        let late = !world.database.late.is_empty() && world.database.write_late(0);
        let lent = world.calls.iter().any(|call| call.ok && call.position == 0 && call.node == loan.node);
        assert!(!late && !lent, "{change:?}");
        assert!(world.settle(world.now + 600_000));
        assert_settled(&world);
    }
}

#[test]
fn a_claim_that_is_renewed_is_to_its_owner_as_a_new_one() {
    let (mut world, owner, loan) = lent();
    world.slow.insert(owner);
    world.append("other");
    world.until(|world| world.is_running(owner));
    world.kill(loan.node);
    world.until(|world| !world.is_running(owner));
    assert_eq!(world.database.late.len(), 2, "what the owner had begun under the old epoch was ended");
    world.slow.clear();
    world.until(|world| world.calls.iter().any(|call| call.position == 1));
    assert!(!world.database.write_late(0) && !world.database.write_late(0));
    finish(&mut world);
    assert_eq!(attempts(&world), [(1, false), (2, true)]);
}

#[test]
fn a_loan_older_than_a_hand_over_is_refused_once_and_that_is_no_attempt() {
    let (mut world, owner, loan) = lent();
    let next = (1..=NODES).map(NodeId).find(|node| ![owner, loan.node].contains(node)).expect("there are three");
    world.change(Change::Claim("p".into(), SegmentId(0), next));
    world.append("other");
    world.until(|world| world.calls.iter().any(|call| call.position == 1 && call.node == next));
    assert_eq!(loan_of(&world), Some(loan), "a hand-over leaves loans as they are");
    finish(&mut world);
    assert_eq!(world.database.refused, 1);
    assert_eq!(attempts(&world), vec![(1, false), (2, false), (2, true)]);
}

#[test]
fn a_node_that_leaves_ends_and_gives_back_what_is_lent_to_it_and_nobody_is_fenced() {
    let (mut world, _, loan) = lent();
    let before = claim(&world);
    world.faults.fail.insert(0, 1);
    world.drain(loan.node);
    while let Some(step) = world.enabled().first().cloned() {
        world.take(step);
    }
    assert_eq!(loan_of(&world), Some(loan), "what runs may end");
    world.slow.clear();
    world.until(|world| loan_of(world).is_none_or(|other| other.node != loan.node));
    world.kill(loan.node);
    assert_eq!((claim(&world), world.database.late.len()), (before, 0));
    finish(&mut world);
    assert_eq!(attempts(&world), [(1, false), (2, false), (3, true)]);
}

#[test]
fn a_node_that_leaves_gives_back_what_waits() {
    let faults = Faults { fail: [(0, 1)].into(), ..Faults::default() };
    let mut world = World::new(1, OnError::SetAside, LIMITS, faults);
    world.append("lent");
    world.until(|world| loan_of(world).is_some());
    let (before, first) = (claim(&world), loan_of(&world).expect("it was waited for"));
    world.drain(first.node);
    world.until(|world| loan_of(world).is_some_and(|other| other.node != first.node));
    assert_eq!(world.calls.len(), 1, "nobody waited for its time");
    assert_eq!(claim(&world), before);
    finish(&mut world);
}

#[test]
fn a_borrower_that_leaves_gives_back_what_it_had_not_begun() {
    let faults = Faults { fail: [(0, 1)].into(), ..Faults::default() };
    let mut world = World::new(1, OnError::SetAside, LIMITS, faults);
    world.append("lent");
    world.until(|world| loan_of(world).is_some());
    let go_on = |world: &mut World| {
        while let Some(step) = world.enabled().first().cloned() {
            world.take(step);
        }
    };
    go_on(&mut world);
    // No other node could take the loan, and nothing else is to be sent.
    (1..=NODES).for_each(|node| world.drain(NodeId(node)));
    go_on(&mut world);
    assert_eq!(loan_of(&world), None);
}

#[test]
fn a_borrower_that_leaves_while_something_is_on_its_way_gives_back_the_rest() {
    let faults = Faults { fail: [(0, 1), (1, 1)].into(), ..Faults::default() };
    let mut world = World::new(1, OnError::SetAside, LIMITS, faults);
    let lent_to = |world: &World, node| {
        let loans = world.processor().set_aside.values().filter_map(|set_aside| set_aside.loan);
        loans.filter(|loan| loan.node == node).count()
    };
    world.append("one");
    world.until(|world| loan_of(world).is_some());
    let borrower = loan_of(&world).expect("it was waited for").node;
    world.pass(world.now + 500);
    world.append("other");
    world.until(|world| lent_to(world, borrower) == 2);
    world.until(|world| world.nodes[&borrower].tell.is_some());
    // The first one was tried, and the result is in flight; the other is not due.
    world.drain(borrower);
    while let Some(step) = world.enabled().into_iter().find(|step| *step != Step::Tell(borrower)) {
        world.take(step);
    }
    world.take(Step::Tell(borrower));
    while let Some(step) = world.enabled().first().cloned() {
        world.take(step);
    }
    assert_eq!(lent_to(&world, borrower), 0);
}
