//! Appends, judged in two halves, have the result of a naive store (P2, P3).

use std::{collections::VecDeque, format, vec, vec::Vec};

use proptest::prelude::*;
use uuid::Uuid;

use super::Log;
use crate::{
    append::{Append, Appended, Checked, Condition, Expect, Expected, Refusal, Request, check},
    command::{Command, Outcome},
    criteria::{Criteria, Criterion},
    event::Event,
    id::{ContextId, Position, Revision},
    limits::Limits,
    naive::NaiveHistory,
};

fn event(id: u8, content: u8) -> Event {
    Event {
        id: Uuid::from_u128(u128::from(id)),
        kind: format!("kind-{}", id % 3),
        stream: (!id.is_multiple_of(4)).then(|| format!("stream-{}", id % 4)),
        tags: vec![format!("tag={}", id % 2)],
        data: vec![content],
        ..Event::default()
    }
}

prop_compose! {
    fn request()(
        ids in prop::collection::vec((0_u8..60, prop::bool::weighted(0.05)), 1..4),
        condition in prop::option::of((0_u8..3, 0_u8..2, 0_u64..40)),
        expect in prop::option::of((1_u8..4, prop::option::of(0_u64..6))),
    ) -> Request {
        let mut events = Vec::<Event>::new();
        for (id, other) in ids {
            let event = event(id, u8::from(other));
            if events.iter().all(|known| known.id != event.id) { events.push(event) }
        }
        let conditions = condition.map(|(kind, tag, marker)| Condition {
            criteria: Criteria(vec![Criterion {
                types: vec![format!("kind-{kind}")],
                tags: vec![format!("tag={tag}")],
            }]),
            marker: Position(marker),
        });
        let expect = expect.map(|(stream, at)| Expect {
            stream: format!("stream-{stream}"),
            at: at.map_or(Expected::NoStream, |at| Expected::At(Revision(at))),
        });
        Request {
            context: ContextId::DEFAULT,
            request: Uuid::nil(),
            conditions: conditions.into_iter().collect(),
            expect: expect.into_iter().collect(),
            events,
        }
    }
}

proptest! {
    /// Requests are checked now and applied later, in order, with others in between: the result is that of a store that
    /// judges everything at once, except for *retry* and early refusals.
    #[test]
    fn p2_p3_check_and_judgement_equal_those_of_a_naive_store(
        requests in prop::collection::vec((request(), 0_usize..6), 1..80),
        tail_events in 1_u32..20,
        tail_bytes in 200_u32..8_000,
    ) {
        let mut log = Log::of(1);
        (log.state.limits.tail_events, log.state.limits.tail_bytes) = (tail_events, tail_bytes);
        let mut history = NaiveHistory::default();
        let mut flight = VecDeque::<(Request, Append)>::new();
        for (request, in_flight_max) in requests {
            match check(&history, &Limits::DEFAULT, &request) {
                Checked::Passed(stamp) => flight.push_back((request.clone(), Append::new(request, stamp))),
                Checked::Answered(appended) => prop_assert_eq!(history.clone().append(&request), Ok(appended)),
                // An early refusal remains right: streams only grow, events are never removed.
                Checked::Refused(refusal) => prop_assert_eq!(history.clone().append(&request), Err(refusal)),
            }
            while flight.len() > in_flight_max {
                let (request, append) = flight.pop_front().expect("there is one more than allowed");
                let outcome = log.apply(Command::Append(append));
                if outcome == Outcome::AppendRefused(Refusal::Retry) {
                    continue;
                }
                let expected = match history.append(&request) {
                    Ok(appended) => Outcome::Appended(appended),
                    Err(refusal) => Outcome::AppendRefused(refusal),
                };
                prop_assert_eq!(outcome, expected);
                prop_assert_eq!(log.state.head(ContextId::DEFAULT).0, history.0.len() as u64);
            }
        }
    }
}

fn append_now(log: &mut Log, history: &mut NaiveHistory, events: Vec<Event>) -> Outcome {
    let request = Request { events: events.clone(), ..Request::default() };
    match check(history, &Limits::DEFAULT, &request) {
        Checked::Passed(stamp) => {
            let outcome = log.apply(Command::Append(Append::new(request, stamp)));
            if let Outcome::Appended(Appended { repeated: false, .. }) = outcome {
                history.0.extend(events);
            }
            outcome
        }
        Checked::Answered(appended) => Outcome::Appended(appended),
        Checked::Refused(refusal) => Outcome::AppendRefused(refusal),
    }
}

#[test]
fn p3_a_repeated_append_returns_the_first_answer() {
    let (mut log, mut history) = (Log::of(1), NaiveHistory::default());
    let first = append_now(&mut log, &mut history, vec![event(1, 0), event(2, 0)]);
    append_now(&mut log, &mut history, vec![event(3, 0)]);
    let again = append_now(&mut log, &mut history, vec![event(1, 0), event(2, 0)]);
    assert_eq!(first, Outcome::Appended(Appended { first: Position(0), next: Position(2), repeated: false }));
    assert_eq!(again, Outcome::Appended(Appended { first: Position(0), next: Position(2), repeated: true }));
}

#[test]
fn p3_a_partial_or_changed_repetition_is_a_conflict_that_names_the_ids() {
    let (mut log, mut history) = (Log::of(1), NaiveHistory::default());
    append_now(&mut log, &mut history, vec![event(1, 0), event(2, 0)]);
    let part = append_now(&mut log, &mut history, vec![event(2, 0), event(3, 0)]);
    let stored = vec![(Uuid::from_u128(2), Position(1))];
    assert_eq!(part, Outcome::AppendRefused(Refusal::Duplicate { stored, other: vec![] }));
    let other = append_now(&mut log, &mut history, vec![event(1, 9)]);
    let differs = vec![(Uuid::from_u128(1), Position(0))];
    assert_eq!(other, Outcome::AppendRefused(Refusal::Duplicate { stored: vec![], other: differs }));
}
