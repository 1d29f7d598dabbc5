//! Disks that fill up: appends are refused before a disk is full, everything else goes on, and no data are lost.

use std::io::ErrorKind;

use evener_store::OpenError;

use super::*;
use crate::error::ErrorReason;

/// Suits chunks of 4 KiB; checkpoints are about as large as the reserve of a test.
const CAPACITY: u64 = 768 << 10;

impl TestCluster {
    fn set_capacity(&self, capacity: Option<u64>) {
        self.disks.values().for_each(|disk| disk.set_capacity(capacity));
    }

    /// Appends until an append is refused; returns the next id and the error.
    async fn fill(&self, nth: u64, mut id: u128) -> (u128, Error) {
        loop {
            match self.append(nth, id).await {
                Ok(_) => id += 1,
                Err(error) => return (id, error),
            }
            pass(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn no_node_stops_when_three_equal_disks_fill_up() {
    let mut cluster = TestCluster::founded(31, 3).await;
    cluster.set_capacity(Some(CAPACITY));
    let (stored, error) = cluster.fill(1, 1).await;
    assert!(stored > 50, "{stored} appends");
    assert!(error.reason == Some(ErrorReason::DiskReserve), "{error}");
    assert_eq!((error.class, error.retry_after.is_some()), (Class::Overloaded, true));
    assert!(cluster.disks.values().all(|disk| disk.space().unwrap().free > 4096), "the reserve is free");

    // Everything but appends goes on within the reserve, also across a restart.
    cluster.kill(2).await;
    cluster.revive(2).await;
    cluster.settle().await;
    assert!(cluster.nodes.values().all(|node| node.status().stopped.is_none()));
    let again = cluster.append(1, 1).await.unwrap();
    assert_eq!(again, Position(0), "a repeated append is answered");

    cluster.set_capacity(None);
    cluster
        .until("appends go on", |cluster| cluster.nodes.values().all(|node| node.status().append_refusal.is_none()))
        .await;
    assert_eq!(cluster.append(3, stored).await.unwrap(), Position(stored as u64 - 1));
    cluster.same().await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_with_a_low_disk_transfers_leadership_to_a_node_with_space() {
    let cluster = TestCluster::founded(32, 3).await;
    let leader = cluster.leader().unwrap();
    cluster.disks[&leader].set_capacity(Some(0));
    cluster.until("another node leads", |cluster| cluster.leader().is_some_and(|now| now != leader)).await;
    let other = cluster.leader().unwrap();
    cluster.append(other, 1).await.unwrap();
    let error = cluster.append(leader, 2).await.unwrap_err();
    assert!(error.reason == Some(ErrorReason::DiskReserve), "{error}");
    cluster.disks[&leader].set_capacity(None);
    cluster.until("the disk has space", |cluster| !cluster.nodes[&leader].status().disk.low).await;
    cluster.append(leader, 2).await.unwrap();
    cluster.same().await;
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_without_disk_space_is_retried() {
    let cluster = TestCluster::founded(33, 1).await;
    let (disk, applied_state) = (&cluster.disks[&1], &cluster.nodes[&1].applied_state);
    let used = || u64::MAX - disk.space().unwrap().free;
    let saved = || disk.read("checkpoint", 0, disk.len("checkpoint").unwrap().unwrap() as usize).unwrap();
    applied_state.checkpoint().await.unwrap();
    let before = saved();
    for id in 0..15 {
        cluster.append(1, id).await.unwrap();
    }
    disk.set_capacity(Some(used() + CHUNK_BYTES_MIN));
    let error = applied_state.checkpoint().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
    disk.set_capacity(None);
    cluster.until("there is space", |cluster| !cluster.nodes[&1].status().disk.low).await;
    assert_eq!(saved(), before);
    for id in 15..22 {
        cluster.append(1, id).await.unwrap();
    }
    cluster.until("the checkpoint that failed is written", |_| saved() != before).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_without_space_for_its_first_chunk_does_not_start() {
    let mut cluster = TestCluster::new(34);
    cluster.disks.insert(1, disk());
    // Enough for everything that a first start writes before the first entry.
    let free = CHUNK_BYTES_MIN * 32;
    cluster.disks[&1].set_capacity(Some(free));
    for _ in 0..2 {
        let mut config = Config { bootstrap: true, ..cluster.config(1) };
        config.journal.chunk_bytes = 2 * free;
        let error = cluster.start(config).await.unwrap_err();
        assert!(is_full(&error) && error.to_string().contains("the first chunk"), "{error}");
    }
    cluster.disks[&1].set_capacity(None);
    let config = Config { bootstrap: true, ..cluster.config(1) };
    cluster.start(config).await.unwrap();
    assert_eq!(cluster.append(1, 1).await.unwrap(), Position(0));
}

#[tokio::test(start_paused = true)]
async fn a_node_on_a_full_disk_starts_once_there_is_space() {
    let mut cluster = TestCluster::founded(35, 1).await;
    cluster.append(1, 1).await.unwrap();
    cluster.kill(1).await;
    cluster.disks[&1].set_capacity(Some(0));
    let config = cluster.config(1);
    let error = cluster.start(config).await.unwrap_err();
    assert!(is_full(&error) && error.to_string().contains("as every start does"), "{error}");
    cluster.disks[&1].set_capacity(None);
    cluster.revive(1).await;
    cluster.settle().await;
    assert_eq!(cluster.append(1, 2).await.unwrap(), Position(1));
}

fn is_full(error: &StartError) -> bool {
    matches!(error, StartError::Open(OpenError::Io { source, .. }) if source.kind() == ErrorKind::StorageFull)
}
