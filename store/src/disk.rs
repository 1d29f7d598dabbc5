//! The interface to the disk: every operation that Evener performs on files, and no other.
//!
//! It is completion-based: operations are submitted now and their results are reported later, so that writes in
//! flight, slow disks and the effects of a crash on them exist in virtual time too. File names are relative to the
//! data directory (`chunks/00000000000000000000.chunk`, `vote`).

use std::{io, sync::Arc};

use bytes::Bytes;

mod file;
mod job_queue;

#[cfg(any(test, feature = "testing"))]
mod faulty;
#[cfg(any(test, feature = "testing"))]
mod image;
#[cfg(any(test, feature = "testing"))]
mod memory;

pub use file::FileDisk;

#[cfg(any(test, feature = "testing"))]
pub use self::{faulty::FaultyDisk, image::DiskImage, memory::MemoryDisk};

/// Called once with the result.
pub type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// Runs a job later, after the jobs passed to it before. A simulator passes one that waits in virtual time.
pub type Scheduler = Arc<dyn Fn(Box<dyn FnOnce() + Send>) + Send + Sync>;

/// Bytes of a sector. A write within the first sector of a file is atomic.
pub const SECTOR_BYTES: usize = 512;

/// One operation on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Creates the file unless it exists, and extends it with zeros to at least `preallocate` bytes.
    Create {
        /// The file.
        file: String,
        /// The minimum length.
        preallocate: u64,
    },
    /// Writes bytes in place. The file must exist; it grows if they exceed its end.
    Write {
        /// The file.
        file: String,
        /// The offset of the first byte.
        offset: u64,
        /// The bytes.
        bytes: Bytes,
    },
    /// Makes the file's content and length durable.
    SyncData {
        /// The file.
        file: String,
    },
    /// Makes the names in the directory durable (`""` is the data directory).
    SyncDir {
        /// The directory.
        dir: String,
    },
    /// Truncates the file to this length, or extends it with zeros.
    Truncate {
        /// The file.
        file: String,
        /// The new length.
        len: u64,
    },
    /// Renames a file and replaces the file that has the new name.
    Rename {
        /// The old name.
        from: String,
        /// The new name.
        to: String,
    },
    /// Removes the file. A file that does not exist is no error.
    Remove {
        /// The file.
        file: String,
    },
}

/// The space of a file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// Free bytes.
    pub free: u64,
    /// Total bytes.
    pub total: u64,
}

impl Op {
    /// Returns whether this operation, after this error, is repeated once there is space. A sync never is: after a
    /// failed sync the content of the disk is unknown.
    pub(crate) fn waits_for_space(&self, error: &io::Error) -> bool {
        let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        full && !matches!(self, Self::SyncData { .. } | Self::SyncDir { .. })
    }
}

/// A directory on a disk, locked by one process.
pub trait Disk: Send + Sync + 'static {
    /// Performs `ops` in order, after all operations submitted before; the first failure ends the list. Calls `done`
    /// later, never before this returns, and in the order of submission. An operation without space does not fail: it
    /// and all operations submitted after it wait until there is space.
    fn submit(&self, ops: Vec<Op>, done: Done);
    /// Performs `ops` before it returns. Only for the time before the first [`Disk::submit`]: a start must not wait
    /// for a virtual clock that does not advance meanwhile.
    fn perform(&self, ops: Vec<Op>) -> io::Result<()>;
    /// Reads exactly `len` bytes, as written by the operations performed so far.
    fn read(&self, file: &str, offset: u64, len: usize) -> io::Result<Vec<u8>>;
    /// Returns the length of a file, or `None` if it does not exist.
    fn len(&self, file: &str) -> io::Result<Option<u64>>;
    /// Returns the sorted names of the files in a directory; no names if it does not exist.
    fn list(&self, dir: &str) -> io::Result<Vec<String>>;
    /// Returns the space of its file system.
    fn space(&self) -> io::Result<Space>;
    /// Returns its name for messages: the path of the directory.
    fn name(&self) -> String;
}
