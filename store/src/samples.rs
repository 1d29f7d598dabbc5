//! Random events, entries and criteria for tests, with few names, so that many of them match.

use evener_core::{
    append::{Append, Appended},
    command::{Command, Entry, Outcome},
    criteria::{Criteria, Criterion},
    event::{DataKind, Event},
    id::{ContextId, LogIndex, NodeId, Position},
    time::Timestamp,
};
use proptest::{collection::vec, option, prelude::*, sample::select};
use uuid::Uuid;

use crate::{index::Index, payload::encode_entry};

const KINDS: [&str; 4] = ["ordered", "paid", "sent", "never-seen-before"];
const STREAMS: [&str; 3] = ["order-1", "order-2", ""];
const TAGS: [&str; 5] = ["a=1", "a=2", "b=1", "c=1", "vip"];

/// Returns a strategy for events; [`Log`] sets their ids.
pub(crate) fn event() -> impl Strategy<Value = Event> {
    let stream = option::of(select(&STREAMS[..]));
    (select(&KINDS[..3]), stream, vec(select(&TAGS[..4]), 0..4), vec(any::<u8>(), 0..40)).prop_map(
        |(kind, stream, tags, data)| Event {
            kind: kind.into(),
            stream: stream.map(String::from),
            tags: tags.into_iter().map(String::from).collect(),
            source: "test".into(),
            data_kind: DataKind::Binary,
            data,
            ..Event::default()
        },
    )
}

/// Returns a strategy for criteria with up to three items.
pub(crate) fn criteria() -> impl Strategy<Value = Criteria> {
    vec(criterion(), 0..4).prop_map(Criteria)
}

/// Returns a strategy for items; one in nine matches every event.
pub(crate) fn criterion() -> impl Strategy<Value = Criterion> {
    (vec(select(&KINDS[..]), 0..3), vec(select(&TAGS[..]), 0..3)).prop_map(|(types, tags)| Criterion {
        types: types.into_iter().map(String::from).collect(),
        tags: tags.into_iter().map(String::from).collect(),
    })
}

/// Returns a strategy for an optional stream.
pub(crate) fn stream() -> impl Strategy<Value = Option<&'static str>> {
    option::weighted(0.3, select(&["order-1", "order-2", "", "order-3"][..]))
}

/// A command of a random entry and its outcome.
#[derive(Clone, Debug)]
pub(crate) enum SampleCommand {
    Stored(Vec<Event>),
    Refused(Vec<Event>),
    Repeated(Vec<Event>),
    NotAnAppend,
}

/// Returns a strategy for entries: the context of each and its commands.
pub(crate) fn entries() -> impl Strategy<Value = Vec<(u32, Vec<SampleCommand>)>> {
    let events = || vec(event(), 1..5);
    let sample = prop_oneof![
        6 => events().prop_map(SampleCommand::Stored),
        1 => events().prop_map(SampleCommand::Refused),
        1 => events().prop_map(SampleCommand::Repeated),
        1 => Just(SampleCommand::NotAnAppend),
    ];
    vec((0..2_u32, vec(sample, 0..5)), 0..40)
}

/// A stored event in a naive log.
#[derive(Clone, Debug)]
pub(crate) struct LoggedEvent {
    pub index: LogIndex,
    pub recorded: Timestamp,
    pub event: Event,
}

/// A naive log of two contexts, with all events in lists.
#[derive(Debug, Default)]
pub(crate) struct Log {
    pub entries: Vec<(LogIndex, Timestamp, Entry, Vec<Outcome>)>,
    pub history: [Vec<LoggedEvent>; 2],
}

impl Log {
    /// Creates the log of these entries. Every third log index has no entry.
    pub(crate) fn new(entries: Vec<(u32, Vec<SampleCommand>)>) -> Self {
        let mut log = Self::default();
        let mut ids = 0;
        for (number, (context, samples)) in (1..).zip(entries) {
            let (index, recorded) = (LogIndex(number * 3 / 2), Timestamp(1_000 + number / 4));
            let history = &mut log.history[context as usize];
            let (mut commands, mut outcomes) = (Vec::new(), Vec::new());
            for sample in samples {
                let head = Position(history.len() as u64);
                let (mut events, stored, outcome) = match sample {
                    SampleCommand::Stored(events) => {
                        let next = Position(head.0 + events.len() as u64);
                        (events, true, Outcome::Appended(Appended { first: head, next, repeated: false }))
                    }
                    SampleCommand::Refused(events) => {
                        (events, false, Outcome::AppendRefused(evener_core::append::Refusal::Retry))
                    }
                    SampleCommand::Repeated(events) => {
                        let first = Position(0);
                        let next = Position(events.len() as u64);
                        (events, false, Outcome::Appended(Appended { first, next, repeated: true }))
                    }
                    SampleCommand::NotAnAppend => {
                        commands.push(Command::Remove(NodeId(7)));
                        outcomes.push(Outcome::Done);
                        continue;
                    }
                };
                for event in &mut events {
                    ids += 1;
                    event.id = Uuid::from_u128(ids << 64 | ids);
                    if stored {
                        history.push(LoggedEvent { index, recorded, event: event.clone() });
                    }
                }
                commands.push(Command::Append(Append { events, ..Append::default() }));
                outcomes.push(outcome);
            }
            let entry = Entry { proposed: Timestamp(number), context: ContextId(context), commands };
            log.entries.push((index, recorded, entry, outcomes));
        }
        log
    }

    /// Returns its index, built by `apply`.
    pub(crate) fn index(&self) -> Index {
        let built = Index::default();
        for (index, recorded, entry, outcomes) in &self.entries {
            built.apply(*index, *recorded, entry, outcomes, |_| None);
        }
        built
    }

    /// Returns the payload of an entry.
    pub(crate) fn payload(&self, index: LogIndex) -> bytes::Bytes {
        let found = self.entries.iter().find(|(at, ..)| *at == index);
        encode_entry(&found.expect("the entry exists").2)
    }

    /// Returns the revision of the event at a position of a context.
    pub(crate) fn revision(&self, context: u32, position: usize) -> Option<u64> {
        let history = &self.history[context as usize];
        let stream = history[position].event.stream.as_ref()?;
        Some(history[..position].iter().filter(|other| other.event.stream.as_ref() == Some(stream)).count() as u64)
    }
}

/// Returns the verdict of these outcomes: the first position, the accepted commands, and the number of events.
pub(crate) fn accepted(outcomes: &[Outcome]) -> (Position, Vec<u32>, u32) {
    let (mut first, mut accepted, mut events) = (None, Vec::new(), 0);
    for (number, outcome) in (0..).zip(outcomes) {
        if let Outcome::Appended(Appended { first: at, next, repeated: false }) = outcome {
            first = first.or(Some(*at));
            accepted.push(number);
            events += u32::try_from(next.0 - at.0).unwrap();
        }
    }
    (first.unwrap_or_default(), accepted, events)
}
