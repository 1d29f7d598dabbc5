//! Reads and checks the frames of a chunk in order, in bounded memory.

use std::io;

use bytes::Bytes;
use evener_core::id::LogIndex;

use crate::{
    chunk::{CHUNK_HEADER_BYTES, chunk_file},
    disk::Disk,
    frame::{FRAME_BYTES_MAX, Frame, FrameError, FrameLocation},
};

/// Bytes per read: enough for the longest frame, and few reads for short ones.
const WINDOW_BYTES: usize = 2 * FRAME_BYTES_MAX;

/// A scan of a chunk's file.
pub(crate) struct Scan<'a> {
    disk: &'a dyn Disk,
    file: String,
    /// The location of the next frame.
    pub location: FrameLocation,
    /// The expected index of the next frame.
    pub next: LogIndex,
    len: u64,
    window: Bytes,
    window_at: u64,
}

/// The result of a step of a scan.
pub(crate) enum ScanStep {
    /// A frame and its bytes.
    Frame(Frame, Bytes),
    /// A valid frame with another index than expected.
    WrongIndex(LogIndex),
    /// No valid frame.
    Invalid(FrameError),
}

impl<'a> Scan<'a> {
    /// Creates a scan that starts after the header of the chunk, whose file is `len` bytes long.
    pub(crate) fn new(disk: &'a dyn Disk, first: LogIndex, len: u64) -> Self {
        let location = FrameLocation { chunk: first, offset: CHUNK_HEADER_BYTES as u64 };
        Self { disk, file: chunk_file(first), location, next: first, len, window: Bytes::new(), window_at: 0 }
    }

    /// Starts the scan at the header instead, for a file whose header is invalid.
    pub(crate) fn starting_at_header(self) -> Self {
        Self { location: FrameLocation { offset: 0, ..self.location }, ..self }
    }

    /// Reads the next frame and moves behind it; does not move if there is no valid frame.
    pub(crate) fn step(&mut self) -> io::Result<ScanStep> {
        let mut bytes = self.window_here(4)?;
        if let Ok(length) = Frame::length(&bytes) {
            bytes = self.window_here(length)?;
        }
        match Frame::decode(self.location, &bytes) {
            Err(error) => Ok(ScanStep::Invalid(error)),
            Ok(frame) if frame.index != self.next => Ok(ScanStep::WrongIndex(frame.index)),
            Ok(frame) => {
                let bytes = bytes.slice(..frame.bytes());
                self.location.offset += bytes.len() as u64;
                self.next = self.next.next();
                Ok(ScanStep::Frame(frame, bytes))
            }
        }
    }

    /// Returns at least `need` bytes from the current offset, or all remaining ones.
    fn window_here(&mut self, need: usize) -> io::Result<Bytes> {
        let skip = usize::try_from(self.location.offset - self.window_at).unwrap_or(usize::MAX);
        if self.window.len() < skip || self.window.len() - skip < need {
            let left = self.len.saturating_sub(self.location.offset);
            let take = usize::try_from(left).unwrap_or(usize::MAX).min(WINDOW_BYTES.max(need));
            self.window = self.disk.read(&self.file, self.location.offset, take)?.into();
            self.window_at = self.location.offset;
            return Ok(self.window.clone());
        }
        Ok(self.window.slice(skip..))
    }

    /// Returns the offset of the last nonzero byte from the current offset, or `None` if all are zero.
    pub(crate) fn last_written(&self) -> io::Result<Option<u64>> {
        let mut end = self.len;
        while end > self.location.offset {
            let start = end.saturating_sub(WINDOW_BYTES as u64).max(self.location.offset);
            let bytes = self.disk.read(&self.file, start, (end - start) as usize)?;
            if let Some(at) = bytes.iter().rposition(|byte| *byte != 0) {
                return Ok(Some(start + at as u64));
            }
            end = start;
        }
        Ok(None)
    }
}
