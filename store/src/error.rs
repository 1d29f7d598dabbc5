//! What can be wrong with a data directory, and what to do about it.

use std::{fmt, io};

use evener_core::id::LogIndex;
use thiserror::Error;

/// Why a data directory was not opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Another process has it.
    #[error(
        "the data directory {directory} is held by another process; stop that one, or give this node a directory \
         of its own"
    )]
    Locked {
        /// Which.
        directory: String,
    },
    /// Bytes that were synced are not what they were. Nothing was changed.
    #[error("{0}")]
    Damaged(#[from] Damage),
    /// The chunk size is chosen once for a cluster.
    #[error(
        "the data directory {directory} has chunks of {found} bytes, and {asked} were asked for; the size is \
         chosen when a cluster is founded, so start with {found}"
    )]
    ChunkBytes {
        /// Which.
        directory: String,
        /// What its chunks say.
        found: u64,
        /// What was asked for.
        asked: u64,
    },
    /// A setting that cannot be.
    #[error("{0}")]
    Setting(String),
    /// The disk refused.
    #[error("failed to {action}: {source}")]
    Io {
        /// What.
        action: String,
        /// Why.
        source: io::Error,
    },
}

impl OpenError {
    /// Says what the disk refused; damage stays damage.
    pub fn io(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let action = action.into();
        move |source| match source.downcast::<Damage>() {
            Ok(damage) => Self::Damaged(damage),
            Err(source) => Self::Io { action, source },
        }
    }
}

/// Bytes that are not what was written (P8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file, relative to the data directory.
    pub file: String,
    /// Where in it.
    pub offset: u64,
    /// Which frame, where it is known.
    pub frame: Option<LogIndex>,
    /// What is wrong there.
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
        // An older one of these would pass, and the node would vote twice or forget what it has acknowledged.
        let copy = match self.file.as_str() {
            "vote" | "watermark" => "no copy of the file will do:",
            _ => "put the file back from a copy, or",
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

/// After a write or a sync that failed nobody knows what the disk holds (a second sync may lie), so nothing more
/// is written, and the node stops.
pub(crate) fn stopped_error(reason: &str) -> io::Error {
    io::Error::other(format!("the journal has stopped, and this node must stop and start again: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hint_never_suggests_restoring_an_old_vote() {
        for file in ["vote", "watermark"] {
            let text = Damage::new(file, 0, "it is bad").to_string();
            assert!(text.contains("no copy of the file will do: move the directory away"), "{text}");
        }
        let text = Damage::new("chunks/00.chunk", 0, "it is bad").to_string();
        assert!(text.contains("from a copy, or move the directory away"), "{text}");
    }
}
