//! A frame: one entry of the Raft log in a chunk. It holds no position: which of its appends are stored, and at which
//! positions, is decided when it is applied.
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
//! All numbers are little-endian. A length of 0 means that nothing was written here yet. The checksum covers the
//! location, so that a frame written elsewhere, or left from an earlier use of the file, is detected (P8).

use bytes::Bytes;
use evener_core::id::{ContextId, LogIndex, Term};

/// Bytes before the payload.
pub const FRAME_HEADER_BYTES: usize = 36;
/// Bytes of the payload: an entry must fit one peer message and be held in memory.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 20;
/// The longest frame.
pub const FRAME_BYTES_MAX: usize = FRAME_HEADER_BYTES + PAYLOAD_BYTES_MAX;

const VERSION: u8 = 1;

/// One entry of the Raft log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its index in the Raft log.
    pub index: LogIndex,
    /// The term in which it was proposed.
    pub term: Term,
    /// The kind of its payload.
    pub kind: FrameKind,
    /// The context of its events.
    pub context: ContextId,
    /// The number of its events, stored or not.
    pub count: u32,
    /// The payload, opaque to this module.
    pub payload: Bytes,
}

/// The kind of a frame's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// An empty payload: the first entry of a new leader.
    Blank = 1,
    /// The membership of the Raft group.
    Membership = 2,
    /// An encoded [`evener_core::command::Entry`].
    Commands = 3,
}

/// The location of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FrameLocation {
    /// The first index of its chunk.
    pub chunk: LogIndex,
    /// The offset of the frame in the chunk's file.
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
        /// The number of missing bytes.
        missing: usize,
    },
    /// The length is invalid.
    #[error("its length is {length}, but a frame has {FRAME_HEADER_BYTES} to {FRAME_BYTES_MAX} bytes")]
    Length {
        /// The length in its header.
        length: usize,
    },
    /// The bytes differ from what was written, or were written at another location.
    #[error("its checksum is {found:08x} instead of {expected:08x}")]
    Checksum {
        /// The checksum in its header.
        found: u32,
        /// The checksum of its bytes.
        expected: u32,
    },
    /// Written by a newer build.
    #[error("its version {0} is unknown to this build; start a newer build")]
    Version(u8),
    /// Written by a newer build.
    #[error("its kind {0} is unknown to this build; start a newer build")]
    Kind(u8),
    /// Written by a newer build.
    #[error("its flags {0:#06x} are unknown to this build; start a newer build")]
    Flags(u16),
}

impl Frame {
    /// Returns its length in a chunk.
    #[must_use]
    pub fn bytes(&self) -> usize {
        FRAME_HEADER_BYTES + self.payload.len()
    }

    /// Encodes it for `location`. The payload must be within [`PAYLOAD_BYTES_MAX`].
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

    /// Decodes the frame at the start of `bytes`. Its payload is a slice of them.
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

    /// Returns the length of the frame at the start of `bytes`, checked before memory is allocated for it.
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

/// Returns the checksum of a frame, which has at least a header.
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
