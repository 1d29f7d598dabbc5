//! Where every event is: by stream, tag, type, id and position, for all chunks, in memory.
//!
//! The index is what [`History`](crate::history::Past) and every read stand on. It holds nothing that
//! the log does not tell: it is built anew from verdicts and payloads when a node starts, and grows by what
//! `apply` decided. It is shared; whoever reads it looks at it for a moment at a time, so that no long look back
//! keeps the log waiting. What stands in it never changes, therefore a [`IndexView`] that remembers where the heads
//! stood sees one and the same history for as long as it likes.

use std::{collections::BTreeMap, sync::Arc};

use evener_core::{
    append::Appended,
    command::{Command, Entry, Outcome},
    id::{ContextId, LogIndex, Position, Revision},
    time::Timestamp,
};
use parking_lot::RwLock;

use crate::{
    codec::{DecodeError, Payload},
    index::context::{ContextIndex, IndexedAppend, IndexedEvent},
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

/// The index of all contexts. Clones are the same index.
#[derive(Clone, Debug, Default)]
pub struct Index(Arc<RwLock<BTreeMap<ContextId, ContextIndex>>>);

/// Why a verdict cannot be indexed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// Events are missing before it.
    #[error(
        "failed to index entry {index}: its events begin at position {first} of context {context}, \
         and the index stands at {head}: what lies between is missing"
    )]
    Gap {
        /// Which entry.
        index: LogIndex,
        /// Of which context.
        context: ContextId,
        /// Where its events begin.
        first: Position,
        /// Where the index stands.
        head: Position,
    },
    /// The verdict speaks of a command that is no append.
    #[error("failed to index entry {index}: its verdict accepts command {command}, which is no append")]
    NotAnAppend {
        /// Which entry.
        index: LogIndex,
        /// Which command.
        command: u32,
    },
    /// The payload cannot be read.
    #[error("failed to index entry {index}")]
    Payload {
        /// Which entry.
        index: LogIndex,
        /// Why.
        #[source]
        source: DecodeError,
    },
}

impl Index {
    /// Adds what `apply` stored of the entry. `recorded` is the state's time after it; `digest` returns the digest of
    /// an event at its position where the state still knows it. An entry that is indexed already changes nothing, so
    /// that a log may be applied again from an older checkpoint.
    ///
    /// # Panics
    ///
    /// If events are missing before it: then the caller applied entries out of order.
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

    /// Adds what a verdict says was stored of a payload, without judging it again.
    ///
    /// # Errors
    ///
    /// The payload cannot be read or is not what the verdict speaks of, or events are missing before it.
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

    /// Where the next event of a context will stand.
    #[must_use]
    pub fn head(&self, context: ContextId) -> Position {
        self.0.read().get(&context).map_or(Position(0), ContextIndex::head)
    }

    /// The history as it is now. It stays as it is, whatever is added.
    #[must_use]
    pub fn view(&self) -> IndexView {
        let heads = self.0.read().iter().map(|(id, context)| (*id, context.head())).collect();
        IndexView::new(self.clone(), heads)
    }

    /// Which events are meant, from one end of the range on, as far as one brief look goes.
    #[must_use]
    pub fn select(&self, wanted: &Wanted<'_>, from: Position, to: Position, max: usize) -> Selected {
        match self.0.read().get(&wanted.context) {
            Some(context) => context.select(wanted, from, to, max),
            None => Selected::nothing(if wanted.backwards { Position(0) } else { from }),
        }
    }

    /// Where consecutive events are, beginning with `from`; at most `max` of them.
    #[must_use]
    pub fn run(&self, context: ContextId, from: Position, max: usize) -> Vec<EventLocation> {
        self.0.read().get(&context).map_or_else(Vec::new, |context| context.run(from, max))
    }

    /// The revisions of events: of each `(stream, position)`, how many events of the stream stand before it.
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
                "the same entry as before"
            );
        }
        Ok(())
    }
}
