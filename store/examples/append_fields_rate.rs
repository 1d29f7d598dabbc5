//! The cost of extensible fields for an append of 64 events: encoding and decoding it without fields (version 0), with
//! a block of fields before it (version 1), and with every value of every event as a tagged field. The three forms
//! alternate, so that other load on the machine affects all of them.
//!
//! `cargo run --release -p evener-store --example append_fields_rate [ROUNDS]`

use std::{fs, hint::black_box, time::Instant};

use evener_core::{
    append::{Request, Stamp},
    event::{DataKind, Event},
    id::Position,
};
use evener_store::{
    fields::{Fields, fields_of},
    payload::EncodedCommand,
};
use uuid::Uuid;

const EVENTS: u128 = 64;
const ROUNDS: usize = 2_001;
const FORMS: [&str; 3] = ["version 0: values in order", "version 1: fields before them", "every value is a field"];

fn main() {
    let rounds = std::env::args().nth(1).map_or(ROUNDS, |rounds| rounds.parse().expect("a number of rounds"));
    let append = Request { events: (0..EVENTS).map(event).collect(), ..Request::default() };
    let stamp = Stamp { checked_to: Position(1_000), heads: vec![] };
    let version_0 = || {
        let encoded = EncodedCommand::append(&append, &stamp);
        assert!(black_box(encoded.decode()).is_ok());
        encoded.bytes()
    };
    let version_1 = || {
        let (kind, body) = in_version_1(&append, &stamp);
        let encoded = EncodedCommand::from_parts(kind, body.into());
        assert!(black_box(encoded.decode()).is_ok());
        encoded.bytes()
    };
    let tagged = || {
        let bytes = all_tagged(&append.events);
        assert_eq!(black_box(read_tagged(&bytes)).len(), append.events.len());
        bytes.len()
    };
    assert_eq!(read_tagged(&all_tagged(&append.events)), append.events);
    let forms: [&dyn Fn() -> usize; 3] = [&version_0, &version_1, &tagged];
    let (mut micros, mut bytes) = ([const { Vec::new() }; 3], [0; 3]);
    let before = ticks();
    for _ in 0..rounds {
        for (nth, form) in forms.iter().enumerate() {
            let begun = Instant::now();
            bytes[nth] = form();
            micros[nth].push(begun.elapsed().as_nanos() as f64 / 1_000.0);
        }
    }
    let idle = before
        .zip(ticks())
        .map(|((idle, all), (idle_now, all_now))| 100.0 * (idle_now - idle) as f64 / (all_now - all).max(1) as f64);
    let medians = micros.map(|mut micros| {
        micros.sort_by(f64::total_cmp);
        micros[micros.len() / 2]
    });
    for ((form, median), bytes) in FORMS.iter().zip(medians).zip(bytes) {
        println!("{form:32} {median:>8.1} us, {:.2} of version 0; {bytes} bytes", median / medians[0]);
    }
    println!("medians of {rounds} rounds; machine idle {:.0} %", idle.unwrap_or(f64::NAN));
}

fn event(number: u128) -> Event {
    Event {
        id: Uuid::from_u128(number << 64 | 7),
        source: "/shop/orders".into(),
        kind: "order.placed.v1".into(),
        stream: Some(format!("order-{number}")),
        tags: vec![format!("customer={number}"), "country=de".into(), "channel=web".into()],
        time: Some("2026-01-01T00:00:00Z".into()),
        content_type: Some("application/json".into()),
        data_kind: DataKind::Json,
        data: vec![b'x'; 200],
        ..Event::default()
    }
}

/// Encodes an append in version 1, with an empty block of fields before the body.
fn in_version_1(append: &Request, stamp: &Stamp) -> (u16, Vec<u8>) {
    let encoded = EncodedCommand::append(append, stamp);
    let (kind, body) = encoded.parts();
    let mut out = Vec::with_capacity(body.len() + 1);
    out.push(0);
    out.extend_from_slice(body);
    (kind | 1 << 8, out)
}

fn all_tagged(events: &[Event]) -> Vec<u8> {
    let mut out = Fields::default();
    for (number, event) in (0..).zip(events) {
        let mut fields = Fields::default();
        fields.put(1, event.id.as_bytes());
        fields.put(2, event.kind.as_bytes());
        put_text(&mut fields, 3, event.stream.as_ref());
        let mut tags = Fields::default();
        (0..).zip(&event.tags).for_each(|(nth, tag)| tags.put(nth, tag.as_bytes()));
        fields.put(4, tags.bytes());
        put_text(&mut fields, 5, event.key.as_ref());
        fields.put(6, event.source.as_bytes());
        put_text(&mut fields, 7, event.time.as_ref());
        put_text(&mut fields, 8, event.content_type.as_ref());
        fields.put(9, &[event.data_kind as u8]);
        fields.put(10, &event.data);
        out.put(number, fields.bytes());
    }
    out.bytes().to_vec()
}

fn put_text(fields: &mut Fields, tag: u32, text: Option<&String>) {
    if let Some(text) = text {
        fields.put(tag, text.as_bytes());
    }
}

fn read_tagged(bytes: &[u8]) -> Vec<Event> {
    fields_of("an append", bytes).map(|field| read_event(field.expect("it was just written").1)).collect()
}

fn read_event(bytes: &[u8]) -> Event {
    let mut event = Event::default();
    for field in fields_of("an event", bytes) {
        let (tag, bytes) = field.expect("it was just written");
        let text = || std::str::from_utf8(bytes).expect("it was just written").to_owned();
        match tag {
            1 => event.id = Uuid::from_slice(bytes).expect("it was just written"),
            2 => event.kind = text(),
            3 => event.stream = Some(text()),
            4 => {
                let tags = fields_of("tags", bytes).map(|tag| tag.expect("it was just written").1);
                let texts = tags.map(|tag| std::str::from_utf8(tag).expect("it was just written").to_owned());
                event.tags = texts.collect();
            }
            5 => event.key = Some(text()),
            6 => event.source = text(),
            7 => event.time = Some(text()),
            8 => event.content_type = Some(text()),
            9 => event.data_kind = if bytes == [1] { DataKind::Json } else { DataKind::Binary },
            _ => event.data = bytes.to_vec(),
        }
    }
    event
}

/// Returns the ticks of all CPUs since the machine started: (idle, all).
fn ticks() -> Option<(u64, u64)> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let ticks: Vec<u64> = stat.lines().next()?.split_whitespace().skip(1).filter_map(|n| n.parse().ok()).collect();
    Some((ticks.get(3)? + ticks.get(4)?, ticks.iter().take(8).sum()))
}
