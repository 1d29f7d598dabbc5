use evener_core::{
    criteria::Criterion,
    event::Event,
    id::{ContextId, Position, Revision},
};
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::{
    payload::encode_entry,
    samples::{self, Log},
};

/// Returns all locations of the wanted events, selected in steps of `max`.
fn selected(index: &Index, wanted: &Wanted<'_>, from: u64, to: u64, max: usize) -> Vec<EventLocation> {
    let (mut from, mut to, mut locations) = (Position(from), Position(to).min(index.head(wanted.context)), Vec::new());
    while from < to {
        let found = index.select(wanted, from, to, max);
        let moved = if wanted.backwards { found.reached < to } else { found.reached > from };
        assert!(moved, "a step makes progress");
        assert!(found.locations.len() <= max);
        if wanted.backwards {
            to = found.reached;
        } else {
            from = found.reached;
        }
        locations.extend(found.locations);
    }
    locations
}

/// Returns the last match at or after `from`, in as many search steps as needed.
fn last_match(view: &IndexView, context: ContextId, item: &Criterion, from: Position) -> Option<(Position, String)> {
    let mut to = view.head(context);
    while from < to {
        let step = view.search_backward(context, item, from, to);
        if step.found.is_some() {
            return step.found;
        }
        assert!(step.reached < to && step.probes > 0, "a step makes progress");
        to = step.reached;
    }
    None
}

proptest! {
    #[test]
    fn the_selection_equals_a_naive_filter(
        entries in samples::entries(),
        criteria in samples::criteria(),
        stream in samples::stream(),
        backwards: bool,
        (context, from, to, max) in (0..2_u32, 0..60_u64, 0..120_u64, 1..9_usize),
    ) {
        let log = Log::new(entries);
        let index = log.index();
        let wanted = Wanted { context: ContextId(context), criteria: &criteria, stream, backwards };
        let found: Vec<u64> =
            selected(&index, &wanted, from, to, max).iter().map(|location| location.position.0).collect();
        let history = log.history[context as usize].iter().zip(0..);
        let mut expected: Vec<u64> = history
            .filter(|(logged, at)| {
                (from..to).contains(at)
                    && criteria.matches_event(&logged.event)
                    && stream.is_none_or(|stream| logged.event.stream.as_deref() == Some(stream))
            })
            .map(|(_, at)| at)
            .collect();
        if backwards {
            expected.reverse();
        }
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn an_event_is_found_at_its_location(entries in samples::entries(), context in 0..2_u32, from in 0..50_u64) {
        let log = Log::new(entries);
        let index = log.index();
        let history = &log.history[context as usize];
        let run = index.run(ContextId(context), Position(from), usize::MAX);
        prop_assert_eq!(run.len(), history.len().saturating_sub(usize::try_from(from).unwrap()));
        for (at, location) in (from..).zip(run) {
            let logged = &history[usize::try_from(at).unwrap()];
            let payload = log.payload(location.index);
            let (command, nth) = (location.command as usize, location.nth as usize);
            let payload = crate::payload::Payload::parse(&payload).unwrap();
            let event = payload.events(command).unwrap().unwrap().decode(nth).unwrap();
            prop_assert_eq!(&event, &logged.event);
            let found = (location.position.0, location.index, location.recorded);
            prop_assert_eq!(found, (at, logged.index, logged.recorded));
            let named = event.stream.as_deref().map(|stream| (stream, Position(at)));
            let revision = index.revisions(ContextId(context), [named])[0];
            prop_assert_eq!(revision, log.revision(context, usize::try_from(at).unwrap()).map(Revision));
        }
    }

    #[test]
    fn a_view_answers_like_a_naive_history_of_its_moment(
        entries in samples::entries(),
        moment in 0..40_usize,
        item in samples::criterion(),
        stream in samples::stream(),
        (context, from) in (0..2_u32, 0..60_u64),
    ) {
        let log = Log::new(entries);
        let index = Index::default();
        let mut view = index.view();
        for (nth, (at, recorded, entry, outcomes)) in log.entries.iter().enumerate() {
            index.apply(*at, *recorded, entry, outcomes, |_| None);
            if nth < moment {
                view = index.view();
            }
        }
        let applied = log.entries.iter().take(moment);
        let seen: u64 = applied.map(|(.., entry, outcomes)| stored(entry, outcomes, context)).sum();
        let history = &log.history[context as usize][..usize::try_from(seen).unwrap()];
        let context = ContextId(context);
        prop_assert_eq!(view.head(context), Position(seen));
        let matches = |event: &Event| item.matches(&event.kind, &event.tags);
        let last = history.iter().zip(0..).filter(|(logged, at)| *at >= from && matches(&logged.event)).last();
        prop_assert_eq!(
            last_match(&view, context, &item, Position(from)),
            last.map(|(logged, at)| (Position(at), logged.event.kind.clone()))
        );
        let stream = stream.unwrap_or("order-1");
        let events = history.iter().filter(|logged| logged.event.stream.as_deref() == Some(stream)).count() as u64;
        prop_assert_eq!(view.stream_head(context, stream), events.checked_sub(1).map(Revision));
        for (logged, at) in log.history[context.0 as usize].iter().zip(0..) {
            let expected = (at < seen).then(|| (Position(at), logged.event.digest()));
            prop_assert_eq!(view.event_id(context, logged.event.id), expected);
        }
        prop_assert_eq!(view.event_id(context, Uuid::from_u128(5)), None);
    }

    #[test]
    fn verdicts_and_payloads_build_the_same_index_as_apply(entries in samples::entries()) {
        let log = Log::new(entries);
        let (applied, rebuilt) = (log.index(), Index::default());
        for (index, recorded, entry, outcomes) in &log.entries {
            let (first, accepted, _) = samples::accepted(outcomes);
            rebuilt.apply_accepted(*index, *recorded, first, &accepted, &encode_entry(entry)).unwrap();
        }
        for context in [ContextId(0), ContextId(1)] {
            let run = |index: &Index| index.run(context, Position(0), usize::MAX);
            prop_assert_eq!(run(&rebuilt), run(&applied));
            for logged in &log.history[context.0 as usize] {
                let id = logged.event.id;
                prop_assert_eq!(rebuilt.view().event_id(context, id), applied.view().event_id(context, id));
            }
        }
        // The log can be replayed from an older checkpoint.
        for (index, recorded, entry, outcomes) in &log.entries {
            rebuilt.apply(*index, *recorded, entry, outcomes, |_| None);
        }
        prop_assert_eq!(rebuilt.head(ContextId(0)), applied.head(ContextId(0)));
    }
}

fn stored(entry: &Entry, outcomes: &[Outcome], context: u32) -> u64 {
    let appended = outcomes.iter().filter_map(|outcome| match outcome {
        Outcome::Appended(at) if !at.repeated => Some(at.next.0 - at.first.0),
        _ => None,
    });
    if entry.context.0 == context { appended.sum() } else { 0 }
}

/// Returns a log of `count` events, each in its own entry, with tags from `tags`.
fn one_by_one(count: u64, tags: impl Fn(u64) -> Vec<String>) -> Log {
    let event = |nth| Event { kind: "it".into(), tags: tags(nth), ..Default::default() };
    Log::new((0..count).map(|nth| (0, vec![samples::SampleCommand::Stored(vec![event(nth)])])).collect())
}

#[test]
fn tags_that_never_coincide_cost_many_short_searches() {
    let log = one_by_one(3 * PROBES_MAX as u64, |nth| vec![if nth % 2 == 0 { "even" } else { "odd" }.to_owned()]);
    let index = log.index();
    let item = Criterion { types: vec![], tags: vec!["even".into(), "odd".into()] };
    let criteria = evener_core::criteria::Criteria(vec![item.clone()]);
    for backwards in [false, true] {
        let wanted = Wanted { context: ContextId::DEFAULT, criteria: &criteria, stream: None, backwards };
        let step = index.select(&wanted, Position(0), Position(u64::MAX), 10);
        let head = index.head(ContextId::DEFAULT);
        assert!(step.locations.is_empty());
        assert!(Position(0) < step.reached && step.reached < head, "a step ends before the end of the range: {step:?}");
        assert_eq!(selected(&index, &wanted, 0, u64::MAX, 10), []);
    }
    assert_eq!(last_match(&index.view(), ContextId::DEFAULT, &item, Position(0)), None);
}

#[test]
fn events_missing_before_a_verdict_are_reported() {
    let log = one_by_one(3, |_| vec![]);
    let index = Index::default();
    let (at, recorded, entry, _) = &log.entries[2];
    let error = index.apply_accepted(*at, *recorded, Position(2), &[0], &encode_entry(entry)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "failed to index entry 4: its events begin at position 2 of context 0, but the index ends at 0: \
         the events between are missing"
    );
    let error = index.apply_accepted(*at, *recorded, Position(0), &[1], &encode_entry(entry)).unwrap_err();
    assert!(matches!(error, ApplyError::Payload { .. }), "{error:?}");
    assert_eq!(index.head(ContextId::DEFAULT), Position(0), "nothing was added");
}
