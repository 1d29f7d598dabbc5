//! Errors of a data directory, with hints.

use std::{fmt, io};

use evener_core::id::LogIndex;
use thiserror::Error;

/// Why a data directory was not opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Another process has locked it.
    #[error(
        "the data directory {directory} is in use by another process; stop that process, or give this node its own \
         directory"
    )]
    Locked {
        /// The directory.
        directory: String,
    },
    /// Synced bytes have changed. Nothing was modified.
    #[error("{0}")]
    Damaged(#[from] Damage),
    /// The chunk size differs from that of the cluster, which is fixed.
    #[error(
        "the data directory {directory} has chunks of {found} bytes, but the settings ask for {asked}; the size is \
         chosen when a cluster is founded: start with {found}"
    )]
    ChunkBytes {
        /// The directory.
        directory: String,
        /// The size in the headers of its chunks.
        found: u64,
        /// The size in the settings.
        asked: u64,
    },
    /// An invalid setting.
    #[error("{0}")]
    Setting(String),
    /// An error of the disk.
    #[error("failed to {action}: {source}")]
    Io {
        /// What was being done.
        action: String,
        /// The cause.
        source: io::Error,
    },
}

impl OpenError {
    /// Returns a function that adds the action to an error of the disk; damage stays damage.
    pub fn io(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let action = action.into();
        move |source| match source.downcast::<Damage>() {
            Ok(damage) => Self::Damaged(damage),
            Err(source) => Self::Io { action, source },
        }
    }
}

/// Bytes that differ from what was written (P8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file, relative to the data directory.
    pub file: String,
    /// The offset in the file.
    pub offset: u64,
    /// The index of the frame, if known.
    pub frame: Option<LogIndex>,
    /// What is wrong.
    pub found: String,
}

impl Damage {
    pub(crate) fn new(file: impl Into<String>, offset: u64, found: impl Into<String>) -> Self {
        Self { file: file.into(), offset, frame: None, found: found.into() }
    }

    pub(crate) fn with_frame(mut self, index: LogIndex) -> Self {
        self.frame = Some(index);
        self
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "damage in {} at offset {}", self.file, self.offset)?;
        if let Some(index) = self.frame {
            write!(f, " (frame {index})")?;
        }
        // An older copy of these would be accepted, and the node could vote twice or lose acknowledged entries.
        let copy = match self.file.as_str() {
            "vote" | "watermark" => "do not restore the file from a copy;",
            _ => "restore the file from a copy, or",
        };
        write!(
            f,
            ": {}; nothing was changed; this node must not vote with this directory: {copy} move the directory away \
             and let the node join again under a new name",
            self.found
        )
    }
}

impl std::error::Error for Damage {}

impl From<Damage> for io::Error {
    fn from(damage: Damage) -> Self {
        Self::new(io::ErrorKind::InvalidData, damage)
    }
}

/// Returns the error of a stopped journal. After a failed write or sync the content of the disk is unknown (a second
/// sync may falsely succeed), so nothing more is written, and the node stops.
pub(crate) fn stopped_error(reason: &str) -> io::Error {
    io::Error::other(format!("the journal has stopped; restart this node: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hint_never_suggests_restoring_an_old_vote() {
        for file in ["vote", "watermark"] {
            let text = Damage::new(file, 0, "it is invalid").to_string();
            assert!(text.contains("do not restore the file from a copy; move the directory away"), "{text}");
        }
        let text = Damage::new("chunks/00.chunk", 0, "it is invalid").to_string();
        assert!(text.contains("restore the file from a copy, or move the directory away"), "{text}");
    }
}
