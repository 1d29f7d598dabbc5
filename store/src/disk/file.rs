//! The real disk: a directory, a lock on it, and one thread that performs the operations in order.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use rustix::{
    fs::{FallocateFlags, FlockOperation},
    io::Errno,
};

use super::{Disk, Done, Op, Space, job_queue::JobQueue};
use crate::error::OpenError;

/// Files kept open. Only few are being written; old chunks are opened while they are read.
const OPEN_FILES_MAX: usize = 128;
/// The mode of the data directory: only the owner may list and enter it.
const DIRECTORY_MODE: u32 = 0o700;
/// The mode of its files: only the owner may read and write them.
const FILE_MODE: u32 = 0o600;

/// The time before an operation without space is repeated.
const SPACE_WAIT: Duration = Duration::from_millis(200);

/// A directory of files, locked by this process until it is dropped.
pub struct FileDisk {
    // Dropped first: it waits for submitted operations before the lock is released.
    job_queue: JobQueue,
    directory: Arc<Directory>,
}

struct Directory {
    path: PathBuf,
    open: Mutex<HashMap<String, Arc<File>>>,
    _lock: File,
}

impl FileDisk {
    /// Opens a data directory, creates it if it does not exist, and locks it.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, OpenError> {
        let path = path.into();
        let failed = |doing: &str| {
            let doing = format!("{doing} {}", path.display());
            move |source| OpenError::Io { action: doing, source }
        };
        // Other users must not read events, whatever the umask of the process is.
        let mut private = fs::DirBuilder::new();
        private.recursive(true).mode(DIRECTORY_MODE);
        private.create(path.join("chunks")).map_err(failed("create the data directory"))?;
        [path.clone(), path.join("chunks")].iter().for_each(|directory| restrict_permissions(directory));
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(FILE_MODE)
            .open(path.join("lock"))
            .map_err(failed("open the lock of the data directory"))?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(OpenError::Locked { directory: path.display().to_string() });
            }
            Err(error) => return Err(failed("lock the data directory")(error.into())),
        }
        let directory = Arc::new(Directory { path: path.clone(), open: Mutex::default(), _lock: lock });
        for dir in ["", "chunks"] {
            directory.sync_dir(dir).map_err(failed("sync the data directory"))?;
        }
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            File::open(parent).and_then(|dir| dir.sync_all()).map_err(failed("sync the parent of"))?;
        }
        let job_queue = JobQueue::start("evener-disk").map_err(failed("start the disk thread for"))?;
        Ok(Self { job_queue, directory })
    }

    /// Returns the path of the directory.
    pub fn path(&self) -> &Path {
        &self.directory.path
    }
}

/// Removes the permissions of other users from a directory. Failing to do so, for example because the root of a mounted
/// volume has another owner, is only logged.
fn restrict_permissions(directory: &Path) {
    let open = |metadata: &fs::Metadata| metadata.permissions().mode() & 0o077 != 0;
    if fs::metadata(directory).is_ok_and(|metadata| open(&metadata))
        && let Err(error) = fs::set_permissions(directory, fs::Permissions::from_mode(DIRECTORY_MODE))
    {
        let directory = directory.display();
        tracing::warn!(
            %directory, %error,
            "other users can access the data directory; make this user its owner and set mode 0700"
        );
    }
}

impl Disk for FileDisk {
    fn submit(&self, ops: Vec<Op>, done: Done) {
        let directory = self.directory.clone();
        self.job_queue.run(Box::new(move || {
            let result = ops.into_iter().try_for_each(|op| directory.perform_with_space(op));
            drop(directory);
            done(result);
        }));
    }

    fn perform(&self, ops: Vec<Op>) -> io::Result<()> {
        ops.into_iter().try_for_each(|op| self.directory.perform(op))
    }

    fn read(&self, file: &str, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let opened = self.directory.open_file(file)?;
        // The file's length is checked first, so that a hostile `len` allocates no memory.
        let end = offset.checked_add(len as u64).ok_or(io::ErrorKind::InvalidInput)?;
        if opened.metadata()?.len() < end {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut bytes = vec![0; len];
        opened.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    fn len(&self, file: &str) -> io::Result<Option<u64>> {
        match fs::metadata(self.directory.path.join(file)) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        let entries = match fs::read_dir(self.directory.path.join(dir)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(names),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn space(&self) -> io::Result<Space> {
        let stat = rustix::fs::statvfs(&self.directory.path)?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        Ok(Space { free: bytes(stat.f_bavail), total: bytes(stat.f_blocks) })
    }

    fn name(&self) -> String {
        self.directory.path.display().to_string()
    }
}

impl Directory {
    /// Performs an operation; waits while there is no space for it or no file descriptor.
    fn perform_with_space(&self, op: Op) -> io::Result<()> {
        let mut waited = false;
        loop {
            match self.perform_once(op.clone()) {
                Err(error) if op.waits_for_space(&error) || is_out_of_files(&error) => {
                    if !waited {
                        tracing::error!(%error, "no disk space or no file descriptor left; writes wait until there is");
                    }
                    waited = true;
                    thread::sleep(SPACE_WAIT);
                }
                result => {
                    if waited {
                        tracing::warn!("writing to the disk has resumed");
                    }
                    return result.map_err(|error| with_operation(&op, error));
                }
            }
        }
    }

    fn perform(&self, op: Op) -> io::Result<()> {
        self.perform_once(op.clone()).map_err(|error| with_operation(&op, error))
    }

    fn perform_once(&self, op: Op) -> io::Result<()> {
        match op {
            Op::Create { file, preallocate } => self.create(&file, preallocate),
            Op::Write { file, offset, bytes } => self.open_file(&file)?.write_all_at(&bytes, offset),
            Op::SyncData { file } => self.open_file(&file)?.sync_data(),
            Op::SyncDir { dir } => self.sync_dir(&dir),
            Op::Truncate { file, len } => self.open_file(&file)?.set_len(len),
            Op::Rename { from, to } => {
                self.close_file(&from);
                self.close_file(&to);
                fs::rename(self.path.join(from), self.path.join(to))
            }
            Op::Remove { file } => {
                self.close_file(&file);
                match fs::remove_file(self.path.join(file)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                    _ => Ok(()),
                }
            }
        }
    }

    fn create(&self, file: &str, preallocate: u64) -> io::Result<()> {
        let path = self.path.join(file);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(FILE_MODE);
        let created = options.open(path)?;
        if created.metadata()?.len() < preallocate {
            match rustix::fs::fallocate(&created, FallocateFlags::empty(), 0, preallocate) {
                Ok(()) => {}
                // Some file systems do not support it; a sparse file works too, only slower.
                Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => created.set_len(preallocate)?,
                Err(error) => return Err(error.into()),
            }
        }
        self.cache_file(file, Arc::new(created));
        Ok(())
    }

    fn open_file(&self, file: &str) -> io::Result<Arc<File>> {
        if let Some(opened) = self.open.lock().unwrap_or_else(PoisonError::into_inner).get(file) {
            return Ok(opened.clone());
        }
        let open = || OpenOptions::new().read(true).write(true).open(self.path.join(file));
        let opened = Arc::new(match open() {
            Err(error) if is_out_of_files(&error) => {
                self.open.lock().unwrap_or_else(PoisonError::into_inner).clear();
                open()?
            }
            opened => opened?,
        });
        self.cache_file(file, opened.clone());
        Ok(opened)
    }

    fn cache_file(&self, file: &str, opened: Arc<File>) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= OPEN_FILES_MAX {
            open.clear();
        }
        open.insert(file.to_owned(), opened);
    }

    fn close_file(&self, file: &str) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(file);
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        File::open(self.path.join(dir))?.sync_all()
    }
}

/// Returns whether the process or the system has too many open files. The operation was not started in that case.
fn is_out_of_files(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    [Errno::MFILE, Errno::NFILE].iter().any(|errno| code == Some(errno.raw_os_error()))
}

fn with_operation(op: &Op, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("failed to {}: {error}", describe(op)))
}

fn describe(op: &Op) -> String {
    match op {
        Op::Create { file, .. } => format!("create {file}"),
        Op::Write { file, offset, bytes } => format!("write {} bytes at {offset} of {file}", bytes.len()),
        Op::SyncData { file } => format!("sync {file}"),
        Op::SyncDir { dir } => format!("sync the directory '{dir}'"),
        Op::Truncate { file, len } => format!("truncate {file} to {len} bytes"),
        Op::Rename { from, to } => format!("rename {from} to {to}"),
        Op::Remove { file } => format!("remove {file}"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use bytes::Bytes;

    use super::*;

    #[test]
    fn a_directory_is_locked_by_one_process() {
        let home = tempfile::tempdir().unwrap();
        let first = FileDisk::open(home.path()).unwrap();
        let error = FileDisk::open(home.path()).err().unwrap().to_string();
        assert!(error.contains(&home.path().display().to_string()), "{error}");
        assert!(error.contains("another process"), "{error}");
        drop(first);
        FileDisk::open(home.path()).unwrap();
    }

    #[test]
    fn stored_files_are_readable_by_the_owner_only() {
        let home = tempfile::tempdir().unwrap();
        let data = home.path().join("data");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        fs::create_dir(&data).unwrap();
        fs::set_permissions(&data, fs::Permissions::from_mode(0o755)).unwrap();
        let disk = FileDisk::open(&data).unwrap();
        disk.perform(vec![Op::Create { file: "chunks/a".into(), preallocate: 0 }]).unwrap();
        assert_eq!([mode(&data), mode(&data.join("chunks"))], [0o700; 2]);
        assert_eq!([mode(&data.join("chunks/a")), mode(&data.join("lock"))], [0o600; 2]);
    }

    #[test]
    fn operations_happen_in_order_and_the_first_failure_ends_the_list() {
        let home = tempfile::tempdir().unwrap();
        let disk = FileDisk::open(home.path()).unwrap();
        let (done, results) = channel();
        let file = "chunks/a".to_owned();
        let ops = vec![
            Op::Create { file: file.clone(), preallocate: 8192 },
            Op::Write { file: file.clone(), offset: 4, bytes: Bytes::from_static(b"abcd") },
            Op::SyncData { file: file.clone() },
            Op::SyncDir { dir: "chunks".into() },
            Op::Truncate { file: file.clone(), len: 6 },
            Op::Rename { from: file, to: "chunks/b".into() },
            Op::Remove { file: "chunks/none".into() },
        ];
        let report = done.clone();
        disk.submit(ops, Box::new(move |result| report.send(result).unwrap()));
        results.recv().unwrap().unwrap();
        assert_eq!(disk.read("chunks/b", 0, 6).unwrap(), b"\0\0\0\0ab");
        assert_eq!(disk.read("chunks/b", 0, usize::MAX).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(disk.list("chunks").unwrap(), ["b"]);
        assert_eq!((disk.len("chunks/b").unwrap(), disk.len("chunks/a").unwrap()), (Some(6), None));

        let ops = vec![Op::SyncData { file: "chunks/a".into() }, Op::Remove { file: "chunks/b".into() }];
        disk.submit(ops, Box::new(move |result| done.send(result).unwrap()));
        let error = results.recv().unwrap().unwrap_err();
        assert!(error.to_string().starts_with("failed to sync chunks/a"), "{error}");
        assert_eq!(disk.list("chunks").unwrap(), ["b"]);
    }
}
