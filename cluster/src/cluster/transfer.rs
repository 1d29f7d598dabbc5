//! The leader, whether a majority is reachable, and the transfer of leadership.

use std::time::Duration;

use evener_core::id::{NodeId, Term};
use evener_store::codec;

use super::Cluster;
use crate::{
    error::{Class, Error},
    message::Kind,
    messages::TransferLeadership,
};

impl Cluster {
    /// Returns whether this node is the leader, as far as it knows.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.leadership.borrow().leader == Some(self.me())
    }

    /// Returns whether this node is the leader in this term, as far as it knows.
    pub(crate) fn leads_in(&self, term: Term) -> bool {
        self.leadership.borrow().is_led_by(self.me(), term)
    }

    /// Returns whether this node knows that no majority or no leader can decide.
    pub(crate) fn cannot_decide(&self) -> bool {
        self.leadership.borrow().no_decision.is_some()
    }

    /// Transfers leadership to a voter. The transfer may fail: watch [`Cluster::leadership`].
    ///
    /// # Errors
    ///
    /// The node does not vote, or no leader could be reached.
    pub async fn transfer(&self, to: NodeId) -> Result<(), Error> {
        let Some(leader) = self.leadership.borrow().leader else {
            return Err(Error::no_leader(Duration::ZERO));
        };
        if !self.consensus.status().voters.contains(&to) {
            return Err(Error::new(Class::Invalid, format!("node {to} does not vote, so it cannot lead")));
        }
        if leader == self.me() {
            self.consensus.transfer(to).await;
            return Ok(());
        }
        let question = codec::encode_message(&TransferLeadership { to }).expect("a node number can be encoded");
        let answer = self.links.request(leader, Kind::LEAD, question, self.config.raft.election_max).await;
        answer.map(|_| ()).map_err(|error| Error::new(Class::Refused, error.to_string()))
    }

    /// Returns the voter that should lead next, among those for which `may_lead` holds: one that is up and not the
    /// leader, preferably not draining, with the longest known log.
    #[must_use]
    pub fn successor(&self, may_lead: impl Fn(NodeId) -> bool) -> Option<NodeId> {
        let (raft_status, leader) = (self.consensus.status(), self.leadership.borrow().leader);
        let (state, exited) = (self.applied_state.view.state(), self.links.exited().borrow().clone());
        let is_up = |node: &NodeId| !exited.contains(node) && state.sessions.contains_key(node);
        let is_not_draining = |node: &NodeId| state.sessions.get(node).is_some_and(|session| !session.draining);
        let rank = |node: &NodeId| (is_not_draining(node), raft_status.matched.get(node).copied().flatten());
        let others = raft_status.voters.iter().copied().filter(|node| Some(*node) != leader && may_lead(*node));
        others.filter(is_up).max_by_key(rank)
    }
}
