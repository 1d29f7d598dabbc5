//! Reading events: the index locates them, the journal holds them, and this module decodes them.
//!
//! A read returns the matching events of a range, from either end, page by page. Each page has the position to
//! continue from and a *marker*: the position up to which the reader has seen all matching events, to be used in the
//! condition of an append. Only frames with matching events are read, adjacent ones together.
//!
//! Processors read all events, as [`Block`]s, which are decoded once per node and shared.

mod blocks;

use std::{io, sync::Arc};

use bytes::Bytes;
use evener_core::{
    criteria::Criteria,
    event::Event,
    id::{ContextId, LogIndex, Position, Revision},
    time::Timestamp,
};

use self::blocks::{BlockCache, BlockEvents};
use crate::{
    codec::DecodeError,
    index::{EventLocation, Index, IndexView, PROBES_MAX, Wanted},
    journal::Journal,
    payload::Payload,
};

pub use self::blocks::{BLOCK_BYTES_MAX, BLOCK_EVENTS_MAX, BLOCKS_BYTES_MAX, Block};

/// Events in one page.
pub const PAGE_EVENTS_MAX: usize = 8_192;
/// Bytes of the events in one page: what one request may hold in memory. One event always fits.
pub const PAGE_BYTES_MAX: usize = 4 << 20;
/// Probes of postings for one page: some ten milliseconds. A page ends after this many, perhaps without an event, and
/// the next one continues from there, so that other requests can run in between.
pub const PAGE_PROBES_MAX: usize = 16 * PROBES_MAX;
/// Locations selected at a time.
const SELECT_EVENTS_MAX: usize = 512;
/// Bytes of adjacent frames fetched at a time.
const FETCH_BYTES_MAX: usize = 1 << 20;
/// Unwanted frames between two wanted ones that are fetched too, to save a second fetch.
const FETCH_GAP_MAX: u64 = 4;

/// Which events to read.
#[derive(Clone, Copy, Debug)]
pub struct Query<'q> {
    /// The context.
    pub context: ContextId,
    /// The first position (inclusive).
    pub from: Position,
    /// The end position (exclusive); `None` means the head.
    pub to: Option<Position>,
    /// The maximum number of events. A page never has more than [`PAGE_EVENTS_MAX`].
    pub limit: usize,
    /// The criteria that events must match.
    pub criteria: &'q Criteria,
    /// The stream to read, or `None` for all events.
    pub stream: Option<&'q str>,
    /// Whether the last event comes first. The range is the same.
    pub backwards: bool,
}

/// An event in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its position in its context.
    pub position: Position,
    /// Its number within its stream, if it has one.
    pub revision: Option<Revision>,
    /// When the log recorded it.
    pub recorded: Timestamp,
    /// The event.
    pub event: Event,
}

/// The result of a read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The events in the requested order.
    pub events: Vec<Stored>,
    /// Where to continue: the next `from`, or the next `to` when reading backwards.
    pub next: Position,
    /// The marker for conditions: a reader that has read the range from its start to here (backwards: from its end to
    /// here) has seen all matching events of the range before this position.
    pub marker: Position,
    /// The head of the context at the time of the read.
    pub head: Position,
    /// Whether the range continues beyond `next`.
    pub more: bool,
}

/// Why events could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The disk failed.
    #[error("failed to read the events of entry {index}")]
    Io {
        /// The index of the entry.
        index: LogIndex,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The journal has no such entry.
    #[error(
        "failed to read the event at position {position}: entry {index} should hold it and is not in the journal; \
         restart this node: it checks its log and rebuilds its index when it starts"
    )]
    Missing {
        /// The position of the event.
        position: Position,
        /// The entry that should hold it.
        index: LogIndex,
    },
    /// The entry cannot be decoded or differs from the index.
    #[error("failed to read the event at position {position} from entry {index}")]
    Decode {
        /// The position of the event.
        position: Position,
        /// The entry that should hold it.
        index: LogIndex,
        /// The cause.
        #[source]
        source: DecodeError,
    },
}

/// Reads events. Clones share the decoded blocks.
#[derive(Clone)]
pub struct EventReader {
    journal: Journal,
    index: Index,
    blocks: Arc<BlockCache>,
}

impl EventReader {
    /// Creates a reader of the events in `journal` that `index` locates.
    #[must_use]
    pub fn new(journal: Journal, index: Index) -> Self {
        Self { journal, index, blocks: Arc::default() }
    }

    /// Returns the head of a context: the position of its next event.
    #[must_use]
    pub fn head(&self, context: ContextId) -> Position {
        self.index.head(context)
    }

    /// Returns the current state of the index.
    #[must_use]
    pub fn view(&self) -> IndexView {
        self.index.view()
    }

    /// Reads one page. It may be empty although more events follow: see [`PAGE_PROBES_MAX`].
    ///
    /// # Errors
    ///
    /// The disk fails, or the entry of an event is missing or cannot be decoded.
    pub fn read(&self, query: &Query<'_>) -> Result<Page, ReadError> {
        self.read_within(query, PAGE_BYTES_MAX)
    }

    /// Reads one page as [`read`](Self::read) does, with a lower limit of bytes.
    ///
    /// # Errors
    ///
    /// The disk fails, or the entry of an event is missing or cannot be decoded.
    pub fn read_within(&self, query: &Query<'_>, bytes_max: usize) -> Result<Page, ReadError> {
        let bytes_max = bytes_max.min(PAGE_BYTES_MAX);
        let head = self.head(query.context);
        let (from, to) = (query.from, query.to.unwrap_or(head).min(head));
        let limit = query.limit.min(PAGE_EVENTS_MAX);
        let wanted = Wanted {
            context: query.context,
            criteria: query.criteria,
            stream: query.stream,
            backwards: query.backwards,
        };
        let (mut low, mut high) = (from, to);
        let mut page = PageBuilder::default();
        let mut probes = 0;
        while low < high && page.events.len() < limit && page.bytes < bytes_max && probes < PAGE_PROBES_MAX {
            let max = (limit - page.events.len()).min(SELECT_EVENTS_MAX);
            let found = self.index.select(&wanted, low, high, max);
            probes += found.probes;
            let rest = self.fetch(&found.locations, &mut page, bytes_max)?;
            let reached = match (rest, page.events.last()) {
                (0, _) | (_, None) => found.reached,
                (_, Some(last)) if query.backwards => last.position,
                (_, Some(last)) => last.position.next(),
            };
            if query.backwards {
                high = reached;
            } else {
                low = reached;
            }
        }
        self.assign_revisions(query.context, &mut page.events);
        let (next, marker) = if query.backwards { (high, to) } else { (low, low.min(head)) };
        Ok(Page { events: page.events, next, marker, head, more: low < high })
    }

    /// Returns the event at a position, or `None` at or beyond the head.
    ///
    /// # Errors
    ///
    /// The disk fails, or the entry of an event is missing or cannot be decoded.
    pub fn get(&self, context: ContextId, position: Position) -> Result<Option<Stored>, ReadError> {
        let locations = self.index.run(context, position, 1);
        let mut page = PageBuilder::default();
        self.fetch(&locations, &mut page, PAGE_BYTES_MAX)?;
        self.assign_revisions(context, &mut page.events);
        Ok(page.events.pop())
    }

    /// Returns consecutive events from position `from`: none at the head, otherwise at least one and at most
    /// `events_max` in `bytes_max`. They are decoded once for all readers.
    ///
    /// # Errors
    ///
    /// The disk fails, or the entry of an event is missing or cannot be decoded.
    pub fn block(
        &self,
        context: ContextId,
        from: Position,
        events_max: usize,
        bytes_max: usize,
    ) -> Result<Block, ReadError> {
        let shared = self.blocks.get_or_decode(context, from, |max| self.decode(context, from, max))?;
        Ok(Block::new(shared, from, events_max, bytes_max))
    }

    /// Decodes at most `max` events from `from`, at most a block.
    fn decode(&self, context: ContextId, from: Position, max: usize) -> Result<BlockEvents, ReadError> {
        let locations = self.index.run(context, from, max);
        let mut page = PageBuilder::default();
        self.fetch(&locations, &mut page, BLOCK_BYTES_MAX)?;
        self.assign_revisions(context, &mut page.events);
        Ok(BlockEvents::new(from, page.events))
    }

    /// Fetches and decodes the events at `locations` until the page has `bytes_max`; returns how many are left.
    fn fetch(&self, locations: &[EventLocation], page: &mut PageBuilder, bytes_max: usize) -> Result<usize, ReadError> {
        let mut rest = locations;
        while let Some(first) = rest.first() {
            for (index, payload) in self.read_payloads(rest)? {
                let broken = |position, source| ReadError::Decode { position, index, source };
                let here = rest.iter().take_while(|location| location.index == index).count();
                let (wanted, others) = rest.split_at(here);
                let Some(some) = wanted.first() else { continue };
                let payload = Payload::parse(&payload).map_err(|source| broken(some.position, source))?;
                for (nth, location) in wanted.iter().enumerate() {
                    let decode = || -> Result<_, DecodeError> {
                        let number = location.command as usize;
                        let events = payload.events(number)?;
                        let events = events.ok_or(DecodeError::Missing { what: "append", number, count: 0 })?;
                        let bytes = events.bytes(location.nth as usize)?;
                        Ok((events.decode(location.nth as usize)?, bytes.len()))
                    };
                    let (event, bytes) = decode().map_err(|source| broken(location.position, source))?;
                    page.bytes += bytes;
                    let (position, recorded) = (location.position, location.recorded);
                    page.events.push(Stored { position, revision: None, recorded, event });
                    if page.bytes >= bytes_max {
                        return Ok(rest.len() - nth - 1);
                    }
                }
                rest = others;
            }
            if rest.first().map(|location| location.index) == Some(first.index) {
                return Err(ReadError::Missing { position: first.position, index: first.index });
            }
        }
        Ok(0)
    }

    /// Reads the payload of the first location's entry, and those of the following locations that are close.
    fn read_payloads(&self, locations: &[EventLocation]) -> Result<Vec<(LogIndex, Bytes)>, ReadError> {
        let Some(first) = locations.first() else { return Ok(Vec::new()) };
        let mut last = first.index;
        // Backwards, each entry is read alone.
        for location in locations {
            if location.index < last || location.index.0 - last.0 > FETCH_GAP_MAX {
                break;
            }
            last = location.index;
        }
        let failed = |source| ReadError::Io { index: first.index, source };
        let frames = self.journal.read(first.index, last.next(), FETCH_BYTES_MAX).map_err(failed)?;
        Ok(frames.into_iter().map(|frame| (frame.index, frame.payload)).collect())
    }

    /// Sets the revisions of the events.
    fn assign_revisions(&self, context: ContextId, events: &mut [Stored]) {
        let named = events.iter().map(|stored| Some((stored.event.stream.as_deref()?, stored.position)));
        let revisions = self.index.revisions(context, named);
        for (stored, revision) in events.iter_mut().zip(revisions) {
            stored.revision = revision;
        }
    }
}

/// A page that is being filled.
#[derive(Debug, Default)]
struct PageBuilder {
    events: Vec<Stored>,
    bytes: usize,
}

#[cfg(test)]
mod tests;
