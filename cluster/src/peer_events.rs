//! The one task that acts on what becomes of the connections to the other members. People are told once that a member
//! does not answer, and once that it does again; the leader ends the session of a process that is gone, and the other
//! voters elect a successor if it led.

use std::{collections::BTreeMap, mem};

use evener_core::id::NodeId;
use tokio::{sync::mpsc, task::JoinHandle};

use crate::{cluster::Cluster, leader_duties, links::PeerEvent};

/// What is known of one member.
#[derive(Default)]
struct Peer {
    /// It does not answer, and people were told.
    silent: bool,
    /// When its last connection closed its process had ended in good order.
    shut_down: bool,
    /// What is being done about its process being gone.
    acting: Option<JoinHandle<()>>,
}

/// Acts on events, in their order, as long as the node runs. What takes time is done by tasks of its own, one for each
/// member at a time.
pub async fn run(node: Cluster, mut events: mpsc::Receiver<PeerEvent>) {
    let mut peers = BTreeMap::<NodeId, Peer>::new();
    while let Some(event) = events.recv().await {
        match event {
            PeerEvent::Connected(who) => {
                if mem::take(&mut peers.entry(who).or_default().silent) {
                    tracing::info!("{} answers again", node.name_of(who));
                }
                if node.leads() {
                    node.consensus.reset_backoff(who).await;
                }
            }
            PeerEvent::Lost { node: who, shut_down } => peers.entry(who).or_default().shut_down = shut_down,
            PeerEvent::Unreachable { node: who, at, why } => {
                let peer = peers.entry(who).or_default();
                if !mem::replace(&mut peer.silent, true) {
                    log_unreachable(&node.name_of(who), at, &why, peer.shut_down);
                }
            }
            PeerEvent::Exited { node: who, session } => {
                let peer = peers.entry(who).or_default();
                if peer.acting.as_ref().is_none_or(JoinHandle::is_finished) {
                    let (node, stop) = (node.clone(), node.stop.clone());
                    let work =
                        async move { stop.run_until_cancelled(leader_duties::on_peer_exit(node, who, session)).await };
                    peer.acting = Some(tokio::spawn(async move { work.await.unwrap_or_default() }));
                }
            }
            PeerEvent::Removed(notice) => node.on_removed(notice),
        }
    }
}

fn log_unreachable(name: &str, at: Option<String>, why: &str, shut_down: bool) {
    match at {
        Some(at) if shut_down => tracing::info!("{name} has ended at {at}"),
        Some(at) => tracing::warn!("{name} does not answer at {at}: {why}"),
        None => tracing::debug!("{name} is not looked for any more: {why}"),
    }
}
