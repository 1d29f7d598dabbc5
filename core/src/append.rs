//! Adding events: all or nothing, under conditions, judged at the append's place in the log (P2, P3).
//!
//! A condition may look back over the whole history. So that no append waits for another's long look, the
//! judgement has two halves. [`check`] runs off the append path, against the [`History`] up to the leader's
//! applied head, and refuses what is wrong already; what passes is stamped with that head as `checked_to`.
//! [`judge`] runs when the log applies the append, alike on every node, and looks only at `[checked_to, here)`,
//! which the [`Tail`] has in memory.

use alloc::{string::String, vec::Vec};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    criteria::{Criteria, Criterion},
    event::Event,
    id::{ContextId, Position, Revision},
};

/// What the history of a context answers. The store implements it; tests replace it by a naive one.
pub trait History {
    /// The next position to be given: how many events there are.
    fn head(&self, context: ContextId) -> Position;
    /// The revision of a stream's last event; none if it has none.
    fn stream_head(&self, context: ContextId, stream: &str) -> Option<Revision>;
    /// The last event at or after `from` that `item` matches, with its type.
    fn last_match(&self, context: ContextId, item: &Criterion, from: Position) -> Option<(Position, String)>;
    /// Where an id stands, and the digest of the event that bears it.
    fn event_id(&self, context: ContextId, id: Uuid) -> Option<(Position, u64)>;
}

/// An append as a client asks for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Where the events go.
    pub context: ContextId,
    /// Names the append in logs and answers. What makes a repetition harmless are the event ids.
    pub request: Uuid,
    /// Each is judged with its own marker.
    pub conditions: Vec<Condition>,
    /// What streams must stand at.
    pub expect: Vec<Expect>,
    /// All are stored, next to each other, or none.
    pub events: Vec<Event>,
}

/// Fails the append if an event that matches stands at or after `marker`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// Which events.
    pub criteria: Criteria,
    /// What the reader had seen: the position its read ended with.
    pub marker: Position,
}

/// Fails the append if the stream stands elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expect {
    /// Which stream.
    pub stream: String,
    /// Where it must stand before the append.
    pub at: Expected,
}

/// Where a stream must stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Expected {
    /// Anywhere.
    Any,
    /// It has no event yet.
    Nowhere,
    /// Its last event has this revision.
    At(Revision),
}

/// A request that passed [`check`]: what the log carries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Append {
    /// Names the append.
    pub request: Uuid,
    /// The history is checked up to here; the rest is judged when it is applied.
    pub checked_to: Position,
    /// As in the request.
    pub conditions: Vec<Condition>,
    /// As in the request, with each stream's revision as of `checked_to`.
    pub expect: Vec<(Expect, Option<Revision>)>,
    /// As in the request.
    pub events: Vec<Event>,
}

/// Where the events of an append stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Appended {
    /// The position of its first event; the head where it had none.
    pub first: Position,
    /// The position after its last: a reader's marker.
    pub next: Position,
    /// It stood there before: this is the answer to a repetition.
    pub repeated: bool,
}

/// Why an append was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// A condition does not hold: this event stands at or after its marker.
    Conflict {
        /// Which condition, from 0.
        condition: u32,
        /// The last event that matches.
        position: Position,
        /// Its type.
        kind: String,
    },
    /// A stream stands elsewhere.
    Revision {
        /// Which stream.
        stream: String,
        /// Where it should stand.
        expected: Expected,
        /// Where it does.
        actual: Option<Revision>,
    },
    /// Of its events these exist already, and the others do not, or they stand apart, or with other content.
    Duplicate {
        /// Ids that exist with the same content, and where.
        stored: Vec<(Uuid, Position)>,
        /// Ids that exist with other content, and where.
        other: Vec<(Uuid, Position)>,
    },
    /// The check is older than what `apply` remembers: ask again.
    Retry,
    /// A limit is passed.
    Limit {
        /// Its name.
        name: String,
        /// What it allows.
        max: u64,
        /// What was asked for.
        got: u64,
    },
    /// The request makes no sense.
    Invalid(String),
}
