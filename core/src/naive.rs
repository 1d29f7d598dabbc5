//! Naive implementations for tests: short, obvious and slow.

use std::{string::String, vec::Vec};

use uuid::Uuid;

use crate::{
    append::{Appended, Expected, History, Refusal, Request},
    criteria::Criterion,
    event::Event,
    id::{ContextId, Position, Revision},
};

/// A history that is a list, in which every answer is found by reading all of it.
#[derive(Clone, Debug, Default)]
pub struct NaiveHistory(pub Vec<Event>);

impl NaiveHistory {
    fn events(&self) -> impl DoubleEndedIterator<Item = (Position, &Event)> + ExactSizeIterator {
        self.0.iter().enumerate().map(|(nth, event)| (Position(nth as u64), event))
    }

    /// Judges and stores a request in one step, as a store without other writers would.
    ///
    /// # Errors
    ///
    /// The reason for the refusal.
    pub fn append(&mut self, request: &Request) -> Result<Appended, Refusal> {
        let found: Vec<_> = request.events.iter().map(|event| self.event_id(request.context, event.id)).collect();
        if found.iter().any(Option::is_some) {
            let first = found.iter().flatten().map(|found| found.0).min().expect("there is one");
            let next = Position(first.0 + request.events.len() as u64);
            let there = self.0.get(first.0 as usize..next.0 as usize);
            if there == Some(&request.events) {
                return Ok(Appended { first, next, repeated: true });
            }
            let with = |same: bool| {
                let events = request.events.iter().zip(&found);
                let wanted = events.filter_map(|(event, found)| found.map(|found| (event, found)));
                let chosen = wanted.filter(|(event, found)| (found.1 == event.digest()) == same);
                chosen.map(|(event, found)| (event.id, found.0)).collect::<Vec<_>>()
            };
            return Err(Refusal::Duplicate { stored: with(true), other: with(false) });
        }
        for (nth, condition) in (0..).zip(&request.conditions) {
            let (marker, head) = (condition.marker, self.head(request.context));
            if marker > head {
                return Err(Refusal::Ahead { condition: nth, marker, head });
            }
            let conflict = self
                .events()
                .rev()
                .find(|(position, event)| *position >= condition.marker && condition.criteria.matches_event(event));
            if let Some((position, event)) = conflict {
                return Err(Refusal::Conflict { condition: nth, position, kind: event.kind.clone() });
            }
        }
        for wanted in &request.expect {
            let actual = self.stream_head(request.context, &wanted.stream);
            let holds = match wanted.at {
                Expected::Any => true,
                Expected::NoStream => actual.is_none(),
                Expected::At(revision) => actual == Some(revision),
            };
            if !holds {
                return Err(Refusal::Revision { stream: wanted.stream.clone(), expected: wanted.at, actual });
            }
        }
        let first = Position(self.0.len() as u64);
        self.0.extend(request.events.iter().cloned());
        Ok(Appended { first, next: Position(self.0.len() as u64), repeated: false })
    }
}

impl History for NaiveHistory {
    fn head(&self, _: ContextId) -> Position {
        Position(self.0.len() as u64)
    }

    fn stream_head(&self, _: ContextId, stream: &str) -> Option<Revision> {
        let events = self.0.iter().filter(|event| event.stream.as_deref() == Some(stream)).count() as u64;
        events.checked_sub(1).map(Revision)
    }

    fn last_match(&self, _: ContextId, item: &Criterion, from: Position) -> Option<(Position, String)> {
        let found =
            self.events().rev().find(|(position, event)| *position >= from && item.matches(&event.kind, &event.tags));
        found.map(|(position, event)| (position, event.kind.clone()))
    }

    fn event_id(&self, _: ContextId, id: Uuid) -> Option<(Position, u64)> {
        self.events().find(|(_, event)| event.id == id).map(|(position, event)| (position, event.digest()))
    }

    fn event_at(&self, _: ContextId, position: Position) -> Option<Event> {
        self.0.get(usize::try_from(position.0).ok()?).cloned()
    }
}
