//! The task that handles events of the connections to the other members. It logs once that a member does not answer,
//! and once that it answers again; the leader ends the session of an exited process, and the other voters elect a
//! successor if that process was the leader.

use std::{collections::BTreeMap, mem};

use evener_core::id::NodeId;
use tokio::{sync::mpsc, task::JoinHandle};

use crate::{cluster::Cluster, leader_duties, links::PeerEvent};

/// The state of the connection to one member.
#[derive(Default)]
struct Peer {
    /// Whether the member does not answer and this was logged.
    unresponsive: bool,
    /// Whether the process had shut down gracefully when its last connection closed.
    shut_down: bool,
    /// The task that handles the exit of the member's process.
    acting: Option<JoinHandle<()>>,
}

/// Handles events in order until the node stops. The exit of a process is handled by a task of its own, one at a time
/// for each member.
pub(crate) async fn run(node: Cluster, mut events: mpsc::Receiver<PeerEvent>) {
    let mut peers = BTreeMap::<NodeId, Peer>::new();
    while let Some(event) = events.recv().await {
        match event {
            PeerEvent::Connected(member) => {
                if mem::take(&mut peers.entry(member).or_default().unresponsive) {
                    tracing::info!("{} answers again", node.name_of(member));
                }
                if node.leads() {
                    node.consensus.reset_backoff(member).await;
                }
            }
            PeerEvent::Lost { node: member, shut_down } => peers.entry(member).or_default().shut_down = shut_down,
            PeerEvent::Unreachable { node: member, at, why } => {
                let peer = peers.entry(member).or_default();
                if !mem::replace(&mut peer.unresponsive, true) {
                    log_unreachable(&node.name_of(member), at, &why, peer.shut_down);
                }
            }
            PeerEvent::Exited { node: member, session } => {
                let peer = peers.entry(member).or_default();
                if peer.acting.as_ref().is_none_or(JoinHandle::is_finished) {
                    let (node, stop) = (node.clone(), node.stop.clone());
                    let work = async move {
                        stop.run_until_cancelled(leader_duties::on_peer_exit(node, member, session)).await
                    };
                    peer.acting = Some(tokio::spawn(async move { work.await.unwrap_or_default() }));
                }
            }
            PeerEvent::Removed(notice) => node.on_removed(notice),
        }
    }
}

fn log_unreachable(name: &str, at: Option<String>, why: &str, shut_down: bool) {
    match at {
        Some(at) if shut_down => tracing::info!("{name} has shut down at {at}"),
        Some(at) => tracing::warn!("{name} does not answer at {at}: {why}"),
        None => tracing::debug!("no longer connecting to {name}: {why}"),
    }
}
