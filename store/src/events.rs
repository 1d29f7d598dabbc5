//! Reading events: the index says where they are, the journal has them, and here they are decoded.
//!
//! A read asks for the events of a range that match, from either end on, and is answered page by page. Whatever
//! it finds, its page ends with the place to go on from and a *marker*: the position up to which the reader has
//! now seen all there is, to be put into the condition of an append. Frames are fetched only where the index
//! says so, next to each other in one go.
//!
//! Processors read everything: they take [`Block`]s, which are decoded once per node and shared.

use std::{io, sync::Arc};

use bytes::Bytes;
use evener_core::{
    criteria::Criteria,
    event::Event,
    id::{ContextId, LogIndex, Position, Revision},
    time::Timestamp,
};

use crate::{
    blocks::{BlockCache, BlockEvents},
    codec::{DecodeError, Payload},
    index::{EventLocation, Index, IndexView, PROBES_MAX, Wanted},
    journal::Journal,
};

pub use crate::blocks::{BLOCK_BYTES_MAX, BLOCK_EVENTS_MAX, BLOCKS_BYTES_MAX, Block};

/// Events of one page: what a client handles in one go.
pub const PAGE_EVENTS_MAX: usize = 8_192;
/// Bytes of the events of one page: what one request may hold in memory. One event always fits.
pub const PAGE_BYTES_MAX: usize = 4 << 20;
/// Searches in postings for one page: some ten milliseconds. A page that has taken so many ends where it is, perhaps
/// without an event, and the next one goes on from there, so that others have their turn in between.
pub const PAGE_PROBES_MAX: usize = 16 * PROBES_MAX;
/// Places looked up at a time.
const SELECT_EVENTS_MAX: usize = 512;
/// Bytes of frames fetched at a time, where many lie next to each other.
const FETCH_BYTES_MAX: usize = 1 << 20;
/// Frames between two wanted ones that are fetched along rather than fetching twice.
const FETCH_GAP_MAX: u64 = 4;

/// Which events to read.
#[derive(Clone, Copy, Debug)]
pub struct Query<'q> {
    /// Of which context.
    pub context: ContextId,
    /// The first position that is meant.
    pub from: Position,
    /// The position after the last one that is meant; none means the head.
    pub to: Option<Position>,
    /// How many events at most. A page has never more than [`PAGE_EVENTS_MAX`].
    pub limit: usize,
    /// Which ones.
    pub criteria: &'q Criteria,
    /// Of this stream only.
    pub stream: Option<&'q str>,
    /// The last first. The range is the same.
    pub backwards: bool,
}

/// An event as it stands in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its place in its context.
    pub position: Position,
    /// Its number within its stream, if it has one.
    pub revision: Option<Revision>,
    /// When the log recorded it.
    pub recorded: Timestamp,
    /// What was told.
    pub event: Event,
}

/// What a read answers with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// In the order asked for.
    pub events: Vec<Stored>,
    /// Where to go on: the next `from`, or the next `to` when reading backwards.
    pub next: Position,
    /// For conditions: no matching event of the range that stands before it is unknown to whoever has read from
    /// the range's beginning to here (backwards: from its end to here).
    pub marker: Position,
    /// Where the context's head stood.
    pub head: Position,
    /// Whether the range goes on beyond `next`.
    pub more: bool,
}

/// Why events could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The disk.
    #[error("failed to read the events of entry {index}")]
    Io {
        /// Which entry.
        index: LogIndex,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The journal has no such entry.
    #[error(
        "failed to read the event at position {position}: entry {index} should hold it and is not in the journal; \
         restart this node: it checks its log and rebuilds its index when it starts"
    )]
    Missing {
        /// Which event.
        position: Position,
        /// Where the index says it is.
        index: LogIndex,
    },
    /// The entry is not what the index says.
    #[error("failed to read the event at position {position} from entry {index}")]
    Decode {
        /// Which event.
        position: Position,
        /// Where the index says it is.
        index: LogIndex,
        /// Why.
        #[source]
        source: DecodeError,
    },
}

/// Reads events. Clones share what was decoded.
#[derive(Clone)]
pub struct EventReader {
    journal: Journal,
    index: Index,
    blocks: Arc<BlockCache>,
}

impl EventReader {
    /// Reads what `index` knows and `journal` holds.
    #[must_use]
    pub fn new(journal: Journal, index: Index) -> Self {
        Self { journal, index, blocks: Arc::default() }
    }

    /// Where the next event of a context will stand.
    #[must_use]
    pub fn head(&self, context: ContextId) -> Position {
        self.index.head(context)
    }

    /// The index as it is now.
    #[must_use]
    pub fn view(&self) -> IndexView {
        self.index.view()
    }

    /// One page of what is asked for. It may be empty although more is to come: see [`PAGE_PROBES_MAX`].
    ///
    /// # Errors
    ///
    /// The disk fails, or does not hold what it should.
    pub fn read(&self, query: &Query<'_>) -> Result<Page, ReadError> {
        self.read_within(query, PAGE_BYTES_MAX)
    }

    /// As [`read`](Self::read), with a page that ends once its events have so many bytes, if that is less.
    ///
    /// # Errors
    ///
    /// The disk fails, or does not hold what it should.
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

    /// The event at a position; none at or beyond the head.
    ///
    /// # Errors
    ///
    /// The disk fails, or does not hold what it should.
    pub fn get(&self, context: ContextId, position: Position) -> Result<Option<Stored>, ReadError> {
        let locations = self.index.run(context, position, 1);
        let mut page = PageBuilder::default();
        self.fetch(&locations, &mut page, PAGE_BYTES_MAX)?;
        self.assign_revisions(context, &mut page.events);
        Ok(page.events.pop())
    }

    /// Consecutive events from `from` on, whatever they are: none at the head, else at least one, and no more
    /// than `events_max` in `bytes_max`. They are decoded once, however many ask for them.
    ///
    /// # Errors
    ///
    /// The disk fails, or does not hold what it should.
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

    /// Bytes of the blocks that are kept: never more than [`BLOCKS_BYTES_MAX`].
    #[must_use]
    pub fn cached_bytes(&self) -> usize {
        self.blocks.bytes()
    }

    /// Decodes at most `max` events from `from` on, as many as make a block.
    fn decode(&self, context: ContextId, from: Position, max: usize) -> Result<BlockEvents, ReadError> {
        let locations = self.index.run(context, from, max);
        let mut page = PageBuilder::default();
        self.fetch(&locations, &mut page, BLOCK_BYTES_MAX)?;
        self.assign_revisions(context, &mut page.events);
        Ok(BlockEvents::new(from, page.events))
    }

    /// Fetches and decodes the events at `places` until the page has `bytes_max`; says how many are left.
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

    /// The payload of the first place's entry, and those of the entries after it where they lie close.
    fn read_payloads(&self, locations: &[EventLocation]) -> Result<Vec<(LogIndex, Bytes)>, ReadError> {
        let Some(first) = locations.first() else { return Ok(Vec::new()) };
        let mut last = first.index;
        // Downwards nothing is fetched ahead: each entry comes alone.
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

    /// Gives the events their revisions.
    fn assign_revisions(&self, context: ContextId, events: &mut [Stored]) {
        let named = events.iter().map(|stored| Some((stored.event.stream.as_deref()?, stored.position)));
        let revisions = self.index.revisions(context, named);
        for (stored, revision) in events.iter_mut().zip(revisions) {
            stored.revision = revision;
        }
    }
}

/// A page as it fills.
#[derive(Debug, Default)]
struct PageBuilder {
    events: Vec<Stored>,
    bytes: usize,
}

#[cfg(test)]
mod tests;
