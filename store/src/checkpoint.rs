//! The checkpoint: an image of the replicated state at one index of the log, so that a start replays only later
//! entries. The previous checkpoint is kept: if the newer one cannot be read, more entries are replayed.

#[cfg(test)]
mod golden;

use std::io;

use bytes::Bytes;
use evener_core::{
    id::{ContextId, LogIndex, Position, Term},
    time::Timestamp,
};

use crate::{
    disk::{Disk, Op},
    frame::PAYLOAD_BYTES_MAX,
    small::{BodyReader, SmallFile, put_sized},
    varint,
    verdict::{ACCEPTED_MAX, Verdict, decode_accepted, encode_accepted},
};

/// The largest checkpoint, including the image.
pub const CHECKPOINT_BYTES_MAX: usize = 1 << 30;

/// The version of the file and of the image in it. It is raised whenever the layout of the replicated state changes. A
/// checkpoint of another version is not converted: the log is replayed instead, so that every node computes the same
/// state from the same entries, whatever build wrote the checkpoint. In version 1, reasons in the state were texts;
/// version 2 had no replays, version 3 no splits and merges, and version 4 no letters of a replay.
const VERSION: u16 = 5;

const FILE: SmallFile =
    SmallFile { file: "checkpoint", magic: b"EVNRSTAT", version: VERSION, body_bytes_max: CHECKPOINT_BYTES_MAX };
const PREVIOUS: &str = "checkpoint.previous";

/// An image of the replicated state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The index of the last applied frame.
    pub index: LogIndex,
    /// The term of that frame.
    pub term: Term,
    /// The last membership in the log up to that frame. Opaque to this crate.
    pub membership: Bytes,
    /// The state. Opaque to this crate.
    pub image: Bytes,
}

/// A checkpoint, and the verdicts up to it of frames in chunks that are not sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SavedCheckpoint {
    pub checkpoint: Checkpoint,
    /// The verdicts of consecutive frames; the last has the checkpoint's index.
    pub open: Vec<Verdict>,
}

impl SavedCheckpoint {
    /// The files of checkpoints, the newest first.
    pub(crate) const FILES: [&str; 2] = [FILE.file, PREVIOUS];

    /// Reads the checkpoint in one of [`SavedCheckpoint::FILES`]; returns `None` if the file does not exist.
    pub(crate) fn read_from(disk: &dyn Disk, file: &str) -> io::Result<Option<Self>> {
        let Some(body) = FILE.read_as(disk, file)? else { return Ok(None) };
        let contradicts = || io::Error::other(format!("the content of {file} is inconsistent"));
        Self::decode(&body).map(Some).ok_or_else(contradicts)
    }

    /// Returns the readable checkpoints, the newest first, and the errors of the others.
    pub(crate) fn read(disk: &dyn Disk) -> (Vec<Self>, Vec<io::Error>) {
        let (mut saved, mut failed) = (Vec::new(), Vec::new());
        for file in Self::FILES {
            match Self::read_from(disk, file) {
                Ok(read) => saved.extend(read),
                Err(error) => failed.push(error),
            }
        }
        (saved, failed)
    }

    /// Returns the upper bound of the bytes of its body.
    pub(crate) fn bytes(&self) -> usize {
        64 + self.checkpoint.membership.len() + self.checkpoint.image.len() + 32 * self.open.len()
    }

    /// Returns the operations that replace the last checkpoint; if `previous`, there is one, and it is kept.
    pub(crate) fn replace(&self, previous: bool) -> Vec<Op> {
        let mut ops = FILE.replace(&self.encode());
        if previous {
            let at = ops.iter().position(|op| matches!(op, Op::Rename { .. })).expect("it ends with a rename");
            ops.insert(at, Op::Rename { from: FILE.file.into(), to: PREVIOUS.into() });
        }
        ops
    }

    /// Returns whether there is a checkpoint to keep as the previous one.
    pub(crate) fn exists(disk: &dyn Disk) -> io::Result<bool> {
        Ok(disk.len(FILE.file)?.is_some())
    }

    fn encode(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(self.bytes());
        body.extend_from_slice(&self.checkpoint.index.0.to_le_bytes());
        body.extend_from_slice(&self.checkpoint.term.0.to_le_bytes());
        put_sized(&self.checkpoint.membership, &mut body);
        put_sized(&self.checkpoint.image, &mut body);
        body.extend_from_slice(&(self.open.len() as u64).to_le_bytes());
        for verdict in &self.open {
            varint::encode(u64::from(verdict.context.0), &mut body);
            varint::encode(verdict.first.0, &mut body);
            varint::encode(u64::from(verdict.events), &mut body);
            varint::encode(verdict.recorded.0, &mut body);
            encode_accepted(&verdict.accepted, &mut body);
        }
        body
    }

    fn decode(body: &[u8]) -> Option<Self> {
        let mut body = BodyReader(body);
        let checkpoint = Checkpoint {
            index: LogIndex(body.u64()?),
            term: Term(body.u64()?),
            membership: Bytes::copy_from_slice(body.sized()?),
            image: Bytes::copy_from_slice(body.sized()?),
        };
        let count = body.u64()?;
        let first = checkpoint.index.0.checked_add(1)?.checked_sub(count)?;
        let mut rest = body.0;
        // A row has at least five bytes.
        if count > (rest.len() / 5) as u64 {
            return None;
        }
        let mut open = Vec::with_capacity(count as usize);
        let mut left = ACCEPTED_MAX;
        for index in first..=checkpoint.index.0 {
            if open.len() as u64 == count {
                break;
            }
            let context = ContextId(u32::try_from(varint::decode(&mut rest).ok()?).ok()?);
            let first = Position(varint::decode(&mut rest).ok()?);
            let events = u32::try_from(varint::decode(&mut rest).ok()?).ok()?;
            let recorded = Timestamp(varint::decode(&mut rest).ok()?);
            let accepted = decode_accepted(&mut rest, left.min(PAYLOAD_BYTES_MAX)).ok()?;
            left -= accepted.len();
            open.push(Verdict { index: LogIndex(index), context, first, accepted, events, recorded });
        }
        rest.is_empty().then_some(Self { checkpoint, open })
    }
}

/// Returns the file of a checkpoint with its image replaced and otherwise valid, for tests.
#[cfg(any(test, feature = "testing"))]
#[must_use]
pub fn with_image(file: &[u8], image: impl FnOnce(&Bytes) -> Bytes) -> Bytes {
    let body = FILE.decode(file).expect("the file of a checkpoint");
    let mut saved = SavedCheckpoint::decode(&body).expect("a checkpoint");
    saved.checkpoint.image = image(&saved.checkpoint.image);
    FILE.encode(&saved.encode())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_of_another_version_is_skipped() {
        let empty = Bytes::new;
        let checkpoint = Checkpoint { index: LogIndex(9), term: Term(1), membership: empty(), image: empty() };
        for version in [1, VERSION + 1] {
            let disk = crate::disk::MemoryDisk::new();
            disk.perform(SmallFile { version, ..FILE }.replace(b"another layout")).unwrap();
            let (saved, failed) = SavedCheckpoint::read(&disk);
            assert!(saved.is_empty() && failed.len() == 1, "{version}");
            let next = SavedCheckpoint { checkpoint: checkpoint.clone(), open: vec![] };
            disk.perform(next.replace(true)).unwrap();
            assert_eq!(SavedCheckpoint::read(&disk).0, [next], "the next one is written beside it, and read");
        }
    }

    #[test]
    fn a_checkpoint_round_trips() {
        let checkpoint = Checkpoint {
            index: LogIndex(9),
            term: Term(2),
            membership: Bytes::from_static(b"abc"),
            image: Bytes::from_static(b"state"),
        };
        let verdict = |index| Verdict {
            index: LogIndex(index),
            context: ContextId(1),
            first: Position(70),
            accepted: vec![0, 3],
            events: 4,
            recorded: Timestamp(5),
        };
        for open in [vec![], vec![verdict(8), verdict(9)]] {
            let saved = SavedCheckpoint { checkpoint: checkpoint.clone(), open };
            let body = saved.encode();
            assert_eq!(SavedCheckpoint::decode(&body), Some(saved));
            for short in 0..body.len() {
                assert_eq!(SavedCheckpoint::decode(&body[..short]), None);
            }
        }
    }
}
