//! openraft's own tests of a storage, on ours.

use std::sync::Arc;

use evener_store::{Journal, disk::MemoryDisk};
use openraft::{
    StorageError,
    testing::log::{StoreBuilder, Suite},
};

use super::{log::Log, machine::Machine, types::*};
use crate::{config::Checkpoint, recovery::Ledger};

struct Builder;

impl StoreBuilder<Types, Log, Machine> for Builder {
    async fn build(&self) -> Result<((), Log, Machine), StorageError<Types>> {
        let (journal, recovered) = Journal::open(Arc::new(MemoryDisk::new()), Default::default()).unwrap();
        let ledger = Ledger::recover(&journal, &recovered, Checkpoint::default()).unwrap().without_log();
        Ok(((), Log::new(journal), Machine::new(ledger)))
    }
}

#[tokio::test]
async fn our_storage_passes_the_tests_of_openraft() {
    seeded(1, Suite::test_all(Builder)).await.unwrap();
}
