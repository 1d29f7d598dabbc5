//! The settings of a journal.

use crate::chunk::CHUNK_BYTES_DEFAULT;

/// The settings of a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalSettings {
    /// The size of chunks. A constant of the cluster, because nodes compare chunks.
    pub chunk_bytes: u64,
    /// Bytes of recent frames kept in memory for readers near the end. Unsynced frames are kept beyond this limit.
    pub recent_bytes_max: usize,
}

impl JournalSettings {
    /// Bytes of recent frames kept in memory: some seconds of a busy log.
    pub const RECENT_BYTES_MAX: usize = 32 << 20;
}

impl Default for JournalSettings {
    fn default() -> Self {
        Self { chunk_bytes: CHUNK_BYTES_DEFAULT, recent_bytes_max: Self::RECENT_BYTES_MAX }
    }
}
