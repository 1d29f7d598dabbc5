//! A claim: the right to handle a segment, fenced by its epoch.
//!
//! The epoch fences more than the log: handlers are shown it, to fence databases of their own with. Those keep the
//! highest one seen for each segment of a processor, by id *and* mask, and refuse an event for which a segment that
//! shares hashes with its own ([`Segment::overlaps`](crate::segment::Segment::overlaps)) has a higher one; they know
//! nothing else. So whoever handles an event of the segment is shown the claim's epoch, also the holder of a
//! [loan](crate::letter::Loan) out of it, and it grows whenever *any* right in the segment is taken from somebody who
//! may still be at work under it: with every change of owner, with every loan that is taken back, and with every split
//! and merge, which give each new segment an epoch above all there were. Then whoever holds a right is shown more than
//! all who held one before, and a late write is refused once one of the others has written, whatever the segments
//! were then.
//!
//! By the id alone it would not be: segment 1 is cut out of segment 0, whose late owner looks at the row of segment 0.
//! A rule by row of the user's data would not do either: rows that are inserted, or deleted, remember no epoch.

use alloc::{string::String, vec::Vec};

use serde::{Deserialize, Serialize};

use crate::{
    id::{Epoch, LogIndex, NodeId},
    time::Timestamp,
};

/// Who may move the token of a segment. Invariant C3: one owner per segment and epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Grows with every change of owner, and with every loan out of the segment that is taken back.
    pub epoch: Epoch,
    /// The node that has it, if any.
    pub owner: Option<NodeId>,
    /// Where the log gave it to this owner, under this epoch.
    pub since: LogIndex,
    /// Where the plan wants it next; the owner then hands it over.
    pub motion: Motion,
    /// Nodes that may not have it for now.
    pub bars: Vec<Bar>,
    /// The node an operator bound it to.
    pub pin: Option<Pin>,
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

/// A node that an operator bound the claim to: the claim goes there whenever that node can have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// Which node.
    pub node: NodeId,
    /// Why, in the operator's words.
    pub reason: Option<String>,
}

/// A node that may not have the claim before `until`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bar {
    /// Which node.
    pub node: NodeId,
    /// Until when, on the log's clock.
    pub until: Timestamp,
    /// Why.
    pub cause: BarCause,
}

/// Why a node may not have a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum BarCause {
    /// An operator released the segment there.
    Released,
    /// The event that the segment waits with failed there (`on_error: stop`).
    Failed,
    /// The handler could not be asked there.
    Unable,
}

impl Claim {
    /// Gives the claim to `owner` (or to nobody), under a new epoch.
    pub fn give(&mut self, owner: Option<NodeId>, epoch: Epoch, at: LogIndex) {
        self.renew(epoch, at);
        self.owner = owner;
        self.motion = Motion::Rest;
    }

    /// The owner stays, under a new epoch: what anybody began under the old one is void. To its owner it is as a
    /// new claim.
    pub fn renew(&mut self, epoch: Epoch, at: LogIndex) {
        debug_assert!(self.epoch < epoch, "an epoch only grows");
        self.epoch = epoch;
        self.since = at;
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

    /// Bars a node, and forgets bars that have ended.
    pub fn bar(&mut self, now: Timestamp, bar: Bar) {
        self.bars.retain(|known| known.node != bar.node && now < known.until);
        self.bars.push(bar);
    }

    /// Returns the node that an operator bound it to.
    #[must_use]
    pub fn pinned_to(&self) -> Option<NodeId> {
        self.pin.as_ref().map(|pin| pin.node)
    }
}
