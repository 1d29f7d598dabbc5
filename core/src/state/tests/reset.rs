//! Resets move tokens, drop letters, renew claims and start hooks.

use std::{format, string::String, vec, vec::Vec};

use super::{
    Log, OnError,
    letters::{key, place, send, set_up},
};
use crate::{
    command::{Change, Command, LetterMove, Outcome, RefusalReason, TokenMove},
    id::{Epoch, Generation, Position, SegmentId},
    letter::Failure,
    processor::Handler,
    reason::{Invalid, NotFound},
    replay::{HookDone, ReplayPhase, ResetTo},
};

const EVENTS: u64 = 12;

/// Returns a processor that has passed all its events, with the first and the last of them set aside.
fn passed() -> Log {
    let mut log = set_up(OnError::SetAside, EVENTS as usize);
    for position in [0, EVENTS - 1] {
        let name = format!("s{position}");
        let (segment, epoch) = place(&log, &name);
        let failure = Failure { attempt: 3, cause: "planned".into(), wait_ms: 1_000, random: 0, last: false };
        let (sequence, position, kind) = (key(&name), Position(position), String::from("t"));
        let letter = LetterMove::SetAside { segment, epoch, sequence, position, kind, failure };
        assert_eq!(send(&mut log, 1, vec![letter], vec![]), []);
    }
    let moves = tokens(&log, EVENTS);
    assert_eq!(send(&mut log, 1, vec![], moves), []);
    log
}

fn tokens(log: &Log, next: u64) -> Vec<TokenMove> {
    let segments = log.processor().segments.iter();
    segments
        .map(|(segment, share)| TokenMove { segment: *segment, epoch: share.claim.epoch, next: Position(next) })
        .collect()
}

fn reset(log: &mut Log, to: ResetTo) -> Outcome {
    log.change(Change::Reset("p".into(), to, Some("{\"why\":1}".into())))
}

fn lows(log: &Log) -> Vec<u64> {
    log.processor().segments.values().map(|share| share.token.low().0).collect()
}

fn phase(log: &Log) -> Option<ReplayPhase> {
    log.processor().replay.as_ref().map(|replay| replay.phase)
}

fn hook_done(log: &mut Log, node: u64, phase: ReplayPhase) -> Outcome {
    let (session, processor) = (log.session(node).unwrap(), log.processor().id);
    let generation = log.processor().generation;
    let node = crate::id::NodeId(node);
    log.apply(Command::HookDone(HookDone { node, session, processor, generation, phase }))
}

#[test]
fn p4_a_reset_renews_every_claim_and_takes_back_every_loan() {
    let mut log = passed();
    assert!(log.processor().set_aside[&key("s0")].loan.is_some(), "after three attempts it is lent");
    let before: Vec<Epoch> = log.processor().segments.values().map(|share| share.claim.epoch).collect();
    let stale = tokens(&log, EVENTS);
    let last = log.state.issued.epoch;
    assert_eq!(reset(&mut log, ResetTo::At(Position(4))), Outcome::Changed(EVENTS - 4));
    assert_eq!(lows(&log), [4; 4]);
    for (share, before) in log.processor().segments.values().zip(before) {
        assert!(share.claim.epoch > before && share.claim.epoch > last && share.claim.owner.is_some());
    }
    assert_eq!(log.processor().set_aside[&key("s0")].loan, None);
    assert_eq!(log.processor().generation, Generation(1));
    assert_eq!(hook_done(&mut log, 1, ReplayPhase::Preparing), Outcome::Done);
    assert_eq!(send(&mut log, 1, vec![], stale), vec![RefusalReason::Fenced; 4]);
    assert_eq!(lows(&log), [4; 4], "progress from before the reset moves nothing");
}

#[test]
fn a_reset_drops_the_letters_from_its_position_on() {
    let mut log = passed();
    reset(&mut log, ResetTo::At(Position(4)));
    let left: Vec<_> = log.processor().set_aside.keys().collect();
    assert_eq!((left, log.processor().letters), (vec![&key("s0")], 1));
    reset(&mut log, ResetTo::Beginning);
    assert_eq!((log.processor().set_aside.len(), log.processor().letters), (0, 0));
}

#[test]
fn nothing_moves_until_the_hook_of_a_replay_has_run() {
    let mut log = passed();
    reset(&mut log, ResetTo::Beginning);
    assert_eq!(phase(&log), Some(ReplayPhase::Preparing));
    let moves = tokens(&log, 6);
    assert_eq!(send(&mut log, 1, vec![], moves.clone()), vec![RefusalReason::Fenced; 4]);
    assert_eq!(lows(&log), [0; 4]);
    assert_eq!(hook_done(&mut log, 1, ReplayPhase::Ending), Outcome::Refused(RefusalReason::Outdated));
    assert_eq!(hook_done(&mut log, 1, ReplayPhase::Preparing), Outcome::Done);
    assert_eq!(hook_done(&mut log, 1, ReplayPhase::Preparing), Outcome::Refused(RefusalReason::Outdated));
    assert_eq!(send(&mut log, 1, vec![], moves), vec![RefusalReason::Fenced; 4], "claims were renewed");
    let moves = tokens(&log, 6);
    assert_eq!(send(&mut log, 1, vec![], moves), []);
    assert_eq!((lows(&log), phase(&log)), (vec![6; 4], Some(ReplayPhase::Running)));
    let moves = tokens(&log, EVENTS);
    send(&mut log, 1, vec![], moves);
    assert_eq!(phase(&log), Some(ReplayPhase::Ending), "the hook that follows runs");
    assert_eq!(hook_done(&mut log, 1, ReplayPhase::Ending), Outcome::Done);
    assert_eq!(phase(&log), Some(ReplayPhase::Ended));
}

#[test]
fn a_hook_of_an_earlier_reset_does_not_count() {
    let mut log = passed();
    reset(&mut log, ResetTo::Beginning);
    let (node, session) = (crate::id::NodeId(1), log.session(1).unwrap());
    let (processor, generation) = (log.processor().id, log.processor().generation);
    reset(&mut log, ResetTo::Beginning);
    let done = HookDone { node, session, processor, generation, phase: ReplayPhase::Preparing };
    assert_eq!(log.apply(Command::HookDone(done)), Outcome::Refused(RefusalReason::Outdated));
    let ended = crate::id::SessionId(session.0 + 100);
    let done = HookDone { session: ended, generation: Generation(2), ..done };
    assert_eq!(log.apply(Command::HookDone(done)), Outcome::Refused(RefusalReason::Fenced));
    assert_eq!(phase(&log), Some(ReplayPhase::Preparing));
}

#[test]
fn a_program_has_no_hooks() {
    let mut log = passed();
    let id = log.processor().id;
    let processor = log.state.processors.get_mut(&id).unwrap();
    processor.definition.handler = Handler::Exec("true".into());
    reset(&mut log, ResetTo::Beginning);
    assert_eq!(phase(&log), Some(ReplayPhase::Running));
    let moves = tokens(&log, EVENTS);
    send(&mut log, 1, vec![], moves);
    assert_eq!(phase(&log), Some(ReplayPhase::Ended));
}

#[test]
fn a_running_replay_can_be_ended() {
    let mut log = passed();
    assert_eq!(
        reset(&mut log, ResetTo::ReplayEnd),
        Outcome::Refused(RefusalReason::Invalid(Invalid::NoReplay("p".into())))
    );
    reset(&mut log, ResetTo::Beginning);
    hook_done(&mut log, 1, ReplayPhase::Preparing);
    let moves = tokens(&log, 5);
    send(&mut log, 1, vec![], moves);
    assert_eq!(reset(&mut log, ResetTo::ReplayEnd), Outcome::Changed(EVENTS - 5));
    assert_eq!((lows(&log), phase(&log)), (vec![EVENTS; 4], Some(ReplayPhase::Ending)));
}

#[test]
fn p6_a_replay_that_is_ended_gives_back_the_letters_that_it_has_not_reached() {
    let mut log = passed();
    reset(&mut log, ResetTo::Beginning);
    hook_done(&mut log, 1, ReplayPhase::Preparing);
    assert!(log.processor().set_aside.is_empty());
    // The first event is handled again, the last one is not.
    let moves = tokens(&log, 5);
    send(&mut log, 1, vec![], moves);
    reset(&mut log, ResetTo::ReplayEnd);
    let left: Vec<_> = log.processor().set_aside.keys().cloned().collect();
    assert_eq!((left, log.processor().letters), (vec![key("s11")], 1));
    assert_eq!(log.processor().set_aside[&key("s11")].first().position, Position(EVENTS - 1));
    assert!(log.processor().replay.as_ref().is_some_and(|replay| replay.dropped.is_empty()));
}

#[test]
fn a_reset_to_the_head_skips_and_is_no_replay() {
    let mut log = set_up(OnError::SetAside, EVENTS as usize);
    let moves = tokens(&log, 3);
    send(&mut log, 1, vec![], moves);
    assert_eq!(reset(&mut log, ResetTo::Head), Outcome::Changed(EVENTS - 3));
    assert_eq!((lows(&log), phase(&log)), (vec![EVENTS; 4], None));
}

#[test]
fn p10_a_reset_beyond_the_head_or_of_nothing_changes_nothing() {
    let mut log = passed();
    let before = log.processor().clone();
    let (position, head) = (Position(EVENTS + 1), Position(EVENTS));
    let beyond = Invalid::ResetBeyondHead { position, head };
    assert_eq!(reset(&mut log, ResetTo::At(position)), Outcome::Refused(RefusalReason::Invalid(beyond)));
    assert_eq!(*log.processor(), before);
    let unknown = log.change(Change::Reset("q".into(), ResetTo::Beginning, None));
    assert_eq!(unknown, Outcome::Refused(RefusalReason::NotFound(NotFound::Processor("q".into()))));
}

#[test]
fn a_letter_of_a_replayed_event_is_marked_for_its_tries() {
    let mut log = passed();
    reset(&mut log, ResetTo::Beginning);
    hook_done(&mut log, 1, ReplayPhase::Preparing);
    let set_aside = |log: &mut Log, position: u64| {
        let name = format!("s{position}");
        let (segment, epoch): (SegmentId, Epoch) = place(log, &name);
        let failure = Failure { attempt: 1, cause: "planned".into(), wait_ms: 1_000, random: 0, last: false };
        let (sequence, position, kind) = (key(&name), Position(position), String::from("t"));
        send(log, 1, vec![LetterMove::SetAside { segment, epoch, sequence, position, kind, failure }], vec![]);
    };
    set_aside(&mut log, 2);
    assert!(log.processor().set_aside[&key("s2")].first().replaying);
    set_aside(&mut log, 0);
    let first = log.processor().set_aside[&key("s0")].first().clone();
    assert!(!first.replaying, "it failed before the reset too, so it was never handled");
    let moves = tokens(&log, EVENTS);
    send(&mut log, 1, vec![], moves);
    assert!(
        log.processor().set_aside[&key("s2")].first().replaying,
        "the letter is still marked after the replay has ended"
    );
}

#[test]
fn p4_a_hook_of_a_node_that_has_lost_the_first_segment_does_not_count() {
    let mut log = passed();
    reset(&mut log, ResetTo::Beginning);
    let outdated = Outcome::Refused(RefusalReason::Outdated);
    assert_eq!(hook_done(&mut log, 2, ReplayPhase::Preparing), outdated);
    let last = log.state.issued.epoch;
    assert_eq!(hook_done(&mut log, 1, ReplayPhase::Preparing), Outcome::Done);
    let above = log.processor().segments.values().all(|share| share.claim.epoch > last);
    assert!(above, "handlers of the replay have higher epochs than the hook");
}
