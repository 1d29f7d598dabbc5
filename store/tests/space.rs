//! A full disk does not stop the journal: writes wait, nothing is lost, and they continue once there is space.
#![allow(clippy::unwrap_used, reason = "the panic of a test is its report")]

mod common;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use common::{ManualScheduler, frame, frames, verdict};
use evener_core::id::{LogIndex, Term};
use evener_store::{
    Checkpoint, Journal, JournalSettings, OpenError,
    disk::{Disk, DiskImage, FaultyDisk},
};

const SMALL_CHUNKS: JournalSettings = JournalSettings { chunk_bytes: 4096, recent_bytes_max: 0 };
const FRAMES: u64 = 200;

#[test]
fn a_full_disk_makes_the_writer_wait_and_nothing_is_lost() {
    // The space ends at different operations.
    for capacity in (500..40_000).step_by(331) {
        let scheduler = ManualScheduler::default();
        let disk = FaultyDisk::new(DiskImage::default(), scheduler.handle());
        let (journal, _) = Journal::open(Arc::new(disk.clone()), SMALL_CHUNKS).unwrap();
        disk.set_capacity(Some(capacity));
        let acknowledged = Arc::new(AtomicU64::new(0));
        for index in 0..FRAMES {
            let counter = acknowledged.clone();
            let done = Box::new(move |result: io::Result<()>| {
                result.unwrap();
                counter.store(index + 1, Relaxed);
            });
            journal.append(vec![frame(index)], done).unwrap();
            scheduler.run();
            let next = acknowledged.load(Relaxed);
            journal.applied((0..next).map(verdict).collect());
            if index == 20 && next > 0 {
                let image = Bytes::from(vec![7; 500]);
                let (index, membership) = (LogIndex(next - 1), Bytes::from_static(b"us"));
                journal
                    .save_checkpoint(Checkpoint { index, term: Term(1), membership, image }, Box::new(Result::unwrap));
                journal.save_vote(Bytes::from_static(b"me"), Box::new(Result::unwrap));
            }
        }
        journal.sync_watermark();
        scheduler.run();
        assert_eq!(journal.stopped(), None, "capacity {capacity}");
        assert!(disk.space().unwrap().free < capacity);
        let kept = acknowledged.load(Relaxed);
        // The power is cut while writes wait.
        let (again, _) =
            Journal::open(Arc::new(FaultyDisk::new(disk.image().crash(0), scheduler.handle())), SMALL_CHUNKS)
                .unwrap_or_else(|error| panic!("capacity {capacity}: {error}"));
        let found = again.read(LogIndex(0), LogIndex(u64::MAX), usize::MAX).unwrap();
        assert!(found.len() as u64 >= kept, "capacity {capacity}: {} of {kept}", found.len());

        disk.set_capacity(None);
        scheduler.run();
        assert_eq!(acknowledged.load(Relaxed), FRAMES, "capacity {capacity}: writes continue");
        assert!(journal.read(LogIndex(0), LogIndex(u64::MAX), usize::MAX).unwrap() == frames(0..FRAMES));
    }
}

/// Opens the journal on a disk of limited capacity, and again without the limit, and checks that it has lost nothing. A
/// refused start must name the missing space and nothing else. Returns whether the first start succeeded.
fn start_without_space(image: DiskImage, capacity: u64, frames_min: u64) -> bool {
    let scheduler = ManualScheduler::default();
    let disk = FaultyDisk::new(image, scheduler.handle());
    disk.set_capacity(Some(capacity));
    let read_all = |journal: &Journal| {
        let found = journal.read(LogIndex(0), LogIndex(u64::MAX), usize::MAX).unwrap();
        assert!(found.len() as u64 >= frames_min && found == frames(0..found.len() as u64), "capacity {capacity}");
    };
    let opened = match Journal::open(Arc::new(disk.clone()), SMALL_CHUNKS) {
        Ok((journal, _)) => {
            read_all(&journal);
            true
        }
        Err(OpenError::Io { source, .. }) if source.kind() == io::ErrorKind::StorageFull => false,
        Err(error) => panic!("capacity {capacity}: {error}"),
    };
    disk.set_capacity(None);
    read_all(&Journal::open(Arc::new(disk), SMALL_CHUNKS).unwrap().0);
    opened
}

#[test]
fn a_first_start_without_space_can_be_repeated() {
    let opened = (0..300).filter(|capacity| start_without_space(DiskImage::default(), *capacity, 0)).count();
    assert!((1..300).contains(&opened), "{opened} starts had enough space");
}

#[test]
fn a_restart_on_a_full_disk_serves_all_frames_or_names_the_missing_space() {
    let scheduler = ManualScheduler::default();
    let disk = FaultyDisk::new(DiskImage::default(), scheduler.handle());
    let (journal, _) = Journal::open(Arc::new(disk.clone()), SMALL_CHUNKS).unwrap();
    journal.append(frames(0..FRAMES), Box::new(Result::unwrap)).unwrap();
    scheduler.run();
    assert!(start_without_space(disk.image(), 0, FRAMES), "nothing has to be repaired");
    // The power is cut during a write, which has to be repaired.
    journal.append(frames(FRAMES..FRAMES + 50), Box::new(|_| ())).unwrap();
    while scheduler.step() {
        for seed in 0..20 {
            start_without_space(disk.image().crash(seed), 0, FRAMES);
        }
    }
}
