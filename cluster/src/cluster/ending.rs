//! How a node ends, leaves or stands aside.

use std::time::Duration;

use evener_core::command::Command;
use tokio::time::timeout;

use super::Cluster;
use crate::error::Error;

/// What a node that goes has to do in good order, it does within this time.
const FAREWELL_WAIT: Duration = Duration::from_secs(3);

impl Cluster {
    /// This node is given nothing more, and hands over what it has: the beginning of every good end.
    ///
    /// # Errors
    ///
    /// As [`Cluster::append`].
    pub async fn drain(&self) -> Result<(), Error> {
        let Some(session) = *self.node.session.borrow() else { return Ok(()) };
        self.node.propose(&Command::Drain(self.me(), session)).await.map(|_| ())
    }

    /// Leaves the cluster for ever, and stops.
    ///
    /// # Errors
    ///
    /// It is the last member, or no leader could be asked: then it stays.
    pub async fn leave(&self) -> Result<(), Error> {
        self.pass_on().await;
        let node = &self.node;
        let member = || node.ledger.view.state().members.contains_key(&node.me());
        // The leader may have taken it out by itself, once its session was over.
        match self.remove(self.me()).await {
            Err(error) if member() => return Err(error),
            Ok(()) | Err(_) => {}
        }
        // Its seat goes with it; that it is gone it hears of as long as it has one.
        let _ = timeout(FAREWELL_WAIT, async {
            let mut applied = node.ledger.view.applied();
            let _ = applied.wait_for(|_| !member()).await;
            let mut moves = node.engine.moves();
            loop {
                // Seen before it is looked: what moves meanwhile is not missed.
                moves.seen();
                if !node.engine.standing().voters.contains(&node.me()) || !moves.changed().await {
                    return;
                }
            }
        })
        .await;
        self.shutdown().await;
        Ok(())
    }

    /// Gives this node's work away while its process cannot do it (`aside`), and takes work again after that. The
    /// session is no longer renewed, so that its segments go to other nodes after a lease, and another voter leads.
    pub async fn stand_aside(&self, aside: bool) {
        self.node.aside.send_if_modified(|now| std::mem::replace(now, aside) != aside);
        if aside {
            self.pass_on().await;
        }
    }

    /// Lets another voter lead, if this node does.
    async fn pass_on(&self) {
        let node = &self.node;
        if !node.leads() {
            return;
        }
        let (mut leadership, mut gone, me) = (node.leadership.clone(), node.links.gone(), node.me());
        let passing = async {
            // Where all end at once, the heir may be gone before it leads.
            while let Some(heir) = node.heir() {
                node.engine.transfer(heir).await;
                tokio::select! {
                    _ = leadership.wait_for(|now| now.leader.is_some_and(|leader| leader != me)) => return,
                    _ = gone.wait_for(|gone| gone.contains(&heir)) => {}
                }
            }
        };
        let _ = timeout(node.config.raft.election_max, passing).await;
    }

    /// Stops this node as if its process had been killed: nobody is told, nothing is written down.
    pub async fn kill(&self) {
        let node = &self.node;
        node.session.send_replace(None);
        node.stop.cancel();
        self.server.shutdown().await;
        node.engine.shutdown().await;
    }

    /// Stops this node in good order: its session ends, leadership goes on, the state is written down.
    pub async fn shutdown(&self) {
        let node = &self.node;
        let session = node.session.send_replace(None);
        if !node.stop.is_cancelled() {
            let farewell = async {
                let member = node.ledger.view.state().members.contains_key(&node.me());
                if let Some(session) = session.filter(|_| member) {
                    // Others go on with its work at once, and need not wait for its lease.
                    let _ = node.resign(session).await;
                }
                self.pass_on().await;
            };
            tokio::select! {
                _ = timeout(FAREWELL_WAIT, farewell) => {}
                () = node.forsaken() => {}
            }
        }
        node.stop.cancel();
        self.server.shutdown().await;
        node.engine.shutdown().await;
        if let Err(error) = node.ledger.checkpoint().await {
            tracing::warn!(node = %node.me(), %error, "failed to write a checkpoint; the next start replays more");
        }
        node.stopped.send_if_modified(|stopped| {
            let first = stopped.is_none();
            stopped.get_or_insert_with(|| "it was told to stop".into());
            first
        });
    }
}
