//! The decoders of this crate, for fuzz tests. If a format has a checksum, it is corrected first, because random bytes
//! would never pass it.

use bytes::Bytes;
use evener_core::{
    command::{Command, Entry},
    fuzz::Decoder,
    id::{ClusterId, ContextId, Incarnation, LogIndex, NodeId, Position, Term},
    state::State,
    time::Timestamp,
};
use uuid::Uuid;
use xxhash_rust::xxh3::Xxh3;

use crate::{
    checkpoint::{Checkpoint, SavedCheckpoint},
    chunk, codec,
    disk::{Disk, MemoryDisk, Op},
    footer,
    frame::{Frame, FrameKind, FrameLocation},
    identity::Identity,
    payload::{self, EncodedCommand},
    verdict::{ACCEPTED_MAX, Verdict},
    vote::VoteRecord,
    watermark::Watermark,
};

/// Returns every decoder of bytes on disk and of the values in them.
#[must_use]
pub fn decoders() -> Vec<Decoder> {
    vec![
        Decoder::new("frame", frame, frames),
        Decoder::new("entry", entry, entries),
        Decoder::new("event", event, events),
        Decoder::new("chunk-header", chunk_header, chunk_headers),
        Decoder { memory: 8 * ACCEPTED_MAX, ..Decoder::new("footer", footer, footers) },
        // An encoded element of one byte takes up to 200 bytes in memory, and a growing list needs twice as much for a
        // moment.
        Decoder { memory: 4 * ACCEPTED_MAX, ..Decoder::new("state", state, states) },
        Decoder { memory: 8 * ACCEPTED_MAX, ..Decoder::new("checkpoint", checkpoint, saved) },
        Decoder::new("identity", |bytes| _ = Identity::read(&disk("identity", bytes)), identities),
        Decoder::new("vote", |bytes| _ = VoteRecord::read(&disk("vote", bytes)), votes),
        Decoder::new("watermark", |bytes| _ = Watermark::read(&disk("watermark", bytes)), watermarks),
    ]
}

/// Returns one command of each form, from the golden file.
#[must_use]
pub fn commands() -> Vec<Command> {
    let lines = include_str!("payload/golden.txt").lines().filter(|line| !line.starts_with("entry "));
    let commands = lines.map(|line| {
        let (kind, body) = line.split_once(' ').expect("a kind and a body");
        let body: Vec<u8> = (0..body.len() / 2)
            .map(|at| u8::from_str_radix(&body[2 * at..2 * at + 2], 16).expect("the golden file is in hex"))
            .collect();
        EncodedCommand::from_parts(kind.parse().expect("a kind is a number"), body.into())
            .decode()
            .expect("the golden file can be read")
    });
    commands.collect()
}

const LOCATION: FrameLocation = FrameLocation { chunk: LogIndex(0), offset: 32 };

fn frame(bytes: &[u8]) {
    let mut bytes = bytes.to_vec();
    if bytes.len() >= 8 {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes();
        bytes[..4].copy_from_slice(&length);
        let sum = crc32c::crc32c(&[&[0; 8], &LOCATION.offset.to_le_bytes()[..], &bytes[..4], &bytes[8..]].concat());
        bytes[4..8].copy_from_slice(&sum.to_le_bytes());
    }
    let bytes = Bytes::from(bytes);
    if let Ok(frame) = Frame::decode(LOCATION, &bytes) {
        let mut again = Vec::new();
        frame.encode(LOCATION, &mut again);
        assert_eq!(again, bytes, "a frame round-trips");
    }
}

fn frames() -> Vec<Vec<u8>> {
    let payloads = entries().into_iter().chain([Vec::new()]);
    let frames = payloads.map(|payload| {
        let mut out = Vec::new();
        let frame = Frame {
            index: LogIndex(7),
            term: Term(2),
            kind: FrameKind::Commands,
            context: ContextId::DEFAULT,
            count: 1,
            payload: payload.into(),
        };
        frame.encode(LOCATION, &mut out);
        out
    });
    frames.collect()
}

fn entry(bytes: &[u8]) {
    if let Ok(entry) = payload::decode_entry(bytes) {
        let again = payload::encode_entry(&entry);
        assert_eq!(payload::decode_entry(&again).as_ref(), Ok(&entry), "an entry round-trips");
    }
    if let Ok(payload) = payload::Payload::parse(bytes) {
        for number in 0..payload.len() {
            let Ok(Some(events)) = payload.events(number) else { continue };
            (0..events.len()).for_each(|nth| _ = events.decode(nth));
        }
    }
}

fn entries() -> Vec<Vec<u8>> {
    let commands = commands();
    let one = |commands: Vec<Command>| {
        payload::encode_entry(&Entry { proposed: Timestamp(1), context: ContextId::DEFAULT, commands }).to_vec()
    };
    commands.iter().map(|command| one(vec![command.clone()])).chain([one(commands.clone()), one(Vec::new())]).collect()
}

fn event(bytes: &[u8]) {
    if let Ok(event) = codec::take_event(bytes) {
        let mut again = Vec::new();
        codec::put_event(&mut again, &event);
        assert_eq!(codec::take_event(&again).as_ref(), Ok(&event), "an event round-trips");
    }
}

fn events() -> Vec<Vec<u8>> {
    let appends = commands().into_iter().filter_map(|command| match command {
        Command::Append(append) => Some(append.events),
        _ => None,
    });
    let events = appends.flatten().map(|event| {
        let mut out = Vec::new();
        codec::put_event(&mut out, &event);
        out
    });
    events.collect()
}

fn chunk_header(bytes: &[u8]) {
    let mut bytes = bytes.to_vec();
    if bytes.len() >= chunk::CHUNK_HEADER_BYTES {
        let sum = crc32c::crc32c(&[&bytes[..12], &bytes[16..chunk::CHUNK_HEADER_BYTES]].concat());
        bytes[12..16].copy_from_slice(&sum.to_le_bytes());
    }
    _ = chunk::decode_header(LogIndex(3), &bytes);
}

fn chunk_headers() -> Vec<Vec<u8>> {
    vec![chunk::encode_header(LogIndex(3), 65_536).to_vec()]
}

fn footer(bytes: &[u8]) {
    let mut bytes = bytes.to_vec();
    if bytes.len() >= 16 {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes();
        bytes[8..12].copy_from_slice(&length);
        let location = [&FIRST.0.to_le_bytes()[..], &OFFSET.to_le_bytes()[..]].concat();
        let sum = crc32c::crc32c(&[&location, &bytes[..12], &bytes[16..]].concat());
        bytes[12..16].copy_from_slice(&sum.to_le_bytes());
    }
    _ = footer::decode(FIRST, OFFSET, &bytes);
}

fn footers() -> Vec<Vec<u8>> {
    let (ends, terms) = ([132, 232, 332], [(LogIndex(5), Term(1)), (LogIndex(7), Term(2))]);
    vec![footer::encode(FIRST, &ends, &terms, &verdicts(), Xxh3::new()).expect("it is a footer").0]
}

const FIRST: LogIndex = LogIndex(5);
const OFFSET: u64 = 332;

fn state(bytes: &[u8]) {
    if let Ok(state) = codec::decode_image::<State>(bytes) {
        let again = codec::encode_image(&state);
        assert_eq!(codec::decode_image::<State>(&again).as_ref(), Ok(&state), "a state round-trips");
    }
}

fn states() -> Vec<Vec<u8>> {
    let mut state = State::default();
    let mut images = vec![codec::encode_image(&state).to_vec()];
    for (index, command) in (1..).zip(commands()) {
        let entry = Entry { proposed: Timestamp(index), context: ContextId::DEFAULT, commands: vec![command] };
        state.apply(LogIndex(index), &entry);
        images.push(codec::encode_image(&state).to_vec());
    }
    images
}

fn verdicts() -> Vec<Verdict> {
    let verdict = |index, accepted: &[u32]| Verdict {
        index: LogIndex(index),
        context: ContextId::DEFAULT,
        first: Position(if index > 5 { 8 } else { 5 }),
        accepted: accepted.to_vec(),
        events: accepted.len() as u32,
        recorded: Timestamp(index),
    };
    vec![verdict(5, &[0, 1, 5]), verdict(6, &[]), verdict(7, &[2])]
}

fn checkpoint(bytes: &[u8]) {
    _ = SavedCheckpoint::read(&disk("checkpoint", bytes));
}

fn saved() -> Vec<Vec<u8>> {
    let images = states().into_iter().map(|image| {
        let membership = Bytes::from_static(&[1, 0, 0, 0]);
        let checkpoint = Checkpoint { index: LogIndex(7), term: Term(2), membership, image: image.into() };
        file(SavedCheckpoint { checkpoint, open: verdicts() }.replace(false))
    });
    images.collect()
}

fn identities() -> Vec<Vec<u8>> {
    let identity = Identity {
        cluster: ClusterId(Uuid::from_u128(1)),
        node: NodeId(7),
        name: "n1".into(),
        incarnation: Incarnation(Uuid::from_u128(2)),
        chunk_bytes: 65_536,
    };
    let disk = MemoryDisk::new();
    identity.write(&disk).expect("a memory disk takes it");
    vec![whole(&disk, "identity")]
}

fn votes() -> Vec<Vec<u8>> {
    let vote = Some(Bytes::from_static(&[1, 2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 1]));
    let vote_records =
        [VoteRecord { vote, hidden: Some((LogIndex(3), Term(2))) }, VoteRecord { vote: None, hidden: None }];
    vote_records.iter().map(|vote_record| file(vote_record.replace())).collect()
}

fn watermarks() -> Vec<Vec<u8>> {
    let watermark =
        Watermark { base: Some(LogIndex(0)), end: Some((LOCATION, LogIndex(9))), committed: Some(LogIndex(4)) };
    [watermark, Watermark::default()].iter().map(|watermark| file(watermark.write_and_sync())).collect()
}

/// Returns the bytes that these operations write to a file.
fn file(ops: Vec<Op>) -> Vec<u8> {
    let written = ops.into_iter().find_map(|op| match op {
        Op::Write { bytes, .. } => Some(bytes.to_vec()),
        _ => None,
    });
    written.expect("they write the file")
}

fn whole(disk: &MemoryDisk, name: &str) -> Vec<u8> {
    let len = disk.len(name).expect("a memory disk answers").expect("the file is there");
    disk.read(name, 0, usize::try_from(len).expect("it is small")).expect("the file is there")
}

/// Returns a disk with one small file whose header is corrected: the body's length at 12, crc32c of the rest at 16.
fn disk(name: &str, bytes: &[u8]) -> MemoryDisk {
    let mut bytes = bytes.to_vec();
    if let Some((header, body)) = bytes.split_at_mut_checked(20) {
        header[12..16].copy_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes());
        let sum = crc32c::crc32c_append(crc32c::crc32c(&header[..16]), body);
        header[16..].copy_from_slice(&sum.to_le_bytes());
    }
    let disk = MemoryDisk::new();
    let write = Op::Write { file: name.into(), offset: 0, bytes: bytes.into() };
    disk.perform(vec![Op::Create { file: name.into(), preallocate: 0 }, write]).expect("a memory disk takes it");
    disk
}
