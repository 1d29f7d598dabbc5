//! Failed events are set aside, lent, retried, and never lost (P4, P5, P6).

use std::{format, vec, vec::Vec};

use super::{Log, OnError, names};
use crate::{
    append::Append,
    command::{
        Advance, Assign, Change, Command, LetterChange, LetterMove, Move, Outcome, Progress, RefusalReason, Right,
        Selection, TokenMove,
    },
    event::Event,
    hash,
    id::{ComponentId, ContextId, Epoch, LogIndex, NodeId, Position, SegmentId},
    letter::{Failure, Loan, SequenceKey, WaitsFor},
    limits::LimitName,
};

pub(super) fn key(name: &str) -> SequenceKey {
    SequenceKey { component: ComponentId(0), name: name.into() }
}

fn failure(attempt: u32, last: bool) -> Failure {
    Failure { attempt, cause: format!("attempt {attempt} failed"), wait_ms: 1_000, random: 0, last }
}

/// Returns three nodes, of which node 1 owns everything, and `n` events of the streams `s0..`.
pub(super) fn set_up(on_error: OnError, n: usize) -> Log {
    let mut log = Log::of(3);
    log.create(on_error);
    for (nth, name) in names(n).into_iter().enumerate() {
        let event = Event {
            id: uuid::Uuid::from_u128(nth as u128 + 1),
            kind: "t".into(),
            stream: Some(name),
            ..Event::default()
        };
        let checked_to = log.state.head(ContextId::DEFAULT);
        log.apply(Command::Append(Append { checked_to, events: vec![event], ..Append::default() }));
    }
    let processor = log.processor().id;
    let moves = (0..4).map(|segment| Move { processor, segment: SegmentId(segment), to: NodeId(1) }).collect();
    log.apply(Command::Assign(Assign { generation: log.state.generation, moves }));
    log
}

pub(super) fn place(log: &Log, name: &str) -> (SegmentId, Epoch) {
    let hash = hash::sequence(name.as_bytes());
    let (id, share) = log.processor().share_of(hash).expect("every hash is in a segment");
    (*id, share.claim.epoch)
}

pub(super) fn send(log: &mut Log, node: u64, letters: Vec<LetterMove>, tokens: Vec<TokenMove>) -> Vec<RefusalReason> {
    let (processor, session) = (log.processor().id, log.session(node).unwrap());
    let items = vec![Progress { processor, scanned: None, tokens, letters }];
    let advance = Advance { node: NodeId(node), session, as_of: LogIndex(log.index), items };
    match log.apply(Command::Advance(advance)) {
        Outcome::Advanced(stale) => stale.into_iter().map(|stale| stale.reason).collect(),
        other => panic!("{other:?}"),
    }
}

pub(super) fn set_aside(log: &Log, name: &str, position: u64, attempt: u32) -> LetterMove {
    let (segment, epoch) = place(log, name);
    let (sequence, position) = (key(name), Position(position));
    LetterMove::SetAside { segment, epoch, sequence, position, kind: "t".into(), failure: failure(attempt, false) }
}

pub(super) fn failed(log: &Log, name: &str, position: u64, attempt: u32, last: bool) -> LetterMove {
    let (segment, epoch) = place(log, name);
    let right = Right::Claim(segment, epoch);
    LetterMove::Failed { right, sequence: key(name), position: Position(position), failure: failure(attempt, last) }
}

#[test]
fn from_the_fourth_attempt_on_a_sequence_is_lent_to_other_nodes() {
    let mut log = set_up(OnError::SetAside, 3);
    let sent = set_aside(&log, "s0", 0, 1);
    assert!(send(&mut log, 1, vec![sent], vec![]).is_empty());
    assert_eq!(log.processor().set_aside[&key("s0")].loan, None);
    for attempt in 2..=3 {
        let sent = failed(&log, "s0", 0, attempt, false);
        assert!(send(&mut log, 1, vec![sent], vec![]).is_empty());
    }
    let first = log.processor().set_aside[&key("s0")].loan.expect("three attempts were the owner's");
    assert_ne!(first.node, NodeId(1));
    let sent = failed(&log, "s0", 0, 4, false);
    assert_eq!(
        send(&mut log, 1, vec![sent.clone()], vec![]),
        [RefusalReason::Fenced],
        "the owner has no right while it is lent"
    );
    let (segment, claim) = place(&log, "s0");
    let lent = |loan: Loan, attempt| LetterMove::Failed {
        right: Right::Loan { epoch: loan.epoch, segment, claim },
        sequence: key("s0"),
        position: Position(0),
        failure: failure(attempt, false),
    };
    assert!(send(&mut log, first.node.0, vec![lent(first, 4)], vec![]).is_empty());
    let second = log.processor().set_aside[&key("s0")].loan.expect("it is lent again");
    assert_ne!(second.node, first.node, "another node tries if there are several");
    assert_eq!(send(&mut log, first.node.0, vec![lent(first, 5)], vec![]), [RefusalReason::Fenced], "its loan is over");
}

#[test]
fn a_lost_borrowers_sequence_goes_back_to_the_owner_or_to_another_node() {
    let mut log = set_up(OnError::SetAside, 1);
    let sent = set_aside(&log, "s0", 0, 3);
    send(&mut log, 1, vec![sent], vec![]);
    let loan = log.processor().set_aside[&key("s0")].loan.unwrap();
    let session = log.session(loan.node.0).unwrap();
    log.apply(Command::Expire(loan.node, session));
    let other = log.processor().set_aside[&key("s0")].loan.unwrap();
    assert!(other.node != loan.node && other.epoch > loan.epoch);
    let session = log.session(other.node.0).unwrap();
    log.apply(Command::Expire(other.node, session));
    assert_eq!(log.processor().set_aside[&key("s0")].loan, None, "no other node is left: the owner tries");
}

#[test]
fn p6_a_reached_limit_holds_the_token_back_and_loses_no_event() {
    let mut log = set_up(OnError::SetAside, 8);
    log.state.limits.sequences_max = 1;
    let sent = set_aside(&log, "s0", 0, 1);
    send(&mut log, 1, vec![sent], vec![]);
    let other = names(8).into_iter().find(|name| place(&log, name) != place(&log, "s0")).unwrap();
    let position: u64 = other[1..].parse().unwrap();
    let (segment, epoch) = place(&log, &other);
    let sent = set_aside(&log, &other, position, 1);
    let why = send(&mut log, 1, vec![sent], vec![TokenMove { segment, epoch, next: Position(8) }]);
    assert!(matches!(&why[..], [RefusalReason::Limit(limit)] if limit.limit == LimitName::Sequences), "{why:?}");
    assert_eq!(log.processor().segments[&segment].token.low(), Position(position));
}

#[test]
fn letters_are_removed_in_order_and_the_sequence_with_the_last() {
    let mut log = set_up(OnError::SetAside, 3);
    let (segment, epoch) = place(&log, "s0");
    let queue = |position| LetterMove::Queue {
        segment,
        epoch,
        sequence: key("s0"),
        position: Position(position),
        kind: "t".into(),
    };
    let sent = set_aside(&log, "s0", 0, 1);
    send(&mut log, 1, vec![sent, queue(1), queue(2), queue(2)], vec![]);
    assert_eq!(log.processor().letters, 3, "sent twice, queued once");
    let done = |position| LetterMove::Done {
        right: Right::Claim(segment, epoch),
        sequence: key("s0"),
        position: Position(position),
        skipped: false,
    };
    assert_eq!(send(&mut log, 1, vec![done(1)], vec![]), [RefusalReason::Fenced], "not the first");
    assert!(send(&mut log, 1, vec![done(0), done(1), done(2)], vec![]).is_empty());
    assert!(log.processor().set_aside.is_empty() && log.processor().letters == 0);
}

#[test]
fn p5_a_letter_sent_again_after_the_token_passed_it_is_not_handled_twice() {
    let mut log = set_up(OnError::SetAside, 1);
    let (segment, epoch) = place(&log, "s0");
    let (sent, moved) = (set_aside(&log, "s0", 0, 1), vec![TokenMove { segment, epoch, next: Position(1) }]);
    send(&mut log, 1, vec![sent.clone()], moved.clone());
    let done = LetterMove::Done {
        right: Right::Claim(segment, epoch),
        sequence: key("s0"),
        position: Position(0),
        skipped: false,
    };
    send(&mut log, 1, vec![done], vec![]);
    send(&mut log, 1, vec![sent], moved);
    assert!(log.processor().set_aside.is_empty());
}

#[test]
fn an_operator_retries_skips_and_drops_letters() {
    let mut log = set_up(OnError::SetAside, 2);
    let (segment, epoch) = place(&log, "s0");
    let (sent, dead) = (set_aside(&log, "s0", 0, 1), failed(&log, "s0", 0, 2, true));
    let behind = LetterMove::Queue { segment, epoch, sequence: key("s0"), position: Position(1), kind: "t".into() };
    send(&mut log, 1, vec![sent, dead, behind], vec![]);
    assert_eq!(log.processor().set_aside[&key("s0")].waits_for, WaitsFor::Operator);
    let meant = || Selection::Sequence(ComponentId(0), "s0".into());
    let unknown = Change::Letters("p".into(), Selection::Sequence(ComponentId(0), "none".into()), LetterChange::Drop);
    assert!(matches!(log.change(unknown), Outcome::Refused(RefusalReason::NotFound(_))));
    log.change(Change::Letters("p".into(), meant(), LetterChange::Retry));
    let retried = log.processor().set_aside[&key("s0")].clone();
    assert_eq!((retried.waits_for, retried.first().attempts), (WaitsFor::NextTry, 0));
    log.change(Change::Letters("p".into(), meant(), LetterChange::Skip));
    assert_eq!(log.processor().set_aside[&key("s0")].first().position, Position(1));
    log.change(Change::Letters("p".into(), meant(), LetterChange::Drop));
    assert!(log.processor().set_aside.is_empty() && log.processor().letters == 0 && log.processor().skipped == 2);
}

#[test]
fn on_error_skip_continues_after_the_last_attempt() {
    let mut log = set_up(OnError::Skip, 1);
    let (sent, dead) = (set_aside(&log, "s0", 0, 1), failed(&log, "s0", 0, 2, true));
    send(&mut log, 1, vec![sent, dead], vec![]);
    assert!(log.processor().set_aside.is_empty() && log.processor().skipped == 1);
}

#[test]
fn an_event_that_is_skipped_after_its_only_attempt_is_counted_once_and_needs_no_room() {
    let mut log = set_up(OnError::Skip, 2);
    log.state.limits.sequences_max = 1;
    let only = |log: &Log, name: &str, position| match set_aside(log, name, position, 1) {
        LetterMove::SetAside { segment, epoch, sequence, position, kind, .. } => {
            LetterMove::SetAside { segment, epoch, sequence, position, kind, failure: failure(1, true) }
        }
        other => panic!("{other:?}"),
    };
    let waits = set_aside(&log, "s0", 0, 1);
    assert_eq!(send(&mut log, 1, vec![waits], vec![]), []);
    let ((segment, epoch), skipped) = (place(&log, "s1"), only(&log, "s1", 1));
    let moved = TokenMove { segment, epoch, next: Position(2) };
    for _ in 0..2 {
        assert_eq!(send(&mut log, 1, vec![skipped.clone()], vec![moved]), []);
        assert_eq!((log.processor().skipped, log.processor().set_aside.len()), (1, 1));
    }
}

#[test]
fn p3_a_skipped_event_is_counted_once_and_for_its_owner_only() {
    let mut log = set_up(OnError::SetAside, 1);
    let (segment, epoch) = place(&log, "s0");
    let skipped = |epoch| LetterMove::Skipped { segment, epoch, sequence: key("s0"), position: Position(0) };
    let moved = |epoch| TokenMove { segment, epoch, next: Position(1) };
    let stale = Epoch(epoch.0 - 1);
    assert_eq!(
        send(&mut log, 1, vec![skipped(stale)], vec![moved(stale)]),
        [RefusalReason::Fenced, RefusalReason::Fenced]
    );
    for _ in 0..2 {
        assert_eq!(send(&mut log, 1, vec![skipped(epoch)], vec![moved(epoch)]), []);
        assert_eq!((log.processor().skipped, log.processor().set_aside.len()), (1, 0));
    }
}

#[test]
fn on_error_stop_moves_the_claim_after_the_owners_attempts() {
    let mut log = set_up(OnError::Stop, 1);
    let (segment, epoch) = place(&log, "s0");
    let stall = |attempt| LetterMove::Stall {
        segment,
        epoch,
        position: Position(0),
        failure: failure(attempt, false),
        unable: false,
    };
    send(&mut log, 1, vec![stall(1), stall(2)], vec![]);
    assert_eq!(log.processor().segments[&segment].claim.owner, Some(NodeId(1)));
    send(&mut log, 1, vec![stall(3)], vec![]);
    let share = &log.processor().segments[&segment];
    assert_ne!(share.claim.owner, Some(NodeId(1)));
    assert_eq!(share.stalled.as_ref().map(|stall| stall.failure.attempt), Some(3));
}

#[test]
fn a_segment_whose_handler_cannot_be_called_moves_at_once_to_an_untried_node() {
    let mut log = set_up(OnError::SetAside, 1);
    let segment = place(&log, "s0").0;
    let owner = |log: &Log| log.processor().segments[&segment].claim.owner.expect("the segment has an owner");
    let mut tried = Vec::new();
    for attempt in 1..=5 {
        let (node, epoch) = (owner(&log), log.processor().segments[&segment].claim.epoch);
        tried.push(node.0);
        let (position, failure) = (Position(0), failure(attempt, false));
        send(&mut log, node.0, vec![LetterMove::Stall { segment, epoch, position, failure, unable: true }], vec![]);
    }
    assert_eq!(tried[0..3].iter().collect::<alloc::collections::BTreeSet<_>>().len(), 3, "{tried:?}");
    assert_eq!(tried[3..], [tried[2]; 2], "all nodes were tried: the segment stays");
}

#[test]
fn an_operation_proposed_twice_is_applied_once() {
    let mut log = set_up(OnError::SetAside, 2);
    let operation = uuid::Uuid::from_u128(77);
    let change = Change::Pause("p".into(), true);
    let sent =
        Command::Operate(crate::command::Operate { operation, principal: None, reason: Some("a test".into()), change });
    assert_eq!(log.apply(sent.clone()), Outcome::Changed(1));
    log.change(Change::Pause("p".into(), false));
    assert_eq!(log.apply(sent), Outcome::Changed(1));
    assert!(!log.processor().paused);
}

#[test]
fn p5_after_a_refused_letter_later_letters_of_its_segment_are_refused_too() {
    let mut log = set_up(OnError::SetAside, 9);
    let (segment, epoch) = place(&log, "s0");
    let letter = |position: u64, epoch: Epoch| LetterMove::Queue {
        segment,
        epoch,
        sequence: key("s0"),
        position: Position(position),
        kind: "t".into(),
    };
    let stale = Epoch(epoch.0 - 1);
    let sent = send(&mut log, 1, vec![letter(3, stale), letter(4, epoch)], vec![]);
    assert_eq!(sent, [RefusalReason::Fenced, RefusalReason::Fenced], "the second would overtake the first");
    assert!(log.processor().set_aside.is_empty());
}

#[test]
fn p3_letters_sent_again_change_nothing() {
    let mut log = set_up(OnError::SetAside, 9);
    let (segment, epoch) = place(&log, "s0");
    let (sequence, kind) = (key("s0"), || "t".into());
    let queue = |position: u64| LetterMove::Queue {
        segment,
        epoch,
        sequence: key("s0"),
        position: Position(position),
        kind: kind(),
    };
    let first = LetterMove::SetAside {
        segment,
        epoch,
        sequence: sequence.clone(),
        position: Position(0),
        kind: kind(),
        failure: failure(1, false),
    };
    send(&mut log, 1, vec![first.clone(), queue(1), queue(2)], vec![]);
    let failed = LetterMove::Failed {
        right: Right::Claim(segment, epoch),
        sequence: sequence.clone(),
        position: Position(0),
        failure: failure(2, false),
    };
    send(&mut log, 1, vec![failed.clone()], vec![]);
    let before = (log.processor().set_aside.clone(), log.processor().letters);
    // The token has not moved, so that only the letters themselves show that these are known.
    assert_eq!(send(&mut log, 1, vec![first, queue(1), queue(2), failed], vec![]), []);
    assert_eq!((log.processor().set_aside.clone(), log.processor().letters), before, "its wait does not start again");
}

#[test]
fn on_error_skip_skips_only_after_the_last_attempt() {
    let mut log = set_up(OnError::Skip, 1);
    let sent = set_aside(&log, "s0", 0, 1);
    send(&mut log, 1, vec![sent], vec![]);
    let again = failed(&log, "s0", 0, 2, false);
    send(&mut log, 1, vec![again], vec![]);
    assert_eq!((log.processor().letters, log.processor().skipped), (1, 0));
    let last = failed(&log, "s0", 0, 3, true);
    send(&mut log, 1, vec![last], vec![]);
    assert_eq!((log.processor().letters, log.processor().skipped), (0, 1));
}

fn tried(log: &Log, name: &str, attempt: u32, unable: bool) -> LetterMove {
    let (segment, epoch) = place(log, name);
    let set_aside = &log.processor().set_aside[&key(name)];
    let (position, revision) = (set_aside.first().position, set_aside.revision);
    let right = match set_aside.loan {
        Some(loan) => Right::Loan { epoch: loan.epoch, segment, claim: epoch },
        None => Right::Claim(segment, epoch),
    };
    let failure = failure(attempt, attempt == 10);
    LetterMove::Tried { right, sequence: key(name), position, revision, failure, unable }
}

#[test]
fn an_operators_retry_is_not_undone_by_a_running_try() {
    for attempt in [1, 2, 10] {
        let mut log = set_up(OnError::SetAside, 1);
        log.state.limits.own_attempts = 1_000;
        let first = set_aside(&log, "s0", 0, 1);
        send(&mut log, 1, vec![first], vec![]);
        let runs = tried(&log, "s0", attempt, false);
        let retry = Change::Letters("p".into(), Selection::All, LetterChange::Retry);
        assert_eq!(log.change(retry), Outcome::Changed(1));
        let retried = log.processor().set_aside[&key("s0")].clone();
        assert_eq!((retried.first().attempts, retried.wait_ms, retried.waits_for), (0, 0, WaitsFor::NextTry));
        assert_eq!(send(&mut log, 1, vec![runs], vec![]), [RefusalReason::Fenced]);
        assert_eq!(log.processor().set_aside[&key("s0")], retried, "the requested retry is unchanged");
        let next = tried(&log, "s0", 1, false);
        assert_eq!(send(&mut log, 1, vec![next], vec![]), []);
        assert_eq!(log.processor().set_aside[&key("s0")].first().attempts, 1, "the next one counts");
    }
}

#[test]
fn a_try_whose_handler_cannot_be_called_is_no_attempt_and_moves_to_another_node() {
    let mut log = set_up(OnError::SetAside, 1);
    let first = set_aside(&log, "s0", 0, 1);
    send(&mut log, 1, vec![first], vec![]);
    let mut turns = Vec::new();
    for _ in 0..6 {
        let loan = log.processor().set_aside[&key("s0")].loan;
        let node = loan.map_or(1, |loan| loan.node.0);
        turns.push(node);
        let sent = tried(&log, "s0", 1, true);
        assert_eq!(send(&mut log, node, vec![sent.clone()], vec![]), []);
        assert_eq!(send(&mut log, node, vec![sent], vec![]), [RefusalReason::Fenced], "sent again, it changes nothing");
        let known = &log.processor().set_aside[&key("s0")];
        assert_eq!((known.first().attempts, known.waits_for), (1, WaitsFor::NextTry));
        assert_eq!(known.cause, "attempt 1 failed", "the cause of the failed attempt is kept");
    }
    assert_eq!(turns, [1, 2, 3, 1, 2, 3], "all that can run the processor take turns");
}

#[test]
fn failures_reported_by_older_builds_still_count() {
    let mut log = set_up(OnError::SetAside, 1);
    let first = set_aside(&log, "s0", 0, 1);
    send(&mut log, 1, vec![first], vec![]);
    let sent = failed(&log, "s0", 0, 2, false);
    assert_eq!(send(&mut log, 1, vec![sent], vec![]), []);
    assert_eq!(log.processor().set_aside[&key("s0")].first().attempts, 2);
}

/// Returns a log in which, with `on_error: stop`, the segment of `s0` waits at the event at 0.
fn stalled() -> (Log, SegmentId) {
    let mut log = set_up(OnError::Stop, 1);
    let (segment, epoch) = place(&log, "s0");
    let (position, failure) = (Position(0), failure(1, false));
    send(&mut log, 1, vec![LetterMove::Stall { segment, epoch, position, failure, unable: false }], vec![]);
    (log, segment)
}

#[test]
fn an_operator_skips_only_the_event_with_which_a_segment_waits() {
    let (mut log, segment) = stalled();
    let skip = |segment, position| Change::SkipEvent("p".into(), segment, Position(position));
    let before = log.state.clone();
    for (wrong, expected) in [(skip(segment, 1), "waits_with: Some(Position(0))"), (skip(SegmentId(9), 0), "")] {
        let outcome = log.change(wrong);
        assert!(matches!(&outcome, Outcome::Refused(why) if format!("{why:?}").contains(expected)), "{outcome:?}");
    }
    assert_eq!(log.state.processors, before.processors);
    let epoch = place(&log, "s0").1;
    assert_eq!(log.state.try_change(&skip(segment, 0)), Outcome::Changed(1));
    assert_eq!(log.change(skip(segment, 0)), Outcome::Changed(1));
    let processor = log.processor();
    let share = &processor.segments[&segment];
    assert_eq!((share.token.low(), &share.stalled, processor.skipped), (Position(1), &None, 1));
    assert_eq!((share.claim.owner, share.claim.epoch > epoch), (Some(NodeId(1)), true), "its running try is fenced");
    let late = LetterMove::Stall { segment, epoch, position: Position(0), failure: failure(2, false), unable: false };
    assert_eq!(send(&mut log, 1, vec![late], vec![]), [RefusalReason::Fenced]);
    let again = log.change(skip(segment, 0));
    assert!(matches!(&again, Outcome::Refused(why) if format!("{why:?}").contains("waits_with: None")), "{again:?}");
}
