//! The mouth of the store: everything Evener asks of a disk, and nothing else.
//!
//! Completion-based: what is to be done is submitted now and reported later, so that writes in flight, slow
//! disks and what a crash leaves of them exist in virtual time too. Files are named relative to the data
//! directory (`chunks/00000000000000000000.chunk`, `vote`).

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

/// Told once how it went.
pub type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// Runs a job later, after the jobs given to it before. A simulator gives one that waits in virtual time.
pub type Scheduler = Arc<dyn Fn(Box<dyn FnOnce() + Send>) + Send + Sync>;

/// A file smaller than this is written whole or not at all where it stands at its file's begin.
pub const SECTOR_BYTES: usize = 512;

/// One thing done to the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// The file exists afterwards and is at least `preallocate` bytes long, zeros where nothing was written.
    Create {
        /// Which.
        file: String,
        /// How long at least.
        preallocate: u64,
    },
    /// Bytes are written in place. The file must exist; it grows where they reach beyond its end.
    Write {
        /// Which.
        file: String,
        /// Where.
        offset: u64,
        /// What.
        bytes: Bytes,
    },
    /// What was written to the file, and its length, survive a power cut from now on.
    SyncData {
        /// Which.
        file: String,
    },
    /// Which names the directory holds (`""` is the data directory) survives a power cut from now on.
    SyncDir {
        /// Which.
        dir: String,
    },
    /// The file is cut to this length, or grown to it by zeros.
    Truncate {
        /// Which.
        file: String,
        /// How long it is afterwards.
        len: u64,
    },
    /// The file has another name, in the place of the file that bore it.
    Rename {
        /// The name it had.
        from: String,
        /// The name it has.
        to: String,
    },
    /// The file is gone. One that is not there is no error.
    Remove {
        /// Which.
        file: String,
    },
}

/// The room on a file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// Bytes that are free.
    pub free: u64,
    /// Bytes in all.
    pub total: u64,
}

impl Op {
    /// Whether this operation, having failed like this, is tried again once there is space. A sync never is: nobody
    /// knows what the disk holds after one that failed.
    pub(crate) fn waits_for_space(&self, error: &io::Error) -> bool {
        let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        full && !matches!(self, Self::SyncData { .. } | Self::SyncDir { .. })
    }
}

/// A directory on a disk, held by one process.
pub trait Disk: Send + Sync + 'static {
    /// Performs `ops` in order, after everything submitted before; the first that fails ends the list. `done` is
    /// called later, never before this returns, and one `done` after the other. An operation for which there is no
    /// space does not fail: it waits until there is, and all that was submitted after it waits too.
    fn submit(&self, ops: Vec<Op>, done: Done);
    /// Performs `ops` before it returns. For the time before the first [`Disk::submit`]: a start must not wait
    /// for a clock that stands still while it waits.
    fn perform(&self, ops: Vec<Op>) -> io::Result<()>;
    /// Exactly `len` bytes, as the operations performed so far left them.
    fn read(&self, file: &str, offset: u64, len: usize) -> io::Result<Vec<u8>>;
    /// How long a file is; none if there is none.
    fn len(&self, file: &str) -> io::Result<Option<u64>>;
    /// The names of the files in a directory, sorted; none if there is no such directory.
    fn list(&self, dir: &str) -> io::Result<Vec<String>>;
    /// The room on its file system.
    fn space(&self) -> io::Result<Space>;
    /// What to call it in a message: the path of the directory.
    fn name(&self) -> String;
}
