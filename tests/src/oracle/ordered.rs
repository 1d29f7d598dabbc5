//! P2: one order without gaps. The events of an append are contiguous, after everything that was acknowledged when it
//! was sent; its conditions held at its position; a read returns a prefix, with everything acknowledged before it.

use std::collections::BTreeMap;

use evener_core::{
    append::{Condition, Expect, Expected, Refusal},
    id::{Position, Revision},
};

use super::{Answer, Call, History, LogEvent, Violation};

/// Returns every violation of that order.
#[must_use]
pub fn check(history: &History, log: &[LogEvent]) -> Vec<Violation> {
    let mut violations = dense(log);
    violations.extend(contiguous(history, log));
    violations.extend(after_acknowledged(history));
    for call in &history.calls {
        violations.extend(conditions(call, log));
        violations.extend(refusals(call, log));
    }
    violations.extend(reads(history, log));
    violations.into_iter().map(|what| Violation { promise: "P2", what }).collect()
}

fn dense(log: &[LogEvent]) -> Vec<String> {
    let mut found = Vec::new();
    let mut heads: BTreeMap<&str, u64> = BTreeMap::new();
    for (position, logged) in log.iter().enumerate() {
        if logged.position.0 != position as u64 {
            found.push(format!("event {} of the log has position {}", position, logged.position));
        }
        let Some(stream) = logged.event.stream.as_deref() else { continue };
        let next = heads.entry(stream).or_default();
        if logged.revision != Some(Revision(*next)) {
            found.push(format!("position {position} has revision {:?} of {stream} instead of {next}", logged.revision));
        }
        *next += 1;
    }
    found
}

/// Checks that all events of an append are stored contiguously, or none.
fn contiguous(history: &History, log: &[LogEvent]) -> Vec<String> {
    let positions: BTreeMap<_, _> = log.iter().map(|logged| (logged.event.id, logged.position.0)).collect();
    let mut found = Vec::new();
    for (number, call) in history.calls.iter().enumerate() {
        let stored_at: Vec<_> = call.request.events.iter().map(|event| positions.get(&event.id).copied()).collect();
        let is_contiguous = stored_at.windows(2).all(|pair| match pair {
            [Some(one), Some(other)] => one + 1 == *other,
            [None, None] => true,
            _ => false,
        });
        if !is_contiguous {
            found.push(format!("the events of call {number} are at {stored_at:?}"));
        }
    }
    found
}

fn after_acknowledged(history: &History) -> Vec<String> {
    let mut known: Vec<_> =
        history.calls.iter().filter_map(|call| Some((call.acknowledged_at()?, call.stored()?.next))).collect();
    known.sort_by_key(|(time, _)| *time);
    let mut found = Vec::new();
    // The known head of the log after each acknowledgement.
    let mut reach = Position(0);
    let reach: Vec<_> = known
        .iter()
        .map(|(time, next)| {
            reach = reach.max(*next);
            (*time, reach)
        })
        .collect();
    let known_at = |time| match reach.partition_point(|(at, _)| *at < time) {
        0 => Position(0),
        n => reach[n - 1].1,
    };
    for (number, call) in history.calls.iter().enumerate() {
        let Some(stored) = call.stored() else { continue };
        let before = known_at(call.invoked_at);
        if !call.request.events.is_empty() && stored.first < before {
            let first = stored.first;
            found.push(format!(
                "call {number} is at {first}, although the log was known to reach {before} when it was sent"
            ));
        }
    }
    for read in &history.reads {
        let before = known_at(read.invoked_at);
        if read.next < before {
            let next = read.next;
            found.push(format!("a read saw {next} events, although {before} were known to be stored when it was sent"));
        }
    }
    found
}

fn conditions(call: &Call, log: &[LogEvent]) -> Vec<String> {
    let Some(stored) = call.stored() else { return Vec::new() };
    let before = &log[..usize::try_from(stored.first.0).unwrap_or(usize::MAX).min(log.len())];
    let mut found = Vec::new();
    for Condition { criteria, marker } in &call.request.conditions {
        let breaks = |logged: &&LogEvent| logged.position >= *marker && criteria.matches_event(&logged.event);
        if let Some(logged) = before.iter().rev().find(breaks) {
            let (first, position) = (stored.first, logged.position);
            found.push(format!("the append at {first} holds a condition with marker {marker} that {position} breaks"));
        }
    }
    for Expect { stream, at } in &call.request.expect {
        let length = before.iter().filter(|logged| logged.event.stream.as_ref() == Some(stream)).count() as u64;
        let holds = match at {
            Expected::Any => true,
            Expected::NoStream => length == 0,
            Expected::At(revision) => length == revision.0 + 1,
        };
        if !holds {
            let first = stored.first;
            found.push(format!("the append at {first} expects {stream} at {at:?}, which has {length} events there"));
        }
    }
    found
}

/// Checks that the refusals are consistent with the log.
fn refusals(call: &Call, log: &[LogEvent]) -> Vec<String> {
    let refused = call.answers.iter().filter_map(|(_, answer)| match answer {
        Answer::Refused(refusal) => Some(refusal),
        Answer::Stored(_) => None,
    });
    let is_wrong = |refusal: &&Refusal| match refusal {
        Refusal::Conflict { condition, position, kind } => {
            let condition = &call.request.conditions[*condition as usize];
            let logged = usize::try_from(position.0).ok().and_then(|position| log.get(position));
            !logged.is_some_and(|logged| {
                logged.event.kind == *kind
                    && *position >= condition.marker
                    && condition.criteria.matches_event(&logged.event)
            })
        }
        Refusal::Revision { stream, expected, actual } => {
            let length = log.iter().filter(|logged| logged.event.stream.as_ref() == Some(stream)).count() as u64;
            let behind = matches!((expected, actual), (Expected::At(at), actual) if actual.is_none_or(|a| a < *at));
            // Streams only grow, and clients expect only revisions that were acknowledged to them.
            behind || actual.is_some_and(|actual| actual.0 >= length)
        }
        _ => false,
    };
    refused
        .filter(is_wrong)
        .map(|refusal| format!("an append was refused although the log contradicts it: {refusal:?}"))
        .collect()
}

fn reads(history: &History, log: &[LogEvent]) -> Vec<String> {
    let mut found = Vec::new();
    for read in &history.reads {
        let from = usize::try_from(read.from.0).unwrap_or(usize::MAX).min(log.len());
        let until = usize::try_from(read.next.0).unwrap_or(usize::MAX).min(log.len());
        let ids: Vec<_> = log[from..until.max(from)].iter().map(|logged| logged.event.id).collect();
        if ids != read.ids {
            found.push(format!("a read from {} to {} saw other events than the log has there", read.from, read.next));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use evener_core::criteria::{Criteria, Criterion};

    use super::*;
    use crate::oracle::samples::{Sample, stored};

    #[track_caller]
    fn finds(change: impl FnOnce(&mut Sample), what: &str) {
        let mut sample = Sample::of_two_appends();
        assert_eq!(check(&sample.history, &sample.log), []);
        change(&mut sample);
        let violations = check(&sample.history, &sample.log);
        assert!(violations.iter().any(|violation| violation.what.contains(what)), "{what} is not in {violations:?}");
    }

    #[test]
    fn gaps_and_wrong_revisions_are_found() {
        finds(|sample| sample.log[2].position = Position(3), "has position 3");
        finds(|sample| sample.log[2].revision = Some(Revision(2)), "instead of 1");
    }

    #[test]
    fn an_append_that_is_not_contiguous_is_found() {
        finds(|sample| sample.log[1].position = Position(7), "the events of call 1");
        finds(|sample| drop(sample.log.pop()), "the events of call 1");
    }

    #[test]
    fn an_append_before_an_acknowledged_one_is_found() {
        finds(|sample| sample.history.calls[1].answers[0].1 = stored(0, 2), "call 1 is at 0");
    }

    #[test]
    fn a_condition_that_did_not_hold_is_found() {
        let any = |marker| Condition {
            criteria: Criteria(vec![Criterion { types: vec![], tags: vec!["stream=s".into()] }]),
            marker: Position(marker),
        };
        finds(|sample| sample.history.calls[1].request.conditions.push(any(0)), "that 0 breaks");
        let mut sample = Sample::of_two_appends();
        sample.history.calls[1].request.conditions.push(any(1));
        assert_eq!(check(&sample.history, &sample.log), []);
        let expect = |at| Expect { stream: "s".into(), at };
        finds(|sample| sample.history.calls[1].request.expect.push(expect(Expected::NoStream)), "expects s");
        sample.history.calls[1].request.expect.push(expect(Expected::At(Revision(0))));
        assert_eq!(check(&sample.history, &sample.log), []);
    }

    #[test]
    fn a_refusal_that_the_log_contradicts_is_found() {
        let stale = Refusal::Revision { stream: "s".into(), expected: Expected::At(Revision(1)), actual: None };
        finds(|sample| sample.history.calls[1].answers.push((9, Answer::Refused(stale))), "the log contradicts it");
    }

    #[test]
    fn a_stale_and_a_wrong_read_are_found() {
        finds(
            |sample| {
                sample.history.reads[0].ids.pop();
                sample.history.reads[0].next = Position(2);
            },
            "a read saw 2 events",
        );
        finds(|sample| sample.history.reads[0].ids.swap(0, 1), "saw other events");
    }
}
