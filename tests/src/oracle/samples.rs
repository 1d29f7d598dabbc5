//! A small run without violations, which tests change to violate a promise.

use evener_core::{
    append::{Appended, Request},
    event::Event,
    id::{Position, Revision},
};
use uuid::Uuid;

use super::{Answer, History, LogEvent, Read};

/// A history, and the log of a node.
pub(crate) struct Sample {
    pub history: History,
    pub log: Vec<LogEvent>,
}

/// Returns an event with this number as its id.
pub(crate) fn event(n: u128, stream: &str) -> Event {
    Event {
        id: Uuid::from_u128(n),
        kind: "happened".into(),
        stream: Some(stream.into()),
        tags: vec![format!("stream={stream}")],
        ..Event::default()
    }
}

/// Returns the acknowledgement of an append.
pub(crate) fn stored(first: u64, next: u64) -> Answer {
    Answer::Stored(Appended { first: Position(first), next: Position(next), repeated: false })
}

impl Sample {
    /// Returns two consecutive appends, of one and of two events, and a read of all events.
    pub(crate) fn of_two_appends() -> Self {
        let mut history = History::default();
        let first = history.invoked(Request { events: vec![event(1, "s")], ..Request::default() });
        history.returned(first, stored(0, 1));
        let second = history.invoked(Request { events: vec![event(2, "t"), event(3, "s")], ..Request::default() });
        history.returned(second, stored(1, 3));
        let (invoked_at, returned_at) = (history.tick(), history.tick());
        let ids = [1, 2, 3].map(Uuid::from_u128).to_vec();
        history.reads.push(Read { invoked_at, returned_at, from: Position(0), ids, next: Position(3) });
        let logged = |position, revision, event| LogEvent {
            position: Position(position),
            revision: Some(Revision(revision)),
            event,
        };
        let log = vec![logged(0, 0, event(1, "s")), logged(1, 0, event(2, "t")), logged(2, 1, event(3, "s"))];
        Self { history, log }
    }
}
