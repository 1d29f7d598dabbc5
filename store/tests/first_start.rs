//! The first start of a data directory is interrupted at each of its writes and syncs: the next start succeeds, and
//! never mistakes an incomplete directory for a damaged one.
#![allow(clippy::unwrap_used, reason = "the panic of a test is its report")]

use std::sync::Arc;

use evener_store::{
    Journal, JournalSettings,
    disk::{DiskImage, FaultyDisk, Scheduler},
};

/// Returns a scheduler that runs jobs at once; a start submits none.
fn at_once() -> Scheduler {
    Arc::new(|job| job())
}

#[test]
fn a_first_start_interrupted_anywhere_can_be_repeated() {
    let disk = FaultyDisk::new(DiskImage::default(), at_once());
    disk.record();
    Journal::open(Arc::new(disk.clone()), JournalSettings::default()).unwrap();
    let ops = disk.recorded();
    let mut image = DiskImage::default();
    for cut in 0..=ops.len() {
        for seed in 0..100 {
            let left = FaultyDisk::new(image.crash(seed), at_once());
            let opened = Journal::open(Arc::new(left), JournalSettings::default());
            assert!(opened.is_ok(), "after {:?}, seed {seed}: {:?}", &ops[..cut], opened.err());
        }
        if let Some(op) = ops.get(cut) {
            image.perform(op.clone()).unwrap();
        }
    }
}
