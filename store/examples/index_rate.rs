//! The rates at which one core encodes, decodes, indexes, finds and reads events, with baselines on the same bytes.
//! Reads come from files, through the page cache: the journal keeps hardly any frames in memory here.
//!
//! `cargo run --release -p evener-store --example index_rate [EVENTS]`

use std::{hint::black_box, sync::Arc, time::Instant};

use bytes::Bytes;
use evener_core::{
    append::{Append, Appended},
    command::{Command, Entry, Outcome},
    criteria::{Criteria, Criterion},
    event::{DataKind, Event},
    id::{ContextId, LogIndex, Position, Term},
    time::Timestamp,
};
use evener_store::{
    Disk, EventReader, FileDisk, Frame, FrameKind, Journal, JournalSettings, Verdict,
    events::Query,
    index::Index,
    payload::{Payload, decode_entry, encode_entry},
};
use uuid::Uuid;

/// Appends of one event per entry, as from 64 concurrent writers.
const ENTRY_APPENDS: u64 = 64;
/// Events with the rare tag.
const RARE: u64 = 1_000;

fn main() {
    let count: u64 = std::env::args().nth(1).map_or(1_000_000, |count| count.parse().expect("a number of events"));
    let count = count.next_multiple_of(ENTRY_APPENDS);
    println!("{count} events of 256 bytes with a type, a stream and 3 tags, {ENTRY_APPENDS} appends in an entry\n");

    let (mut encoding, mut decoding, mut applying) = (Rate::default(), Rate::default(), Rate::default());
    let (mut copying, mut pushing, mut walking) = (Rate::default(), Rate::default(), Rate::default());
    let index = Index::default();
    let directory = tempfile::tempdir().expect("a directory for the log");
    let disk: Arc<dyn Disk> = Arc::new(FileDisk::open(directory.path()).expect("an empty directory"));
    let settings = JournalSettings { recent_bytes_max: 1 << 20, ..JournalSettings::default() };
    let (journal, _) = Journal::open(Arc::clone(&disk), settings).expect("an empty journal");
    let mut payloads: Vec<Bytes> = Vec::new();
    let mut pushed: Vec<u64> = Vec::new();
    for number in 0..count / ENTRY_APPENDS {
        let (entry, outcomes) = entry(number, count);
        let payload = encoding.of(ENTRY_APPENDS, || encode_entry(&entry));
        copying.of(ENTRY_APPENDS, || black_box(payload.to_vec()));
        decoding.of(ENTRY_APPENDS, || black_box(decode_entry(&payload).expect("it was just encoded")));
        walking.of(ENTRY_APPENDS, || {
            let events = Payload::parse(&payload).expect("it was just encoded");
            events.appends().flatten().map(|(_, events)| events.len()).sum::<usize>()
        });
        applying
            .of(ENTRY_APPENDS, || index.apply(LogIndex(number + 1), Timestamp(number), &entry, &outcomes, |_| None));
        pushing.of(ENTRY_APPENDS, || pushed.extend((0..ENTRY_APPENDS).flat_map(|nth| [number, nth, 0, 0, 0])));
        write(&journal, number, payload.clone());
        payloads.push(payload);
    }
    black_box(&pushed);
    let bytes: usize = payloads.iter().map(Bytes::len).sum();
    println!("{} bytes of payload an event", bytes as u64 / count);
    encoding.show("encode");
    decoding.show("decode whole entries");
    walking.show("walk appends undecoded");
    copying.show("  baseline: copy the bytes");
    applying.show("index apply");
    pushing.show("  baseline: push 5 numbers an event");

    let reader = EventReader::new(journal, index.clone());
    let rare = tags(&["rare"]);
    let both = tags(&["rare", "shop=0"]);
    let never = Criteria(vec![Criterion { types: vec!["never".into()], tags: vec!["shop=3".into()] }]);
    find(&reader, "10 events by a rare tag", &rare);
    find(&reader, "10 events by rare AND popular tag", &both);
    find(&reader, "a type that never occurred AND a popular tag", &never);
    let file = disk.list("chunks").expect("a directory of chunks").remove(0);
    let mut raw = Rate::default();
    for nth in 0..1_000 {
        raw.of(1, || {
            for page in 0..10 {
                let at = (nth * 7_919 + page * 613) % 1_000;
                black_box(disk.read(&format!("chunks/{file}"), at * 4_096, 4_096).expect("a chunk is longer"));
            }
        });
    }
    raw.show("  baseline: read 10 times 4 KiB of a chunk");

    let (mut paging, mut blocks, mut again, mut from) = (Rate::default(), Rate::default(), Rate::default(), 0);
    while from < count {
        let query = Query {
            context: ContextId::DEFAULT,
            from: Position(from),
            to: None,
            limit: 1_024,
            criteria: &Criteria::ANY,
            stream: None,
            backwards: false,
        };
        paging.of(1_024, || black_box(reader.read(&query).expect("it is there")));
        let block = |rate: &mut Rate| {
            let block = || reader.block(ContextId::DEFAULT, Position(from), 1_024, 1 << 20).expect("it is there");
            let found = rate.of(0, block);
            rate.events += found.len() as u64;
            found.next().0
        };
        let next = block(&mut blocks);
        block(&mut again);
        from = next;
    }
    paging.show("read all by pages of 1,024");
    blocks.show("read all by blocks, the first processor");
    again.show("read all by blocks, every other processor");

    let view = index.view();
    let mut ids = Rate::default();
    for nth in 0..100_000_u64 {
        ids.of(1, || black_box(view.event_id(ContextId::DEFAULT, id(nth * 7_919 % count))));
    }
    ids.show("look up an id");
}

/// Appends an entry without waiting for it.
fn write(journal: &Journal, number: u64, payload: Bytes) {
    let (index, count) = (LogIndex(number + 1), ENTRY_APPENDS as u32);
    let kind = FrameKind::Commands;
    let frame = Frame { index, term: Term(1), kind, context: ContextId::DEFAULT, count, payload };
    journal.append(vec![frame], Box::new(|result| result.expect("the disk takes it"))).expect("the log goes on");
    let verdict = Verdict {
        index,
        context: ContextId::DEFAULT,
        first: Position(number * ENTRY_APPENDS),
        accepted: (0..count).collect(),
        events: count,
        recorded: Timestamp(number),
    };
    journal.applied(vec![verdict]);
}

/// The time spent on a number of events.
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

fn find(reader: &EventReader, what: &str, criteria: &Criteria) {
    let mut rate = Rate::default();
    let head = reader.head(ContextId::DEFAULT);
    for nth in 0..1_000_u64 {
        let query = Query {
            context: ContextId::DEFAULT,
            from: Position(nth * 7_919 % (head.0 / 2)),
            to: None,
            limit: 10,
            criteria,
            stream: None,
            backwards: false,
        };
        rate.of(1, || black_box(reader.read(&query).expect("it is there")));
    }
    rate.show(what);
}

fn tags(tags: &[&str]) -> Criteria {
    Criteria(vec![Criterion { types: vec![], tags: tags.iter().map(|tag| (*tag).to_owned()).collect() }])
}

fn id(position: u64) -> Uuid {
    // Mixed like random ids, so that the maps do not see them in order.
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
