//! Adding events: all or nothing, under conditions that are evaluated at the append's place in the log (P2, P3).
//!
//! A condition may concern the whole history. So that no append waits while another one is checked against a long
//! history, the judgement has two halves. [`check`] runs off the append path, against the [`History`] up to the
//! leader's applied head, and refuses what is already wrong; an append that passes is stamped with that head as
//! `checked_to`. [`judge`] runs when the log applies the append, with the same result on every node, and evaluates only
//! `[checked_to, here)`, which the [`Tail`] has in memory.

use alloc::{string::String, vec::Vec};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    criteria::{Criteria, Criterion},
    event::Event,
    id::{ContextId, Position, Revision},
    limits::{LimitExceeded, LimitName, Limits, Measured},
    tail::Tail,
};

/// What the history of a context answers. The store implements it; tests use a naive implementation.
pub trait History {
    /// Returns the next position to be assigned, which is the number of events.
    fn head(&self, context: ContextId) -> Position;
    /// Returns the revision of a stream's last event; `None` if the stream has no events.
    fn stream_head(&self, context: ContextId, stream: &str) -> Option<Revision>;
    /// Returns the last event at or after `from` that `item` matches, with its type.
    fn last_match(&self, context: ContextId, item: &Criterion, from: Position) -> Option<(Position, String)>;
    /// Returns the position of the event with this id, and the digest of its content.
    fn event_id(&self, context: ContextId, id: Uuid) -> Option<(Position, u64)>;
    /// Returns the event at a position; `None` if it cannot be read. Called rarely, since it may read from disk.
    fn event_at(&self, context: ContextId, position: Position) -> Option<Event>;
}

/// An append as a client requests it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The context to which the events are appended.
    pub context: ContextId,
    /// Identifies the append in logs and answers. Repeating an append is harmless because of the event ids, not because
    /// of this.
    pub request: Uuid,
    /// The conditions, each with a marker of its own.
    pub conditions: Vec<Condition>,
    /// The expected revisions of streams.
    pub expect: Vec<Expect>,
    /// The events. All of them are stored, next to each other, or none.
    pub events: Vec<Event>,
}

/// Fails the append if an event that matches is at or after `marker`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// The events that make the condition fail.
    pub criteria: Criteria,
    /// The position at which the client's read ended.
    pub marker: Position,
}

/// Fails the append if the stream has another revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expect {
    /// The stream.
    pub stream: String,
    /// The expected revision before the append.
    pub at: Expected,
}

/// The expected revision of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Expected {
    /// Any revision.
    Any,
    /// The stream has no event yet.
    NoStream,
    /// The last event has this revision.
    At(Revision),
}

/// A request that passed [`check`], as the log stores it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Append {
    /// Identifies the append.
    pub request: Uuid,
    /// The history is checked up to this position; the rest is evaluated when the append is applied.
    pub checked_to: Position,
    /// As in the request.
    pub conditions: Vec<Condition>,
    /// As in the request, each with the stream's revision as of `checked_to`.
    pub expect: Vec<(Expect, Option<Revision>)>,
    /// As in the request.
    pub events: Vec<Event>,
}

/// The positions of an append's events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Appended {
    /// The position of the first event; the head if the append has no events.
    pub first: Position,
    /// The position after the last event, which is a reader's marker.
    pub next: Position,
    /// Whether the events were already stored, so that this is the answer to a repetition.
    pub repeated: bool,
}

/// Why an append was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// A condition does not hold, because this event is at or after its marker.
    Conflict {
        /// The index of the condition, from 0.
        condition: u32,
        /// The last event that matches.
        position: Position,
        /// The type of that event.
        kind: String,
    },
    /// A stream has another revision than expected.
    Revision {
        /// The stream.
        stream: String,
        /// The expected revision.
        expected: Expected,
        /// The actual revision.
        actual: Option<Revision>,
    },
    /// Some of the events already exist, and the others do not; or they exist apart from each other, or with other
    /// content.
    Duplicate {
        /// Ids that exist with the same content, and their positions.
        stored: Vec<(Uuid, Position)>,
        /// Ids that exist with other content, and their positions.
        other: Vec<(Uuid, Position)>,
    },
    /// The check is older than the tail that `apply` keeps: the append must be checked again.
    Retry,
    /// A limit is exceeded.
    Limit(LimitExceeded),
    /// The append has two events with this id.
    SameIdTwice(Uuid),
    /// The event with this id has no type.
    NoType(Uuid),
    /// A condition's marker is beyond the last event. No read can have ended there, and the condition would hold
    /// whatever was appended.
    Ahead {
        /// The index of the condition, from 0.
        condition: u32,
        /// Its marker.
        marker: Position,
        /// The head of the history.
        head: Position,
    },
}

/// The state of the history against which a request was checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// The head of the history.
    pub checked_to: Position,
    /// The revisions of the streams in the request's expectations, in their order.
    pub heads: Vec<Option<Revision>>,
}

impl Append {
    /// Joins a request and what it was checked against.
    #[must_use]
    pub fn new(request: Request, stamp: Stamp) -> Self {
        let Request { request, conditions, expect, events, .. } = request;
        let expect = expect.into_iter().zip(stamp.heads).collect();
        Self { request, checked_to: stamp.checked_to, conditions, expect, events }
    }
}

/// The result of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Checked {
    /// Nothing up to `checked_to` contradicts the append: it may be proposed.
    Passed(Stamp),
    /// The append needs no place in the log: it is already stored, or adds no events.
    Answered(Appended),
    /// The append is already known to be wrong.
    Refused(Refusal),
}

/// Judges a request against everything before the history's head. Runs off the append path and may take long.
#[must_use]
pub fn check(history: &impl History, limits: &Limits, request: &Request) -> Checked {
    let context = request.context;
    let checked_to = history.head(context);
    if request.events.is_empty() {
        return Checked::Answered(Appended { first: checked_to, next: checked_to, repeated: false });
    }
    if let Err(refusal) = within(limits, request) {
        return Checked::Refused(refusal);
    }
    match repetition(&request.events, |event| stored(history, context, event)) {
        Ok(Some(appended)) => return Checked::Answered(appended),
        Ok(None) => {}
        Err(refusal) => return Checked::Refused(refusal),
    }
    for (nth, condition) in (0..).zip(&request.conditions) {
        let marker = condition.marker;
        if marker > checked_to {
            return Checked::Refused(Refusal::Ahead { condition: nth, marker, head: checked_to });
        }
        let any = [Criterion::default()];
        let items = if condition.criteria.0.is_empty() { &any[..] } else { &condition.criteria.0 };
        let found = items.iter().filter_map(|item| history.last_match(context, item, condition.marker)).max();
        if let Some((position, kind)) = found {
            return Checked::Refused(Refusal::Conflict { condition: nth, position, kind });
        }
    }
    let mut heads = Vec::with_capacity(request.expect.len());
    for wanted in &request.expect {
        let head = history.stream_head(context, &wanted.stream);
        if !wanted.at.may_become(head) {
            return Checked::Refused(wanted.refused(head));
        }
        heads.push(head);
    }
    Checked::Passed(Stamp { checked_to, heads })
}

/// Judges a checked append at its place in the log, from memory. `Ok(None)` means that its events are to be stored now.
///
/// # Errors
///
/// The reason for the refusal; [`Refusal::Retry`] if the check is older than the tail.
pub fn judge(tail: &Tail, append: &Append) -> Result<Option<Appended>, Refusal> {
    if append.checked_to < tail.start() {
        return Err(Refusal::Retry);
    }
    let stored = |event: &Event| {
        if let Some((position, digest)) = tail.id(event.id) {
            return Some((position, digest == event.digest()));
        }
        // The same event was appended through a member that ran an older build a moment ago.
        let (position, digest) = tail.id(event.bare_id()?)?;
        (digest == event.clone().into_bare().digest()).then_some((position, true))
    };
    if let Some(appended) = repetition(&append.events, stored)? {
        return Ok(Some(appended));
    }
    for (nth, condition) in (0..).zip(&append.conditions) {
        let from = condition.marker.max(append.checked_to);
        if let Some((position, trace)) = tail.last_match(&condition.criteria, from) {
            return Err(Refusal::Conflict { condition: nth, position, kind: trace.kind.clone() });
        }
    }
    for (wanted, head) in &append.expect {
        let since = tail.of_stream(&wanted.stream, append.checked_to);
        let events = head.map_or(0, |revision| revision.0 + 1) + since;
        let actual = events.checked_sub(1).map(Revision);
        if !wanted.at.admits(actual) {
            return Err(wanted.refused(actual));
        }
    }
    Ok(None)
}

impl Expected {
    /// Returns whether a stream whose last event is `actual` meets the expectation.
    #[must_use]
    pub fn admits(self, actual: Option<Revision>) -> bool {
        match self {
            Self::Any => true,
            Self::NoStream => actual.is_none(),
            Self::At(revision) => actual == Some(revision),
        }
    }

    /// Returns whether a stream at revision `now` may still come to meet the expectation: streams only grow.
    #[must_use]
    pub fn may_become(self, now: Option<Revision>) -> bool {
        match self {
            Self::Any => true,
            Self::NoStream => now.is_none(),
            Self::At(revision) => now <= Some(revision),
        }
    }
}

impl Expect {
    fn refused(&self, actual: Option<Revision>) -> Refusal {
        Refusal::Revision { stream: self.stream.clone(), expected: self.at, actual }
    }
}

/// Returns the position at which an event with this identity is stored, and whether it is the same event.
///
/// An event is identified by its source and the id that its producer gave it, and [`Event::id`] follows from the two.
/// Events that have no `given_id` are stored under a bare UUID instead; among them are those that were stored before
/// the id followed from the source as well. Such an event is found by its UUID, and is the requested one if its source
/// is the same.
fn stored(history: &impl History, context: ContextId, event: &Event) -> Option<(Position, bool)> {
    if let Some((position, digest)) = history.event_id(context, event.id) {
        return Some((position, digest == event.digest()));
    }
    let id = event.bare_id()?;
    let (position, digest) = history.event_id(context, id)?;
    if digest == event.clone().into_bare().digest() {
        return Some((position, true));
    }
    match history.event_at(context, position) {
        Some(found) if found.given_id.is_some() || found.source != event.source => None,
        // The same event with other content; or the event cannot be read, and then nothing may be stored beside it.
        _ => Some((position, false)),
    }
}

/// Returns the positions at which these events are already stored, if all of them are, next to each other and with the
/// same content. `find` returns the position of an event with the same identity, and whether its content is the same.
fn repetition(
    events: &[Event],
    find: impl Fn(&Event) -> Option<(Position, bool)>,
) -> Result<Option<Appended>, Refusal> {
    let found: Vec<_> = events.iter().map(find).collect();
    let Some(first) = found.iter().flatten().map(|(position, _)| *position).min() else { return Ok(None) };
    if (first.0..).zip(&found).all(|(place, found)| *found == Some((Position(place), true))) {
        return Ok(Some(Appended { first, next: Position(first.0 + events.len() as u64), repeated: true }));
    }
    let with = |wanted: bool| {
        let found = events.iter().zip(&found).filter_map(|(event, found)| Some((event.id, (*found)?)));
        found.filter(|(_, (_, same))| *same == wanted).map(|(id, (position, _))| (id, position)).collect()
    };
    Err(Refusal::Duplicate { stored: with(true), other: with(false) })
}

impl From<LimitExceeded> for Refusal {
    fn from(exceeded: LimitExceeded) -> Self {
        Self::Limit(exceeded)
    }
}

/// Checks that a request keeps the limits and is consistent in itself.
fn within(limits: &Limits, request: &Request) -> Result<(), Refusal> {
    let Request { conditions, expect, events, .. } = request;
    LimitExceeded::check(LimitName::AppendEvents, limits.append_events_max, events.len(), || Measured::AppendEvents)?;
    LimitExceeded::check(LimitName::Conditions, limits.conditions_max, conditions.len(), || Measured::Conditions)?;
    LimitExceeded::check(LimitName::Conditions, limits.conditions_max, expect.len(), || Measured::Expectations)?;
    Criteria::together_within(conditions.iter().map(|condition| &condition.criteria), Measured::AppendCriteria)?;
    for condition in conditions {
        condition.criteria.within(limits)?;
    }
    for Expect { stream, .. } in expect {
        LimitExceeded::check(LimitName::NameBytes, limits.name_bytes_max, stream.len(), || Measured::Stream)?;
    }
    let mut ids: Vec<Uuid> = events.iter().map(|event| event.id).collect();
    ids.sort_unstable();
    if let Some(twice) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(Refusal::SameIdTwice(twice[0]));
    }
    for (nth, event) in events.iter().enumerate() {
        event.within(limits, nth)?;
        if event.kind.is_empty() {
            return Err(Refusal::NoType(event.id));
        }
    }
    let size = events.iter().map(Event::size).sum();
    Ok(LimitExceeded::check(LimitName::AppendBytes, limits.append_bytes_max, size, || Measured::AppendBytes)?)
}
