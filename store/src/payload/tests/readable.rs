//! What may go into the log can be read there, and what cannot be read is passed over.

use super::*;

/// An append as a client could send it to the version before criteria were bounded: small in bytes, and more than the
/// decoder of its conditions reads.
fn poisonous_append() -> Append {
    let item = Criterion { types: vec![String::new(); 256], tags: vec![] };
    let condition = Condition { criteria: Criteria(vec![item; 33]), marker: Position(9_000_000_000_000_000) };
    Append { conditions: vec![condition; 64], events: vec![Event::default()], ..Append::default() }
}

#[test]
fn an_append_that_no_node_can_decode_is_found_before_it_is_proposed() {
    let encoded = Encoded::append(&poisonous_append());
    assert!(encoded.bytes() < ENTRY_BYTES_MAX, "its bytes alone do not show it");
    assert_eq!(encoded.check(), encoded.decode().map(drop));
    assert!(encoded.check().is_err());
}

#[test]
fn what_cannot_be_read_in_the_log_is_passed_over() {
    let whole =
        entry(vec![Command::Remove(NodeId(1)), Command::Append(poisonous_append()), Command::Append(full_append())]);
    let bytes = encode_entry(&whole);
    assert!(decode_entry(&bytes).is_err());
    let read = read_entry(&bytes).unwrap();
    assert_eq!((&read.commands[0], &read.commands[2]), (&whole.commands[0], &whole.commands[2]));
    assert!(matches!(&read.commands[1], Command::Unreadable { kind: KIND_APPEND, .. }));
    assert_eq!((read.proposed, read.context), (whole.proposed, whole.context));
    assert_eq!(encode_entry(&read), bytes, "it stands there as it stood");

    for end in 0..bytes.len() {
        assert!(read_entry(&bytes[..end]).is_ok(), "cut at {end}");
    }
    let mut newer = encode_entry(&entry(vec![Command::Remove(NodeId(3))])).to_vec();
    newer[ENTRY_HEAD] = 99;
    assert!(read_entry(&newer).unwrap_err().is_from_a_newer_build(), "what it means must not be guessed");
    let event = Append { events: vec![Event::default()], ..Append::default() };
    let mut newer = encode_entry(&entry(vec![Command::Append(event)])).to_vec();
    let flags = newer.len() - 5;
    newer[flags + 1] = 0x80;
    assert!(read_entry(&newer).unwrap_err().is_from_a_newer_build());
}

/// Commands with `count` of everything that they can hold many of, in as few bytes as can be.
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
            let encoded = Encoded::new(&command);
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
