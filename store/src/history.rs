//! The history at one moment, which conditions of appends are checked against.
//!
//! A condition may refer to the whole history. The search runs in short steps and counts their probes. A search that
//! has exhausted its probes finds nothing more and reports this, so that the caller can repeat it without a limit off
//! the append path, or drop it.

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

/// Probes of a check that other requests wait for: about a millisecond.
pub const SHORT_CHECK_PROBES_MAX: usize = 8_192;

/// A bounded search in the history up to the heads at its creation. Events added later are not visible.
pub struct HistorySearch {
    view: IndexView,
    reader: EventReader,
    probes_left: Cell<usize>,
    cancelled: Option<Arc<AtomicBool>>,
}

impl HistorySearch {
    /// Creates a search of the current history with at most `probes_max` probes.
    #[must_use]
    pub fn new(reader: EventReader, probes_max: usize) -> Self {
        Self { view: reader.view(), reader, probes_left: Cell::new(probes_max), cancelled: None }
    }

    /// Creates a search of the current history without a limit, until it is cancelled.
    #[must_use]
    pub fn unlimited(reader: EventReader, cancelled: Arc<AtomicBool>) -> Self {
        Self { cancelled: Some(cancelled), ..Self::new(reader, usize::MAX) }
    }

    /// Returns whether the search ended early, so that it may have missed matches.
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
            debug_assert!(step.reached < to, "every step makes progress");
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
        journal::Journal,
        samples::{Log, SampleCommand},
        settings::JournalSettings,
    };

    /// Returns a reader of `count` events, alternately with the tags `even` and `odd`.
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
        assert_eq!(search(&short, &["odd"]), None, "an exhausted search finds nothing more");

        let cancelled = Arc::new(AtomicBool::new(false));
        let long = HistorySearch::unlimited(reader, cancelled.clone());
        assert_eq!((search(&long, &["odd", "even"]), long.is_exhausted()), (None, false));
        cancelled.store(true, Relaxed);
        assert_eq!((search(&long, &["odd"]), long.is_exhausted()), (None, true));
    }
}
