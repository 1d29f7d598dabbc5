//! The history as it was at one moment: what appends are checked against.

use std::collections::BTreeMap;

use evener_core::{
    criteria::Criterion,
    id::{ContextId, Position, Revision},
};
use uuid::Uuid;

use super::Index;

/// An index up to where its heads stood when the view was taken. It can be asked for as long as one likes: what
/// is added meanwhile does not show, and each question locks the index for moments only.
#[derive(Clone, Debug)]
pub struct IndexView {
    index: Index,
    heads: BTreeMap<ContextId, Position>,
}

impl IndexView {
    pub(super) const fn new(index: Index, heads: BTreeMap<ContextId, Position>) -> Self {
        Self { index, heads }
    }
}

/// What one brief look back found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackwardSearch {
    /// The last match and its type.
    pub found: Option<(Position, String)>,
    /// If there is none: nothing at or after this position matches.
    pub reached: Position,
    /// Searches in postings that it took.
    pub probes: usize,
}

impl IndexView {
    /// The next position to be given.
    #[must_use]
    pub fn head(&self, context: ContextId) -> Position {
        self.heads.get(&context).copied().unwrap_or_default()
    }

    /// Returns the revision of a stream's last event; none if it has none.
    #[must_use]
    pub fn stream_head(&self, context: ContextId, stream: &str) -> Option<Revision> {
        self.index.0.read().get(&context)?.stream_head(stream, self.head(context))
    }

    /// Searches for the last event in `[from, to)` that `item` matches, as far as one brief look goes.
    #[must_use]
    pub fn search_backward(
        &self,
        context: ContextId,
        item: &Criterion,
        from: Position,
        to: Position,
    ) -> BackwardSearch {
        let contexts = self.index.0.read();
        let to = to.min(self.head(context));
        match contexts.get(&context) {
            Some(known) if from < to => known.search_backward(item, from, to),
            _ => BackwardSearch { found: None, reached: from, probes: 0 },
        }
    }

    /// Returns where an id stands, and the digest of the event that bears it.
    #[must_use]
    pub fn event_id(&self, context: ContextId, id: Uuid) -> Option<(Position, u64)> {
        let found = self.index.0.read().get(&context)?.event_id(id)?;
        (found.0 < self.head(context)).then_some(found)
    }
}
