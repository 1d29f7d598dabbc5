//! Shutting a node down, leaving the cluster, and suspending a node's work.

use std::{collections::BTreeSet, time::Duration};

use evener_core::{
    command::{Command, Outcome},
    id::NodeId,
};
use evener_store::Identity;
use tokio::time::timeout;

use super::Cluster;
use crate::{admission, error::Error};

/// The time limit for the steps of a graceful shutdown.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(3);

impl Cluster {
    /// Drains this node: it is assigned no more segments and hands over those it has. This is the first step of a
    /// graceful shutdown.
    ///
    /// # Errors
    ///
    /// As [`Cluster::append`].
    pub async fn drain(&self) -> Result<(), Error> {
        let Some(session) = *self.session.borrow() else { return Ok(()) };
        self.propose(Command::Drain(self.me(), session)).await.map(|_| ())
    }

    /// Leaves the cluster permanently, and stops.
    ///
    /// # Errors
    ///
    /// The node is the last member, or no leader could be reached. The node then stays a member.
    pub async fn leave(&self) -> Result<(), Error> {
        self.transfer_away().await;
        let member = || self.applied_state.view.state().members.contains_key(&self.me());
        // The leader may have removed this node already, once its session was over.
        match self.remove(self.me()).await {
            Err(error) if member() => return Err(error),
            Ok(()) | Err(_) => {}
        }
        // This node learns of its removal only as long as it is a member of the Raft group.
        let _ = timeout(SHUTDOWN_TIMEOUT, async {
            let mut applied = self.applied_state.view.applied();
            let _ = applied.wait_for(|_| !member()).await;
            let mut changes = self.consensus.status_changes();
            loop {
                // Marked before the status is read, so that no later change is missed.
                changes.mark_unchanged();
                if !self.consensus.status().voters.contains(&self.me()) || !changes.changed().await {
                    return;
                }
            }
        })
        .await;
        self.shutdown().await;
        Ok(())
    }

    /// Suspends this node's work while its process cannot do it, or resumes it. While suspended, the session is not
    /// renewed, so that its segments go to other nodes after a lease, and another voter leads.
    pub async fn set_suspended(&self, suspended: bool) {
        self.suspended.send_if_modified(|now| std::mem::replace(now, suspended) != suspended);
        if suspended {
            self.transfer_away().await;
        }
    }

    /// Transfers leadership to another voter, if this node leads.
    async fn transfer_away(&self) {
        if !self.leads() {
            return;
        }
        let (mut leadership, mut exited, me) = (self.leadership(), self.links.exited(), self.me());
        let passing = async {
            // If all nodes stop at once, the successor may have ended before it leads.
            while let Some(successor) = self.successor(|voter| voter != me) {
                self.consensus.transfer(successor).await;
                tokio::select! {
                    _ = leadership.wait_for(|now| now.leader.is_some_and(|leader| leader != me)) => return,
                    _ = exited.wait_for(|exited| exited.contains(&successor)) => {}
                }
            }
        };
        let _ = timeout(self.config.raft.election_max, passing).await;
    }

    /// Stops this node as if its process had been killed: no peer is notified, nothing is written to disk.
    pub async fn kill(&self) {
        self.session.send_replace(None);
        self.stop.cancel();
        self.server.shutdown().await;
        self.consensus.shutdown().await;
    }

    /// Stops this node gracefully: ends its session, transfers leadership, and writes a checkpoint.
    pub async fn shutdown(&self) {
        let session = self.session.send_replace(None);
        if !self.stop.is_cancelled() {
            let resign = async {
                let member = self.applied_state.view.state().members.contains_key(&self.me());
                if let Some(session) = session.filter(|_| member) {
                    // Other nodes take over its segments at once, without waiting for its lease.
                    let _ = self.resign(session).await;
                }
                self.transfer_away().await;
            };
            tokio::select! {
                _ = timeout(SHUTDOWN_TIMEOUT, resign) => {}
                () = self.quorum_lost() => {}
            }
        }
        self.stop.cancel();
        self.server.shutdown().await;
        self.consensus.shutdown().await;
        if let Err(error) = self.applied_state.checkpoint().await {
            tracing::warn!(node = %self.me(), %error, "failed to write a checkpoint; the next start replays more");
        }
        self.stopped.send_if_modified(|stopped| {
            let first = stopped.is_none();
            stopped.get_or_insert_with(|| "the node was shut down".into());
            first
        });
    }

    /// Removes a member from the cluster permanently: a dead one, or this one in [`Cluster::leave`].
    ///
    /// # Errors
    ///
    /// There is no such member, or it is the last one.
    pub async fn remove(&self, node: NodeId) -> Result<(), Error> {
        match self.propose(Command::Remove(node)).await? {
            Outcome::Refused(why) => Err(why.into()),
            _ => Ok(()),
        }
    }

    /// Waits until so many voters' processes have ended that no majority is left. A stopping node can then transfer
    /// neither its leadership nor its session.
    pub async fn quorum_lost(&self) {
        let is_lost = |exited: &BTreeSet<NodeId>| {
            let voters = self.consensus.status().voters;
            let left = voters.iter().filter(|voter| !exited.contains(voter)).count();
            !voters.is_empty() && left * 2 <= voters.len()
        };
        // The channel cannot close: the node owns the sender.
        let _ = self.links.exited().wait_for(is_lost).await;
    }

    /// Waits until Raft has stopped, and returns why: the error of the disk if the disk failed.
    pub(crate) async fn ended(&self) -> String {
        let why = self.consensus.ended().await;
        self.journal.stopped().unwrap_or(why)
    }

    /// Records that this node is no longer a member, and stops it.
    pub(crate) fn on_removed(&self, removal_notice: String) {
        let _ = self.removed.set(removal_notice);
        self.fail(self.removal_notice());
    }

    /// Returns the notice for a node that is no longer a member: as a peer sent it, else as its own log has it.
    pub(crate) fn removal_notice(&self) -> String {
        let Identity { name, cluster, .. } = &self.identity;
        let own =
            || admission::removal_notice(name, *cluster, self.applied_state.view.state().removals.get(&self.me()));
        self.removed.get().cloned().unwrap_or_else(own)
    }

    /// Returns whether this node was removed, according to a peer or to the log as applied here.
    pub(crate) fn is_removed(&self) -> bool {
        let state = self.applied_state.view.state();
        let seen = state.issued.node >= self.me();
        self.removed.get().is_some() || (seen && !state.members.contains_key(&self.me()))
    }

    /// Stops this node after a failure and records the reason.
    pub(crate) fn fail(&self, why: String) {
        self.stopped.send_if_modified(|stopped| {
            let first = stopped.is_none();
            if first {
                tracing::error!(node = %self.me(), why, "the node stops");
                *stopped = Some(why);
            }
            first
        });
        self.session.send_replace(None);
        self.stop.cancel();
    }
}
