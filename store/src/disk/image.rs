//! A model of a disk's content, and of its content after a power cut, without a thread or a clock.
//!
//! Each unsynced sector, change of a file's length and change of a directory survives or is lost independently. That is
//! stricter than any file system, so data that survives here survives on real disks.

use std::{collections::BTreeMap, io, sync::Arc};

use super::{Op, SECTOR_BYTES};

type Sector = Arc<[u8; SECTOR_BYTES]>;

/// Unsynced changes of one file. Older ones become durable without a sync, as on a real disk.
const PENDING_MAX: usize = 4096;

/// The content of a disk: what is visible and what is durable.
#[derive(Clone, Debug, Default)]
pub struct DiskImage {
    live: BTreeMap<String, u64>,
    durable: BTreeMap<String, u64>,
    dir_changes: Vec<DirChange>,
    files: BTreeMap<u64, File>,
    next_file: u64,
}

/// An unsynced change of a directory.
#[derive(Clone, Debug)]
enum DirChange {
    Link { name: String, file: u64 },
    Unlink { name: String },
    Rename { from: String, to: String, file: u64 },
}

#[derive(Clone, Debug, Default)]
struct File {
    live: Content,
    durable: Content,
    pending: Vec<FileChange>,
}

/// An unsynced change of a file.
#[derive(Clone, Debug)]
enum FileChange {
    Sector(u64, Sector),
    Len(u64),
}

#[derive(Clone, Debug, Default)]
struct Content {
    sectors: BTreeMap<u64, Sector>,
    len: u64,
}

impl DiskImage {
    /// Performs one operation.
    pub fn perform(&mut self, op: Op) -> io::Result<()> {
        match op {
            Op::Create { file, preallocate } => {
                if !self.live.contains_key(&file) {
                    self.next_file += 1;
                    self.files.insert(self.next_file, File::default());
                    self.live.insert(file.clone(), self.next_file);
                    self.dir_changes.push(DirChange::Link { name: file.clone(), file: self.next_file });
                }
                let file = self.file(&file)?;
                if file.live.len < preallocate {
                    file.change(FileChange::Len(preallocate));
                }
            }
            Op::Write { file, offset, bytes } => self.file(&file)?.write(offset, &bytes),
            Op::SyncData { file } => self.file(&file)?.sync(),
            Op::SyncDir { dir } => self.sync_dir(&dir),
            Op::Truncate { file, len } => self.file(&file)?.change(FileChange::Len(len)),
            Op::Rename { from, to } => {
                let file = self.live.remove(&from).ok_or(io::ErrorKind::NotFound)?;
                self.live.insert(to.clone(), file);
                self.dir_changes.push(DirChange::Rename { from, to, file });
            }
            Op::Remove { file } => {
                if self.live.remove(&file).is_some() {
                    self.dir_changes.push(DirChange::Unlink { name: file });
                }
            }
        }
        Ok(())
    }

    /// Reads exactly `len` bytes.
    pub fn read(&self, file: &str, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let content = &self.files[self.live.get(file).ok_or(io::ErrorKind::NotFound)?].live;
        let end = offset.checked_add(len as u64).ok_or(io::ErrorKind::InvalidInput)?;
        if end > content.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(content.read(offset, len))
    }

    /// Returns the length of a file.
    #[must_use]
    pub fn len(&self, file: &str) -> Option<u64> {
        self.live.get(file).map(|file| self.files[file].live.len)
    }

    /// Returns the sorted names of the files in a directory.
    #[must_use]
    pub fn list(&self, dir: &str) -> Vec<String> {
        self.live.keys().filter_map(|name| in_dir(name, dir).map(str::to_owned)).collect()
    }

    /// Returns the total bytes of all files.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.live.values().map(|file| self.files[file].live.len).sum()
    }

    /// Returns the bytes by which an operation extends the files.
    pub(super) fn growth(&self, op: &Op) -> u64 {
        let (file, end) = match op {
            Op::Create { file, preallocate } => (file, *preallocate),
            Op::Write { file, offset, bytes } => (file, offset + bytes.len() as u64),
            Op::Truncate { file, len } => (file, *len),
            Op::SyncData { .. } | Op::SyncDir { .. } | Op::Rename { .. } | Op::Remove { .. } => return 0,
        };
        end.saturating_sub(self.len(file).unwrap_or(0))
    }

    /// Returns every file with its bytes.
    #[must_use]
    pub fn files(&self) -> Vec<(String, Vec<u8>)> {
        let bytes = |file: &u64| self.files[file].live.read(0, self.files[file].live.len as usize);
        self.live.iter().map(|(name, file)| (name.clone(), bytes(file))).collect()
    }

    /// Flips a bit of a file, durably, as bit rot does.
    pub fn flip(&mut self, file: &str, offset: u64, bit: u8) {
        let mut byte = self.read(file, offset, 1).expect("a byte of a file");
        byte[0] ^= 1 << bit;
        let file = self.file(file).expect("a file");
        file.write(offset, &byte);
        file.sync();
    }

    /// Returns what a power cut leaves. Seed 0 loses all unsynced changes, seed 1 none, any other a random subset.
    #[must_use]
    pub fn crash(&self, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let mut image = Self { live: self.durable.clone(), next_file: self.next_file, ..Self::default() };
        for change in &self.dir_changes {
            if rng.survives() {
                change.apply(&mut image.live);
            }
        }
        image.durable = image.live.clone();
        for id in image.live.values() {
            let file = &self.files[id];
            let mut content = file.durable.clone();
            file.pending.iter().filter(|_| rng.survives()).for_each(|change| content.apply(change));
            image.files.insert(*id, File { live: content.clone(), durable: content, pending: Vec::new() });
        }
        image
    }

    fn file(&mut self, name: &str) -> io::Result<&mut File> {
        let id = self.live.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(self.files.get_mut(id).expect("every name refers to a file"))
    }

    fn sync_dir(&mut self, dir: &str) {
        let Self { durable, dir_changes, .. } = self;
        dir_changes.retain(|change| {
            let here = in_dir(change.name(), dir).is_some();
            if here {
                change.apply(durable);
            }
            !here
        });
        let dir_changes = &self.dir_changes;
        let named = |id: &u64, names: &BTreeMap<String, u64>| names.values().any(|file| file == id);
        let awaited = |id: &u64| {
            dir_changes.iter().any(
                |change| matches!(change, DirChange::Link { file, .. } | DirChange::Rename { file, .. } if file == id),
            )
        };
        let (live, durable) = (&self.live, &self.durable);
        self.files.retain(|id, _| named(id, live) || named(id, durable) || awaited(id));
    }
}

impl DirChange {
    fn name(&self) -> &str {
        match self {
            Self::Link { name, .. } | Self::Unlink { name } | Self::Rename { from: name, .. } => name,
        }
    }

    fn apply(&self, names: &mut BTreeMap<String, u64>) {
        match self {
            Self::Link { name, file } => {
                names.insert(name.clone(), *file);
            }
            Self::Unlink { name } => {
                names.remove(name);
            }
            Self::Rename { from, to, file } => {
                names.remove(from);
                names.insert(to.clone(), *file);
            }
        }
    }
}

impl File {
    fn write(&mut self, offset: u64, bytes: &[u8]) {
        let end = offset + bytes.len() as u64;
        if end > self.live.len {
            self.change(FileChange::Len(end));
        }
        let (mut at, mut rest) = (offset, bytes);
        while !rest.is_empty() {
            let number = at / SECTOR_BYTES as u64;
            let within = (at % SECTOR_BYTES as u64) as usize;
            let (now, later) = rest.split_at(rest.len().min(SECTOR_BYTES - within));
            let mut sector = self.live.sectors.get(&number).map_or([0; SECTOR_BYTES], |sector| **sector);
            sector[within..within + now.len()].copy_from_slice(now);
            self.change(FileChange::Sector(number, Arc::new(sector)));
            at += now.len() as u64;
            rest = later;
        }
    }

    fn change(&mut self, change: FileChange) {
        self.live.apply(&change);
        self.pending.push(change);
        if self.pending.len() > PENDING_MAX {
            self.pending.drain(..PENDING_MAX / 2).for_each(|change| self.durable.apply(&change));
        }
    }

    fn sync(&mut self) {
        self.pending.drain(..).for_each(|change| self.durable.apply(&change));
    }
}

impl Content {
    fn apply(&mut self, change: &FileChange) {
        match change {
            FileChange::Sector(number, sector) => {
                self.sectors.insert(*number, sector.clone());
            }
            FileChange::Len(len) => {
                if *len < self.len {
                    let (whole, within) = (len / SECTOR_BYTES as u64, (len % SECTOR_BYTES as u64) as usize);
                    drop(self.sectors.split_off(&(whole + u64::from(within > 0))));
                    if let Some(sector) = self.sectors.get_mut(&whole).filter(|_| within > 0) {
                        Arc::make_mut(sector)[within..].fill(0);
                    }
                }
                self.len = *len;
            }
        }
    }

    fn read(&self, offset: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        let (first, last) = (offset / SECTOR_BYTES as u64, (offset + len as u64) / SECTOR_BYTES as u64);
        for (number, sector) in self.sectors.range(first..=last) {
            let start = number * SECTOR_BYTES as u64;
            let (from, to) = (start.max(offset), (start + SECTOR_BYTES as u64).min(offset + len as u64));
            if from < to {
                bytes[(from - offset) as usize..(to - offset) as usize]
                    .copy_from_slice(&sector[(from - start) as usize..(to - start) as usize]);
            }
        }
        bytes
    }
}

fn in_dir<'a>(name: &'a str, dir: &str) -> Option<&'a str> {
    let (parent, name) = name.rsplit_once('/').unwrap_or(("", name));
    (parent == dir).then_some(name)
}

/// A random source with a seed, so that a crash can be repeated.
struct Rng {
    seed: u64,
    state: u64,
}

impl Rng {
    fn new(seed: u64) -> Self {
        Self { seed, state: seed }
    }

    fn survives(&mut self) -> bool {
        if self.seed < 2 {
            return self.seed == 1;
        }
        // splitmix64
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut random = self.state;
        random = (random ^ (random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        random = (random ^ (random >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        random ^= random >> 31;
        // The share of survivors depends on the seed.
        random % 8 < 1 + self.seed % 7
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn image(ops: &[Op]) -> DiskImage {
        let mut image = DiskImage::default();
        ops.iter().for_each(|op| image.perform(op.clone()).unwrap());
        image
    }

    fn write(offset: u64, bytes: &'static [u8]) -> Op {
        Op::Write { file: "d/a".into(), offset, bytes: Bytes::from_static(bytes) }
    }

    const SYNC: fn() -> [Op; 2] = || [Op::SyncData { file: "d/a".into() }, Op::SyncDir { dir: "d".into() }];

    #[test]
    fn a_crash_keeps_synced_writes_and_some_of_the_others() {
        let create = Op::Create { file: "d/a".into(), preallocate: 2000 };
        let [data, dir] = SYNC();
        let ops = [create, write(510, b"abcd"), data, dir, write(510, b"ABCD"), write(1999, b"xy")];
        let image = image(&ops);
        assert_eq!(image.read("d/a", 510, 4).unwrap(), b"ABCD");
        assert_eq!(image.len("d/a"), Some(2001));
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let after = image.crash(seed);
            seen.insert((after.read("d/a", 510, 4).unwrap(), after.len("d/a").unwrap()));
        }
        let all = ["abcd", "abCD", "ABcd", "ABCD"].map(|bytes| bytes.as_bytes().to_vec());
        for bytes in all {
            for len in [2000, 2001] {
                assert!(seen.contains(&(bytes.clone(), len)), "{bytes:?} {len}");
            }
        }
        assert_eq!(seen.len(), 8);
        assert_eq!(image.crash(0).read("d/a", 510, 4).unwrap(), b"abcd");
        assert_eq!(image.crash(1).read("d/a", 510, 4).unwrap(), b"ABCD");
    }

    #[test]
    fn a_file_name_survives_a_crash_only_once_its_directory_is_synced() {
        let [data, dir] = SYNC();
        let create = Op::Create { file: "d/a".into(), preallocate: 0 };
        let before = image(&[create, write(0, b"x"), data]);
        assert_eq!(before.crash(0).list("d"), Vec::<String>::new());
        let mut image = before;
        image.perform(dir).unwrap();
        assert_eq!(image.crash(0).list("d"), ["a"]);
        image.perform(Op::Remove { file: "d/a".into() }).unwrap();
        assert_eq!((image.list("d").len(), image.crash(0).list("d").len(), image.crash(1).list("d").len()), (0, 1, 0));
    }

    #[test]
    fn a_truncated_file_has_zeros_where_it_grows_again() {
        let cut = Op::Truncate { file: "d/a".into(), len: 2 };
        let grow = Op::Create { file: "d/a".into(), preallocate: 1000 };
        let image = image(&[grow.clone(), write(0, b"abcd"), write(600, b"z"), cut, grow]);
        let mut expect = vec![0; 1000];
        expect[..2].copy_from_slice(b"ab");
        assert_eq!(image.read("d/a", 0, 1000).unwrap(), expect);
    }
}
