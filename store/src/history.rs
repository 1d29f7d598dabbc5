//! The history as it was at one moment: what the check of an append asks.
//!
//! A condition may look back over the whole history. The search goes in brief looks, and counts them: a search that has
//! used up its allowance answers nothing any more and says so, so that the caller can run it again where it may take
//! longer, or drop it.

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use evener_core::{
    append::History,
    criteria::Criterion,
    event::Event,
    id::{ContextId, Position, Revision},
};
use uuid::Uuid;

use crate::{events::EventReader, index::IndexView};

/// Probes of a check that runs where other requests wait for it: about a millisecond.
pub const SHORT_CHECK_PROBES_MAX: usize = 8_192;

/// The history of an index up to where its heads stood when this was made. What is added meanwhile does not show.
pub struct HistorySearch {
    view: IndexView,
    reader: EventReader,
    probes_left: Cell<usize>,
    cancelled: Option<Arc<AtomicBool>>,
}

impl HistorySearch {
    /// The history as it is now, for a search of at most so many probes.
    #[must_use]
    pub fn new(reader: EventReader, probes_max: usize) -> Self {
        Self { view: reader.view(), reader, probes_left: Cell::new(probes_max), cancelled: None }
    }

    /// The history as it is now, for a search that takes as long as it takes, unless it is cancelled.
    #[must_use]
    pub fn unlimited(reader: EventReader, cancelled: Arc<AtomicBool>) -> Self {
        Self { cancelled: Some(cancelled), ..Self::new(reader, usize::MAX) }
    }

    /// Whether the search ended early: that nothing was found means nothing then.
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        self.probes_left.get() == 0 || self.cancelled.as_ref().is_some_and(|cancelled| cancelled.load(Relaxed))
    }
}

impl History for HistorySearch {
    fn head(&self, context: ContextId) -> Position {
        self.view.head(context)
    }

    fn stream_head(&self, context: ContextId, stream: &str) -> Option<Revision> {
        self.view.stream_head(context, stream)
    }

    fn last_match(&self, context: ContextId, item: &Criterion, from: Position) -> Option<(Position, String)> {
        let mut to = self.head(context);
        while from < to && !self.is_exhausted() {
            let step = self.view.search_backward(context, item, from, to);
            self.probes_left.set(self.probes_left.get().saturating_sub(step.probes));
            if step.found.is_some() {
                return step.found;
            }
            debug_assert!(step.reached < to, "every look moves on");
            to = step.reached;
        }
        None
    }

    fn event_id(&self, context: ContextId, id: Uuid) -> Option<(Position, u64)> {
        self.view.event_id(context, id)
    }

    fn event_at(&self, context: ContextId, position: Position) -> Option<Event> {
        self.reader.get(context, position).ok().flatten().map(|stored| stored.event)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use evener_core::event::Event;

    use super::*;
    use crate::{
        disk::MemoryDisk,
        index::PROBES_MAX,
        journal::{Journal, JournalSettings},
        samples::{Log, SampleCommand},
    };

    /// So many events, of which every other one has the tag `even` and the others `odd`.
    fn reader(count: usize) -> EventReader {
        let tags = |nth: usize| vec![if nth.is_multiple_of(2) { "even" } else { "odd" }.to_owned()];
        let event = |nth| Event { kind: "k".into(), tags: tags(nth), ..Event::default() };
        let events: Vec<Event> = (0..count).map(event).collect();
        let log = Log::new(vec![(0, vec![SampleCommand::Stored(events)])]);
        let (journal, _) = Journal::open(Arc::new(MemoryDisk::new()), JournalSettings::default()).unwrap();
        EventReader::new(journal, log.index())
    }

    fn item(tags: &[&str]) -> Criterion {
        Criterion { types: vec![], tags: tags.iter().map(|tag| (*tag).to_owned()).collect() }
    }

    #[test]
    fn p10_a_short_check_ends_early_and_reports_it() {
        let reader = reader(8 * PROBES_MAX);
        let search =
            |past: &HistorySearch, tags: &[&str]| past.last_match(ContextId::DEFAULT, &item(tags), Position(0));
        let last = Position(8 * PROBES_MAX as u64 - 1);

        let short = HistorySearch::new(reader.clone(), PROBES_MAX);
        assert_eq!((search(&short, &["odd"]), short.is_exhausted()), (Some((last, "k".into())), false));
        assert_eq!((search(&short, &["odd", "even"]), short.is_exhausted()), (None, true));
        assert_eq!(search(&short, &["odd"]), None, "it searches no more");

        let cancelled = Arc::new(AtomicBool::new(false));
        let long = HistorySearch::unlimited(reader, cancelled.clone());
        assert_eq!((search(&long, &["odd", "even"]), long.is_exhausted()), (None, false));
        cancelled.store(true, Relaxed);
        assert_eq!((search(&long, &["odd"]), long.is_exhausted()), (None, true));
    }
}
