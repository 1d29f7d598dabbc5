mod readable;

use std::fmt::Write;

use evener_core::{
    append::Expected,
    backoff::Backoff,
    command::{
        Admit, Advance, Assign, Begin, Change, Found, HandOver, LetterChange, LetterMove, Move, Operate, Progress,
        Right, Selection, TokenMove,
    },
    criteria::{Criteria, Criterion},
    event::DataKind,
    id::{
        ClusterId, ComponentId, Epoch, FeatureLevel, Generation, Incarnation, LogIndex, NodeId, ProcessorId, SegmentId,
        SessionId, Term,
    },
    letter::{Failure, SequenceKey},
    limits::Limits,
    principal::Principal,
    processor::{Definition, Handler, OnError, Start},
    replay::{HookDone, ReplayPhase, ResetTo},
    sequence::Sequencing,
    state::State,
};
use proptest::{collection::vec, option, prelude::*};

use super::*;
use crate::{
    codec::{ENTRY_BYTES_MAX, decode_image, decode_message, encode_image, encode_message},
    samples::{self, Log},
};

mod sizes;

/// Returns at least one command of each kind, with every value that it may have.
fn all_commands() -> Vec<Command> {
    let admit = Admit {
        name: "n1".into(),
        incarnation: Incarnation(Uuid::from_u128(2)),
        peer: "h:1".into(),
        http: "http://h:2".into(),
        level: FeatureLevel(1),
    };
    let advance = |letters| {
        let tokens = vec![TokenMove { segment: SegmentId(5), epoch: Epoch(6), next: Position(7) }];
        let items = vec![Progress { processor: ProcessorId(4), scanned: Some(Position(70_000)), tokens, letters }];
        Command::Advance(Advance { node: NodeId(1), session: SessionId(2), as_of: LogIndex(300), items })
    };
    let operate =
        |change| Command::Operate(Operate { operation: Uuid::from_u128(9), principal: None, reason: None, change });
    vec![
        Command::Found(Found { cluster: ClusterId(Uuid::from_u128(1)), limits: Limits::DEFAULT, first: admit.clone() }),
        Command::Append(full_append()),
        advance(letters()),
        Command::Admit(admit),
        Command::Remove(NodeId(3)),
        Command::Begin(Begin {
            node: NodeId(1),
            incarnation: Incarnation(Uuid::from_u128(2)),
            peer: "h:1".into(),
            http: "http://h:2".into(),
            level: FeatureLevel(1),
            capabilities: [("mail".to_owned(), vec![1, 2])].into(),
            weight: 1,
            nonce: Uuid::from_u128(8),
        }),
        Command::Drain(NodeId(1), SessionId(2)),
        Command::Expire(NodeId(1), SessionId(2)),
        Command::Assign(Assign {
            generation: Generation(11),
            moves: vec![Move { processor: ProcessorId(4), segment: SegmentId(5), to: NodeId(1) }],
        }),
        Command::HandOver(HandOver {
            node: NodeId(1),
            session: SessionId(2),
            processor: ProcessorId(4),
            segment: SegmentId(5),
            epoch: Epoch(6),
            next: Position(7),
            to: Some(NodeId(2)),
            letters: vec![],
        }),
        operate(Change::Create(Box::new(definition(Handler::Embedded, Sequencing::KeyElseStream, OnError::SetAside)))),
        operate(Change::Create(Box::new(definition(
            Handler::Exec("c".into()),
            Sequencing::Tag("t".into()),
            OnError::Stop,
        )))),
        operate(Change::Create(Box::new(definition(
            Handler::Webhook("u".into()),
            Sequencing::Extension("x".into()),
            OnError::Skip,
        )))),
        operate(Change::Delete("p".into())),
        operate(Change::Pause("p".into(), true)),
        operate(Change::Release("p".into(), SegmentId(5))),
        operate(Change::Claim("p".into(), SegmentId(5), NodeId(1))),
        operate(Change::Unpin("p".into(), SegmentId(5))),
        operate(Change::Letters("p".into(), Selection::Sequence(ComponentId(0), "s".into()), LetterChange::Retry)),
        operate(Change::Letters("p".into(), Selection::All, LetterChange::Skip)),
        operate(Change::Letters("p".into(), Selection::All, LetterChange::Drop)),
        operate(Change::SetLimits(Limits::DEFAULT)),
        operate(Change::Expect("h:1".into())),
        operate(Change::Leave(NodeId(2))),
        operate(Change::Lead(NodeId(2), Term(3))),
        Command::RaiseLevel(FeatureLevel(2)),
        // Since version 1.
        operate(Change::SkipEvent("p".into(), SegmentId(5), Position(7))),
        Command::Operate(Operate {
            operation: Uuid::from_u128(9),
            principal: Some(Principal("ada".into())),
            reason: Some("r".into()),
            change: Change::Delete("p".into()),
        }),
        advance(vec![tried()]),
        // Since version 2.
        operate(Change::Reset("p".into(), ResetTo::At(Position(7)), Some("{}".into()))),
        operate(Change::Reset("p".into(), ResetTo::Beginning, None)),
        operate(Change::Reset("p".into(), ResetTo::Head, None)),
        operate(Change::Reset("p".into(), ResetTo::ReplayEnd, None)),
        operate(Change::Split("p".into(), None)),
        operate(Change::Merge("p".into(), Some(SegmentId(5)))),
        operate(Change::Move("p".into(), SegmentId(5), NodeId(1))),
        Command::HookDone(HookDone {
            node: NodeId(2),
            session: SessionId(3),
            processor: ProcessorId(4),
            generation: Generation(5),
            phase: ReplayPhase::Ending,
        }),
    ]
}

fn definition(handler: Handler, sequencing: Sequencing, on_error: OnError) -> Definition {
    Definition {
        name: "p".into(),
        context: ContextId(0),
        handler,
        segments: 16,
        start: Start::At(Position(3)),
        criteria: Criteria(vec![Criterion { types: vec!["k".into()], tags: vec!["t".into()] }]),
        sequencing,
        on_error,
        backoff: Backoff::default(),
    }
}

fn letters() -> Vec<LetterMove> {
    let (segment, epoch, position) = (SegmentId(5), Epoch(6), Position(7));
    let sequence = SequenceKey { component: ComponentId(0), name: "s".into() };
    let failure = Failure { attempt: 1, cause: "c".into(), wait_ms: 1_000, random: 3, last: false };
    let kind = "k".to_owned();
    let lent = Right::Loan { epoch, segment, claim: Epoch(2) };
    vec![
        LetterMove::SetAside {
            segment,
            epoch,
            sequence: sequence.clone(),
            position,
            kind: kind.clone(),
            failure: failure.clone(),
        },
        LetterMove::Queue { segment, epoch, sequence: sequence.clone(), position, kind },
        LetterMove::Skipped { segment, epoch, sequence: sequence.clone(), position },
        LetterMove::Done { right: Right::Claim(segment, epoch), sequence: sequence.clone(), position, skipped: true },
        LetterMove::Failed { right: lent, sequence: sequence.clone(), position, failure: failure.clone() },
        LetterMove::Stall { segment, epoch, position, failure, unable: true },
        LetterMove::Resume { segment, epoch, position },
        LetterMove::Return { right: lent, sequence },
    ]
}

fn tried() -> LetterMove {
    let (segment, epoch, position) = (SegmentId(5), Epoch(6), Position(7));
    let sequence = SequenceKey { component: ComponentId(0), name: "s".into() };
    let failure = Failure { attempt: 1, cause: "c".into(), wait_ms: 1_000, random: 3, last: false };
    let right = Right::Loan { epoch, segment, claim: Epoch(2) };
    LetterMove::Tried { right, sequence, position, revision: 9, failure, unable: true }
}

fn full_append() -> Append {
    let expect = |at| Expect { stream: "s".into(), at };
    let full = Event {
        id: Uuid::from_u128(5),
        given_id: Some("g".into()),
        source: "src".into(),
        kind: "k".into(),
        stream: Some("s".into()),
        key: Some("y".into()),
        tags: vec!["t".into(), "u=1".into()],
        time: Some("2026-01-01T00:00:00Z".into()),
        content_type: Some("application/json".into()),
        schema: Some("sch".into()),
        extensions: vec![("ext".into(), "1".into())],
        key_id: 1,
        data_kind: DataKind::Json,
        data: b"{}".to_vec(),
    };
    let binary = Event { data_kind: DataKind::Binary, data: vec![255; 2], ..Event::default() };
    Append {
        request: Uuid::from_u128(4),
        checked_to: Position(1_000),
        conditions: vec![Condition {
            criteria: Criteria(vec![Criterion { types: vec!["k".into()], tags: vec!["t".into()] }]),
            marker: Position(300),
        }],
        expect: vec![
            (expect(Expected::Any), None),
            (expect(Expected::NoStream), None),
            (expect(Expected::At(Revision(2))), Some(Revision(2))),
        ],
        events: vec![full, Event::default(), binary],
    }
}

fn entry(commands: Vec<Command>) -> Entry {
    Entry { proposed: Timestamp(0x0102_0304), context: ContextId(1), commands }
}

/// If this fails, existing logs can no longer be read. A new kind needs a new number instead.
#[test]
fn golden_bytes_of_every_command() {
    let mut found = String::new();
    for command in all_commands() {
        let encoded = EncodedCommand::new(&command);
        writeln!(found, "{} {}", encoded.kind, hex(&encoded.body)).unwrap();
    }
    writeln!(
        found,
        "entry {}",
        hex(&encode_entry(&entry(vec![Command::Remove(NodeId(3)), Command::RaiseLevel(FeatureLevel(2))])))
    )
    .unwrap();
    assert_eq!(found, include_str!("golden.txt"), "the format of payloads changed");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn every_command_round_trips_alone_and_joined() {
    let entry = entry(all_commands());
    assert_eq!(decode_entry(&encode_entry(&entry)).unwrap(), entry);
    let mut builder = EntryBuilder::default();
    for command in &entry.commands {
        let encoded = EncodedCommand::new(command);
        assert_eq!(&encoded.decode().unwrap(), command);
        let before = builder.bytes();
        builder.push(&encoded);
        assert_eq!(builder.bytes(), before + encoded.bytes());
    }
    let bytes = builder.bytes();
    let payload = builder.finish(entry.proposed, entry.context);
    assert_eq!((payload.len(), &payload), (bytes, &encode_entry(&entry)));
}

#[test]
fn one_event_is_read_if_the_others_are_malformed() {
    let append = full_append();
    let whole = entry(vec![Command::Remove(NodeId(1)), Command::Append(append.clone())]);
    let mut bytes = encode_entry(&whole).to_vec();
    let first = Payload::parse(&bytes).unwrap().events(1).unwrap().unwrap().bytes(0).unwrap().to_vec();
    let at = bytes.windows(first.len()).position(|window| window == first).unwrap();
    bytes[at + 17] = 0xff;
    assert!(decode_event_at(&bytes, 1, 0).is_err());
    assert_eq!(decode_event_at(&bytes, 1, 1).unwrap(), append.events[1]);
    assert_eq!(decode_event_at(&bytes, 1, 2).unwrap(), append.events[2]);
    assert_eq!(decode_event_at(&bytes, 1, 3).unwrap_err().to_string(), "failed to read event 3: there are only 3");
    assert!(decode_event_at(&bytes, 0, 0).is_err(), "not an append");
    assert!(decode_event_at(&bytes, 2, 0).is_err(), "no command");
}

#[test]
fn an_unknown_command_kind_is_reported() {
    let mut bytes = encode_entry(&entry(vec![Command::Remove(NodeId(1)), Command::Remove(NodeId(3))])).to_vec();
    bytes[ENTRY_HEAD + ENTRY_ROW] = 99;
    assert_eq!(
        decode_entry(&bytes).unwrap_err().to_string(),
        "failed to decode command 1 of an entry: its kind 99 is unknown to this build; this node is older than the \
         feature level of the log: start a newer build of evener on it"
    );
}

#[test]
fn unknown_event_flags_are_reported() {
    let mut bytes = Vec::new();
    put_event(&mut bytes, &Event::default());
    bytes[17] = 8;
    assert_eq!(
        take_event(&bytes).unwrap_err().to_string(),
        "failed to decode an event: its flags 0x0800 are unknown to this build; start a newer build of evener"
    );
}

#[test]
fn a_given_id_round_trips_and_a_uuid_takes_sixteen_bytes() {
    let id = "0192f0c1-0000-7000-8000-00000000000a";
    for (given, bytes) in [(None, 0), (Some(id), 16), (Some(&id.to_uppercase()), 37), (Some(&id.replace('-', "")), 33)]
    {
        let event = Event { given_id: given.map(str::to_owned), ..Event::default() };
        let (mut with, mut without) = (Vec::new(), Vec::new());
        put_event(&mut with, &event);
        put_event(&mut without, &Event::default());
        assert_eq!(take_event(&with), Ok(event));
        assert_eq!(with.len() - without.len(), bytes, "{given:?}");
    }
    let mut both = vec![0; 16];
    both.extend([4, 4]);
    both.extend([0; 30]);
    assert!(take_event(&both).is_err() && check_event(&both).is_err(), "one event has one id");
}

#[test]
fn a_single_event_has_a_small_overhead() {
    let event = Event { kind: "k".into(), source: "s".into(), data: vec![1; 200], ..Event::default() };
    let request = Request { events: vec![event.clone()], ..Request::default() };
    let stamp = Stamp { checked_to: Position(100_000_000), heads: vec![] };
    let encoded = EncodedCommand::append(&request, &stamp);
    assert_eq!(encoded.parts(), EncodedCommand::new(&Command::Append(Append::new(request, stamp))).parts());
    assert_eq!(encoded.bytes() - event.size(), 33, "the overhead of an event");
}

#[test]
fn trailing_and_missing_bytes_are_rejected() {
    let bytes = encode_entry(&entry(vec![Command::Append(full_append())])).to_vec();
    for end in 0..bytes.len() {
        assert!(decode_entry(&bytes[..end]).is_err(), "cut at {end}");
    }
    let longer = [&bytes[..], &[0]].concat();
    assert_eq!(decode_entry(&longer), Err(DecodeError::Trailing { what: ENTRY, extra: 1 }));
    let one = encode_message(&1_u64).unwrap();
    assert!(decode_message::<u8>(&[&one[..], &[0]].concat()).is_err());
}

#[test]
fn lengths_are_checked_before_memory_is_allocated() {
    // The largest counts of commands and of events.
    let mut commands = encode_entry(&entry(vec![])).to_vec();
    commands[12..16].fill(0xff);
    assert!(matches!(decode_entry(&commands), Err(DecodeError::Short { .. })));
    let mut body = vec![0; REQUEST + 2];
    varint::encode(u64::MAX, &mut body);
    assert!(matches!(take_append(&body), Err(DecodeError::Short { .. })));
    // A list of tags and a text of 2^63 items: bytes that abort a process without a limit.
    let huge = [253, 0, 0, 0, 0, 0, 0, 0, 0x80];
    let tags = [&[0; 18][..], &[0], &huge].concat();
    assert!(matches!(take_event(&tags), Err(DecodeError::Short { .. })));
    let kind = [&[0; 18][..], &huge].concat();
    assert!(take_event(&kind).is_err());
    assert!(decode_image::<Vec<String>>(&huge).is_err());
    assert!(decode_image::<String>(&huge).is_err());
    assert!(decode_message::<Vec<Vec<u64>>>(&huge).is_err());
}

#[test]
fn a_message_over_its_limit_is_rejected_by_both_sides() {
    let text = "x".repeat(MESSAGE_BYTES_MAX);
    let error = encode_message(&text).unwrap_err();
    assert!(error.to_string().contains("the limit message_bytes_max allows 4194304"), "{error}");
    let long = encode_image(&text);
    assert!(matches!(decode_message::<String>(&long), Err(DecodeError::Limit { .. })));
    assert_eq!(decode_image::<String>(&long).unwrap(), text);
    assert!(matches!(decode_entry(&long), Err(DecodeError::Limit { .. })));
}

fn text() -> impl Strategy<Value = String> {
    proptest::string::string_regex("[a-zé0-9=]{0,12}").unwrap()
}

fn any_event() -> impl Strategy<Value = Event> {
    let texts = || option::of(text());
    let kind = prop_oneof![Just(DataKind::None), Just(DataKind::Json), Just(DataKind::Binary)];
    (
        (any::<u128>(), text(), text(), texts(), texts(), texts(), texts(), texts(), texts()),
        (vec(text(), 0..5), vec((text(), text()), 0..3), any::<u32>(), kind, vec(any::<u8>(), 0..300)),
    )
        .prop_map(|((id, source, name, stream, key, given_id, time, content_type, schema), rest)| {
            // Some given ids are UUIDs, in lower or upper case.
            let uuid = || Uuid::from_u128(id ^ 1).to_string();
            let given_id = match id % 4 {
                0 => Some(uuid()),
                1 => Some(uuid().to_uppercase()),
                _ => given_id,
            };
            let (tags, extensions, key_id, data_kind, data) = rest;
            let (id, kind) = (Uuid::from_u128(id), name);
            Event {
                id,
                given_id,
                source,
                kind,
                stream,
                key,
                tags,
                time,
                content_type,
                schema,
                extensions,
                key_id,
                data_kind,
                data,
            }
        })
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let append = (vec(any_event(), 0..6), vec((samples::criteria(), any::<u64>()), 0..3), any::<u64>());
    let append = append.prop_map(|(events, conditions, checked_to)| {
        let conditions =
            conditions.into_iter().map(|(criteria, marker)| Condition { criteria, marker: Position(marker) });
        let checked_to = Position(checked_to);
        Command::Append(Append { conditions: conditions.collect(), checked_to, events, ..full_append() })
    });
    let command = prop_oneof![append, proptest::sample::select(all_commands())];
    (any::<u64>(), any::<u32>(), vec(command, 0..6)).prop_map(|(proposed, context, commands)| Entry {
        proposed: Timestamp(proposed),
        context: ContextId(context),
        commands,
    })
}

/// Decodes the `nth` event of the append that is command `number` of the entry, and no other.
fn decode_event_at(payload: &[u8], number: usize, nth: usize) -> Result<Event, DecodeError> {
    let payload = Payload::parse(payload)?;
    let events = payload.events(number)?.ok_or(DecodeError::Missing { what: "append", number, count: 0 })?;
    events.decode(nth)
}

/// Runs every decoder of a payload on arbitrary bytes; none of them may panic.
fn read_all(bytes: &[u8]) {
    let _ = decode_entry(bytes);
    if let Ok(payload) = Payload::parse(bytes) {
        for found in payload.appends().flatten() {
            found.1.iter().for_each(drop);
        }
    }
    for (command, nth) in [(0, 0), (0, 1), (1, 0), (5, 9), (usize::MAX, usize::MAX)] {
        let _ = decode_event_at(bytes, command, nth);
    }
    assert_eq!(check_event(bytes), take_event(bytes).map(drop));
    assert_eq!(check_append(bytes), take_append(bytes).map(drop));
    for kind in 0..14 {
        assert_eq!(check_command(0, kind, bytes), take_command(0, kind, bytes).map(drop));
    }
    match (decode_entry(bytes), read_entry(bytes)) {
        (Ok(entry), read) => assert_eq!(read, Ok(entry)),
        (Err(_), Err(error)) => assert!(error.is_from_a_newer_build(), "{error}"),
        (Err(_), Ok(entry)) => {
            assert!(entry.commands.iter().any(|command| matches!(command, Command::Unreadable { .. })));
        }
    }
    let _ = decode_image::<Vec<Definition>>(bytes);
    let _ = decode_message::<(Limits, Vec<LetterMove>, Option<String>)>(bytes);
}

proptest! {
    #[test]
    fn an_entry_round_trips(entry in any_entry()) {
        let bytes = encode_entry(&entry);
        prop_assert_eq!(&decode_entry(&bytes).unwrap(), &entry);
        let payload = Payload::parse(&bytes).unwrap();
        for (number, command) in entry.commands.iter().enumerate() {
            prop_assert_eq!(EncodedCommand::new(command).check(), Ok(()));
            let Command::Append(append) = command else {
                prop_assert!(payload.events(number).unwrap().is_none());
                continue;
            };
            for (nth, event) in append.events.iter().enumerate() {
                prop_assert_eq!(&decode_event_at(&bytes, number, nth).unwrap(), event);
            }
        }
        let found: Vec<usize> = payload.appends().map(|found| found.unwrap().1.len()).collect();
        let appends = entry.commands.iter().filter_map(|command| match command {
            Command::Append(append) => Some(append.events.len()),
            _ => None,
        });
        prop_assert_eq!(found, appends.collect::<Vec<_>>());
    }

    #[test]
    fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..400)) {
        read_all(&bytes);
    }

    #[test]
    fn changed_bytes_never_panic(
        entry in any_entry(),
        changes in vec((any::<prop::sample::Index>(), prop_oneof![any::<u8>(), 250..=255_u8, Just(0)]), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = encode_entry(&entry).to_vec();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        read_all(&bytes);
        read_all(&bytes[cut.index(bytes.len())..]);
        if bytes.len() > ENTRY_HEAD + ENTRY_ROW {
            read_all(&bytes[ENTRY_HEAD + ENTRY_ROW..]);
        }
        bytes.truncate(cut.index(bytes.len()));
        read_all(&bytes);
    }

    #[test]
    fn a_sample_log_round_trips(entries in samples::entries()) {
        for (.., entry, _) in &Log::new(entries).entries {
            prop_assert_eq!(&decode_entry(&encode_entry(entry)).unwrap(), entry);
        }
    }
}
