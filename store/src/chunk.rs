//! A chunk: a file of frames. This module defines its file name, its header and where it ends.
//!
//! ```text
//!  offset  bytes
//!       0      8  "EVNRCHNK"
//!       8      2  version of the format, 1
//!      10      2  0
//!      12      4  crc32c of bytes 0..12 and 16..32
//!      16      8  chunk_bytes, a constant of the cluster
//!      24      8  Raft index of its first frame, as in the file name
//!      32         frames without gaps, the first with that index, the indexes consecutive, up to the first frame
//!                 that ends at or beyond `chunk_bytes`; then, once the chunk is sealed, the footer (see
//!                 `footer.rs`)
//! ```
//! So a chunk ends with the frame that fills it. This follows from its frames alone, however they were grouped in
//! writes, and a full chunk stays full. Until the chunk is sealed, the file is longer than its frames: the rest is
//! preallocated zeros. Nothing in a chunk is produced by one node alone.

use evener_core::id::LogIndex;

use crate::{
    disk::Op,
    error::Damage,
    frame::{FRAME_BYTES_MAX, Frame, FrameError},
};

/// The directory of the chunks.
pub const CHUNK_DIR: &str = "chunks";
/// Bytes before the first frame.
pub const CHUNK_HEADER_BYTES: usize = 32;
/// The default: large enough that there are few files, small enough that chunks are sealed and compared often.
pub const CHUNK_BYTES_DEFAULT: u64 = 64 << 20;
/// The minimum: small chunks are for tests.
pub const CHUNK_BYTES_MIN: u64 = 4 << 10;
/// The maximum: offsets in a chunk are stored in 32 bits.
pub const CHUNK_BYTES_MAX: u64 = 1 << 30;

const MAGIC: &[u8; 8] = b"EVNRCHNK";
const VERSION: u16 = 1;

/// Returns the file of the chunk whose first frame has this index.
#[must_use]
pub fn chunk_file(first: LogIndex) -> String {
    format!("{CHUNK_DIR}/{:020}.chunk", first.0)
}

/// Returns the first index in a chunk's file name, or `None` if it is not the name of a chunk.
#[must_use]
pub fn chunk_first(name: &str) -> Option<LogIndex> {
    let digits = name.strip_suffix(".chunk")?;
    let first = (digits.len() == 20).then(|| digits.parse().ok())?.map(LogIndex)?;
    (format!("{:020}", first.0) == digits).then_some(first)
}

/// Returns whether a chunk whose frames end at `end` accepts no more frames.
#[must_use]
pub const fn is_full(end: u64, chunk_bytes: u64) -> bool {
    end >= chunk_bytes
}

/// Returns the upper bound of a chunk's file: the frames, of which the last exceeds `chunk_bytes` by at most a frame,
/// and a footer, which is smaller than its frames.
#[must_use]
pub const fn chunk_file_bytes_max(chunk_bytes: u64) -> u64 {
    2 * (chunk_bytes + FRAME_BYTES_MAX as u64)
}

pub(crate) fn encode_header(first: LogIndex, chunk_bytes: u64) -> [u8; CHUNK_HEADER_BYTES] {
    let mut header = [0; CHUNK_HEADER_BYTES];
    header[..8].copy_from_slice(MAGIC);
    header[8..10].copy_from_slice(&VERSION.to_le_bytes());
    header[16..24].copy_from_slice(&chunk_bytes.to_le_bytes());
    header[24..].copy_from_slice(&first.0.to_le_bytes());
    let sum = header_checksum(&header);
    header[12..16].copy_from_slice(&sum.to_le_bytes());
    header
}

/// Reads the header of a chunk and returns `chunk_bytes`.
pub(crate) fn decode_header(first: LogIndex, header: &[u8]) -> Result<u64, Damage> {
    let damage = |found: String| Err(Damage::new(chunk_file(first), 0, found));
    let Ok(header) = <&[u8; CHUNK_HEADER_BYTES]>::try_from(header) else {
        return damage("the file ends within its header".into());
    };
    if &header[..8] != MAGIC {
        return damage("its magic bytes are not those of a chunk".into());
    }
    if header[12..16] != header_checksum(header).to_le_bytes() {
        return damage("the checksum of its header does not match".into());
    }
    let version = u16::from_le_bytes([header[8], header[9]]);
    if version != VERSION || header[10..12] != [0; 2] {
        return damage(format!("its format {version} is unknown to this build; start a newer build"));
    }
    let found_first = LogIndex(u64::from_le_bytes(header[24..].try_into().expect("eight bytes")));
    if found_first != first {
        return damage(format!("its header names frame {found_first} as its first: the file belongs to another chunk"));
    }
    Ok(u64::from_le_bytes(header[16..24].try_into().expect("eight bytes")))
}

fn header_checksum(header: &[u8; CHUNK_HEADER_BYTES]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&header[..12]), &header[16..])
}

/// Returns the operation that creates the file of a chunk, preallocated for its frames.
pub(crate) fn create(first: LogIndex, chunk_bytes: u64) -> Op {
    Op::Create { file: chunk_file(first), preallocate: chunk_bytes }
}

/// Returns the damage of an invalid frame.
pub(crate) fn damaged_frame(first: LogIndex, offset: u64, index: LogIndex, error: &FrameError) -> Damage {
    Damage::new(chunk_file(first), offset, format!("the frame is invalid: {error}")).with_frame(index)
}

/// Checks that a frame has the index that belongs at its offset.
pub(crate) fn check_index(first: LogIndex, offset: u64, index: LogIndex, frame: &Frame) -> Result<(), Damage> {
    if frame.index == index {
        return Ok(());
    }
    let found = format!("found a frame with index {} here", frame.index);
    Err(Damage::new(chunk_file(first), offset, found).with_frame(index))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_has_the_documented_layout() {
        let golden = [
            b'E', b'V', b'N', b'R', b'C', b'H', b'N', b'K', 1, 0, 0, 0, 53, 153, 207, 227, // checksum
            0, 16, 0, 0, 0, 0, 0, 0, // chunk_bytes
            5, 0, 0, 0, 0, 0, 0, 0, // first
        ];
        assert_eq!(encode_header(LogIndex(5), 4096), golden);
        assert_eq!(decode_header(LogIndex(5), &golden), Ok(4096));
    }

    #[test]
    fn p8_every_flipped_bit_of_a_header_is_found() {
        let header = encode_header(LogIndex(5), 4096);
        for at in 0..header.len() * 8 {
            let mut header = header;
            header[at / 8] ^= 1 << (at % 8);
            assert!(decode_header(LogIndex(5), &header).is_err(), "bit {at}");
        }
    }

    #[test]
    fn a_file_name_identifies_one_chunk() {
        assert_eq!(chunk_file(LogIndex(17)), "chunks/00000000000000000017.chunk");
        assert_eq!(chunk_first("00000000000000000017.chunk"), Some(LogIndex(17)));
        for other in ["17.chunk", "00000000000000000017.tmp", "+0000000000000000017.chunk", "", "x"] {
            assert_eq!(chunk_first(other), None, "{other}");
        }
    }
}
