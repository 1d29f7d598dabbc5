//! openraft's own storage tests, run on our storage.

use std::sync::Arc;

use evener_core::id::ClusterId;
use evener_store::disk::{DiskImage, MemoryDisk};
use openraft::{
    StorageError,
    testing::log::{StoreBuilder, Suite},
};

use tokio::sync::mpsc;

use super::{layout::check_membership, log::Log, machine::Machine, types::*};
use crate::{config::Checkpoint, recovery::AppliedState};

struct Builder;

impl StoreBuilder<Types, Log, Machine> for Builder {
    async fn build(&self) -> Result<((), Log, Machine), StorageError<Types>> {
        let cluster = ClusterId::default();
        let opened =
            AppliedState::open(Arc::new(disk()), Default::default(), Checkpoint::default(), cluster, check_membership);
        let (applied_state, journal, _) = opened.unwrap();
        Ok(((), Log::new(journal), Machine::new(applied_state.without_log())))
    }
}

/// Returns a disk whose work is done by a task.
fn disk() -> MemoryDisk {
    let (jobs, mut queue) = mpsc::unbounded_channel::<Box<dyn FnOnce() + Send>>();
    tokio::spawn(async move {
        while let Some(job) = queue.recv().await {
            job();
        }
    });
    let scheduler = move |job| {
        let _ = jobs.send(job);
    };
    MemoryDisk::with(DiskImage::default(), Arc::new(scheduler))
}

// Paused time: the suite waits for events that must not happen.
#[tokio::test(start_paused = true)]
async fn our_storage_passes_the_tests_of_openraft() {
    seeded(1, Suite::test_all(Builder)).await.unwrap();
}
