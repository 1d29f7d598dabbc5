//! A worker alone: inputs and expected effects. Random orders are tested with its coordinator.

use std::{format, string::String, time::Duration, vec, vec::Vec};

use super::*;
use crate::{backoff::Backoff, command::Right, hash, id::ComponentId};

const T0: Moment = Moment(1_000_000);
const WAIT: Duration = Duration::from_secs(8);

fn work(position: u64, name: &str) -> Work<()> {
    let (position, hash) = (Position(position), hash::sequence(name.as_bytes()));
    Work { position, sequence: key(name), hash, kind: String::from("t"), replaying: false, event: () }
}

fn key(name: &str) -> SequenceKey {
    SequenceKey { component: ComponentId(0), name: name.into() }
}

fn worker(on_error: OnError) -> Worker<()> {
    let (claim, backoff) = (Some((SegmentId(0), Epoch(7))), Backoff::default());
    Worker::new(Settings {
        claim,
        mask: 0,
        on_error,
        backoff,
        batch_events_max: 64,
        cause_bytes_max: 64,
        stalled: None,
    })
}

fn fault() -> Option<Fault> {
    Some(Fault { cause: String::from("no"), kind: FaultKind::Retry, after: None, random: 0 })
}

fn set_aside() -> Option<Fault> {
    fault().map(|fault| Fault { kind: FaultKind::SetAside, ..fault })
}

fn skip() -> Option<Fault> {
    fault().map(|fault| Fault { kind: FaultKind::Skip, ..fault })
}

fn unable() -> Option<Fault> {
    fault().map(|fault| Fault { kind: FaultKind::Unable, ..fault })
}

fn runs(effects: &[Effect<()>]) -> Vec<(Vec<u64>, u32)> {
    let run = |effect: &Effect<()>| match effect {
        Effect::Run { works, attempt } => Some((works.iter().map(|work| work.position.0).collect(), *attempt)),
        _ => None,
    };
    effects.iter().filter_map(run).collect()
}

fn report(effects: &[Effect<()>]) -> Report {
    let report = effects.iter().find_map(|effect| match effect {
        Effect::Report(report) => Some(report.clone()),
        _ => None,
    });
    report.expect("it reports")
}

/// Describes the letters of a report.
fn describe(report: &Report) -> Vec<String> {
    let letters = report.letters.iter().map(|letter| match letter {
        LetterMove::SetAside { position, failure, .. } => format!("aside {position} {}", failure.last),
        LetterMove::Queue { position, .. } => format!("queue {position}"),
        LetterMove::Skipped { position, .. } => format!("skipped {position}"),
        LetterMove::Done { position, skipped, .. } => {
            format!("done {position}{}", if *skipped { " skipped" } else { "" })
        }
        LetterMove::Failed { position, failure, .. } => format!("failed {position} {}", failure.attempt),
        LetterMove::Tried { position, failure, unable, .. } => {
            format!("{} {position} {}", if *unable { "unable" } else { "failed" }, failure.attempt)
        }
        LetterMove::Stall { position, failure, .. } => {
            format!("stall {position} {} {}", failure.attempt, failure.wait_ms)
        }
        LetterMove::Resume { position, .. } => format!("resume {position}"),
        LetterMove::Return { sequence, .. } => format!("return {}", sequence.name),
    });
    letters.collect()
}

#[test]
fn p6_a_failed_event_sets_its_sequence_aside_and_the_others_go_on() {
    let mut worker = worker(OnError::SetAside);
    let effects = worker.step(T0, Input::Feed(vec![work(0, "a"), work(1, "b"), work(2, "a"), work(3, "c")]));
    assert_eq!(runs(&effects), [(vec![0, 1, 2, 3], 1)]);
    let effects = worker.step(T0, Input::Ran { handled: 0, fault: fault() });
    assert_eq!(describe(&report(&effects)), ["aside 0 false"]);
    assert_eq!(runs(&effects), [(vec![1], 1)], "a queued event ends the run: letters are reported in order");
    let effects = worker.step(T0, Input::Ran { handled: 1, fault: None });
    assert_eq!((describe(&report(&effects)), report(&effects).done), (vec![String::from("queue 2")], 2));
    assert_eq!(runs(&effects), [(vec![3], 1)]);
}

#[test]
fn a_reported_sequence_stays_set_aside_until_the_log_has_judged_the_report() {
    let mut worker = worker(OnError::SetAside);
    worker.step(T0, Input::Feed(vec![work(0, "a")]));
    let number = report(&worker.step(T0, Input::Ran { handled: 0, fault: fault() })).number;
    // An older state of the log does not include it yet.
    worker.step(T0, Input::SetAside { settled: number - 1, sequences: BTreeMap::new() });
    let effects = worker.step(T0, Input::Feed(vec![work(1, "a")]));
    assert_eq!((runs(&effects), describe(&report(&effects))), (vec![], vec![String::from("queue 1")]));
    // It was reported, tried and done: the sequence is like any other.
    worker.step(T0, Input::SetAside { settled: report(&effects).number, sequences: BTreeMap::new() });
    assert_eq!(runs(&worker.step(T0, Input::Feed(vec![work(2, "a")]))), [(vec![2], 1)]);
}

#[test]
fn a_handler_that_returned_set_aside_is_not_called_again_even_with_on_error_stop() {
    for on_error in [OnError::SetAside, OnError::Stop] {
        let mut worker = worker(on_error);
        worker.step(T0, Input::Feed(vec![work(0, "a"), work(1, "b")]));
        let effects = worker.step(T0, Input::Ran { handled: 0, fault: set_aside() });
        assert_eq!(describe(&report(&effects)), ["aside 0 true"]);
        assert_eq!(runs(&effects), [(vec![1], 1)]);
    }
}

#[test]
fn a_skipped_event_is_reported_and_blocks_nothing() {
    for on_error in [OnError::SetAside, OnError::Skip, OnError::Stop] {
        let mut worker = worker(on_error);
        worker.settings.stalled = Some(Stalled { position: Position(0), attempts: 1, due: T0 });
        worker.step(T0, Input::Feed(vec![work(0, "a"), work(1, "a"), work(2, "b")]));
        let effects = worker.step(T0, Input::Ran { handled: 0, fault: skip() });
        assert_eq!(
            (describe(&report(&effects)), report(&effects).done),
            (vec!["resume 0".into(), "skipped 0".into()], 1)
        );
        assert_eq!(runs(&effects), [(vec![1, 2], 1)]);
        let effects = worker.step(T0, Input::Ran { handled: 1, fault: skip() });
        assert_eq!((describe(&report(&effects)), report(&effects).done), (vec!["skipped 2".into()], 2));
        assert_eq!(worker.status().phase, "idle");
    }
}

#[test]
fn a_skipped_letter_is_done_and_counted() {
    let mut worker = worker(OnError::SetAside);
    let right = Some(Right::Claim(SegmentId(0), Epoch(7)));
    let waits = SetAsideSequence { attempts: 1, due: Some(T0), right, ..SetAsideSequence::untried(Position(0)) };
    worker.step(T0, Input::SetAside { settled: 0, sequences: [(key("a"), waits)].into() });
    let report = report(&worker.step(T0, Input::Tried { sequence: key("a"), fault: skip() }));
    assert_eq!(describe(&report), ["done 0 skipped"]);
}

#[test]
fn a_stalled_segment_keeps_its_event_and_the_number_of_attempts() {
    let mut worker = worker(OnError::Stop);
    worker.step(T0, Input::Feed(vec![work(0, "a"), work(1, "b")]));
    let effects = worker.step(T0, Input::Ran { handled: 0, fault: fault() });
    assert_eq!((describe(&report(&effects)), runs(&effects)), (vec![String::from("stall 0 1 1000")], vec![]));
    assert_eq!(runs(&worker.step(Moment(T0.0 + 999), Input::Woken)), []);
    let due = Moment(T0.0 + 1_000);
    assert_eq!(runs(&worker.step(due, Input::Woken)), [(vec![0], 2)]);
    // An operator pauses the processor and the run ends before the event was begun: nothing was tried.
    worker.step(due, Input::SetPaused(true));
    assert_eq!(runs(&worker.step(due, Input::Ran { handled: 0, fault: None })), []);
    assert_eq!(runs(&worker.step(due, Input::SetPaused(false))), [(vec![0], 2)]);
    let effects = worker.step(due, Input::Ran { handled: 0, fault: fault() });
    assert_eq!(describe(&report(&effects)), ["stall 0 2 2000"]);
    let effects = worker.step(Moment(due.0 + 2_000), Input::Woken);
    assert_eq!(runs(&effects), [(vec![0], 3)]);
    let effects = worker.step(Moment(due.0 + 2_000), Input::Ran { handled: 1, fault: None });
    assert_eq!((describe(&report(&effects)), runs(&effects)), (vec![String::from("resume 0")], vec![(vec![1], 1)]));
}

#[test]
fn p6_an_event_whose_handler_cannot_be_called_becomes_no_letter() {
    for on_error in [OnError::SetAside, OnError::Skip, OnError::Stop] {
        let mut worker = worker(on_error);
        worker.settings.backoff.attempts = 2;
        worker.step(T0, Input::Feed(vec![work(0, "a"), work(1, "b")]));
        let mut now = T0;
        for (attempt, wait) in [(1, 1_000), (2, 2_000), (3, 4_000)] {
            let effects = worker.step(now, Input::Ran { handled: 0, fault: unable() });
            assert_eq!(
                (describe(&report(&effects)), runs(&effects)),
                (vec![format!("stall 0 {attempt} {wait}")], vec![])
            );
            now = now.after(Duration::from_millis(wait));
            let seen = if on_error == OnError::Stop { attempt + 1 } else { 1 };
            assert_eq!(runs(&worker.step(now, Input::Woken)), [(vec![0], seen)], "{on_error:?}");
        }
        let effects = worker.step(now, Input::Ran { handled: 1, fault: None });
        assert_eq!((describe(&report(&effects)), runs(&effects)), (vec!["resume 0".into()], vec![(vec![1], 1)]));
    }
}

#[test]
fn attempts_without_a_handler_call_do_not_count_when_the_event_fails() {
    for on_error in [OnError::SetAside, OnError::Skip] {
        let mut worker = worker(on_error);
        worker.settings.backoff.attempts = 2;
        worker.settings.stalled = Some(Stalled { position: Position(0), attempts: 7, due: T0 });
        assert_eq!(runs(&worker.step(T0, Input::Feed(vec![work(0, "a"), work(1, "b")]))), [(vec![0], 1)]);
        let effects = worker.step(T0, Input::Ran { handled: 0, fault: fault() });
        assert_eq!(describe(&report(&effects)), ["resume 0", "aside 0 false"], "{on_error:?}");
        assert_eq!(runs(&effects), [(vec![1], 1)]);
    }
}

#[test]
fn a_letter_is_not_dead_while_its_handler_cannot_be_called() {
    let mut worker = worker(OnError::SetAside);
    let right = Right::Claim(SegmentId(0), Epoch(7));
    let waits = SetAsideSequence {
        attempts: 50,
        due: Some(T0),
        right: Some(right),
        wait: WAIT,
        ..SetAsideSequence::untried(Position(0))
    };
    worker.step(T0, Input::SetAside { settled: 0, sequences: [(key("a"), waits)].into() });
    let report = report(&worker.step(T0, Input::Tried { sequence: key("a"), fault: unable() }));
    let [LetterMove::Tried { failure, unable: true, .. }] = report.letters.as_slice() else { panic!("{report:?}") };
    assert_eq!((failure.attempt, failure.last, failure.wait_ms), (50, false, 16_000), "no attempt; the waits double");
}

#[test]
fn the_handlers_own_wait_is_used_and_the_last_attempt_is_marked() {
    let mut worker = worker(OnError::SetAside);
    let right = Right::Claim(SegmentId(0), Epoch(7));
    let attempts = Backoff::default().attempts;
    let waits = SetAsideSequence {
        attempts: attempts - 1,
        due: Some(T0),
        right: Some(right),
        wait: WAIT,
        ..SetAsideSequence::untried(Position(0))
    };
    let effects = worker.step(T0, Input::SetAside { settled: 0, sequences: [(key("a"), waits)].into() });
    let tried =
        Effect::Try { sequence: key("a"), position: Position(0), attempt: attempts, right, mask: 0, replaying: false };
    assert_eq!(effects, [tried]);
    let after = Some(Duration::from_secs(30));
    let fault = fault().map(|fault| Fault { after, ..fault });
    let report = report(&worker.step(T0, Input::Tried { sequence: key("a"), fault }));
    let [LetterMove::Tried { failure, .. }] = report.letters.as_slice() else { panic!("{report:?}") };
    assert_eq!((failure.attempt, failure.wait_ms, failure.last), (attempts, 30_000, true));
}

#[test]
fn a_letter_is_not_tried_again_before_the_log_has_judged_the_try() {
    let mut worker = worker(OnError::SetAside);
    let right = Some(Right::Claim(SegmentId(0), Epoch(7)));
    let waits = SetAsideSequence { attempts: 1, due: Some(T0), right, ..SetAsideSequence::untried(Position(0)) };
    let aside = |settled| Input::SetAside { settled, sequences: [(key("a"), waits)].into() };
    assert_eq!(worker.step(T0, aside(0)).len(), 1);
    assert_eq!(worker.step(T0, aside(0)), []);
    let report = report(&worker.step(T0, Input::Tried { sequence: key("a"), fault: None }));
    assert_eq!(describe(&report), ["done 0"]);
    assert_eq!(worker.step(T0, aside(report.number - 1)), []);
    assert_eq!(worker.step(T0, aside(report.number)).len(), 1, "the log refused the report: it is tried again");
}

#[test]
fn p5_events_behind_a_dropped_letter_wait_for_the_end_of_its_try() {
    let mut worker = worker(OnError::SetAside);
    let right = Some(Right::Claim(SegmentId(0), Epoch(7)));
    let waits = SetAsideSequence { attempts: 1, due: Some(T0), right, ..SetAsideSequence::untried(Position(0)) };
    worker.step(T0, Input::SetAside { settled: 0, sequences: [(key("a"), waits)].into() });
    // An operator drops it, while the handler has it.
    worker.step(T0, Input::SetAside { settled: 0, sequences: BTreeMap::new() });
    assert_eq!(runs(&worker.step(T0, Input::Feed(vec![work(1, "b"), work(2, "a")]))), [(vec![1], 1)]);
    assert_eq!(runs(&worker.step(T0, Input::Ran { handled: 1, fault: None })), []);
    let effects = worker.step(T0, Input::Tried { sequence: key("a"), fault: None });
    assert_eq!(runs(&effects), [(vec![2], 1)]);
}

#[test]
fn p10_concurrent_tries_are_bounded() {
    let mut worker = worker(OnError::SetAside);
    let right = Some(Right::Loan { epoch: Epoch(8), segment: SegmentId(0), claim: Epoch(7) });
    let waits = SetAsideSequence { attempts: 4, due: Some(T0), right, ..SetAsideSequence::untried(Position(0)) };
    let sequences = (0..3 * TRIES_MAX).map(|nth| (key(&format!("s{nth}")), waits)).collect();
    assert_eq!(worker.step(T0, Input::SetAside { settled: 0, sequences }).len(), TRIES_MAX);
    let effects = worker.step(T0, Input::Tried { sequence: key("s0"), fault: None });
    assert_eq!(effects.iter().filter(|effect| matches!(effect, Effect::Try { .. })).count(), 1);
}

#[test]
fn a_paused_worker_reports_when_no_handler_runs() {
    let mut worker = worker(OnError::SetAside);
    assert_eq!(worker.step(T0, Input::SetPaused(true)), [Effect::ReportPaused]);
    assert_eq!(worker.step(T0, Input::Feed(vec![work(0, "a"), work(1, "b")])), [], "once");
    assert_eq!(runs(&worker.step(T0, Input::SetPaused(false))), [(vec![0, 1], 1)]);
    assert_eq!(worker.step(T0, Input::SetPaused(true)), [Effect::StopRun]);
    let effects = worker.step(T0, Input::Ran { handled: 1, fault: None });
    assert!(matches!(effects.as_slice(), [Effect::Report(_), Effect::ReportPaused]), "after its report: {effects:?}");
}

#[test]
fn a_draining_worker_finishes_running_events_and_takes_no_more() {
    let mut worker = worker(OnError::SetAside);
    worker.step(T0, Input::Feed(vec![work(0, "a"), work(1, "b"), work(2, "c")]));
    assert_eq!(worker.step(T0, Input::Drain), [Effect::StopRun]);
    assert_eq!(worker.step(T0, Input::Feed(vec![work(3, "d")])), []);
    let effects = worker.step(T0, Input::Ran { handled: 1, fault: None });
    assert_eq!(runs(&effects), []);
    let report = report(&effects);
    assert_eq!((report.done, report.drained), (1, true));
    assert_eq!(worker.step(T0, Input::Woken), [], "a drained worker sends nothing more");
}

#[test]
fn p6_a_flood_pauses_the_segment_and_is_reported() {
    let mut worker = worker(OnError::SetAside);
    let mut effects = Vec::new();
    for nth in 0..FLOOD_SEQUENCES_MIN as u64 {
        assert_eq!(worker.status().reason, None);
        effects = worker.step(T0, Input::Feed(vec![work(nth, &format!("s{nth}"))]));
        assert_eq!(runs(&effects).len(), 1);
        effects = worker.step(T0, Input::Ran { handled: 0, fault: fault() });
    }
    assert_eq!(describe(&report(&effects)).len(), 1, "the last one is set aside like the others: nothing is lost");
    assert_eq!(worker.status().phase, FLOODED);
    assert!(worker.status().reason.is_some_and(|reason| reason.ends_with("the last failure: no")));
    assert_eq!(runs(&worker.step(T0, Input::Feed(vec![work(99, "other")]))), []);
    let over = T0.after(FLOOD_REST);
    assert_eq!(worker.status().retry_at, Some(over));
    assert_eq!(runs(&worker.step(over, Input::Woken)), [(vec![99], 1)]);
}

#[test]
fn a_tenth_that_fails_or_failures_over_many_minutes_are_no_flood() {
    let mut flood = Flood::new(T0);
    (0..1_000).for_each(|hash| flood.saw(T0, hash));
    (0..100).for_each(|hash| flood.failed(T0, hash));
    assert!(!flood.is_one(), "a tenth is not more than a tenth");
    flood.failed(T0, 100);
    assert!(flood.is_one());
    let mut slow = Flood::new(T0);
    for hash in 0..100 {
        let now = T0.after(Duration::from_secs(hash * 10));
        slow.saw(now, hash);
        slow.failed(now, hash);
        assert!(!slow.is_one());
    }
}

#[test]
fn an_event_skipped_after_its_only_attempt_is_reported_and_blocks_nothing() {
    let mut worker = worker(OnError::Skip);
    worker.settings.backoff.attempts = 1;
    worker.step(T0, Input::Feed(vec![work(0, "a"), work(1, "a")]));
    let effects = worker.step(T0, Input::Ran { handled: 0, fault: fault() });
    assert_eq!((describe(&report(&effects)), report(&effects).done), (vec!["aside 0 true".into()], 1));
    assert_eq!(runs(&effects), [(vec![1], 1)]);
}

#[test]
fn p10_a_cause_is_truncated_by_the_worker() {
    for on_error in [OnError::SetAside, OnError::Stop] {
        let mut worker = worker(on_error);
        worker.step(T0, Input::Feed(vec![work(0, "a")]));
        let fault = fault().map(|fault| Fault { cause: "\u{e9}".repeat(40), ..fault });
        let report = report(&worker.step(T0, Input::Ran { handled: 0, fault }));
        let [LetterMove::SetAside { failure, .. } | LetterMove::Stall { failure, .. }] = report.letters.as_slice()
        else {
            panic!("{report:?}")
        };
        assert_eq!(failure.cause, "\u{e9}".repeat(32), "64 bytes, at a character's end");
    }
}
