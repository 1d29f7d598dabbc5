//! The index of all events in memory: by stream, tag, type, id and position, over all chunks.
//!
//! Reads and [`HistorySearch`](crate::history::HistorySearch) use it. It is derived from the log alone: it is rebuilt
//! from verdicts and payloads when a node starts, and extended by what `apply` decides. Readers lock it for short steps
//! only, so that no long search delays the log. Entries in it never change, so an [`IndexView`], which stores the heads
//! at one moment, always sees the same history.

use std::{collections::BTreeMap, sync::Arc};

use evener_core::{
    append::Appended,
    command::{Command, Entry, Outcome},
    id::{ContextId, LogIndex, Position, Revision},
    time::Timestamp,
};
use parking_lot::RwLock;

use crate::{
    codec::DecodeError,
    index::context::{ContextIndex, IndexedAppend, IndexedEvent},
    payload::Payload,
};

pub use self::{
    locations::EventLocation,
    select::{PROBES_MAX, Selected, Wanted},
    view::{BackwardSearch, IndexView},
};

mod context;
mod locations;
mod postings;
mod select;
mod sharded_map;
mod view;

#[cfg(test)]
mod tests;

/// The index of all contexts. Clones refer to the same index.
#[derive(Clone, Debug, Default)]
pub struct Index(Arc<RwLock<BTreeMap<ContextId, ContextIndex>>>);

/// Why a verdict cannot be indexed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// Events before it are missing.
    #[error(
        "failed to index entry {index}: its events begin at position {first} of context {context}, \
         but the index ends at {head}: the events between are missing"
    )]
    Gap {
        /// The index of the entry.
        index: LogIndex,
        /// The context.
        context: ContextId,
        /// The position of its first event.
        first: Position,
        /// The head of the index.
        head: Position,
    },
    /// The verdict accepts a command that is not an append.
    #[error("failed to index entry {index}: its verdict accepts command {command}, which is not an append")]
    NotAnAppend {
        /// The index of the entry.
        index: LogIndex,
        /// The number of the command.
        command: u32,
    },
    /// The payload cannot be read.
    #[error("failed to index entry {index}")]
    Payload {
        /// The index of the entry.
        index: LogIndex,
        /// The cause.
        #[source]
        source: DecodeError,
    },
}

impl Index {
    /// Adds the events of the entry that `apply` stored. `recorded` is the state's time after it; `digest` returns the
    /// digest of the event at a position if the state still knows it. An entry that is already indexed changes nothing,
    /// so that a log can be replayed from an older checkpoint.
    ///
    /// # Panics
    ///
    /// If events before it are missing, because the caller applied entries out of order.
    pub fn apply(
        &self,
        index: LogIndex,
        recorded: Timestamp,
        entry: &Entry,
        outcomes: &[Outcome],
        digest: impl Fn(Position) -> Option<u64>,
    ) {
        debug_assert_eq!(entry.commands.len(), outcomes.len(), "every command has its outcome");
        let mut stored = Vec::new();
        for (number, (command, outcome)) in (0..).zip(entry.commands.iter().zip(outcomes)) {
            let (Command::Append(append), Outcome::Appended(at)) = (command, outcome) else { continue };
            if let Appended { first, repeated: false, .. } = at
                && !append.events.is_empty()
            {
                debug_assert_eq!(at.next.0 - first.0, append.events.len() as u64, "an append is all or nothing");
                let events = (first.0..).zip(&append.events);
                let events = events.map(|(at, event)| IndexedEvent::new(event, digest(Position(at)))).collect();
                stored.push(IndexedAppend { first: *first, command: number, events });
            }
        }
        self.add(index, recorded, entry.context, stored).expect("entries are applied in the order of the log");
    }

    /// Adds the events of a payload that a verdict accepts, without evaluating the conditions again.
    ///
    /// # Errors
    ///
    /// The payload cannot be decoded or does not match the verdict, or events before it are missing.
    pub fn apply_accepted(
        &self,
        index: LogIndex,
        recorded: Timestamp,
        first: Position,
        accepted: &[u32],
        payload: &[u8],
    ) -> Result<(), ApplyError> {
        let broken = |source| ApplyError::Payload { index, source };
        let payload = Payload::parse(payload).map_err(broken)?;
        let mut next = first;
        let mut events = Vec::with_capacity(accepted.len());
        for &command in accepted {
            let found = payload.events(command as usize).map_err(broken)?;
            let found = found.ok_or(ApplyError::NotAnAppend { index, command })?;
            if found.is_empty() {
                continue;
            }
            events.push((command, found.iter().collect::<Result<Vec<_>, _>>().map_err(broken)?));
        }
        let stored = events.iter().map(|(command, events)| {
            let first = next;
            next = Position(first.0 + events.len() as u64);
            IndexedAppend {
                first,
                command: *command,
                events: events.iter().map(|event| IndexedEvent::new(event, None)).collect(),
            }
        });
        let stored = stored.collect();
        self.add(index, recorded, payload.context, stored)
    }

    /// Returns the head of a context: the position of its next event.
    #[must_use]
    pub fn head(&self, context: ContextId) -> Position {
        self.0.read().get(&context).map_or(Position(0), ContextIndex::head)
    }

    /// Returns a view of the current history. Later additions are not visible in it.
    #[must_use]
    pub fn view(&self) -> IndexView {
        let heads = self.0.read().iter().map(|(id, context)| (*id, context.head())).collect();
        IndexView::new(self.clone(), heads)
    }

    /// Selects matching events from one end of the range, as far as one search step goes.
    #[must_use]
    pub fn select(&self, wanted: &Wanted<'_>, from: Position, to: Position, max: usize) -> Selected {
        match self.0.read().get(&wanted.context) {
            Some(context) => context.select(wanted, from, to, max),
            None => Selected::nothing(if wanted.backwards { Position(0) } else { from }),
        }
    }

    /// Returns the locations of at most `max` consecutive events from `from`.
    #[must_use]
    pub fn run(&self, context: ContextId, from: Position, max: usize) -> Vec<EventLocation> {
        self.0.read().get(&context).map_or_else(Vec::new, |context| context.run(from, max))
    }

    /// Returns the revision of each `(stream, position)`: the number of earlier events of the stream.
    #[must_use]
    pub fn revisions<'s>(
        &self,
        context: ContextId,
        events: impl IntoIterator<Item = Option<(&'s str, Position)>>,
    ) -> Vec<Option<Revision>> {
        let contexts = self.0.read();
        let context = contexts.get(&context);
        events.into_iter().map(|event| event.and_then(|(stream, at)| context?.revision(stream, at))).collect()
    }

    fn add(
        &self,
        index: LogIndex,
        recorded: Timestamp,
        context: ContextId,
        stored: Vec<IndexedAppend<'_>>,
    ) -> Result<(), ApplyError> {
        let Some(first) = stored.first().map(|added| added.first) else { return Ok(()) };
        let mut contexts = self.0.write();
        let known = contexts.entry(context).or_default();
        let head = known.head();
        if first > head {
            return Err(ApplyError::Gap { index, context, first, head });
        }
        if first == head {
            known.add(index, recorded, &stored);
        } else {
            debug_assert_eq!(
                known.location(first).map(|location| location.index),
                Some(index),
                "the entry was indexed before"
            );
        }
        Ok(())
    }
}
