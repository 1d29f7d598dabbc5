//! A claim: the right to handle a segment, fenced by its epoch.

use serde::{Deserialize, Serialize};

use crate::{
    id::{Epoch, LogIndex, NodeId},
    time::Timestamp,
};

/// Who may move the token of a segment. Invariant C3: one owner per segment and epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Grows with every change of owner.
    pub epoch: Epoch,
    /// The node that has it, if any.
    pub owner: Option<NodeId>,
    /// Where the log gave it to this owner.
    pub since: LogIndex,
    /// Where the plan wants it next; the owner then hands it over.
    pub motion: Motion,
    /// Nodes that may not have it for now.
    pub bars: alloc::vec::Vec<Bar>,
    /// The node an operator bound it to.
    pub pin: Option<NodeId>,
}

/// What the owner of a claim is asked to do with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Motion {
    /// Keep it.
    #[default]
    Rest,
    /// Hand it over to this node.
    To(NodeId),
    /// Give it up.
    Release,
}

/// A node that may not have the claim before `until`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bar {
    /// Which node.
    pub node: NodeId,
    /// Until when, on the log's clock.
    pub until: Timestamp,
}

impl Claim {
    /// Gives the claim to `owner` (or to nobody), under a new epoch.
    pub fn give(&mut self, owner: Option<NodeId>, at: LogIndex) {
        self.epoch = self.epoch.next();
        self.owner = owner;
        self.since = at;
        self.motion = Motion::Rest;
    }

    /// Whether `node` may write under `epoch`: the one check that P4 stands on.
    #[must_use]
    pub fn admits(&self, node: NodeId, epoch: Epoch) -> bool {
        self.owner == Some(node) && self.epoch == epoch
    }

    /// Whether `node` is barred at `now`.
    #[must_use]
    pub fn bars(&self, node: NodeId, now: Timestamp) -> bool {
        self.bars.iter().any(|bar| bar.node == node && now < bar.until)
    }

    /// Bars `node` until `until`, and forgets bars that have ended.
    pub fn bar(&mut self, node: NodeId, now: Timestamp, until: Timestamp) {
        self.bars.retain(|bar| bar.node != node && now < bar.until);
        self.bars.push(Bar { node, until });
    }
}
