//! Sessions: renewing this node's session, serving other nodes' renewals as the leader, and ending sessions.

use std::time::Duration;

use evener_core::{
    balance,
    command::{Assign, Command, Entry},
    id::{ContextId, NodeId, SessionId},
};
use evener_store::codec;
use tokio::time::Instant;

use super::Cluster;
use crate::{
    error::Error,
    message::Kind,
    messages::{Renew, Renewed},
    proposal::Group,
    sessions::Lease,
    transport::Clock,
};

impl Cluster {
    /// Returns whether this node has this session and its lease is not over. Call it before each event is handled:
    /// after a suspend of the machine it returns false before the session is reported as lost.
    #[must_use]
    pub fn holds(&self, session: SessionId) -> bool {
        let lease = self.lease.lock().filter(|lease| lease.session == session);
        let over = |lease: Lease| lease.is_over(self.config.lease, Instant::now(), self.wall.boot());
        *self.session.borrow() == Some(session) && lease.is_some_and(|lease| !over(lease))
    }

    /// Renews this node's session at the leader.
    pub(crate) async fn renew(&self, session: SessionId, within: Duration) -> Renewed {
        let renew = Renew { node: self.me(), session };
        let leader = self.leadership.borrow().leader;
        match leader {
            None => Renewed::NotLeader,
            Some(leader) if leader == self.me() => self.serve_renew(renew),
            Some(leader) => {
                let Ok(question) = codec::encode_message(&renew) else { return Renewed::NotLeader };
                match self.links.request(leader, Kind::RENEW, question, within).await {
                    Ok(answer) => codec::decode_message(&answer).unwrap_or(Renewed::NotLeader),
                    Err(_) => Renewed::NotLeader,
                }
            }
        }
    }

    /// Serves the renewal of a session as the leader.
    pub(crate) fn serve_renew(&self, renew: Renew) -> Renewed {
        // A leader that is cut off may have a successor that already counts leases.
        let raft_status = self.consensus.status();
        let alone = raft_status.voters == [self.me()];
        // An answer received before this machine was suspended is older than its age shows.
        let now = Instant::now();
        let woke = self.suspend_detector.lock().last_resumed(now, self.wall.boot());
        let heard = |age| woke.is_none_or(|woke| age < now.saturating_duration_since(woke));
        let fresh = raft_status.quorum_age.is_some_and(|age| age <= self.config.lease / 3 && heard(age));
        if !alone && !fresh {
            return Renewed::NotLeader;
        }
        if self.consensus.has_lost_entries(renew.node) {
            return Renewed::LostEntries;
        }
        let live = self.applied_state.view.state().sessions.get(&renew.node).map(|live| live.session);
        self.leases.lock().renew(renew.node, renew.session, live, Instant::now())
    }

    /// Ends the session of a node whose renewals this leader no longer receives. A node that no longer leads does not
    /// end sessions: the new leader grants each session a full lease.
    pub(crate) async fn expire(&self, node: NodeId, session: SessionId) -> Result<(), Error> {
        self.check_running()?;
        let group = Group::new(ContextId::DEFAULT, &self.end_session(node, session));
        self.proposer.propose_as_leader(group).await.map(|_| ())
    }

    /// Ends this node's own session.
    pub(crate) async fn resign(&self, session: SessionId) -> Result<(), Error> {
        self.propose_all(&self.end_session(self.me(), session)).await.map(|_| ())
    }

    /// Returns the commands that end a session and assign its segments to other nodes, in one entry.
    fn end_session(&self, node: NodeId, session: SessionId) -> Vec<Command> {
        // The plan is made from the state after the expiry, and carries that state's generation.
        let (mut after, index) = {
            let state = self.applied_state.view.state();
            (state.clone(), self.applied_state.view.applied().borrow().index)
        };
        let expire = Command::Expire(node, session);
        let entry = Entry { proposed: self.clock.wall(), context: ContextId::DEFAULT, commands: vec![expire.clone()] };
        after.apply(index, &entry);
        let moves = balance::plan(&after.balance_view(self.clock.wall()));
        let mut commands = vec![expire];
        if !moves.is_empty() {
            commands.push(Command::Assign(Assign { generation: after.generation, moves }));
        }
        commands
    }

    /// Returns since when a member whose session has just ended was unreachable, as far as this node knows: since the
    /// socket to it closed, or for a whole lease if the socket did not close.
    #[must_use]
    pub fn unreachable_since(&self, member: NodeId) -> Instant {
        let lease = self.config.lease;
        let now = Instant::now();
        self.links.disconnected_since(member, lease).unwrap_or_else(|| now.checked_sub(lease).unwrap_or(now))
    }
}
