//! Measures the free space on this node's disk, decides whether appends are accepted, and transfers leadership to a
//! node with free space.

use std::time::Duration;

use evener_core::id::NodeId;
use tokio::time::{Instant, sleep};

use crate::{
    cluster::Cluster,
    disk_reserve::{DiskStatus, RETRY_AFTER, blocking},
};

/// How often the free space is measured.
const MEASURE_EVERY: Duration = Duration::from_millis(200);
/// How long after its last answer a voter is still known to have space.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Measures until the node stops, and logs when appends start to be refused and when they are accepted again.
pub(crate) async fn run(node: Cluster) {
    let mut transferred = None::<Instant>;
    loop {
        measure(&node);
        if let Some(to) = successor(&node)
            && transferred.is_none_or(|last| last.elapsed() >= RETRY_AFTER)
        {
            transferred = Some(Instant::now());
            tracing::warn!(
                to = node.name_of(to),
                "the disk reserve is reached; transferring leadership to a node with free space"
            );
            if let Err(error) = node.transfer(to).await {
                tracing::warn!(%error, "failed to transfer leadership to a node with free space");
            }
        }
        sleep(MEASURE_EVERY).await;
    }
}

/// Returns the voter that should lead in place of this node, whose disk is low.
fn successor(node: &Cluster) -> Option<NodeId> {
    if !node.disk_status.borrow().low || !node.leads() {
        return None;
    }
    let (low, unresponsive) = node.heartbeats.low_disks(ANSWER_TIMEOUT);
    let raft_status = node.consensus.status();
    let has_room = |voter: NodeId| voter != node.me() && !low.contains(&voter) && !unresponsive.contains(&voter);
    let with_room = raft_status.voters.iter().filter(|voter| has_room(**voter)).count();
    (with_room * 2 > raft_status.voters.len()).then(|| node.successor(has_room)).flatten()
}

fn measure(node: &Cluster) {
    let before = *node.disk_status.borrow();
    let log = node.journal.log_bytes();
    let room = match node.journal.space() {
        Ok(space) => DiskStatus { log, ..before }.measured(space, node.config.disk_reserve, node.journal.chunk_bytes()),
        Err(error) => {
            tracing::debug!(%error, "failed to measure the free space of the disk");
            before
        }
    };
    node.disk_status.send_replace(room);
    let (free, reserve) = (room.free, room.reserve);
    match (before.low, room.low) {
        (false, true) => tracing::warn!(free, reserve, "the disk reserve of this node is reached; free some space"),
        (true, false) => tracing::info!(free, reserve, "this node has more free space than its disk reserve again"),
        _ => {}
    }
    let (mut low, unresponsive) = node.heartbeats.low_disks(ANSWER_TIMEOUT);
    if room.low {
        low.insert(node.me());
    }
    let blocking = blocking(node.me(), &node.consensus.status(), &low, &unresponsive);
    if *node.blocking_disks.borrow() == blocking {
        return;
    }
    let refused = node.blocking_disks.send_replace(blocking.clone());
    match (refused.is_empty(), blocking.is_empty()) {
        (true, false) => tracing::warn!(nodes = ?node.names_of(&blocking), "appends are refused: disk reserve reached"),
        (false, true) => tracing::info!("appends are accepted again: the disks have enough free space"),
        _ => {}
    }
}
