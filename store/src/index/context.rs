//! The index of one context.

use std::sync::Arc;

use evener_core::{
    event::Event,
    id::{LogIndex, Position, Revision},
    time::Timestamp,
};
use uuid::Uuid;

use super::{
    locations::{EventLocation, EventLocations},
    postings::{Ordinal, Postings, ordinal, rank},
    sharded_map::ShardedMap,
};

/// An append to add to the index.
#[derive(Debug)]
pub(super) struct IndexedAppend<'e> {
    /// The position of its first event.
    pub first: Position,
    /// The number of its command in the entry.
    pub command: u32,
    /// Its events.
    pub events: Vec<IndexedEvent<'e>>,
}

/// An event and its digest, computed before the index is locked.
#[derive(Debug)]
pub(super) struct IndexedEvent<'e> {
    event: &'e Event,
    digest: u64,
}

impl<'e> IndexedEvent<'e> {
    /// Computes the digest of the event unless it is given.
    pub(super) fn new(event: &'e Event, digest: Option<u64>) -> Self {
        debug_assert!(digest.is_none_or(|digest| digest == event.digest()), "the digest is that of the event");
        Self { event, digest: digest.unwrap_or_else(|| event.digest()) }
    }
}

/// The index of the events of one context.
#[derive(Debug, Default)]
pub(super) struct ContextIndex {
    locations: EventLocations,
    streams: ShardedMap<Box<str>, Postings>,
    tags: ShardedMap<Box<str>, Postings>,
    kinds: ShardedMap<Box<str>, EventType>,
    kind_names: Vec<Arc<str>>,
    ids: ShardedMap<IdBytes, Ordinal>,
    /// Whether an id exists that cannot be derived from a source and a given id.
    has_underived_ids: bool,
    /// The number of each event's type.
    kind_of: Vec<u32>,
    /// The digest of each event.
    digest_of: Vec<u64>,
}

/// An event type.
#[derive(Debug)]
struct EventType {
    number: u32,
    postings: Postings,
}

/// A UUID as bytes, without padding in the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct IdBytes([u8; 16]);

impl AsRef<[u8]> for IdBytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl From<&Self> for IdBytes {
    fn from(id: &Self) -> Self {
        *id
    }
}

impl ContextIndex {
    /// Returns the position of the next event.
    pub(super) fn head(&self) -> Position {
        Position(self.kind_of.len() as u64)
    }

    /// Adds the appends of one entry. The first one starts at the head.
    pub(super) fn add(&mut self, index: LogIndex, recorded: Timestamp, appends: &[IndexedAppend<'_>]) {
        self.locations.add(index, recorded, appends.iter().map(|added| (added.first, added.command)));
        for added in appends {
            assert_eq!(added.first, self.head(), "positions have no gaps");
            for known in &added.events {
                self.add_event(known);
            }
        }
    }

    fn add_event(&mut self, known: &IndexedEvent<'_>) {
        let (event, at) = (known.event, ordinal(self.kind_of.len() as u64));
        if let Some(stream) = &event.stream {
            self.streams.upsert(stream.as_str(), |postings| postings.push(at), || (Postings::new(at), ()));
        }
        for tag in &event.tags {
            self.tags.upsert(tag.as_str(), |postings| postings.push(at), || (Postings::new(at), ()));
        }
        let kind_names = &mut self.kind_names;
        let known_kind = |kind: &mut EventType| {
            kind.postings.push(at);
            kind.number
        };
        let new_kind = || {
            let number = u32::try_from(kind_names.len()).expect("there are not more types than events");
            kind_names.push(event.kind.as_str().into());
            (EventType { number, postings: Postings::new(at) }, number)
        };
        let number = self.kinds.upsert(event.kind.as_str(), known_kind, new_kind);
        self.has_underived_ids |= !Event::may_be_derived(event.id);
        self.ids.upsert(&IdBytes(event.id.into_bytes()), |_| debug_assert!(false, "ids are unique (P3)"), || (at, ()));
        self.kind_of.push(number);
        self.digest_of.push(known.digest);
    }

    /// Returns the location of an event, or `None` at or beyond the head.
    pub(super) fn location(&self, position: Position) -> Option<EventLocation> {
        self.run(position, 1).pop()
    }

    /// Returns the locations of at most `max` consecutive events.
    pub(super) fn run(&self, from: Position, max: usize) -> Vec<EventLocation> {
        let head = self.head().0;
        let to = head.min(from.0.saturating_add(max as u64));
        if from.0 < to { self.locations.of(ordinal(from.0)..ordinal(to)) } else { Vec::new() }
    }

    /// Returns the locations of these events, which must exist.
    pub(super) fn locations_of(&self, ordinals: &[Ordinal]) -> Vec<EventLocation> {
        self.locations.of(ordinals.iter().copied())
    }

    /// Returns the revision of the event at `at`: the number of earlier events of the stream.
    pub(super) fn revision(&self, stream: &str, at: Position) -> Option<Revision> {
        let ordinals = self.streams.get(stream)?.as_slice();
        let before = rank(ordinals, at.0);
        (ordinals.get(before).map(|ordinal| u64::from(*ordinal)) == Some(at.0)).then_some(Revision(before as u64))
    }

    /// Returns the revision of the stream's last event before `head`.
    pub(super) fn stream_head(&self, stream: &str, head: Position) -> Option<Revision> {
        let events = rank(self.streams.get(stream)?.as_slice(), head.0);
        events.checked_sub(1).map(|last| Revision(last as u64))
    }

    /// Returns the position and the digest of the event with an id.
    pub(super) fn event_id(&self, id: Uuid) -> Option<(Position, u64)> {
        if !self.has_underived_ids && !Event::may_be_derived(id) {
            return None;
        }
        let at = *self.ids.get(&IdBytes(id.into_bytes()))?;
        Some((Position(u64::from(at)), self.digest_of[at as usize]))
    }

    /// Returns the type of an event.
    pub(super) fn kind_at(&self, at: Ordinal) -> Arc<str> {
        Arc::clone(&self.kind_names[self.kind_of[at as usize] as usize])
    }

    /// Returns the events of a stream.
    pub(super) fn of_stream(&self, stream: &str) -> &[Ordinal] {
        self.streams.get(stream).map_or(&[], Postings::as_slice)
    }

    /// Returns the events with a tag.
    pub(super) fn of_tag(&self, tag: &str) -> &[Ordinal] {
        self.tags.get(tag).map_or(&[], Postings::as_slice)
    }

    /// Returns the events of a type.
    pub(super) fn of_kind(&self, kind: &str) -> &[Ordinal] {
        self.kinds.get(kind).map_or(&[], |kind| kind.postings.as_slice())
    }
}
