//! A frame: one entry of the Raft log as it stands in a chunk. It holds no position: which of its appends were
//! stored, and where, is decided when it is applied.
//!
//! ```text
//!  offset  bytes
//!       0      4  length of the whole frame, this header and the payload
//!       4      4  crc32c of: first index of the chunk (8), offset of the frame in it (8),
//!                 bytes 0..4 and bytes 8..length of the frame
//!       8      1  kind: 1 blank, 2 membership, 3 commands
//!       9      1  version of the frame, 1
//!      10      2  0
//!      12      4  context
//!      16      8  Raft index
//!      24      8  Raft term
//!      32      4  count of the events in it, stored or not
//!      36         payload
//! ```
//! All numbers are little endian. A length of 0 stands where nothing was written yet. The checksum covers the
//! place, so that a frame that was written elsewhere, or is left from another life of the file, is found (P8).

use bytes::Bytes;
use evener_core::id::{ContextId, LogIndex, Term};

/// Bytes before the payload.
pub const FRAME_HEADER_BYTES: usize = 36;
/// An entry is at most 1 MiB: it must travel in one peer frame, and be held in memory whole.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 20;
/// The longest frame.
pub const FRAME_BYTES_MAX: usize = FRAME_HEADER_BYTES + PAYLOAD_BYTES_MAX;

const VERSION: u8 = 1;

/// One entry of the Raft log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its place in the Raft log.
    pub index: LogIndex,
    /// The term it was proposed in.
    pub term: Term,
    /// What the payload is.
    pub kind: FrameKind,
    /// Where its events go.
    pub context: ContextId,
    /// Events in it, whether they will be stored or not.
    pub count: u32,
    /// Opaque here.
    pub payload: Bytes,
}

/// What the payload of a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// Nothing: a new leader's first entry.
    Blank = 1,
    /// Who votes.
    Membership = 2,
    /// An encoded [`evener_core::command::Entry`].
    Commands = 3,
}

/// Where a frame stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FrameLocation {
    /// The first index of its chunk.
    pub chunk: LogIndex,
    /// The frame's first byte in the chunk's file.
    pub offset: u64,
}

/// Why bytes are not a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Nothing was written here.
    #[error("nothing was written here")]
    Empty,
    /// The bytes end within the frame.
    #[error("the file ends {missing} bytes before the frame does")]
    Short {
        /// How many are missing.
        missing: usize,
    },
    /// The length cannot be.
    #[error("its length says {length}, and a frame has {FRAME_HEADER_BYTES} to {FRAME_BYTES_MAX} bytes")]
    Length {
        /// What it says.
        length: usize,
    },
    /// The bytes are not what was written, or not here.
    #[error("its checksum is {found:08x} and should be {expected:08x}")]
    Checksum {
        /// What it says.
        found: u32,
        /// What the bytes give.
        expected: u32,
    },
    /// Written by a later build.
    #[error("it has version {0}, which this build does not know; start a newer one")]
    Version(u8),
    /// Written by a later build.
    #[error("it is of kind {0}, which this build does not know; start a newer one")]
    Kind(u8),
    /// Written by a later build.
    #[error("it has flags {0:#06x}, which this build does not know; start a newer one")]
    Flags(u16),
}

impl Frame {
    /// Bytes it takes in a chunk.
    #[must_use]
    pub fn bytes(&self) -> usize {
        FRAME_HEADER_BYTES + self.payload.len()
    }

    /// Writes it as it stands at `place`. The payload must be within [`PAYLOAD_BYTES_MAX`].
    pub fn encode(&self, location: FrameLocation, out: &mut Vec<u8>) {
        debug_assert!(self.payload.len() <= PAYLOAD_BYTES_MAX);
        let length = u32::try_from(self.bytes()).expect("a frame is at most 1 MiB and a header");
        let start = out.len();
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.push(self.kind as u8);
        out.push(VERSION);
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(&self.context.0.to_le_bytes());
        out.extend_from_slice(&self.index.0.to_le_bytes());
        out.extend_from_slice(&self.term.0.to_le_bytes());
        out.extend_from_slice(&self.count.to_le_bytes());
        out.extend_from_slice(&self.payload);
        let sum = checksum(location, &out[start..]);
        out[start + 4..start + 8].copy_from_slice(&sum.to_le_bytes());
    }

    /// Reads the frame that `bytes` begin with. Its payload is a slice of them.
    pub fn decode(location: FrameLocation, bytes: &Bytes) -> Result<Self, FrameError> {
        let length = Self::length(bytes)?;
        let frame = bytes.get(..length).ok_or_else(|| FrameError::Short { missing: length - bytes.len() })?;
        let (found, expected) = (u32_at(frame, 4), checksum(location, frame));
        if found != expected {
            return Err(FrameError::Checksum { found, expected });
        }
        if frame[9] != VERSION {
            return Err(FrameError::Version(frame[9]));
        }
        if frame[10..12] != [0; 2] {
            return Err(FrameError::Flags(u16::from_le_bytes([frame[10], frame[11]])));
        }
        Ok(Self {
            kind: FrameKind::of(frame[8])?,
            context: ContextId(u32_at(frame, 12)),
            index: LogIndex(u64_at(frame, 16)),
            term: Term(u64_at(frame, 24)),
            count: u32_at(frame, 32),
            payload: bytes.slice(FRAME_HEADER_BYTES..length),
        })
    }

    /// How long the frame is that `bytes` begin with, checked before anybody takes memory for it.
    pub fn length(bytes: &[u8]) -> Result<usize, FrameError> {
        let head = bytes.get(..4).ok_or_else(|| FrameError::Short { missing: 4 - bytes.len() })?;
        match u32_at(head, 0) as usize {
            0 => Err(FrameError::Empty),
            length @ FRAME_HEADER_BYTES..=FRAME_BYTES_MAX => Ok(length),
            length => Err(FrameError::Length { length }),
        }
    }
}

impl FrameKind {
    fn of(byte: u8) -> Result<Self, FrameError> {
        match byte {
            1 => Ok(Self::Blank),
            2 => Ok(Self::Membership),
            3 => Ok(Self::Commands),
            other => Err(FrameError::Kind(other)),
        }
    }
}

/// `frame` is at least a header.
fn checksum(location: FrameLocation, frame: &[u8]) -> u32 {
    let mut head = [0; 20];
    head[..8].copy_from_slice(&location.chunk.0.to_le_bytes());
    head[8..16].copy_from_slice(&location.offset.to_le_bytes());
    head[16..].copy_from_slice(&frame[..4]);
    crc32c::crc32c_append(crc32c::crc32c(&head), &frame[8..])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LOCATION: FrameLocation = FrameLocation { chunk: LogIndex(7), offset: 32 };

    fn frame(payload: &[u8]) -> Frame {
        Frame {
            index: LogIndex(9),
            term: Term(3),
            kind: FrameKind::Commands,
            context: ContextId(1),
            count: 2,
            payload: Bytes::copy_from_slice(payload),
        }
    }

    fn encoded(frame: &Frame) -> Vec<u8> {
        let mut out = Vec::new();
        frame.encode(LOCATION, &mut out);
        out
    }

    #[test]
    fn the_format_has_the_documented_layout() {
        let golden = [
            41, 0, 0, 0, // length
            198, 102, 9, 84, // checksum
            3, 1, 0, 0, // kind, version, zero
            1, 0, 0, 0, // context
            9, 0, 0, 0, 0, 0, 0, 0, // index
            3, 0, 0, 0, 0, 0, 0, 0, // term
            2, 0, 0, 0, // count
            b'h', b'e', b'l', b'l', b'o',
        ];
        assert_eq!(encoded(&frame(b"hello")), golden);
    }

    #[test]
    fn lengths_are_checked_before_memory_is_allocated() {
        for length in [1, 35, FRAME_BYTES_MAX as u32 + 1, u32::MAX] {
            let bytes = Bytes::copy_from_slice(&length.to_le_bytes());
            assert_eq!(Frame::decode(LOCATION, &bytes), Err(FrameError::Length { length: length as usize }));
        }
        assert_eq!(Frame::decode(LOCATION, &Bytes::from_static(&[0; 100])), Err(FrameError::Empty));
        assert!(matches!(Frame::decode(LOCATION, &Bytes::from_static(&[36])), Err(FrameError::Short { .. })));
    }

    #[test]
    fn frames_of_a_newer_build_are_reported() {
        let check = |at: usize, byte: u8, expect: FrameError| {
            let mut bytes = encoded(&frame(b"x"));
            bytes[at] = byte;
            let sum = checksum(LOCATION, &bytes);
            bytes[4..8].copy_from_slice(&sum.to_le_bytes());
            assert_eq!(Frame::decode(LOCATION, &bytes.into()), Err(expect));
        };
        check(8, 4, FrameError::Kind(4));
        check(9, 2, FrameError::Version(2));
        check(11, 1, FrameError::Flags(256));
    }

    #[test]
    fn p8_a_frame_is_valid_only_where_it_was_written() {
        let bytes = Bytes::from(encoded(&frame(b"x")));
        for location in [FrameLocation { chunk: LogIndex(8), ..LOCATION }, FrameLocation { offset: 33, ..LOCATION }] {
            assert!(matches!(Frame::decode(location, &bytes), Err(FrameError::Checksum { .. })));
        }
    }

    proptest! {
        #[test]
        fn round_trip(payload: Vec<u8>, index: u64, term: u64, context: u32, count: u32, more: Vec<u8>) {
            let frame = Frame {
                index: LogIndex(index), term: Term(term), context: ContextId(context), count,
                ..frame(&payload)
            };
            let mut bytes = encoded(&frame);
            bytes.extend(more);
            prop_assert_eq!(Frame::decode(LOCATION, &bytes.into()), Ok(frame));
        }

        #[test]
        fn p8_a_flipped_bit_is_found(payload: Vec<u8>, at: proptest::sample::Index, bit in 0..8u8) {
            let mut bytes = encoded(&frame(&payload));
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert!(Frame::decode(LOCATION, &bytes.into()).is_err());
        }

        #[test]
        fn malformed_bytes_are_no_frame_and_do_not_panic(bytes: Vec<u8>) {
            prop_assert!(Frame::decode(LOCATION, &bytes.into()).is_err());
        }
    }
}
