//! The journal as its users see it, on a disk that works.
#![allow(clippy::unwrap_used, reason = "the panic of a test is its report")]

mod common;

use std::sync::Arc;

use common::{frame, frames, settled, verdict};
use evener_core::id::{LogIndex, Term};
use evener_store::{FileDisk, Journal, Settings, disk::MemoryDisk};

const SMALL: Settings = Settings { chunk_bytes: 4096, recent_bytes_max: 10_000 };

#[test]
fn what_is_appended_is_read_at_once_and_after_a_start() {
    let home = tempfile::tempdir().unwrap();
    {
        let disk = Arc::new(FileDisk::open(home.path()).unwrap());
        let (journal, recovered) = Journal::open(disk, SMALL).unwrap();
        assert!(recovered.fresh);
        settled(|done| {
            journal.append(frames(0..300), done).unwrap();
            assert_eq!(journal.read(LogIndex(0), LogIndex(300), usize::MAX).unwrap(), frames(0..300));
        });
        assert_eq!(journal.durable(), Some(LogIndex(299)));
    }
    let disk = Arc::new(FileDisk::open(home.path()).unwrap());
    let (journal, recovered) = Journal::open(disk, SMALL).unwrap();
    assert!(!recovered.fresh && recovered.torn.is_none());
    assert_eq!(journal.read(LogIndex(0), LogIndex(1000), usize::MAX).unwrap(), frames(0..300));
    assert_eq!(journal.last(), Some((LogIndex(299), Term(1))));
    assert_eq!(journal.get(LogIndex(17)).unwrap(), Some(frame(17)));
    assert_eq!(journal.get(LogIndex(300)).unwrap(), None);
}

#[test]
fn a_chunk_that_is_applied_is_sealed() {
    let disk = Arc::new(MemoryDisk::new());
    let (journal, _) = Journal::open(disk.clone(), SMALL).unwrap();
    settled(|done| journal.append(frames(0..300), done).unwrap());
    journal.applied((0..300).map(verdict).collect());
    settled(|done| journal.save_vote("x".into(), done));
    let chunks = journal.chunks();
    assert!(chunks.len() > 3);
    let (open, sealed) = chunks.split_last().unwrap();
    assert!(sealed.iter().all(|chunk| chunk.hash.is_some()) && open.hash.is_none());
    for index in 0..300 {
        assert_eq!(journal.verdict(LogIndex(index)).unwrap(), Some(verdict(index)));
    }
    let (journal, _) = Journal::open(disk, SMALL).unwrap();
    assert_eq!(journal.chunks(), chunks);
    assert_eq!(journal.read(LogIndex(0), LogIndex(1000), usize::MAX).unwrap(), frames(0..300));
}
