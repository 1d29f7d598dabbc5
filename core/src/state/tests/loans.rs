//! Which node may still be handling an event when a loan ends, and the effect on the segment's epoch (P4).

use std::{vec, vec::Vec};

use super::{
    Log, OnError, definition,
    letters::{failed, key, place, send, set_aside, set_up},
};
use crate::{
    command::{Change, Command, LetterChange, LetterMove, Outcome, RefusalReason, Right, Selection},
    id::{Epoch, NodeId, Position},
    letter::Loan,
};

/// Returns a log in which node 1 owns everything; the first event of `s0` is lent, the second is queued behind it.
fn lent() -> (Log, Loan) {
    let mut log = set_up(OnError::SetAside, 2);
    let (segment, epoch) = place(&log, "s0");
    let behind = LetterMove::Queue { segment, epoch, sequence: key("s0"), position: Position(1), kind: "t".into() };
    let sent = vec![set_aside(&log, "s0", 0, 3), behind];
    assert!(send(&mut log, 1, sent, vec![]).is_empty());
    let loan = loan_of(&log).expect("three attempts were the owner's");
    (log, loan)
}

fn loan_of(log: &Log) -> Option<Loan> {
    log.processor().set_aside.get(&key("s0")).and_then(|set_aside| set_aside.loan)
}

/// Returns the right as its holder sees it now.
fn right(log: &Log, loan: Loan) -> Right {
    let (segment, claim) = place(log, "s0");
    Right::Loan { epoch: loan.epoch, segment, claim }
}

fn by_loan(log: &Log, loan: Loan, attempt: u32) -> LetterMove {
    let LetterMove::Failed { sequence, position, failure, .. } = failed(log, "s0", 0, attempt, false) else {
        unreachable!("`failed` makes such a letter")
    };
    LetterMove::Failed { right: right(log, loan), sequence, position, failure }
}

fn done(right: Right) -> LetterMove {
    LetterMove::Done { right, sequence: key("s0"), position: Position(0), skipped: false }
}

#[test]
fn p4_taking_back_an_unreported_loan_renews_the_claim_in_the_same_entry() {
    check("its session ends", |log, loan| {
        let session = log.session(loan.node.0).unwrap();
        log.apply(Command::Expire(loan.node, session));
    });
    check("its process starts again", |log, loan| {
        log.begin(loan.node.0);
    });
    check("it is removed", |log, loan| drop(log.apply(Command::Remove(loan.node))));
    for change in [LetterChange::Retry, LetterChange::Skip, LetterChange::Drop] {
        check("an operator", |log, _| drop(log.change(Change::Letters("p".into(), Selection::All, change))));
    }

    fn check(way: &str, take_back: impl FnOnce(&mut Log, Loan)) {
        let (mut log, loan) = lent();
        let (index, (segment, before)) = (log.index, place(&log, "s0"));
        take_back(&mut log, loan);
        let claim = &log.processor().segments[&segment].claim;
        assert_eq!((log.index, claim.owner, claim.since.0), (index + 1, Some(NodeId(1)), index + 1), "{way}");
        assert!(claim.epoch > before && loan_of(&log) != Some(loan), "{way}");
    }
}

#[test]
fn a_loan_that_ends_with_a_report_does_not_change_the_claim() {
    let ends: [fn(&Log, Loan) -> LetterMove; 3] = [
        |log, loan| by_loan(log, loan, 4),
        |log, loan| done(right(log, loan)),
        |log, loan| LetterMove::Return { right: right(log, loan), sequence: key("s0") },
    ];
    for end in ends {
        let (mut log, loan) = lent();
        let (before, sent) = (place(&log, "s0"), end(&log, loan));
        let draining = log.session(loan.node.0).unwrap();
        log.apply(Command::Drain(loan.node, draining));
        assert_eq!(send(&mut log, loan.node.0, vec![sent], vec![]), []);
        assert_eq!(place(&log, "s0"), before);
    }
}

#[test]
fn p4_under_an_old_epoch_a_failure_does_not_count_but_a_success_does() {
    let (mut log, loan) = lent();
    let (failed, done) = (by_loan(&log, loan, 4), done(right(&log, loan)));
    let session = log.session(1).unwrap();
    log.apply(Command::Expire(NodeId(1), session));
    assert_eq!(loan_of(&log), Some(loan), "the borrower still has it");
    assert_eq!(send(&mut log, loan.node.0, vec![failed], vec![]), [RefusalReason::Fenced]);
    assert_eq!(log.processor().set_aside[&key("s0")].first().attempts, 3);
    assert_eq!(send(&mut log, loan.node.0, vec![done], vec![]), []);
    assert_eq!(log.processor().set_aside[&key("s0")].first().position, Position(1));
}

#[test]
fn p4_no_epoch_is_assigned_twice_after_deletions_and_repeated_failures() {
    let (mut log, loan) = lent();
    log.change(Change::Letters("p".into(), Selection::All, LetterChange::Drop));
    let sent = set_aside(&log, "s0", 2, 3);
    assert!(send(&mut log, 1, vec![sent], vec![]).is_empty(), "an event of it failed once more");
    let again = loan_of(&log).expect("it is lent again");
    assert!(again.epoch > loan.epoch);
    let highest = log.processor().segments.values().map(|share| share.claim.epoch).max().unwrap();

    log.change(Change::Delete("p".into()));
    assert_eq!(log.change(Change::Create(definition(OnError::SetAside).into())), Outcome::Changed(1));
    let segments: Vec<_> = log.processor().segments.keys().copied().collect();
    for segment in segments {
        assert_eq!(log.change(Change::Claim("p".into(), segment, NodeId(2))), Outcome::Changed(1));
    }
    let epochs: Vec<Epoch> = log.processor().segments.values().map(|share| share.claim.epoch).collect();
    assert!(epochs.iter().all(|epoch| *epoch > highest), "{epochs:?} after {highest:?}");
}

#[test]
fn p4_a_node_with_a_new_loan_changes_nothing_under_its_previous_one() {
    let (mut log, first) = lent();
    let mut now = first;
    for attempt in [4, 5] {
        let letter = by_loan(&log, now, attempt);
        assert!(send(&mut log, now.node.0, vec![letter], vec![]).is_empty());
        now = loan_of(&log).expect("it is lent to the next node");
    }
    assert_eq!((now.node, now.epoch > first.epoch), (first.node, true), "both other nodes take turns");
    let late = done(right(&log, first));
    assert_eq!(send(&mut log, first.node.0, vec![late], vec![]), [RefusalReason::Fenced]);
    assert_eq!(loan_of(&log), Some(now));
}
