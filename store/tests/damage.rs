//! Changed bytes are detected before they are used (P8): every byte of a small directory is changed, every file is
//! truncated, missing, swapped or stale, and the journal either reports it or serves the same data as before.
#![allow(clippy::unwrap_used, reason = "the panic of a test is its report")]

mod common;

use std::{io, sync::Arc};

use bytes::Bytes;
use common::{ManualScheduler, frame_of, frames, verdict};
use evener_core::id::{ClusterId, ContextId, Incarnation, LogIndex, NodeId, Term};
use evener_store::{
    Checkpoint, Identity, Journal, JournalSettings, OpenError, Recovered, Verdict,
    disk::{Disk, DiskImage, FaultyDisk, Op, SECTOR_BYTES},
    recovery::UnusableCheckpoint,
};

const SMALL_CHUNKS: JournalSettings = JournalSettings { chunk_bytes: 4096, recent_bytes_max: 0 };
const FRAMES: u64 = 130;

fn identity() -> Identity {
    let (cluster, incarnation) = (ClusterId::default(), Incarnation::default());
    Identity { cluster, node: NodeId(1), name: "one".into(), incarnation, chunk_bytes: SMALL_CHUNKS.chunk_bytes }
}

fn checkpoint(index: u64) -> Checkpoint {
    let image = Bytes::from(vec![index as u8; 40]);
    Checkpoint { index: LogIndex(index), term: Term(1), membership: Bytes::from_static(b"us"), image }
}

/// Returns a data directory with sealed chunks, an open one, two checkpoints and a vote.
fn directory() -> DiskImage {
    let scheduler = ManualScheduler::default();
    let disk = FaultyDisk::new(DiskImage::default(), scheduler.handle());
    identity().write(&disk).unwrap();
    let (journal, _) = Journal::open(Arc::new(disk.clone()), SMALL_CHUNKS).unwrap();
    journal.save_vote(Bytes::from_static(b"me"), Box::new(Result::unwrap));
    for (from, to, applied) in [(0, 50, 20), (50, FRAMES, 125)] {
        journal.append(frames(from..to), Box::new(Result::unwrap)).unwrap();
        scheduler.run();
        journal.applied((0..=applied).map(verdict).collect());
        scheduler.run();
        journal.save_checkpoint(checkpoint(applied), Box::new(Result::unwrap));
        journal.save_committed(LogIndex(applied));
        scheduler.run();
    }
    let sealed = journal.chunks().iter().filter(|chunk| chunk.hash.is_some()).count();
    assert!(sealed >= 2 && sealed < journal.chunks().len());
    disk.image()
}

/// The result of using a directory: an error, or the correct data.
#[derive(Debug, PartialEq)]
enum Observed {
    Failed(String),
    Served,
}

fn open(image: DiskImage) -> Result<(ManualScheduler, FaultyDisk, Journal, Recovered), OpenError> {
    let scheduler = ManualScheduler::default();
    let disk = FaultyDisk::new(image, scheduler.handle());
    let (journal, recovered) = Journal::open(Arc::new(disk.clone()), SMALL_CHUNKS)?;
    Ok((scheduler, disk, journal, recovered))
}

/// Starts a node on a directory and reads all data.
fn start_and_use(image: DiskImage, case: &str) -> Observed {
    let (scheduler, disk, journal, recovered) = match open(image) {
        Ok(opened) => opened,
        Err(error) => return Observed::Failed(error.to_string()),
    };
    let read = match (Identity::read(&disk), journal.verify()) {
        (Err(error), _) => return Observed::Failed(error.to_string()),
        (_, Err(error)) => return Observed::Failed(error.to_string()),
        (Ok(read), Ok(())) => read,
    };
    assert_eq!(read, Some(identity()), "{case}");
    assert_eq!(journal.vote(), Some(Bytes::from_static(b"me")), "{case}");
    let all = journal.read(LogIndex(0), LogIndex(u64::MAX), usize::MAX).unwrap();
    assert!(all == frames(0..FRAMES), "{case}: {} frames, the last {:?}", all.len(), journal.last());
    // An older checkpoint or none is fine too: more frames are replayed, with the same result.
    let replay = recovered.checkpoint.map_or(0, |found| {
        assert_eq!(found, checkpoint(found.index.0), "{case}");
        found.index.0 + 1
    });
    journal.applied((replay..FRAMES).map(verdict).collect());
    scheduler.run();
    assert_eq!(journal.stopped(), None, "{case}");
    for index in 0..FRAMES {
        assert_eq!(journal.verdict(LogIndex(index)).unwrap(), Some(verdict(index)), "{case}");
    }
    Observed::Served
}

fn check_error(found: &Observed, file: &str, case: &str) {
    if let Observed::Failed(error) = found {
        assert!(error.contains(file), "{case}: {error}");
        assert!(error.contains("join again") || error.contains("is chosen when"), "{case}: it has a hint: {error}");
    }
}

#[test]
fn p8_a_flipped_bit_anywhere_is_found_or_harmless() {
    let whole = directory();
    assert_eq!(start_and_use(whole.clone(), "whole"), Observed::Served);
    let (mut failed, mut served) = (0, 0);
    for (file, bytes) in whole.files() {
        for at in 0..bytes.len() as u64 {
            let mut image = whole.clone();
            image.flip(&file, at, (at % 8) as u8);
            let case = format!("{file} at {at}");
            let found = start_and_use(image, &case);
            check_error(&found, &file, &case);
            match found {
                Observed::Failed(_) => failed += 1,
                Observed::Served => served += 1,
            }
        }
    }
    assert!(failed > 10_000 && served > 1000, "{failed} found, {served} harmless");
}

/// A crash leaves each unsynced sector written or not.
#[test]
fn p8_a_flipped_bit_of_a_footer_is_damage_and_a_footer_with_missing_sectors_is_rebuilt() {
    let whole = directory();
    for (file, bytes) in whole.files() {
        let Some(footer) = bytes.windows(8).rposition(|magic| magic == b"EVNRFOOT") else { continue };
        for bit in footer * 8..bytes.len() * 8 {
            let mut image = whole.clone();
            image.flip(&file, (bit / 8) as u64, (bit % 8) as u8);
            let disk = FaultyDisk::new(image.clone(), ManualScheduler::default().handle());
            let error = Journal::open(Arc::new(disk.clone()), SMALL_CHUNKS).err();
            let Some(OpenError::Damaged(damage)) = error else { panic!("bit {bit} of {file}: {error:?}") };
            assert_eq!((&damage.file, damage.offset), (&file, footer as u64), "bit {bit}: {damage}");
            assert_eq!(disk.image().files(), image.files(), "nothing is modified");
        }
        let sectors = footer / SECTOR_BYTES..=(bytes.len() - 1) / SECTOR_BYTES;
        for lost in 1..1_u32 << sectors.clone().count() {
            let mut image = whole.clone();
            for (nth, sector) in sectors.clone().enumerate().filter(|(nth, _)| lost >> nth & 1 == 1) {
                let from = footer.max(sector * SECTOR_BYTES);
                let zeros = vec![0; bytes.len().min((sector + 1) * SECTOR_BYTES) - from];
                let op = Op::Write { file: file.clone(), offset: from as u64, bytes: zeros.into() };
                image.perform(op).unwrap_or_else(|error| panic!("sector {nth}: {error}"));
            }
            let (.., recovered) = open(image.clone()).unwrap();
            assert_eq!(recovered.torn, None, "the log has all its frames");
            assert_eq!(start_and_use(image, &file), Observed::Served, "sectors {lost:b} of {file}");
        }
    }
}

#[test]
fn p8_a_cut_or_missing_file_is_found_or_harmless() {
    let whole = directory();
    for (file, bytes) in whole.files() {
        let removal = Op::Remove { file: file.clone() };
        let cuts = (0..bytes.len() as u64).step_by(7).map(|len| Op::Truncate { file: file.clone(), len });
        for op in cuts.chain([removal]) {
            let case = format!("{op:?}");
            let mut image = whole.clone();
            image.perform(op).unwrap();
            check_error(
                &start_and_use(image, &case),
                if file.starts_with("chunks") { "chunks/" } else { &file },
                &case,
            );
        }
    }
}

#[test]
fn p8_a_swapped_or_stale_chunk_is_found() {
    let whole = directory();
    let names = whole.list("chunks");
    for from in &names {
        for to in &names {
            let mut image = whole.clone();
            let name = |name: &str| format!("chunks/{name}");
            image.perform(Op::Rename { from: name(from), to: name(to) }).unwrap();
            let case = format!("{from} in the place of {to}");
            let found = start_and_use(image, &case);
            assert_eq!(matches!(found, Observed::Served), from == to, "{case}: {found:?}");
        }
    }
    // The last chunk before its last frames were written.
    let last = format!("chunks/{}", names.last().unwrap());
    let mut image = whole.clone();
    let (_, _, journal, _) = open(whole).unwrap();
    let frames_end = journal.chunks().last().unwrap().bytes;
    image.perform(Op::Write { file: last, offset: frames_end - 200, bytes: vec![0; 200].into() }).unwrap();
    let Observed::Failed(error) = start_and_use(image, "stale") else {
        panic!("a synced frame was taken for a torn one")
    };
    assert!(error.contains("frame") && error.contains("nothing was changed"), "{error}");
}

#[test]
fn p8_a_bad_frame_beyond_the_watermark_is_a_torn_tail_and_one_before_it_is_damage() {
    let (scheduler, disk, journal, _) = open(directory()).unwrap();
    let synced = journal.chunks().last().unwrap().bytes;
    journal.append(vec![frame_of(FRAMES, 1), frame_of(FRAMES + 1, 1)], Box::new(Result::unwrap)).unwrap();
    // The write is performed, but its sync is not.
    while journal.read(LogIndex(FRAMES), LogIndex(FRAMES + 1), 1).is_ok_and(|_| disk_tail(&disk, synced) == 0) {
        assert!(scheduler.step());
    }
    let last = format!("chunks/{}", disk.list("chunks").unwrap().last().unwrap());
    let mut torn = disk.image();
    torn.flip(&last, synced + 10, 0);
    let (.., journal, recovered) = open(torn).unwrap();
    assert_eq!(journal.last(), Some((LogIndex(FRAMES - 1), Term(1))));
    let cut = recovered.torn.unwrap();
    assert_eq!((cut.frame, cut.location.offset), (LogIndex(FRAMES), synced));

    let mut damaged = disk.image();
    damaged.flip(&last, synced - 1, 0);
    let before = damaged.files();
    let disk = FaultyDisk::new(damaged, ManualScheduler::default().handle());
    let error = Journal::open(Arc::new(disk.clone()), SMALL_CHUNKS).err().unwrap().to_string();
    assert!(error.contains(&format!("(frame {})", FRAMES - 1)) && error.contains(&last), "{error}");
    assert_eq!(disk.image().files(), before, "nothing is modified");
}

#[test]
fn p8_a_checkpoint_whose_image_cannot_be_read_is_skipped() {
    for (refused, used) in [(&[][..], Some(125)), (&[125], Some(20)), (&[125, 20], None)] {
        let scheduler = ManualScheduler::default();
        let disk = FaultyDisk::new(directory(), scheduler.handle());
        let mut accept = |checkpoint: &Checkpoint| match refused.contains(&checkpoint.index.0) {
            true => Err(UnusableCheckpoint::Unreadable(io::Error::other("its image has another layout"))),
            false => Ok(()),
        };
        let (journal, recovered) = Journal::open_with(Arc::new(disk.clone()), SMALL_CHUNKS, &mut accept).unwrap();
        assert_eq!(recovered.checkpoint, used.map(checkpoint));
        assert_eq!(journal.applied_next(), used.map(|index| LogIndex(index + 1)));
        journal.applied((used.map_or(0, |index| index + 1)..FRAMES).map(verdict).collect());
        scheduler.run();
        for index in 0..FRAMES {
            assert_eq!(journal.verdict(LogIndex(index)).unwrap(), Some(verdict(index)));
        }
        journal.save_checkpoint(checkpoint(FRAMES - 1), Box::new(Result::unwrap));
        scheduler.run();
        drop(journal);
        let (.., recovered) = open(disk.image()).unwrap();
        assert_eq!(recovered.checkpoint, Some(checkpoint(FRAMES - 1)), "the next checkpoint replaces it");
    }
}

/// Such a checkpoint proves nothing about this log, whether it is within the log, of another term or beyond its end.
#[test]
fn p8_a_checkpoint_of_another_cluster_is_skipped_and_one_beyond_the_log_is_damage() {
    for (index, term, of_this_log) in [(60, 1, true), (60, 2, false), (FRAMES + 9, 1, false)] {
        let scheduler = ManualScheduler::default();
        let disk = FaultyDisk::new(DiskImage::default(), scheduler.handle());
        let (journal, _) = Journal::open(Arc::new(disk.clone()), SMALL_CHUNKS).unwrap();
        let frames = (0..=index).map(|at| frame_of(at, if at == index { term } else { 1 }));
        journal.append(frames.collect(), Box::new(Result::unwrap)).unwrap();
        scheduler.run();
        journal.applied((0..=index).map(verdict).collect());
        scheduler.run();
        let image = Bytes::from_static(b"theirs");
        let theirs = Checkpoint { term: Term(term), image, ..checkpoint(index) };
        journal.save_checkpoint(theirs, Box::new(Result::unwrap));
        scheduler.run();
        let theirs =
            Bytes::from(disk.read("checkpoint", 0, disk.len("checkpoint").unwrap().unwrap() as usize).unwrap());

        let mut image = directory();
        image.perform(Op::Truncate { file: "checkpoint".into(), len: 0 }).unwrap();
        image.perform(Op::Write { file: "checkpoint".into(), offset: 0, bytes: theirs }).unwrap();
        let open = |accept: &mut dyn FnMut(&Checkpoint) -> Result<(), UnusableCheckpoint>| {
            let disk = FaultyDisk::new(image.clone(), ManualScheduler::default().handle());
            Journal::open_with(Arc::new(disk), SMALL_CHUNKS, accept)
        };
        let (journal, recovered) = open(&mut |checkpoint| match &checkpoint.image[..] {
            b"theirs" => Err(UnusableCheckpoint::Foreign("it is of cluster b".into())),
            _ => Ok(()),
        })
        .unwrap();
        assert_eq!(recovered.checkpoint, Some(checkpoint(20)), "the previous checkpoint is of this cluster");
        assert_eq!(journal.last(), Some((LogIndex(FRAMES - 1), Term(1))));
        for unreadable in [false, true] {
            let opened = open(&mut |_| match unreadable {
                true => Err(UnusableCheckpoint::Unreadable(io::Error::other("its image has another layout"))),
                false => Ok(()),
            });
            assert_eq!(opened.is_ok(), of_this_log, "frame {index} in term {term}: the log has lost the frame");
        }
    }
}

#[test]
fn p8_a_replay_that_a_footer_contradicts_is_damage() {
    let changes: [fn(&mut Verdict); 5] = [
        |verdict| verdict.context = ContextId(1),
        |verdict| verdict.first.0 += 1,
        |verdict| verdict.accepted.push(9),
        |verdict| verdict.events += 1,
        |verdict| verdict.recorded.0 += 1,
    ];
    let mut refuse =
        |_: &Checkpoint| Err(UnusableCheckpoint::Unreadable(io::Error::other("its image has another layout")));
    for (index, change) in (0..40).flat_map(|index| changes.map(|change| (index, change))) {
        let scheduler = ManualScheduler::default();
        let disk = FaultyDisk::new(directory(), scheduler.handle());
        let (journal, _) = Journal::open_with(Arc::new(disk), SMALL_CHUNKS, &mut refuse).unwrap();
        let sealed = journal.chunks().into_iter().filter(|chunk| chunk.hash.is_some());
        assert!(sealed.map(|chunk| chunk.last).max() > Some(LogIndex(index)), "the frame is in a sealed chunk");
        let replayed = |at| {
            let mut verdict = verdict(at);
            if at == index {
                change(&mut verdict);
            }
            verdict
        };
        // In batches, as they are applied.
        for from in (0..FRAMES).step_by(7) {
            journal.applied((from..FRAMES.min(from + 7)).map(replayed).collect());
        }
        scheduler.run();
        let error = journal.stopped().expect("it has stopped");
        assert!(error.contains("damage in chunks/") && error.contains(&format!("(frame {index})")), "{error}");
        assert!(error.contains("join again"), "it has a hint: {error}");
    }
}

#[test]
fn p8_a_log_without_its_first_frames_is_not_opened_without_a_checkpoint() {
    let scheduler = ManualScheduler::default();
    let disk = FaultyDisk::new(DiskImage::default(), scheduler.handle());
    let (journal, _) = Journal::open(Arc::new(disk.clone()), SMALL_CHUNKS).unwrap();
    journal.append(frames(5..30), Box::new(Result::unwrap)).unwrap();
    scheduler.run();
    journal.applied((5..=20).map(verdict).collect());
    journal.save_checkpoint(checkpoint(20), Box::new(Result::unwrap));
    scheduler.run();
    drop(journal);
    let (.., recovered) = open(disk.image()).unwrap();
    assert_eq!(recovered.checkpoint, Some(checkpoint(20)));
    let before = disk.image().files();
    let refuse =
        &mut |_: &Checkpoint| Err(UnusableCheckpoint::Unreadable(io::Error::other("its image has another layout")));
    let error = Journal::open_with(Arc::new(disk.clone()), SMALL_CHUNKS, refuse).err().unwrap();
    assert!(matches!(error, OpenError::Damaged(_)));
    let error = error.to_string();
    assert!(error.contains("no checkpoint can be read, and the log lacks the frames before 5"), "{error}");
    assert!(error.contains("join again under a new name"), "{error}");
    assert_eq!(disk.image().files(), before, "nothing is modified");
}

fn disk_tail(disk: &FaultyDisk, at: u64) -> u8 {
    let last = format!("chunks/{}", disk.list("chunks").unwrap().last().unwrap());
    disk.read(&last, at, 1).unwrap()[0]
}

#[test]
fn p8_rot_in_an_acknowledged_group_is_damage_after_a_power_cut_once_the_watermark_was_synced() {
    for seed in 0..32 {
        let (scheduler, disk, journal, _) = open(directory()).unwrap();
        let first = journal.chunks().last().unwrap().bytes;
        // Groups of one frame, all in the last chunk, all acknowledged.
        for index in FRAMES..FRAMES + 5 {
            journal.append(vec![frame_of(index, 1)], Box::new(Result::unwrap)).unwrap();
            scheduler.run();
        }
        let synced = seed % 2 == 0;
        if synced {
            journal.sync_watermark();
            scheduler.run();
        }
        let mut image = disk.crash(seed).image();
        let files = image.files();
        let last = files.iter().map(|(name, _)| name).filter(|name| name.starts_with("chunks/")).max().unwrap().clone();
        image.flip(&last, first + 10, 0);
        match open(image) {
            Err(error) => assert!(error.to_string().contains(&format!("(frame {FRAMES})")), "{error}"),
            // The watermark was not synced and is older than the frame, so the frame looks like a torn write.
            Ok((.., recovered)) => assert!(!synced && recovered.torn.is_some(), "seed {seed}"),
        }
    }
}

#[test]
fn a_watermark_that_has_not_moved_is_not_synced_again() {
    let (scheduler, _, journal, _) = open(directory()).unwrap();
    scheduler.run();
    journal.sync_watermark();
    assert!(!scheduler.step(), "the start has synced it");
    journal.append(vec![frame_of(FRAMES, 1)], Box::new(Result::unwrap)).unwrap();
    scheduler.run();
    journal.sync_watermark();
    assert!(scheduler.step());
    scheduler.run();
    journal.sync_watermark();
    assert!(!scheduler.step());
}
