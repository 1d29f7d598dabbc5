//! How fast one core encodes, decodes, indexes and finds events, each beside a baseline on the same bytes.
//!
//! `cargo run --release -p evener-store --example index_rate [EVENTS]`

use std::{hint::black_box, time::Instant};

use bytes::Bytes;
use evener_core::{
    append::{Append, Appended, History},
    command::{Command, Entry, Outcome},
    criteria::{Criteria, Criterion},
    event::{DataKind, Event},
    id::{ContextId, LogIndex, Position},
    time::Timestamp,
};
use evener_store::{
    codec::{Payload, decode_entry, decode_event_at, encode_entry},
    index::{Index, Wanted},
};
use uuid::Uuid;

/// Appends of one event in an entry: what 64 writers give.
const ENTRY_APPENDS: u64 = 64;
/// Events with the rare tag.
const RARE: u64 = 1_000;

fn main() {
    let count: u64 = std::env::args().nth(1).map_or(1_000_000, |count| count.parse().expect("a number of events"));
    let count = count.next_multiple_of(ENTRY_APPENDS);
    println!("{count} events of 256 bytes with a type, a stream and 3 tags, {ENTRY_APPENDS} appends in an entry\n");

    let (mut encoding, mut decoding, mut applying) = (Rate::default(), Rate::default(), Rate::default());
    let (mut copying, mut pushing, mut digesting) = (Rate::default(), Rate::default(), Rate::default());
    let index = Index::default();
    let mut payloads: Vec<Bytes> = Vec::new();
    let mut pushed: Vec<u64> = Vec::new();
    for number in 0..count / ENTRY_APPENDS {
        let (entry, outcomes) = entry(number, count);
        let payload = encoding.of(ENTRY_APPENDS, || encode_entry(&entry));
        copying.of(ENTRY_APPENDS, || black_box(payload.to_vec()));
        decoding.of(ENTRY_APPENDS, || black_box(decode_entry(&payload).expect("it was just encoded")));
        digesting.of(ENTRY_APPENDS, || {
            let events = Payload::parse(&payload).expect("it was just encoded");
            events.appends().flatten().map(|(_, events)| events.len()).sum::<usize>()
        });
        applying.of(ENTRY_APPENDS, || index.apply(LogIndex(number + 1), Timestamp(number), &entry, &outcomes));
        pushing.of(ENTRY_APPENDS, || pushed.extend((0..ENTRY_APPENDS).flat_map(|nth| [number, nth, 0, 0, 0])));
        payloads.push(payload);
    }
    black_box(&pushed);
    let bytes: usize = payloads.iter().map(Bytes::len).sum();
    println!("{} bytes of payload an event", bytes as u64 / count);
    encoding.show("encode");
    decoding.show("decode whole entries");
    digesting.show("walk appends undecoded");
    copying.show("  baseline: copy the bytes");
    applying.show("index apply");
    pushing.show("  baseline: push 5 numbers an event");

    let rare = tags(&["rare"]);
    let both = tags(&["rare", "shop=3"]);
    let never = Criteria(vec![Criterion { types: vec!["never".into()], tags: vec!["shop=3".into()] }]);
    find(&index, &payloads, "10 events by a rare tag", &rare);
    find(&index, &payloads, "10 events by rare AND popular tag", &both);
    find(&index, &payloads, "a type that never occurred AND a popular tag", &never);
    let mut one = Rate::default();
    for nth in 0..10_000_u64 {
        let at = nth * 7_919 % count;
        let (entry, command) = (at / ENTRY_APPENDS, at % ENTRY_APPENDS);
        one.of(1, || black_box(decode_event_at(&payloads[entry as usize], command as usize, 0).expect("it is there")));
    }
    one.show("  baseline: cut one event out and decode it");

    let view = index.view();
    let mut ids = Rate::default();
    for nth in 0..100_000_u64 {
        ids.of(1, || black_box(view.event_id(ContextId::DEFAULT, id(nth * 7_919 % count))));
    }
    ids.show("look up an id");
}

/// Time spent on so many events.
#[derive(Default)]
struct Rate {
    events: u64,
    seconds: f64,
}

impl Rate {
    fn of<T>(&mut self, events: u64, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = work();
        self.seconds += start.elapsed().as_secs_f64();
        self.events += events;
        result
    }

    fn show(&self, what: &str) {
        let (rate, each) = (self.events as f64 / self.seconds, self.seconds * 1e9 / self.events as f64);
        println!("{what:<46} {rate:>14.0}/s {each:>10.0} ns each");
    }
}

fn find(index: &Index, payloads: &[Bytes], what: &str, criteria: &Criteria) {
    let wanted = Wanted { context: ContextId::DEFAULT, criteria, stream: None, backwards: false };
    let mut rate = Rate::default();
    for nth in 0..1_000_u64 {
        let head = index.head(wanted.context);
        let from = Position(nth * 7_919 % (head.0 / 2));
        rate.of(1, || {
            for place in index.select(&wanted, from, head, 10).places {
                let payload = &payloads[place.index.0 as usize - 1];
                black_box(decode_event_at(payload, place.command as usize, place.nth as usize).expect("it is there"));
            }
        });
    }
    rate.show(what);
}

fn tags(tags: &[&str]) -> Criteria {
    Criteria(vec![Criterion { types: vec![], tags: tags.iter().map(|tag| (*tag).to_owned()).collect() }])
}

fn id(position: u64) -> Uuid {
    // Mixed, as random ids are: the maps must not find them in order.
    let mixed = position.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    Uuid::from_u128(u128::from(mixed) << 64 | u128::from(position))
}

fn entry(number: u64, count: u64) -> (Entry, Vec<Outcome>) {
    let first = number * ENTRY_APPENDS;
    let commands = (first..first + ENTRY_APPENDS).map(|position| {
        let mut tags = vec![format!("shop={}", position % 10), format!("customer={}", position * 31 % 100_000)];
        tags.push(if position % (count / RARE).max(1) == 0 {
            "rare".into()
        } else {
            format!("day={}", position / 10_000)
        });
        let event = Event {
            id: id(position),
            source: "bench".into(),
            kind: ["ordered", "paid", "sent"][(position % 3) as usize].into(),
            stream: Some(format!("order-{}", position * 17 % (count / 100).max(1))),
            tags,
            data_kind: DataKind::Binary,
            data: (0..256_u64).map(|nth| (position.wrapping_mul(nth | 1) >> 3) as u8).collect(),
            ..Event::default()
        };
        Command::Append(Append { request: event.id, events: vec![event], ..Append::default() })
    });
    let appended = |position| Appended { first: Position(position), next: Position(position + 1), repeated: false };
    let outcomes = (first..first + ENTRY_APPENDS).map(|position| Outcome::Appended(appended(position)));
    let entry = Entry { proposed: Timestamp(number), context: ContextId::DEFAULT, commands: commands.collect() };
    (entry, outcomes.collect())
}
