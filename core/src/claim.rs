//! A claim: the right to handle a segment, fenced by its epoch.
//!
//! The epoch fences more than the log: it is passed to handlers, so that they can fence databases of their own. Such a
//! database keeps the highest epoch it has seen for each segment of a processor, by id *and* mask, and refuses an event
//! if a segment that shares hashes with the event's segment (their ids agree in all bits set in both masks)
//! has a higher one. The database knows nothing else. So every handler of an event of the segment receives the claim's
//! epoch, including the holder of a [loan](crate::letter::Loan) out of the segment, and the epoch grows whenever *any*
//! right in the segment is taken from a node that may still be handling events under it: with every change of owner,
//! with every loan that is taken back, and with every split and merge, which give each new segment an epoch above all
//! previous ones. Thus the holder of a right has a higher epoch than all previous holders, and a delayed write is
//! refused once a newer holder has written, whatever the segments were at the time.
//!
//! The id alone would not be enough: segment 1 is cut out of segment 0, and a former owner of segment 0 checks the row
//! of segment 0 only. A check of each row of the user's data would not be enough either: rows that are inserted or
//! deleted remember no epoch.

use alloc::{string::String, vec::Vec};

use serde::{Deserialize, Serialize};

use crate::{
    id::{Epoch, LogIndex, NodeId},
    time::Timestamp,
};

/// The right to move the token of a segment. Invariant C3: one owner per segment and epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Grows with every change of owner, and with every loan out of the segment that is taken back.
    pub epoch: Epoch,
    /// The node that owns it, if any.
    pub owner: Option<NodeId>,
    /// The entry that gave it to this owner, under this epoch.
    pub since: LogIndex,
    /// Where the plan moves it next; the owner then hands it over.
    pub motion: Motion,
    /// The nodes that may not have it for now.
    pub bars: Vec<Bar>,
    /// The node that an operator pinned it to.
    pub pin: Option<Pin>,
}

/// What the owner of a claim is asked to do with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Motion {
    /// Keep it.
    #[default]
    Stay,
    /// Hand it over to this node.
    To(NodeId),
    /// Give it up.
    Release,
}

/// A node that an operator pinned the claim to: the claim moves there whenever that node can have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// The node.
    pub node: NodeId,
    /// The operator's reason.
    pub reason: Option<String>,
}

/// A node that may not have the claim before `until`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bar {
    /// The node.
    pub node: NodeId,
    /// The end of the bar, on the log's clock.
    pub until: Timestamp,
    /// The reason.
    pub cause: BarCause,
}

/// The reason why a node may not have a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum BarCause {
    /// An operator released the segment there.
    Released,
    /// The event that the segment waits with failed there (`on_error: stop`).
    Failed,
    /// The handler could not be called there.
    Unable,
}

impl Claim {
    /// Gives the claim to `owner` (or to no node), under a new epoch.
    pub fn give(&mut self, owner: Option<NodeId>, epoch: Epoch, at: LogIndex) {
        self.renew(epoch, at);
        self.owner = owner;
        self.motion = Motion::Stay;
    }

    /// Keeps the owner, under a new epoch: everything begun under the previous one is void. The owner treats it as a
    /// new claim.
    pub fn renew(&mut self, epoch: Epoch, at: LogIndex) {
        debug_assert!(self.epoch < epoch, "epochs only grow");
        self.epoch = epoch;
        self.since = at;
    }

    /// Returns whether `node` may write under `epoch`. P4 depends on this check alone.
    #[must_use]
    pub fn admits(&self, node: NodeId, epoch: Epoch) -> bool {
        self.owner == Some(node) && self.epoch == epoch
    }

    /// Returns whether `node` is barred at `now`.
    #[must_use]
    pub fn bars(&self, node: NodeId, now: Timestamp) -> bool {
        self.bars.iter().any(|bar| bar.node == node && now < bar.until)
    }

    /// Bars a node, and forgets bars that have ended.
    pub fn bar(&mut self, now: Timestamp, bar: Bar) {
        self.bars.retain(|known| known.node != bar.node && now < known.until);
        self.bars.push(bar);
    }

    /// Returns the node that an operator pinned it to.
    #[must_use]
    pub fn pinned_to(&self) -> Option<NodeId> {
        self.pin.as_ref().map(|pin| pin.node)
    }
}
