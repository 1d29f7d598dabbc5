//! Requests the [`Heartbeat`] of every other member several times a second.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use evener_core::id::NodeId;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use crate::{cluster::Cluster, heartbeat::Heartbeat, message::Kind};

/// Requests heartbeats from all members, one request at a time to each, until the node stops.
pub(crate) async fn run(node: Cluster) {
    let asking = Arc::new(Mutex::new(BTreeSet::new()));
    loop {
        let members: BTreeSet<NodeId> = node.applied_state.view.state().members.keys().copied().collect();
        node.heartbeats.retain(&members);
        for member in members.into_iter().filter(|member| *member != node.me()) {
            if !asking.lock().insert(member) {
                continue;
            }
            let (node, asking, stop) = (node.clone(), asking.clone(), node.stop.clone());
            tokio::spawn(async move {
                let _ = stop.run_until_cancelled(ask(&node, member)).await;
                asking.lock().remove(&member);
            });
        }
        sleep(node.config.raft.heartbeat).await;
    }
}

async fn ask(node: &Cluster, member: NodeId) {
    let (sent, wall, within) = (Instant::now(), node.wall.wall(), node.config.raft.election_max);
    let answer = node.links.request_if_open(member, Kind::HEARTBEAT, Bytes::new(), within).await;
    if let Some(heartbeat) = answer.and_then(|answer| Heartbeat::decode(&answer)) {
        node.heartbeats.record(member, heartbeat, sent, wall);
    }
}
