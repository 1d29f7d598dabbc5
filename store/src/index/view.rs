//! The history as it was at one moment: what appends are checked against.

use std::collections::BTreeMap;

use evener_core::{
    append::History,
    criteria::Criterion,
    id::{ContextId, Position, Revision},
};
use uuid::Uuid;

use super::Index;

/// An index up to where its heads stood when the view was taken. It can be asked for as long as one likes: what
/// is added meanwhile does not show, and each question locks the index for moments only.
#[derive(Clone, Debug)]
pub struct View {
    index: Index,
    heads: BTreeMap<ContextId, Position>,
}

impl View {
    pub(super) const fn new(index: Index, heads: BTreeMap<ContextId, Position>) -> Self {
        Self { index, heads }
    }
}

impl History for View {
    fn head(&self, context: ContextId) -> Position {
        self.heads.get(&context).copied().unwrap_or_default()
    }

    fn stream_head(&self, context: ContextId, stream: &str) -> Option<Revision> {
        self.index.0.read().get(&context)?.stream_head(stream, self.head(context))
    }

    fn last_match(&self, context: ContextId, item: &Criterion, from: Position) -> Option<(Position, String)> {
        let mut to = self.head(context);
        while from < to {
            let contexts = self.index.0.read();
            let known = contexts.get(&context)?;
            let (found, reached) = known.last_match(item, from, to);
            if let Some(at) = found {
                return Some((Position(u64::from(at)), known.kind_at(at).to_string()));
            }
            debug_assert!(reached < to, "every look moves on");
            to = reached;
        }
        None
    }

    fn event_id(&self, context: ContextId, id: Uuid) -> Option<(Position, u64)> {
        let found = self.index.0.read().get(&context)?.event_id(id)?;
        (found.0 < self.head(context)).then_some(found)
    }
}
