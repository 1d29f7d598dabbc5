//! The watermark: up to where this node's log is known to be synced. A bad frame before it is damage; one beyond it,
//! within one group of the end, may be a write that a crash tore (P8).
//!
//! It is written ahead of each group without a sync, and synced once a second while it moves, so it may lag and never
//! leads. How far it lags is what rot can be taken for a torn tail:
//!
//! - After the process dies the page cache has it as it was written last: only the group in flight is beyond it.
//! - After the machine dies it may be a second old, or as old as the group that was in flight then. Of the frames
//!   beyond it, a bad one is cut only if no more than a group's bytes follow it: earlier ones are damage all the same.

use std::io;

use evener_core::id::LogIndex;

use crate::{
    disk::{Disk, Op},
    error::Damage,
    frame::FrameLocation,
    small::{BodyReader, SmallFile, put_optional},
};

const FILE: SmallFile = SmallFile { file: "watermark", magic: b"EVNRMARK", version: 1, body_bytes_max: 64 };

/// What is known to be on the disk. Its file is one sector, so that it is always an old one or a new one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Watermark {
    /// The first index of the first chunk.
    pub base: Option<LogIndex>,
    /// The end of the last synced frame: its chunk, the offset after it, the index after it.
    pub end: Option<(FrameLocation, LogIndex)>,
    /// Up to where the cluster had committed, as far as this node knew.
    pub committed: Option<LogIndex>,
}

impl Watermark {
    pub fn read(disk: &dyn Disk) -> io::Result<Option<Self>> {
        let Some(body) = FILE.read(disk)? else { return Ok(None) };
        Self::decode(&body).map(Some).ok_or_else(|| Damage::new(FILE.file, 0, "it contradicts itself").into())
    }

    /// Written now, on the disk some time.
    pub fn write(&self) -> Op {
        FILE.overwrite(&self.encode())
    }

    /// Made, or written over, and on the disk.
    pub fn write_and_sync(&self) -> Vec<Op> {
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
