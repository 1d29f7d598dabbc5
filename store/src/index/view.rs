//! The history at one moment, which conditions of appends are checked against.

use std::collections::BTreeMap;

use evener_core::{
    criteria::Criterion,
    id::{ContextId, Position, Revision},
};
use uuid::Uuid;

use super::Index;

/// A view of the index up to the heads at its creation. Later additions are not visible, and each query locks the index
/// only briefly, so a view can be kept for any time.
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

/// The result of one step of a backward search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackwardSearch {
    /// The last match and its type.
    pub found: Option<(Position, String)>,
    /// If there is no match: no event at or after this position matches.
    pub reached: Position,
    /// The probes of postings in this step.
    pub probes: usize,
}

impl IndexView {
    /// Returns the head of a context: the position of its next event.
    #[must_use]
    pub fn head(&self, context: ContextId) -> Position {
        self.heads.get(&context).copied().unwrap_or_default()
    }

    /// Returns the revision of a stream's last event, if any.
    #[must_use]
    pub fn stream_head(&self, context: ContextId, stream: &str) -> Option<Revision> {
        self.index.0.read().get(&context)?.stream_head(stream, self.head(context))
    }

    /// Searches for the last event in `[from, to)` that `item` matches, in one search step.
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

    /// Returns the position and the digest of the event with an id.
    #[must_use]
    pub fn event_id(&self, context: ContextId, id: Uuid) -> Option<(Position, u64)> {
        let found = self.index.0.read().get(&context)?.event_id(id)?;
        (found.0 < self.head(context)).then_some(found)
    }
}
