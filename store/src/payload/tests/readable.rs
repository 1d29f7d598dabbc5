//! Commands that may be proposed can be read from the log, and unreadable commands in the log are skipped.

use super::*;
use crate::fields::Fields;

/// Returns an append that older versions, which did not bound criteria, accepted: it has few bytes, but exceeds the
/// limit of the decoder of its conditions.
fn undecodable_append() -> Append {
    let item = Criterion { types: vec![String::new(); 256], tags: vec![] };
    let condition = Condition { criteria: Criteria(vec![item; 33]), marker: Position(9_000_000_000_000_000) };
    Append { conditions: vec![condition; 64], events: vec![Event::default()], ..Append::default() }
}

#[test]
fn an_append_that_no_node_can_decode_is_rejected_before_it_is_proposed() {
    let encoded = EncodedCommand::new(&Command::Append(undecodable_append()));
    assert!(encoded.bytes() < ENTRY_BYTES_MAX, "its bytes alone do not show it");
    assert_eq!(encoded.check(), encoded.decode().map(drop));
    assert!(encoded.check().is_err());
}

#[test]
fn unreadable_commands_in_the_log_are_skipped() {
    let whole =
        entry(vec![Command::Remove(NodeId(1)), Command::Append(undecodable_append()), Command::Append(full_append())]);
    let bytes = encode_entry(&whole);
    assert!(decode_entry(&bytes).is_err());
    let read = read_entry(&bytes).unwrap();
    assert_eq!((&read.commands[0], &read.commands[2]), (&whole.commands[0], &whole.commands[2]));
    assert!(matches!(&read.commands[1], Command::Unreadable { kind: KIND_APPEND, .. }));
    assert_eq!((read.proposed, read.context), (whole.proposed, whole.context));
    assert_eq!(encode_entry(&read), bytes, "its bytes are unchanged");

    for end in 0..bytes.len() {
        assert!(read_entry(&bytes[..end]).is_ok(), "cut at {end}");
    }
    let mut newer = encode_entry(&entry(vec![Command::Remove(NodeId(3))])).to_vec();
    newer[ENTRY_HEAD] = 99;
    assert!(read_entry(&newer).unwrap_err().is_from_a_newer_build(), "its meaning must not be guessed");
    let event = Append { events: vec![Event::default()], ..Append::default() };
    let mut newer = encode_entry(&entry(vec![Command::Append(event)])).to_vec();
    let flags = newer.len() - 5;
    newer[flags + 1] = 0x80;
    assert!(read_entry(&newer).unwrap_err().is_from_a_newer_build());
}

/// Returns commands with `count` items in each of their lists, in as few bytes as possible.
fn commands_of(count: usize) -> Vec<Command> {
    let moved = TokenMove { segment: SegmentId(0), epoch: Epoch(0), next: Position(0) };
    let to = Move { processor: ProcessorId(0), segment: SegmentId(0), to: NodeId(0) };
    let letter = || LetterMove::Resume { segment: SegmentId(0), epoch: Epoch(0), position: Position(0) };
    let progress = |tokens, letters| Progress { processor: ProcessorId(0), scanned: None, tokens, letters };
    let advance =
        |items| Command::Advance(Advance { node: NodeId(0), session: SessionId(0), as_of: LogIndex(0), items });
    let texts = || vec![String::new(); count];
    let mut all = vec![
        advance(vec![progress(vec![moved; count], vec![])]),
        advance(vec![progress(vec![], (0..count).map(|_| letter()).collect())]),
        advance((0..count).map(|_| progress(vec![], vec![])).collect()),
        Command::Assign(Assign { generation: Generation(0), moves: vec![to; count] }),
        Command::Append(Append { events: vec![Event::default(); count], ..Append::default() }),
        Command::Append(Append { events: vec![Event { tags: texts(), ..Event::default() }], ..Append::default() }),
    ];
    for command in all_commands() {
        match command {
            Command::Begin(mut begin) => {
                begin.capabilities = [(String::new(), vec![0; count])].into();
                all.push(Command::Begin(begin));
            }
            Command::HandOver(mut hand_over) => {
                hand_over.letters = (0..count).map(|_| letter()).collect();
                all.push(Command::HandOver(hand_over));
            }
            Command::Operate(Operate { operation, principal, reason, change: Change::Create(definition) }) => {
                let criteria = Criteria(vec![Criterion { types: texts(), tags: texts() }]);
                let change = Change::Create(Box::new(Definition { criteria, ..*definition }));
                all.push(Command::Operate(Operate { operation, principal, reason, change }));
            }
            _ => {}
        }
    }
    all
}

#[test]
fn p10_every_command_that_fits_an_entry_can_be_read_and_applied() {
    let mut state = State::default();
    state.apply(LogIndex(1), &entry(all_commands().into_iter().take(1).collect()));
    let mut index = 1;
    for count in [1, 20_000, 60_000, 100_000, 170_000, 250_000, 340_000] {
        for command in commands_of(count) {
            let encoded = EncodedCommand::new(&command);
            assert_eq!(encoded.check(), encoded.decode().map(drop));
            if encoded.bytes() + ENTRY_HEAD > ENTRY_BYTES_MAX {
                continue;
            }
            let mut builder = EntryBuilder::default();
            builder.push(&encoded);
            let payload = builder.finish(Timestamp(1), ContextId(0));
            let read = read_entry(&payload).unwrap();
            assert_eq!(Ok(&read), decode_entry(&payload).as_ref(), "{count}: {}", encoded.bytes());
            assert!(read.commands == [command]);
            index += 1;
            assert_eq!(state.apply(LogIndex(index), &read).len(), 1);
        }
    }
    assert!(index > 40, "most of them fit: {index}");
}

/// Returns a command in a given version of its body, with these bytes added to its fields.
fn with_fields(command: &Command, version: u16, fields: &[u8]) -> EncodedCommand {
    let encoded = EncodedCommand::new(command);
    let (known, body) = kinds::fields_and_body(encoded.kind, &encoded.body).unwrap();
    let fields = [known, fields].concat();
    let mut out = Vec::new();
    varint::encode(fields.len() as u64, &mut out);
    out.extend_from_slice(&fields);
    out.extend_from_slice(body);
    EncodedCommand { kind: kind_of(encoded.kind) | version << 8, body: out.into() }
}

fn entry_of(encoded: &EncodedCommand) -> Bytes {
    let mut builder = EntryBuilder::default();
    builder.push(encoded);
    builder.finish(Timestamp(1), ContextId(0))
}

/// The reserved extensions: events that an `Advance` emits, the generation of tokens, and new fields of any kind.
#[test]
fn additions_of_a_newer_build_are_reported_and_not_guessed() {
    let mut seen = std::collections::BTreeSet::new();
    for command in all_commands() {
        seen.insert(kind_of(EncodedCommand::new(&command).kind));
        for tag in [1_u32, 2, 3, 200].into_iter().filter(|tag| *tag > 2 || !matches!(command, Command::Operate(_))) {
            if tag == 1 && matches!(command, Command::Found(_)) {
                continue;
            }
            let mut fields = Fields::default();
            fields.put(tag, b"of a later build");
            let encoded = with_fields(&command, 1, fields.bytes());
            let error = encoded.decode().unwrap_err();
            assert!(error.is_from_a_newer_build() && error.to_string().contains(&format!("field {tag}")), "{error}");
            assert_eq!(encoded.check(), Err(error.clone()));
            assert_eq!(read_entry(&entry_of(&encoded)), Err(error));
        }
        for version in [3, 255] {
            let error = with_fields(&command, version, &[]).decode().unwrap_err();
            assert!(error.is_from_a_newer_build(), "{error}");
            assert!(error.to_string().contains(&format!("version {version}")), "{error}");
        }
        // No build writes malformed fields: the command is rejected on all nodes, and later entries are applied.
        let broken = with_fields(&command, 1, &[250, 1]);
        let read = read_entry(&entry_of(&broken)).unwrap();
        assert_eq!(read.commands, [Command::Unreadable { kind: broken.kind, body: broken.body.to_vec() }]);
    }
    assert_eq!(seen, (1..=13).collect(), "the golden file has every kind of command");
}

#[test]
fn a_command_without_new_fields_decodes_equally_in_all_versions() {
    for command in all_commands() {
        for version in [1, 2] {
            assert_eq!(with_fields(&command, version, &[]).decode(), Ok(command.clone()));
        }
        let encoded = with_fields(&command, 1, &[]);
        let Command::Append(append) = &command else { continue };
        let payload = entry_of(&encoded);
        for (nth, event) in append.events.iter().enumerate() {
            assert_eq!(decode_event_at(&payload, 0, nth).as_ref(), Ok(event), "its events are where they are");
        }
    }
}
