//! The tail: what `apply` remembers of a context's latest events, so that appends in flight can be judged from memory.
//! It is part of the replicated state, so it is the same on every node.

use alloc::{
    collections::{BTreeMap, VecDeque},
    string::String,
    vec::Vec,
};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    criteria::{Criteria, Matcher},
    event::Event,
    id::Position,
};

/// The number of text comparisons up to which preparing criteria does not pay.
const UNPREPARED_COMPARISONS_MAX: usize = 256;

/// The latest events of a context, in the form that conditions need.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Remembered", into = "Remembered")]
pub struct Tail {
    start: Position,
    events: VecDeque<TailEntry>,
    /// By number: two of these are compared in two steps.
    ids: BTreeMap<u128, Position>,
    /// The number of ids that cannot be derived from a source and a given id. If it is 0, as usual, no bare UUID has to
    /// be looked up.
    bare: usize,
    bytes: u64,
}

/// What is remembered of one event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TailEntry {
    /// Its id.
    pub id: Uuid,
    /// The digest of its content.
    pub digest: u64,
    /// Its stream.
    pub stream: Option<String>,
    /// Its type.
    pub kind: String,
    /// Its tags.
    pub tags: Vec<String>,
}

impl TailEntry {
    /// Returns the bytes that it takes in memory, as counted for the limit: the same on every node, whatever the
    /// machine.
    fn bytes(&self) -> u64 {
        const EACH: usize = 128;
        let texts = self.stream.iter().chain([&self.kind]).chain(&self.tags);
        texts.fold(EACH, |sum, text| sum + text.len() + 32) as u64
    }
}

/// What a checkpoint keeps of a tail; the rest follows from it.
#[derive(Clone, Serialize, Deserialize)]
struct Remembered {
    start: Position,
    events: VecDeque<TailEntry>,
}

impl From<Remembered> for Tail {
    fn from(Remembered { start, events }: Remembered) -> Self {
        let ids = (start.0..).zip(&events).map(|(position, trace)| (trace.id.as_u128(), Position(position))).collect();
        let bare = events.iter().filter(|trace| !Event::may_be_derived(trace.id)).count();
        let bytes = events.iter().map(TailEntry::bytes).sum();
        Self { start, events, ids, bare, bytes }
    }
}

impl From<Tail> for Remembered {
    fn from(tail: Tail) -> Self {
        Self { start: tail.start, events: tail.events }
    }
}

impl Tail {
    /// Returns the first position that it remembers.
    #[must_use]
    pub const fn start(&self) -> Position {
        self.start
    }

    /// Returns the position of the next event.
    #[must_use]
    pub fn head(&self) -> Position {
        Position(self.start.0 + self.events.len() as u64)
    }

    /// Remembers an event at [`head`](Self::head), and forgets the oldest beyond so many events or bytes.
    pub fn push(&mut self, event: &Event, events_max: u32, bytes_max: u32) {
        let trace = TailEntry {
            id: event.id,
            digest: event.digest(),
            stream: event.stream.clone(),
            kind: event.kind.clone(),
            tags: event.tags.clone(),
        };
        self.ids.insert(trace.id.as_u128(), self.head());
        self.bare += usize::from(!Event::may_be_derived(trace.id));
        self.bytes += trace.bytes();
        self.events.push_back(trace);
        while self.events.len() > events_max as usize || self.bytes > u64::from(bytes_max) {
            let oldest = self.events.pop_front().expect("a tail beyond its limit has an event");
            self.bytes -= oldest.bytes();
            self.ids.remove(&oldest.id.as_u128());
            self.bare -= usize::from(!Event::may_be_derived(oldest.id));
            self.start = self.start.next();
        }
    }

    /// Returns the position of a remembered event with this id, and the digest of the event.
    #[must_use]
    pub fn id(&self, id: Uuid) -> Option<(Position, u64)> {
        if self.bare == 0 && !Event::may_be_derived(id) {
            return None;
        }
        let position = *self.ids.get(&id.as_u128())?;
        self.digest(position).map(|digest| (position, digest))
    }

    /// Returns the digest of the remembered event at a position.
    #[must_use]
    pub fn digest(&self, position: Position) -> Option<u64> {
        let nth = usize::try_from(position.0.checked_sub(self.start.0)?).ok()?;
        self.events.get(nth).map(|trace| trace.digest)
    }

    /// Returns the last remembered event at or after `from` that `criteria` match.
    #[must_use]
    pub fn last_match(&self, criteria: &Criteria, from: Position) -> Option<(Position, &TailEntry)> {
        let mut since = self.since(from).rev();
        if since.len().saturating_mul(criteria.texts()) <= UNPREPARED_COMPARISONS_MAX {
            return since.find(|(_, trace)| criteria.matches(&trace.kind, &trace.tags));
        }
        let matcher = Matcher::new(criteria);
        since.find(|(_, trace)| matcher.matches(&trace.kind, &trace.tags))
    }

    /// Returns how many remembered events at or after `from` belong to `stream`.
    #[must_use]
    pub fn of_stream(&self, stream: &str, from: Position) -> u64 {
        self.since(from).filter(|(_, trace)| trace.stream.as_deref() == Some(stream)).count() as u64
    }

    fn since(&self, from: Position) -> impl DoubleEndedIterator<Item = (Position, &TailEntry)> + ExactSizeIterator {
        let skip = usize::try_from(from.0.saturating_sub(self.start.0)).unwrap_or(usize::MAX).min(self.events.len());
        let first = self.start.0 + skip as u64;
        self.events.range(skip..).enumerate().map(move |(nth, trace)| (Position(first + nth as u64), trace))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::criteria::Criterion;

    fn event(n: u128) -> Event {
        Event { id: Uuid::from_u128(n), kind: "t".into(), stream: Some("s".into()), ..Event::default() }
    }

    #[test]
    fn the_oldest_events_are_removed_beyond_the_limit() {
        let mut tail = Tail::default();
        (0..10).for_each(|n| tail.push(&event(n), 4, u32::MAX));
        assert_eq!((tail.start(), tail.head()), (Position(6), Position(10)));
        assert_eq!(tail.id(Uuid::from_u128(5)), None);
        assert_eq!(tail.id(Uuid::from_u128(6)), Some((Position(6), event(6).digest())));
        assert_eq!(tail.of_stream("s", Position(8)), 2);
        assert_eq!(tail.of_stream("s", Position(0)), 4);
        assert_eq!(tail.of_stream("s", Position(10)), 0);
        assert_eq!(tail.last_match(&Criteria::ANY, Position(0)).map(|(p, _)| p), Some(Position(9)));
        assert_eq!(tail.last_match(&Criteria::ANY, Position(10)), None);
    }

    #[test]
    fn p10_events_with_many_tags_are_removed_sooner() {
        let mut tail = Tail::default();
        let tags = alloc::vec!["t".repeat(200); 64];
        (0..1_000).for_each(|n| tail.push(&Event { tags: tags.clone(), ..event(n) }, 16_384, 1 << 20));
        assert_eq!(tail.head(), Position(1_000));
        let kept: u64 = tail.events.iter().map(TailEntry::bytes).sum();
        assert_eq!(kept, tail.bytes, "the counted bytes are those of the events");
        assert!((1 << 19..=1 << 20).contains(&kept), "{kept}");
        tail.push(&Event { tags, ..event(1_000) }, 16_384, 100);
        assert_eq!((tail.start(), tail.bytes), (Position(1_001), 0), "even one alone may be too much");
    }

    #[test]
    fn prepared_criteria_match_the_same_events_in_a_long_tail() {
        let mut tail = Tail::default();
        let tags = |n: u128| alloc::vec![alloc::format!("tag={}", n % 7)];
        (0..100).for_each(|n| tail.push(&Event { tags: tags(n), ..event(n) }, 1_000, u32::MAX));
        let item = |n: u128| Criterion { types: alloc::vec!["t".into()], tags: tags(n) };
        for (criteria, found) in [
            (Criteria(alloc::vec![item(3)]), Some(94)),
            (Criteria((0..7).map(item).collect()), Some(99)),
            (Criteria(alloc::vec![Criterion { types: alloc::vec!["u".into(); 9], ..item(3) }]), None),
        ] {
            let last = tail.last_match(&criteria, Position(10)).map(|(position, _)| position.0);
            assert_eq!(last, found, "{criteria:?}");
        }
    }

    #[test]
    fn a_tail_restored_from_a_checkpoint_is_unchanged() {
        let mut tail = Tail::default();
        (0..10).for_each(|n| tail.push(&event(n), 4, u32::MAX));
        assert_eq!(Tail::from(Remembered::from(tail.clone())), tail);
    }
}
