use evener_core::{event::DataKind, id::Term};
use proptest::prelude::*;

use super::*;
use crate::{
    chunk::CHUNK_BYTES_MIN,
    disk::MemoryDisk,
    frame::{Frame, FrameKind},
    samples::{self, Log, SampleCommand},
    settings::JournalSettings,
    verdict::Verdict,
};

/// Returns a reader of the log.
fn reader(log: &Log) -> EventReader {
    EventReader::new(journal(log), log.index())
}

/// Returns a journal of the log: partly sealed, partly in memory, with blank frames between the entries.
fn journal(log: &Log) -> Journal {
    let settings = JournalSettings { chunk_bytes: CHUNK_BYTES_MIN, recent_bytes_max: 4_096 };
    let (journal, _) = Journal::open(Arc::new(MemoryDisk::new()), settings).unwrap();
    let mut next = LogIndex(1);
    for (index, recorded, entry, outcomes) in &log.entries {
        let (mut frames, mut verdicts) = (Vec::new(), Vec::new());
        while next <= *index {
            let blank = Frame {
                index: next,
                term: Term(1),
                kind: FrameKind::Blank,
                context: ContextId(0),
                count: 0,
                payload: Bytes::new(),
            };
            verdicts.push(Verdict { index: next, recorded: *recorded, ..Verdict::default() });
            frames.push(if next == *index {
                Frame { kind: FrameKind::Commands, context: entry.context, payload: log.payload(next), ..blank }
            } else {
                blank
            });
            next = next.next();
        }
        let (first, accepted, events) = samples::accepted(outcomes);
        let last = verdicts.last_mut().unwrap();
        *last = Verdict { context: entry.context, first, accepted, events, ..last.clone() };
        let (done, synced) = std::sync::mpsc::channel();
        journal.append(frames, Box::new(move |result| done.send(result).unwrap())).unwrap();
        synced.recv().unwrap().unwrap();
        journal.applied(verdicts);
    }
    journal
}

/// Returns the expected event at a position of the log.
fn expected_event(log: &Log, context: u32, position: u64) -> Stored {
    let nth = usize::try_from(position).unwrap();
    let logged = &log.history[context as usize][nth];
    Stored {
        position: Position(position),
        revision: log.revision(context, nth).map(Revision),
        recorded: logged.recorded,
        event: logged.event.clone(),
    }
}

fn all(context: u32) -> Query<'static> {
    const ANY: &Criteria = &Criteria::ANY;
    Query {
        context: ContextId(context),
        from: Position(0),
        to: None,
        limit: usize::MAX,
        criteria: ANY,
        stream: None,
        backwards: false,
    }
}

/// Returns a log of events of `bytes` bytes each, `each` of them in an entry.
fn large(count: usize, each: usize, bytes: usize) -> Log {
    let data = vec![7; bytes];
    let event = Event { kind: "it".into(), data_kind: DataKind::Binary, data, ..Event::default() };
    Log::new((0..count / each).map(|_| (0, vec![SampleCommand::Stored(vec![event.clone(); each])])).collect())
}

/// Returns a log of `count` events with one of two tags alternately.
fn in_turn(count: usize) -> Log {
    let tags = |nth: usize| vec![if nth.is_multiple_of(2) { "even" } else { "odd" }.to_owned()];
    let event = |nth| Event { kind: "it".into(), tags: tags(nth), ..Event::default() };
    Log::new(vec![(0, vec![SampleCommand::Stored((0..count).map(event).collect())])])
}

#[test]
fn p10_a_page_without_matches_ends_after_a_bounded_search_and_can_be_continued() {
    // No event matches, so the journal is not read.
    let reader = EventReader::new(journal(&in_turn(2)), in_turn(2 * PAGE_PROBES_MAX).index());
    let item = evener_core::criteria::Criterion { types: vec![], tags: vec!["even".into(), "odd".into()] };
    let criteria = Criteria(vec![item; 3]);
    for backwards in [false, true] {
        let mut query = Query { criteria: &criteria, backwards, ..all(0) };
        let mut pages = 0;
        loop {
            let page = reader.read(&query).unwrap();
            assert_eq!(page.events, []);
            pages += 1;
            if !page.more {
                break;
            }
            if backwards {
                assert!(query.to.is_none_or(|to| page.next < to), "every page makes progress");
                query.to = Some(page.next);
            } else {
                assert!(page.next > query.from, "every page makes progress");
                query.from = page.next;
            }
        }
        assert!(pages > 1, "the search took one long page");
    }
}

proptest! {
    #[test]
    fn pages_equal_a_naive_filter(
        entries in samples::entries(),
        criteria in samples::criteria(),
        stream in samples::stream(),
        backwards: bool,
        (context, from, to, limit) in (0..2_u32, 0..60_u64, proptest::option::of(0..120_u64), 1..20_usize),
    ) {
        let log = Log::new(entries);
        let reader = reader(&log);
        let known = log.history[context as usize].len() as u64;
        let end = to.unwrap_or(known).min(known);
        let mut expected: Vec<Stored> = (from..end)
            .map(|position| expected_event(&log, context, position))
            .filter(|stored| criteria.matches_event(&stored.event))
            .filter(|stored| stream.is_none() || stored.event.stream.as_deref() == stream)
            .collect();
        if backwards {
            expected.reverse();
        }
        let (context, to) = (ContextId(context), to.map(Position));
        let mut query = Query { context, from: Position(from), to, limit, criteria: &criteria, stream, backwards };
        let mut found = Vec::new();
        loop {
            let page = reader.read(&query).unwrap();
            prop_assert!(page.events.len() <= limit);
            prop_assert_eq!(page.head, Position(known));
            prop_assert!(page.events.len() == limit || !page.more, "a short page is the last one");
            found.extend(page.events);
            // All matching events before the marker were read.
            let unread = expected.get(found.len());
            if backwards {
                prop_assert!(unread.is_none_or(|event| event.position < page.next));
                prop_assert_eq!(page.marker, query.to.unwrap_or(page.head).min(page.head));
                query.to = Some(page.next);
            } else {
                prop_assert!(unread.is_none_or(|event| event.position >= page.marker));
                prop_assert!(page.marker <= page.head && page.marker <= page.next);
                query.from = page.next;
            }
            if !page.more {
                break;
            }
        }
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn blocks_equal_the_log_from_any_start(
        entries in samples::entries(),
        reads in proptest::collection::vec((0..2_u32, 0..60_u64, 1..9_usize, 1..300_usize), 1..20),
    ) {
        let log = Log::new(entries);
        let reader = reader(&log);
        for (context, from, events_max, bytes_max) in reads {
            let block = reader.block(ContextId(context), Position(from), events_max, bytes_max).unwrap();
            let known = log.history[context as usize].len() as u64;
            prop_assert_eq!(block.is_empty(), from >= known);
            prop_assert!(block.len() <= events_max);
            let bytes: usize = block.iter().map(|stored| stored.event.size()).sum();
            prop_assert!(block.len() <= 1 || bytes <= bytes_max);
            let positions = from..from + block.len() as u64;
            let expected: Vec<_> = positions.map(|at| expected_event(&log, context, at)).collect();
            let found: Vec<_> = block.iter().map(|stored| Stored::clone(stored)).collect();
            prop_assert_eq!(found, expected);
            prop_assert_eq!(block.next(), Position(from + block.len() as u64));
        }
    }

    #[test]
    fn one_event_is_found_by_its_position(entries in samples::entries(), position in 0..60_u64) {
        let log = Log::new(entries);
        let expected = (position < log.history[0].len() as u64).then(|| expected_event(&log, 0, position));
        prop_assert_eq!(reader(&log).get(ContextId(0), Position(position)).unwrap(), expected);
    }
}

#[test]
fn a_read_without_matches_returns_a_marker() {
    let reader = reader(&large(6, 2, 1));
    let page = |query: Query<'_>| reader.read(&query).unwrap();
    let nothing = Criteria(vec![evener_core::criteria::Criterion { types: vec!["never".into()], tags: vec![] }]);
    let found = page(Query { criteria: &nothing, ..all(0) });
    assert_eq!((found.events.len(), found.next, found.marker, found.more), (0, Position(6), Position(6), false));
    let found = page(Query { criteria: &nothing, backwards: true, ..all(0) });
    assert_eq!((found.events.len(), found.next, found.marker, found.more), (0, Position(0), Position(6), false));
    let found = page(all(7));
    assert_eq!((found.events.len(), found.next, found.marker, found.more), (0, Position(0), Position(0), false));
    // A marker beyond the head would hide future events from a condition.
    let found = page(Query { from: Position(9), ..all(0) });
    assert_eq!((found.events.len(), found.next, found.marker, found.more), (0, Position(9), Position(6), false));
    let found = page(Query { limit: 0, ..all(0) });
    assert_eq!((found.events.len(), found.next, found.marker, found.more), (0, Position(0), Position(0), true));
}

#[test]
fn a_page_has_bounded_bytes_and_events() {
    let log = large(30, 3, 300_000);
    let reader = super::tests::reader(&log);
    for backwards in [false, true] {
        let page = reader.read(&Query { backwards, ..all(0) }).unwrap();
        let bytes: usize = page.events.iter().map(|stored| stored.event.data.len()).sum();
        assert!((PAGE_BYTES_MAX..PAGE_BYTES_MAX + 300_000).contains(&(bytes + 100 * page.events.len())), "{bytes}");
        assert!(page.more);
        let next = if backwards { 30 - page.events.len() } else { page.events.len() };
        assert_eq!(page.next, Position(next as u64));
    }
    let many = super::tests::reader(&large(PAGE_EVENTS_MAX + 100, 100, 1));
    let page = many.read(&all(0)).unwrap();
    assert_eq!((page.events.len(), page.more), (PAGE_EVENTS_MAX, true));
}

#[test]
fn a_block_has_bounded_bytes_and_events_and_one_event_always_fits() {
    let reader = reader(&large(6, 3, 300_000));
    let block = reader.block(ContextId(0), Position(1), 1_000, 1_000).unwrap();
    assert_eq!((block.len(), block.next()), (1, Position(2)));
    let many = super::tests::reader(&large(3_000, 100, 1));
    let block = many.block(ContextId(0), Position(0), usize::MAX, usize::MAX).unwrap();
    assert_eq!(block.len(), BLOCK_EVENTS_MAX);
}

#[test]
fn a_block_is_decoded_once_for_all_readers() {
    let log = large(3_000, 100, 10);
    let reader = reader(&log);
    let first = |from| reader.block(ContextId(0), Position(from), 1_000, 1_000_000).unwrap().as_ptr();
    let (head, other) = (first(0), reader.clone());
    assert_eq!(head, first(0), "the same events, at the same place in memory");
    assert_eq!(other.block(ContextId(0), Position(0), 1, 1).unwrap().as_ptr(), head);
    let inside = other.block(ContextId(0), Position(500), 1_000, 1_000_000).unwrap();
    assert_eq!(inside.as_ptr(), head.wrapping_add(500));
    assert_eq!(inside.len(), BLOCK_EVENTS_MAX - 500, "the rest of the cached block");
    // A block that starts before a cached one ends where that starts.
    let later = first(2_000);
    let before = reader.block(ContextId(0), Position(1_900), 1_000, 1_000_000).unwrap();
    assert_eq!((before.len(), before.next()), (100, Position(2_000)));
    assert_eq!(first(2_000), later);
}

#[test]
fn cached_blocks_have_bounded_bytes_and_the_last_used_stay() {
    let log = large(200, 1, 250_000);
    let reader = reader(&log);
    let at = |from| reader.block(ContextId(0), Position(from), 1, 1).unwrap().as_ptr();
    let kept = at(0);
    for from in 0..200 {
        at(from);
        assert_eq!(at(0), kept, "it was just used");
        assert!(reader.blocks.bytes() <= BLOCKS_BYTES_MAX);
    }
    assert!(reader.blocks.bytes() > BLOCKS_BYTES_MAX / 2);
}

#[test]
fn an_entry_missing_from_the_journal_is_reported() {
    let log = large(3, 1, 1);
    let reader = EventReader::new(journal(&Log::default()), log.index());
    let error = reader.read(&all(0)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "failed to read the event at position 0: entry 1 should hold it and is not in the journal; \
         restart this node: it checks its log and rebuilds its index when it starts"
    );
    assert!(reader.block(ContextId(0), Position(1), 1, 1).is_err());
    assert!(reader.block(ContextId(0), Position(1), 1, 1).is_err(), "a second read fails too and does not wait");
}
