//! The journal from its users' point of view, on a disk without faults.
#![allow(clippy::unwrap_used, reason = "the panic of a test is its report")]

mod common;

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use common::{ManualScheduler, frame, frame_of, frames, verdict, wait_for};
use evener_core::id::{ContextId, LogIndex, Position, Term};
use evener_store::{
    Checkpoint, Done, FileDisk, Frame, FrameKind, Journal, JournalSettings, OpenError,
    disk::{DiskImage, FaultyDisk, MemoryDisk, Op},
};

const SMALL_CHUNKS: JournalSettings = JournalSettings { chunk_bytes: 4096, recent_bytes_max: 10_000 };

#[test]
fn appended_frames_are_readable_at_once_and_after_a_restart() {
    let home = tempfile::tempdir().unwrap();
    {
        let disk = Arc::new(FileDisk::open(home.path()).unwrap());
        let (journal, recovered) = Journal::open(disk, SMALL_CHUNKS).unwrap();
        assert!(recovered.fresh);
        wait_for(|done| {
            journal.append(frames(0..300), done).unwrap();
            assert_eq!(journal.read(LogIndex(0), LogIndex(300), usize::MAX).unwrap(), frames(0..300));
        });
        assert_eq!(journal.durable(), Some(LogIndex(299)));
    }
    let disk = Arc::new(FileDisk::open(home.path()).unwrap());
    let (journal, recovered) = Journal::open(disk, SMALL_CHUNKS).unwrap();
    assert!(!recovered.fresh && recovered.torn.is_none());
    assert_eq!(journal.read(LogIndex(0), LogIndex(1000), usize::MAX).unwrap(), frames(0..300));
    assert_eq!(journal.last(), Some((LogIndex(299), Term(1))));
    assert_eq!(journal.get(LogIndex(17)).unwrap(), Some(frame(17)));
    assert_eq!(journal.get(LogIndex(300)).unwrap(), None);
}

#[test]
fn a_chunk_that_is_applied_is_sealed() {
    let disk = Arc::new(MemoryDisk::new());
    let (journal, _) = Journal::open(disk.clone(), SMALL_CHUNKS).unwrap();
    wait_for(|done| journal.append(frames(0..300), done).unwrap());
    journal.applied((0..300).map(verdict).collect());
    wait_for(|done| journal.save_vote("x".into(), done));
    let chunks = journal.chunks();
    assert!(chunks.len() > 3);
    let (open, sealed) = chunks.split_last().unwrap();
    assert!(sealed.iter().all(|chunk| chunk.hash.is_some()) && open.hash.is_none());
    for index in 0..300 {
        assert_eq!(journal.verdict(LogIndex(index)).unwrap(), Some(verdict(index)));
    }
    let (journal, _) = Journal::open(disk, SMALL_CHUNKS).unwrap();
    assert_eq!(journal.chunks(), chunks);
    assert_eq!(journal.read(LogIndex(0), LogIndex(1000), usize::MAX).unwrap(), frames(0..300));
}

fn journal_on(scheduler: &ManualScheduler) -> (FaultyDisk, Journal) {
    let disk = FaultyDisk::new(DiskImage::default(), scheduler.handle());
    let (journal, _) = Journal::open(Arc::new(disk.clone()), SMALL_CHUNKS).unwrap();
    (disk, journal)
}

/// Returns a callback that appends `number` to a list.
fn completion(list: &Arc<Mutex<Vec<u64>>>, number: u64) -> Done {
    let list = list.clone();
    Box::new(move |result| {
        result.unwrap();
        list.lock().unwrap().push(number);
    })
}

#[test]
fn appends_queued_behind_a_group_become_one_write_and_one_sync() {
    let scheduler = ManualScheduler::default();
    let disk = FaultyDisk::new(DiskImage::default(), scheduler.handle());
    let (journal, _) = Journal::open(Arc::new(disk.clone()), JournalSettings::default()).unwrap();
    disk.record();
    let list = Arc::default();
    for index in 0..500 {
        journal.append(vec![frame(index)], completion(&list, index)).unwrap();
    }
    scheduler.run();
    let ops = disk.recorded();
    let in_chunks = |file: &str| file.starts_with("chunks/");
    let writes = ops.iter().filter(|op| matches!(op, Op::Write { file, .. } if in_chunks(file))).count();
    let syncs = ops.iter().filter(|op| matches!(op, Op::SyncData { .. })).count();
    assert_eq!((writes, syncs), (2, 2), "the first frame, then all the others: {ops:?}");
    assert_eq!(*list.lock().unwrap(), (0..500).collect::<Vec<_>>(), "all completed, in order");
}

#[test]
fn a_group_is_bounded() {
    let scheduler = ManualScheduler::default();
    let disk = FaultyDisk::new(DiskImage::default(), scheduler.handle());
    let (journal, _) = Journal::open(Arc::new(disk.clone()), JournalSettings::default()).unwrap();
    disk.record();
    let big = |index| Frame { payload: Bytes::from(vec![7; 1 << 20]), ..frame(index) };
    let list = Arc::default();
    journal.append((0..20).map(big).collect(), completion(&list, 1)).unwrap();
    scheduler.run();
    let longest = disk.recorded().iter().map(|op| if let Op::Write { bytes, .. } = op { bytes.len() } else { 0 }).max();
    assert!(longest.unwrap() <= evener_store::GROUP_BYTES_MAX, "{longest:?}");
    assert_eq!((journal.durable(), list.lock().unwrap().len()), (Some(LogIndex(19)), 1));
}

#[test]
fn a_rejected_append_changes_nothing() {
    let (_, journal) = journal_on(&ManualScheduler::default());
    journal.append(frames(0..3), Box::new(|_| ())).unwrap();
    let check = |frames: Vec<Frame>, expect: &str| {
        let error = journal.append(frames, Box::new(|_| ())).unwrap_err().to_string();
        assert!(error.contains(expect), "{error}");
        assert_eq!(journal.last(), Some((LogIndex(2), Term(1))));
    };
    check(frames(4..6), "frame 4 cannot be appended: the next frame is 3");
    check(vec![frame(3), frame(3)], "frame 3 cannot be appended: the next frame is 4");
    check(vec![Frame { payload: Bytes::from(vec![0; (1 << 20) + 1]), ..frame(3) }], "more than 1048576");
}

#[test]
fn a_read_is_bounded_in_bytes_and_returns_at_least_one_frame() {
    for recent_bytes_max in [0, 3000, 1 << 20] {
        let disk = Arc::new(MemoryDisk::new());
        let (journal, _) = Journal::open(disk, JournalSettings { recent_bytes_max, ..SMALL_CHUNKS }).unwrap();
        wait_for(|done| journal.append(frames(0..200), done).unwrap());
        let mut all = Vec::new();
        while let Some(next) = Some(LogIndex(all.len() as u64)).filter(|next| next.0 < 200) {
            let some = journal.read(next, LogIndex(200), 1000).unwrap();
            let bytes: usize = some.iter().map(Frame::bytes).sum();
            assert!(!some.is_empty() && bytes <= 1000, "{bytes} bytes");
            all.extend(some);
        }
        assert_eq!(all, frames(0..200));
        assert_eq!(journal.read(LogIndex(5), LogIndex(9), 1).unwrap(), frames(5..6));
        assert_eq!(journal.read(LogIndex(5), LogIndex(5), 1000).unwrap(), []);
        assert_eq!(journal.read(LogIndex(200), LogIndex(300), 1000).unwrap(), []);
    }
}

#[test]
fn a_truncation_across_chunks_removes_their_files() {
    let disk = Arc::new(MemoryDisk::new());
    let (journal, _) = Journal::open(disk.clone(), SMALL_CHUNKS).unwrap();
    wait_for(|done| journal.append(frames(0..200), done).unwrap());
    let before = journal.chunks();
    assert!(before.len() >= 4);
    let keep = before[1].first.0 + 3;
    wait_for(|done| journal.truncate_after(Some(LogIndex(keep - 1)), done));
    assert_eq!(journal.last(), Some((LogIndex(keep - 1), Term(1))));
    assert_eq!(disk.image().list("chunks").len(), 2);
    let again: Vec<Frame> = (keep..keep + 100).map(|index| frame_of(index, 2)).collect();
    wait_for(|done| journal.append(again.clone(), done).unwrap());
    let (journal, _) = Journal::open(disk.clone(), SMALL_CHUNKS).unwrap();
    let all = journal.read(LogIndex(0), LogIndex(u64::MAX), usize::MAX).unwrap();
    assert_eq!(all, [frames(0..keep), again].concat());
    assert_eq!((journal.term_at(LogIndex(keep - 1)), journal.term_at(LogIndex(keep))), (Some(Term(1)), Some(Term(2))));

    wait_for(|done| journal.truncate_after(None, done));
    assert_eq!((journal.first(), journal.last(), disk.image().list("chunks").len()), (None, None, 0));
    wait_for(|done| journal.append(frames(0..5), done).unwrap());
    let (journal, _) = Journal::open(disk, SMALL_CHUNKS).unwrap();
    assert_eq!(journal.read(LogIndex(0), LogIndex(9), usize::MAX).unwrap(), frames(0..5));
}

#[test]
fn applied_frames_are_not_truncated() {
    let scheduler = ManualScheduler::default();
    let (_, journal) = journal_on(&scheduler);
    journal.append(frames(0..10), Box::new(|_| ())).unwrap();
    scheduler.run();
    journal.applied((0..5).map(verdict).collect());
    journal.truncate_after(Some(LogIndex(4)), Box::new(Result::unwrap));
    scheduler.run();
    let answer = Arc::new(Mutex::new(None));
    let given = answer.clone();
    journal.truncate_after(Some(LogIndex(3)), Box::new(move |result| *given.lock().unwrap() = Some(result)));
    let error = answer.lock().unwrap().take().unwrap().unwrap_err().to_string();
    assert!(error.contains("after frame 3, but later frames are applied"), "{error}");
    assert!(journal.stopped().is_some());
}

/// The same log with other groups, truncations, batches of applied frames and restarts.
#[test]
fn sealed_chunks_are_the_same_on_every_node() {
    let term = |index: u64| 1 + index / 70;
    let log = |from: u64, to: u64| (from..to).map(|index| frame_of(index, term(index))).collect::<Vec<_>>();
    let one = {
        let disk = Arc::new(MemoryDisk::new());
        let (journal, _) = Journal::open(disk.clone(), SMALL_CHUNKS).unwrap();
        wait_for(|done| journal.append(log(0, 250), done).unwrap());
        journal.applied((0..250).map(verdict).collect());
        wait_for(|done| journal.truncate_after(Some(LogIndex(249)), done));
        journal.verify().unwrap();
        (disk.image(), journal.chunks())
    };
    let other = {
        let scheduler = ManualScheduler::default();
        let (mut disk, mut journal) = journal_on(&scheduler);
        let mut applied = 0;
        for from in (0..250).step_by(5) {
            // Frames of a deposed leader, which are truncated.
            journal.append((from..from + 40).map(|index| frame_of(index, 99)).collect(), Box::new(|_| ())).unwrap();
            if from % 3 == 0 {
                scheduler.run();
            }
            journal.truncate_after(from.checked_sub(1).map(LogIndex), Box::new(|_| ()));
            journal.append(log(from, from + 5), Box::new(|_| ())).unwrap();
            scheduler.run();
            if from % 20 == 0 {
                journal.applied((applied..from + 3).map(verdict).collect());
                applied = from + 3;
                let (index, membership) = (LogIndex(applied - 1), Bytes::new());
                let checkpoint = Checkpoint { index, term: Term(term(index.0)), membership, image: Bytes::new() };
                journal.save_checkpoint(checkpoint, Box::new(Result::unwrap));
                scheduler.run();
            }
            if from % 35 == 0 {
                drop(journal);
                disk = disk.crash(from);
                journal = Journal::open(Arc::new(disk.clone()), SMALL_CHUNKS).unwrap().0;
                applied = journal.applied_next().map_or(0, |next| next.0);
            }
        }
        journal.applied((applied..250).map(verdict).collect());
        scheduler.run();
        journal.verify().unwrap();
        (disk.image(), journal.chunks())
    };
    assert_eq!(one.1, other.1);
    let sealed = one.1.iter().filter(|chunk| chunk.hash.is_some());
    let files: Vec<String> = sealed.map(|chunk| format!("chunks/{:020}.chunk", chunk.first.0)).collect();
    assert!(files.len() > 3);
    for file in files {
        let len = one.0.len(&file).unwrap() as usize;
        assert_eq!(one.0.read(&file, 0, len).unwrap(), other.0.read(&file, 0, len).unwrap(), "{file}");
        assert_eq!(other.0.len(&file), Some(len as u64), "the rest of the preallocation is removed");
    }
}

#[test]
fn blank_frames_are_sealed_with_the_others() {
    let disk = Arc::new(MemoryDisk::new());
    let (journal, _) = Journal::open(disk.clone(), SMALL_CHUNKS).unwrap();
    let blank = Frame { kind: FrameKind::Blank, count: 0, payload: Bytes::new(), ..frame(0) };
    let system = Frame { context: ContextId::SYSTEM, ..frame(1) };
    wait_for(|done| journal.append([vec![blank, system], frames(2..90)].concat(), done).unwrap());
    let of = |index: u64| match index {
        0 => evener_store::Verdict { index: LogIndex(0), ..Default::default() },
        1 => evener_store::Verdict { context: ContextId::SYSTEM, first: Position(0), ..verdict(1) },
        2 => evener_store::Verdict { first: Position(5), ..verdict(2) },
        _ => evener_store::Verdict { first: Position(verdict(index).first.0 + 2), ..verdict(index) },
    };
    journal.applied((0..90).map(of).collect());
    wait_for(|done| journal.save_vote(Bytes::new(), done));
    assert!(journal.chunks()[0].hash.is_some(), "{:?}", journal.stopped());
    let (journal, _) = Journal::open(disk, SMALL_CHUNKS).unwrap();
    for index in 1..journal.chunks()[1].first.0 {
        assert_eq!(journal.verdict(LogIndex(index)).unwrap(), Some(of(index)));
    }
    assert_eq!(journal.read_applied(LogIndex(1), LogIndex(3), usize::MAX).unwrap()[0].1, of(1));
}

#[test]
fn verdicts_with_a_gap_stop_the_node() {
    let scheduler = ManualScheduler::default();
    let (_, journal) = journal_on(&scheduler);
    journal.append(frames(0..10), Box::new(|_| ())).unwrap();
    scheduler.run();
    journal.applied(vec![verdict(0), verdict(2)]);
    assert_eq!(journal.stopped().unwrap(), "frame 2 was applied, but the next frame is 1");
}

#[test]
fn hidden_frames_are_not_shown_and_a_log_that_ends_before_them_starts_over() {
    let disk = Arc::new(MemoryDisk::new());
    let (journal, _) = Journal::open(disk.clone(), SMALL_CHUNKS).unwrap();
    wait_for(|done| journal.append(frames(0..100), done).unwrap());
    wait_for(|done| journal.hide_below(Some((LogIndex(60), Term(1))), done));
    let check = |journal: &Journal| {
        assert_eq!(journal.first(), Some((LogIndex(61), Term(1))));
        assert_eq!(journal.last(), Some((LogIndex(99), Term(1))));
        assert_eq!(journal.read(LogIndex(0), LogIndex(63), usize::MAX).unwrap(), frames(61..63));
        assert_eq!(journal.get(LogIndex(60)).unwrap(), None);
        assert_eq!((journal.term_at(LogIndex(60)), journal.term_at(LogIndex(59))), (Some(Term(1)), None));
    };
    check(&journal);
    let (journal, _) = Journal::open(disk.clone(), SMALL_CHUNKS).unwrap();
    check(&journal);

    wait_for(|done| journal.hide_below(Some((LogIndex(500), Term(4))), done));
    let check = |journal: &Journal| {
        assert_eq!((journal.first(), journal.last()), (None, Some((LogIndex(500), Term(4)))));
        assert_eq!(journal.read(LogIndex(0), LogIndex(u64::MAX), usize::MAX).unwrap(), []);
    };
    check(&journal);
    let (journal, _) = Journal::open(disk.clone(), SMALL_CHUNKS).unwrap();
    check(&journal);
    let error = journal.append(frames(100..101), Box::new(|_| ())).unwrap_err().to_string();
    assert!(error.contains("the next frame is 501"), "{error}");
    wait_for(|done| journal.append(vec![frame_of(501, 5)], done).unwrap());
    let (journal, _) = Journal::open(disk, SMALL_CHUNKS).unwrap();
    assert_eq!(journal.read(LogIndex(0), LogIndex(u64::MAX), usize::MAX).unwrap(), [frame_of(501, 5)]);
}

#[test]
fn vote_committed_and_checkpoint_are_found_again() {
    let scheduler = ManualScheduler::default();
    let (disk, journal) = journal_on(&scheduler);
    assert_eq!((journal.vote(), journal.committed()), (None, None));
    journal.append(frames(0..10), Box::new(|_| ())).unwrap();
    journal.save_vote(Bytes::from_static(b"me"), Box::new(Result::unwrap));
    journal.save_committed(LogIndex(7));
    scheduler.run();
    journal.applied((0..8).map(verdict).collect());
    let checkpoint = |index| Checkpoint {
        index: LogIndex(index),
        term: Term(1),
        membership: Bytes::from_static(b"m"),
        image: Bytes::from_static(b"i"),
    };
    journal.save_checkpoint(checkpoint(7), Box::new(Result::unwrap));
    let refused = Arc::new(Mutex::new(None));
    let given = refused.clone();
    journal.save_checkpoint(checkpoint(8), Box::new(move |result| *given.lock().unwrap() = Some(result)));
    let error = refused.lock().unwrap().take().unwrap().unwrap_err().to_string();
    assert!(error.contains("before the frame is applied"), "{error}");
    scheduler.run();
    let (journal, recovered) = Journal::open(Arc::new(disk.kill()), SMALL_CHUNKS).unwrap();
    assert_eq!((journal.vote(), journal.committed()), (Some(Bytes::from_static(b"me")), Some(LogIndex(7))));
    assert_eq!((recovered.checkpoint, journal.applied_next()), (Some(checkpoint(7)), Some(LogIndex(8))));
}

#[test]
fn another_chunk_size_is_rejected() {
    let disk = Arc::new(MemoryDisk::new());
    let (journal, _) = Journal::open(disk.clone(), SMALL_CHUNKS).unwrap();
    wait_for(|done| journal.append(frames(0..1), done).unwrap());
    let error = Journal::open(disk.clone(), JournalSettings { chunk_bytes: 8192, ..SMALL_CHUNKS }).err().unwrap();
    assert!(matches!(error, OpenError::ChunkBytes { found: 4096, asked: 8192, .. }), "{error}");
    let error = Journal::open(disk, JournalSettings { chunk_bytes: 4095, ..SMALL_CHUNKS }).err().unwrap().to_string();
    assert_eq!(error, "chunk_bytes is 4095, but must be 4096 to 1073741824");
}

#[test]
fn the_directory_is_unlocked_when_the_last_handle_is_dropped() {
    let home = tempfile::tempdir().unwrap();
    for round in 0..50 {
        let disk = Arc::new(FileDisk::open(home.path()).unwrap());
        let (journal, _) = Journal::open(disk, SMALL_CHUNKS).unwrap();
        wait_for(|done| journal.append(frames(round * 3..round * 3 + 3), done).unwrap());
    }
}
