//! The watermark: the end of the log that is known to be synced. An invalid frame before it is damage; one after it,
//! within one group of the end, may be a torn write (P8).
//!
//! It is written before each group without a sync, and synced once a second while it moves, so it may lag but never
//! leads. Its lag bounds the bit rot that can be mistaken for a torn tail:
//!
//! - After the process dies, the page cache has its last written value: only the group in flight is after it.
//! - After the machine dies, it may be a second old, or as old as the group in flight at that time. An invalid frame
//!   after it is truncated only if at most the bytes of a group follow it: earlier ones are damage nonetheless.

use std::io;

use evener_core::id::LogIndex;

use crate::{
    disk::{Disk, Op},
    error::Damage,
    frame::FrameLocation,
    small::{BodyReader, SmallFile, put_optional},
};

const FILE: SmallFile = SmallFile { file: "watermark", magic: b"EVNRMARK", version: 1, body_bytes_max: 64 };

/// The end of the synced log. Its file fits one sector, so that a read finds the old or the new value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Watermark {
    /// The first index of the first chunk.
    pub base: Option<LogIndex>,
    /// The end of the last synced frame: its chunk, the offset after it, the index after it.
    pub end: Option<(FrameLocation, LogIndex)>,
    /// The committed index, as far as this node knows.
    pub committed: Option<LogIndex>,
}

impl Watermark {
    pub(crate) fn read(disk: &dyn Disk) -> io::Result<Option<Self>> {
        let Some(body) = FILE.read(disk)? else { return Ok(None) };
        Self::decode(&body).map(Some).ok_or_else(|| Damage::new(FILE.file, 0, "its content is inconsistent").into())
    }

    /// Returns the operation that writes it without a sync.
    pub(crate) fn write(&self) -> Op {
        FILE.overwrite(&self.encode())
    }

    /// Returns the operations that create or overwrite the file and sync it.
    pub(crate) fn write_and_sync(&self) -> Vec<Op> {
        vec![
            Op::Create { file: FILE.file.into(), preallocate: 0 },
            self.write(),
            Op::SyncData { file: FILE.file.into() },
        ]
    }

    fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        put_optional(self.base.map(|index| index.0), &mut body);
        put_optional(self.end.map(|(location, _)| location.chunk.0), &mut body);
        put_optional(self.end.map(|(location, _)| location.offset), &mut body);
        put_optional(self.end.map(|(_, next)| next.0), &mut body);
        put_optional(self.committed.map(|index| index.0), &mut body);
        body
    }

    fn decode(body: &[u8]) -> Option<Self> {
        let mut body = BodyReader(body);
        let base = body.optional()?.map(LogIndex);
        let end = match (body.optional()?, body.optional()?, body.optional()?) {
            (None, None, None) => None,
            (Some(chunk), Some(offset), Some(next)) => {
                Some((FrameLocation { chunk: LogIndex(chunk), offset }, LogIndex(next)))
            }
            _ => return None,
        };
        let committed = body.optional()?.map(LogIndex);
        body.0.is_empty().then_some(Self { base, end, committed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::SECTOR_BYTES;

    #[test]
    fn a_watermark_fits_a_sector_and_round_trips() {
        let watermarks = [
            Watermark::default(),
            Watermark {
                base: Some(LogIndex(0)),
                end: Some((FrameLocation { chunk: LogIndex(3), offset: 9 }, LogIndex(u64::MAX))),
                committed: Some(LogIndex(4)),
            },
        ];
        for watermark in watermarks {
            let body = watermark.encode();
            assert_eq!(body.len(), Watermark::default().encode().len(), "overwritten in place");
            assert!(FILE.encode(&body).len() <= SECTOR_BYTES);
            assert_eq!(Watermark::decode(&body), Some(watermark));
        }
    }
}
