//! The kind of a change and its subject, as a remembered operation and the reason of a refusal name them.

use alloc::string::String;

use serde::{Deserialize, Serialize};

use crate::{
    id::{NodeId, Position, SegmentId},
    letter::SequenceKey,
};

/// The kind of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each is a variant of `Change`, split by its flag")]
pub enum ChangeKind {
    Create = 1,
    Delete = 2,
    Pause = 3,
    Resume = 4,
    Release = 5,
    Claim = 6,
    Unpin = 7,
    Retry = 8,
    Skip = 9,
    Drop = 10,
    SetLimits = 11,
    Expect = 12,
    Leave = 13,
    Lead = 14,
    SkipEvent = 15,
    Reset = 16,
    Split = 17,
    Merge = 18,
    Move = 19,
}

impl ChangeKind {
    /// Returns its number in digests.
    #[must_use]
    pub const fn number(self) -> u16 {
        self as u16
    }
}

/// The subject of a change. Several fields may be set: a segment has a processor, and is claimed for a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// The name of the processor.
    pub processor: Option<String>,
    /// The segment of the processor.
    pub segment: Option<SegmentId>,
    /// The event with which the segment waited.
    pub position: Option<Position>,
    /// The sequence that is set aside; `None` if the change applies to all of them.
    pub sequence: Option<SequenceKey>,
    /// The number of the member, ...
    pub node: Option<NodeId>,
    /// ... and its name at that time, if there was such a member.
    pub member: Option<String>,
    /// The peer address of a node that is expected.
    pub address: Option<String>,
}
