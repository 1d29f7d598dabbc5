//! A checkpoint of every version, kept for ever: the layout of the current version must not change without a new
//! version number.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
};

use evener_core::{
    append::Append,
    backoff::Backoff,
    canonical::samples::outcomes,
    command::{
        Admit, Advance, Assign, Begin, Change, Command, Entry, Found, LetterMove, Move, Operate, Outcome, Progress,
        RefusalReason, Right, TokenMove,
    },
    criteria::{Criteria, Criterion},
    event::Event,
    hash,
    id::{
        ClusterId, ComponentId, Epoch, FeatureLevel, Generation, Incarnation, NodeId, ProcessorId, SegmentId, SessionId,
    },
    letter::{Failure, SequenceKey},
    limits::{LimitName, Limits},
    principal::Principal,
    processor::{Definition, Handler, OnError, Start},
    reason::LimitReached,
    replay::ResetTo,
    sequence::Sequencing,
    state::{ChangeKind, Operation, State, Subject},
    token::Item,
};
use uuid::Uuid;

use super::*;
use crate::{codec, disk::MemoryDisk};

/// The file of a checkpoint of each version, in hex. Older versions stay here: their files must be skipped, never
/// read as something else.
const GOLDEN: &[(u16, &str)] = &[
    (2, include_str!("golden/2.hex")),
    (3, include_str!("golden/3.hex")),
    (4, include_str!("golden/4.hex")),
    (5, include_str!("golden/5.hex")),
];

const RAISE: &str = "the layout of the replicated state, or the effect of commands on it, has changed: raise VERSION \
                     in store/src/checkpoint.rs, so that older checkpoints are replaced by a replay, and add the file \
                     store/src/checkpoint/golden/VERSION.hex, which EVENER_GOLDEN=1 writes; never change an older one";

const OTHER: &str = "the golden file of a version or the reader of small files was changed";

/// A state that is built by commands.
struct Built {
    state: State,
    index: u64,
}

impl Built {
    fn apply(&mut self, command: Command) -> Outcome {
        self.index += 1;
        let entry =
            Entry { proposed: Timestamp(1_000 * self.index), context: ContextId::DEFAULT, commands: vec![command] };
        self.state.apply(LogIndex(self.index), &entry).remove(0)
    }

    fn change(&mut self, change: Change) {
        let operate = Operate {
            operation: Uuid::from_u128(u128::from(self.index) << 64),
            principal: Some(Principal("ada".into())),
            reason: Some("because".into()),
            change,
        };
        let outcome = self.apply(Command::Operate(operate));
        assert!(matches!(outcome, Outcome::Changed(1) | Outcome::Done), "{outcome:?}");
    }

    /// Applies the progress that one node reports for a processor under its current session.
    fn advance(&mut self, node: u64, processor: u32, tokens: Vec<TokenMove>, letters: Vec<LetterMove>) {
        let item = Progress { processor: ProcessorId(processor), scanned: Some(Position(1)), tokens, letters };
        let session = self.state.sessions[&NodeId(node)].session;
        let (node, as_of) = (NodeId(node), LogIndex(self.index));
        let outcome = self.apply(Command::Advance(Advance { node, session, as_of, items: vec![item] }));
        assert_eq!(outcome, Outcome::Advanced(vec![]));
    }

    fn epoch(&self, processor: u32, segment: SegmentId) -> Epoch {
        self.state.processors[&ProcessorId(processor)].segments[&segment].claim.epoch
    }

    /// Returns the segment of a sequence and the epoch of its claim.
    fn claim_of(&self, processor: u32, sequence: &SequenceKey) -> (SegmentId, Epoch) {
        let hash = hash::sequence(sequence.name.as_bytes());
        let (segment, share) = self.state.processors[&ProcessorId(processor)].share_of(hash).unwrap();
        (*segment, share.claim.epoch)
    }
}

fn admit(node: u64) -> Admit {
    Admit {
        name: format!("n{node}"),
        incarnation: Incarnation(Uuid::from_u128(u128::from(node))),
        peer: format!("n{node}:4751"),
        http: format!("http://n{node}:4750"),
        level: FeatureLevel(2),
    }
}

fn begin(node: u64) -> Begin {
    let Admit { incarnation, peer, http, level, .. } = admit(node);
    let capabilities = [("p".to_owned(), vec![1, 2])].into();
    let (node, nonce) = (NodeId(node), Uuid::from_u128(u128::from(100 + node)));
    Begin { node, incarnation, peer, http, level, capabilities, weight: 3, nonce }
}

fn definition(name: &str, handler: Handler, sequencing: Sequencing, on_error: OnError) -> Definition {
    Definition {
        name: name.into(),
        context: ContextId::DEFAULT,
        handler,
        segments: 3,
        start: Start::Beginning,
        criteria: Criteria(vec![Criterion { types: vec!["k".into()], tags: vec!["t".into()] }]),
        sequencing,
        on_error,
        backoff: Backoff { first_ms: 1, max_ms: 2, attempts: 9 },
    }
}

fn failure(attempt: u32, last: bool) -> Failure {
    Failure { attempt, cause: "it fails".into(), wait_ms: 1_000, random: 7, last }
}

/// Members, sessions, events and processors.
fn members_and_processors(built: &mut Built) {
    let cluster = ClusterId(Uuid::from_u128(77));
    built.apply(Command::Found(Found { cluster, limits: Limits::IF_NOT_STORED, first: admit(1) }));
    (2..=5).for_each(|node| assert_eq!(built.apply(Command::Admit(admit(node))), Outcome::Admitted(NodeId(node))));
    (1..=4).for_each(|node| assert_eq!(built.apply(Command::Begin(begin(node))), Outcome::Begun(SessionId(node))));
    built.apply(Command::RaiseLevel(FeatureLevel(2)));
    let event = |number: u128| Event {
        id: Uuid::from_u128(number),
        source: "s".into(),
        kind: "k".into(),
        stream: number.is_multiple_of(2).then(|| "stream".into()),
        tags: vec!["t".into()],
        ..Event::default()
    };
    built.apply(Command::Append(Append { events: (1..=6).map(event).collect(), ..Append::default() }));
    let exec = Definition {
        start: Start::Head,
        ..definition("x", Handler::Exec("true".into()), Sequencing::Tag("t".into()), OnError::Stop)
    };
    let webhook = Definition {
        start: Start::At(Position(2)),
        ..definition("w", Handler::Webhook("http://h".into()), Sequencing::Extension("e".into()), OnError::Skip)
    };
    let embedded = |name, sequencing| definition(name, Handler::Embedded, sequencing, OnError::SetAside);
    let all = [embedded("p", Sequencing::KeyElseStream), exec, webhook, embedded("stream", Sequencing::Stream)];
    for definition in all.into_iter().chain([embedded("all", Sequencing::Whole), embedded("one", Sequencing::None)]) {
        built.change(Change::Create(definition.into()));
    }
    let to = |processor, segment, to| Move {
        processor: ProcessorId(processor),
        segment: SegmentId(segment),
        to: NodeId(to),
    };
    let moves = vec![to(1, 0, 1), to(1, 1, 1), to(1, 2, 1), to(2, 0, 1), to(2, 1, 2), to(2, 2, 2)];
    let generation = built.state.generation;
    assert_eq!(built.apply(Command::Assign(Assign { generation, moves })), Outcome::Changed(6));
}

/// Progress, letters in every way to wait, and segments that wait with their event.
fn progress_and_letters(built: &mut Built) {
    let sequence = |name: &str| SequenceKey { component: ComponentId(0), name: name.into() };
    let set_aside = |built: &Built, name: &str, position, failure| {
        let (segment, epoch) = built.claim_of(1, &sequence(name));
        let (sequence, position) = (sequence(name), Position(position));
        LetterMove::SetAside { segment, epoch, sequence, position, kind: "k".into(), failure }
    };
    let (segment, epoch) = built.claim_of(1, &sequence("a"));
    let queued = LetterMove::Queue { segment, epoch, sequence: sequence("a"), position: Position(3), kind: "k".into() };
    let lent = failure(Limits::IF_NOT_STORED.own_attempts, false);
    let letters = vec![
        set_aside(built, "a", 1, failure(1, false)),
        queued,
        set_aside(built, "b", 2, failure(9, true)),
        set_aside(built, "c", 4, lent),
    ];
    let (segment, epoch) = built.claim_of(1, &sequence("d"));
    let skipped = LetterMove::Skipped { segment, epoch, sequence: sequence("d"), position: Position(5) };
    let token = TokenMove { segment: SegmentId(2), epoch: built.epoch(1, SegmentId(2)), next: Position(6) };
    built.advance(1, 1, vec![token], [letters, vec![skipped]].concat());
    let (segment, epoch) = built.claim_of(1, &sequence("a"));
    let right = Right::Claim(segment, epoch);
    let tried = LetterMove::Tried {
        right,
        sequence: sequence("a"),
        position: Position(1),
        revision: 0,
        failure: failure(2, false),
        unable: true,
    };
    built.advance(1, 1, vec![], vec![tried]);
    for (node, segment, unable) in [(1, 0, true), (2, 1, false), (2, 2, false)] {
        let (segment, position) = (SegmentId(segment), Position(6));
        let epoch = built.epoch(2, segment);
        let failure = failure(if segment.0 == 1 { Limits::IF_NOT_STORED.own_attempts } else { 1 }, segment.0 == 0);
        built.advance(node, 2, vec![], vec![LetterMove::Stall { segment, epoch, position, failure, unable }]);
    }
}

/// What people did.
fn operations(built: &mut Built) {
    let p = || "p".to_owned();
    built.change(Change::Pause("w".into(), true));
    built.change(Change::Release(p(), SegmentId(0)));
    built.change(Change::Claim(p(), SegmentId(1), NodeId(2)));
    built.change(Change::Claim("x".into(), SegmentId(2), NodeId(2)));
    built.change(Change::SkipEvent("x".into(), SegmentId(2), Position(6)));
    built.change(Change::Split("p".into(), Some(SegmentId(2))));
    built.change(Change::Reset("w".into(), ResetTo::At(Position(1)), Some("{}".into())));
    built.change(Change::Expect("n9:4751".into()));
    built.change(Change::Lead(NodeId(2), Term(3)));
    built.change(Change::Leave(NodeId(4)));
    assert_eq!(built.apply(Command::Remove(NodeId(5))), Outcome::Done);
}

/// What no command sets yet, and an outcome of each form.
fn fields_that_no_command_sets(built: &mut Built) {
    let processor = built.state.processors.get_mut(&ProcessorId(4)).unwrap();
    processor.generation = Generation(3);
    let aside = built.state.processors.get_mut(&ProcessorId(1)).unwrap().set_aside.values_mut().next().unwrap();
    aside.letters[0].replaying = true;
    let letters = aside.letters.iter().cloned().collect();
    let replay = built.state.processors.get_mut(&ProcessorId(3)).unwrap().replay.as_mut().unwrap();
    replay.dropped = [(SequenceKey { component: ComponentId(0), name: "s".into() }, letters)].into();
    let processor = built.state.processors.get_mut(&ProcessorId(4)).unwrap();
    let share = processor.segments.get_mut(&SegmentId(0)).unwrap();
    let (left, right) = share.segment.split().unwrap();
    let item = |part, replay_until, done, again| Item { part, next: Position(1), replay_until, done, again };
    let items = [
        item(left, share.token.low().max(Position(3)), vec![], vec![]),
        item(right, share.token.low(), vec![Position(5)], vec![Position(9)]),
    ];
    share.token = codec::decode_image(&codec::encode_image(&items.to_vec())).unwrap();
    let limits = (1..=1_002).filter_map(|number| {
        let named = |name: &LimitName| name.number() == number;
        let all = Limits::IF_NOT_STORED.rows().map(|(name, ..)| name);
        all.chain([LimitName::Versions, LimitName::ConditionsBytes]).find(named)
    });
    let limits = limits.map(|limit| Outcome::Refused(RefusalReason::Limit(LimitReached::new(limit, 5))));
    let subject = Subject {
        processor: Some("p".into()),
        segment: Some(SegmentId(1)),
        position: Some(Position(4)),
        sequence: Some(SequenceKey { component: ComponentId(2), name: "s".into() }),
        node: Some(NodeId(3)),
        member: Some("m".into()),
        address: Some("a".into()),
    };
    for (number, outcome) in (1..).zip(outcomes().into_iter().chain(limits)) {
        built.state.operations.push_back(Operation {
            operation: Uuid::from_u128(number),
            index: LogIndex(built.index),
            recorded: Timestamp(5),
            principal: None,
            reason: None,
            kind: KINDS[number as usize % KINDS.len()],
            subject: if number == 1 { subject.clone() } else { Subject::default() },
            digest: 8,
            outcome,
            goal: None,
        });
    }
}

const KINDS: [ChangeKind; 19] = {
    use ChangeKind::*;
    [
        Create, Delete, Pause, Resume, Release, Claim, Unpin, Retry, Skip, Drop, SetLimits, Expect, Leave, Lead,
        SkipEvent, Reset, Split, Merge, Move,
    ]
};

/// A state in which every field of every type in it is set somewhere.
fn rich() -> State {
    let mut built = Built { state: State::default(), index: 0 };
    members_and_processors(&mut built);
    progress_and_letters(&mut built);
    operations(&mut built);
    fields_that_no_command_sets(&mut built);
    built.state
}

fn saved() -> SavedCheckpoint {
    let verdict = |index, accepted: &[u32]| Verdict {
        index: LogIndex(index),
        context: ContextId::DEFAULT,
        first: Position(index),
        accepted: accepted.to_vec(),
        events: 2,
        recorded: Timestamp(700 + index),
    };
    let checkpoint = Checkpoint {
        index: LogIndex(40),
        term: Term(3),
        membership: Bytes::from_static(b"\x01\x03\x27\x02ab"),
        image: codec::encode_image(&rich()),
    };
    SavedCheckpoint { checkpoint, open: vec![verdict(39, &[]), verdict(40, &[0, 1, 4])] }
}

fn bytes_of(hex: &str) -> Bytes {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect::<Vec<u8>>().into()
}

fn hex_of(bytes: &[u8]) -> String {
    let line = |chunk: &[u8]| chunk.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n";
    bytes.chunks(48).map(line).collect()
}

fn disk_with(file: Bytes) -> MemoryDisk {
    let disk = MemoryDisk::new();
    let file_of = || FILE.file.to_owned();
    let create = Op::Create { file: file_of(), preallocate: 0 };
    disk.perform(vec![create, Op::Write { file: file_of(), offset: 0, bytes: file }]).unwrap();
    disk
}

#[test]
fn the_golden_checkpoint_of_this_version_round_trips() {
    let made = FILE.encode(&saved().encode());
    if std::env::var_os("EVENER_GOLDEN").is_some() {
        let path = format!("{}/src/checkpoint/golden/{VERSION}.hex", env!("CARGO_MANIFEST_DIR"));
        // One that is there stays.
        let _ = std::fs::File::create_new(path).map(|mut file| file.write_all(hex_of(&made).as_bytes()).unwrap());
    }
    let (_, golden) = GOLDEN.iter().find(|(version, _)| *version == VERSION).expect(RAISE);
    let (read, failed) = SavedCheckpoint::read(&disk_with(bytes_of(golden)));
    assert!(failed.is_empty(), "{OTHER}: {failed:?}");
    let read = read.into_iter().next().expect("one was written");
    let state = codec::decode_image::<State>(&read.checkpoint.image);
    let state = state.unwrap_or_else(|error| panic!("{RAISE} ({error})"));
    assert!(state == rich(), "{RAISE}");
    assert_eq!(
        Checkpoint { image: Bytes::new(), ..read.checkpoint },
        Checkpoint { image: Bytes::new(), ..saved().checkpoint }
    );
    assert_eq!(read.open, saved().open);
    assert!(made == bytes_of(golden), "{RAISE}");
}

#[test]
fn golden_checkpoints_of_other_versions_are_skipped() {
    let older = GOLDEN.iter().filter(|(version, _)| *version != VERSION);
    // The one of version 1 that a data directory of that time has is read with the whole directory.
    for (version, golden) in older {
        let (read, failed) = SavedCheckpoint::read(&disk_with(bytes_of(golden)));
        assert!(read.is_empty() && failed.len() == 1, "version {version}");
    }
}

/// Each line of a value that is shown at length names a field and, if it is one, its value without parts.
#[test]
fn the_golden_state_has_every_field_set() {
    let shown = format!("{:#?}", rich());
    let mut types: Vec<&str> = Vec::new();
    let mut fields: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for line in shown.lines() {
        let depth = (line.len() - line.trim_start().len()) / 4;
        types.truncate(depth);
        let (name, value) = line.trim_start().split_once(": ").unwrap_or(("", line.trim_start()));
        let value = value.trim_end_matches(',');
        if let Some(of) = types.last().filter(|of| !of.is_empty() && !name.is_empty()) {
            fields.entry(format!("{of}.{name}")).or_default().insert(value);
        }
        types.push(value.strip_suffix(" {").unwrap_or(""));
    }
    // These reasons say that something is zero.
    for zero in ["Range.value", "Segments.segments"] {
        assert!(fields.remove(zero).is_some(), "{zero}");
    }
    let unset = ["None", "[]", "{}", "\"\"", "0", "false"];
    let empty: Vec<_> = fields.iter().filter(|(_, values)| values.iter().all(|value| unset.contains(value))).collect();
    assert!(fields.len() > 100, "{}", fields.len());
    assert!(empty.is_empty(), "the golden state does not set {empty:#?}");
}
