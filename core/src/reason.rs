//! Reasons for refusals, as values. They are replicated and compared by all nodes, so they contain no wording: a node
//! describes them when it shows them (`node`, module `words`), and two builds may describe them differently.

use alloc::string::String;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    id::{ClusterId, ComponentId, ContextId, NodeId, Position, ProcessorId, SegmentId},
    limits::{InvalidLimits, LimitExceeded, LimitName},
    sequence::Sequencing,
    subject::{ChangeKind, Subject},
    time::Timestamp,
};

/// Why a command was refused. Each variant is a choice of the caller: continue, ask again, or change the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RefusalReason {
    /// The claim, loan or session has another holder by now.
    Fenced,
    /// The state has changed since the plan was made.
    Outdated,
    /// The named item does not exist.
    NotFound(NotFound),
    /// It exists with other content.
    Exists(Existing),
    /// There is no room for more.
    Limit(LimitReached),
    /// The request is invalid.
    Invalid(Invalid),
    /// The entry cannot be read as a command of this kind.
    Unreadable(u16),
}

/// An item that a command names and that does not exist.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NotFound {
    /// An event store.
    Context(ContextId),
    /// A processor of this name.
    Processor(String),
    /// The processor of this number: it was deleted.
    ProcessorNumber(ProcessorId),
    /// A segment of a processor.
    Segment {
        /// The processor's name.
        processor: String,
        /// The segment.
        segment: SegmentId,
    },
    /// A sequence that a processor has set aside.
    Sequence {
        /// The processor's name.
        processor: String,
        /// The component.
        component: ComponentId,
        /// The sequence's name.
        sequence: String,
    },
    /// A member.
    Member(NodeId),
}

/// Something that exists with other content than requested.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Existing {
    /// The log belongs to this cluster.
    Cluster(ClusterId),
    /// The data directory belongs to the member of this name.
    Directory(String),
    /// A member of this name has another data directory.
    MemberName(String),
    /// The member of this name, whose session was to begin, has another data directory.
    Incarnation(String),
    /// The processor has another sequencing policy.
    Sequencing {
        /// The processor's name.
        processor: String,
        /// The policy that it has.
        stored: Sequencing,
        /// The requested policy.
        wanted: Sequencing,
    },
    /// A processor of this name was created with another definition.
    Processor(String),
    /// An operation with this id made another change.
    Operation {
        /// The operation.
        operation: Uuid,
        /// The kind of that change.
        kind: ChangeKind,
        /// Its subject.
        subject: Subject,
        /// When it was recorded.
        recorded: Timestamp,
    },
}

/// A limit that leaves no room for more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitReached {
    /// The limit.
    pub limit: LimitName,
    /// Its value.
    pub max: u32,
    /// The sequence that has so many letters, if the limit is one of a sequence.
    pub sequence: Option<String>,
}

impl LimitReached {
    /// Makes the reason for a limit of the whole cluster, or of a whole processor.
    #[must_use]
    pub const fn new(limit: LimitName, max: u32) -> Self {
        Self { limit, max, sequence: None }
    }
}

/// What is wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Invalid {
    /// The cluster is not founded yet.
    NotFounded,
    /// Something is larger than a limit allows.
    LimitExceeded(LimitExceeded),
    /// No cluster can work with these limits.
    Limits(InvalidLimits),
    /// A processor cannot have this name.
    ProcessorName(String),
    /// A processor cannot have so many segments.
    Segments {
        /// The requested number.
        segments: u32,
        /// The maximum (`segments_max`).
        max: u32,
    },
    /// A processor makes at least one attempt, and waits at least a millisecond before the next.
    Backoff,
    /// A processor cannot start there.
    StartBeyondHead {
        /// The requested start.
        start: Position,
        /// The position of the next event.
        head: Position,
    },
    /// This node has no session, is leaving, or cannot run the processor.
    CannotRun {
        /// The node.
        node: NodeId,
        /// The processor's name.
        processor: String,
    },
    /// The segment does not wait with the event that was to be skipped.
    WaitsWithOther {
        /// The processor's name.
        processor: String,
        /// The segment.
        segment: SegmentId,
        /// The event that was to be skipped.
        position: Position,
        /// The event that it waits with; `None` if it does not wait.
        waits_with: Option<Position>,
    },
    /// Events of the segment before the one that was to be skipped are not done yet.
    NotFirst {
        /// The processor's name.
        processor: String,
        /// The segment.
        segment: SegmentId,
        /// The event that was to be skipped.
        position: Position,
    },
    /// The last member, of this name, cannot leave.
    LastMember(String),
    /// A processor cannot be reset to a position that no event has yet.
    ResetBeyondHead {
        /// The requested position.
        position: Position,
        /// The position of the next event.
        head: Position,
    },
    /// The processor of this name is not replaying, so that there is no replay to end.
    NoReplay(String),
    /// The processor of this name has no segment that can be split.
    NothingToSplit(String),
    /// The processor of this name has no two segments that can be merged.
    NothingToMerge(String),
    /// The segment covers a single hash: it has no halves.
    CannotSplit {
        /// The processor's name.
        processor: String,
        /// The segment.
        segment: SegmentId,
    },
    /// The segment has no sibling: it was never split, or its other half was split again.
    NoSibling {
        /// The processor's name.
        processor: String,
        /// The segment.
        segment: SegmentId,
    },
    /// The segment, or its sibling, is being split or merged.
    Reshaping {
        /// The processor's name.
        processor: String,
        /// The segment.
        segment: SegmentId,
    },
}

impl From<LimitExceeded> for RefusalReason {
    fn from(exceeded: LimitExceeded) -> Self {
        Self::Invalid(Invalid::LimitExceeded(exceeded))
    }
}

impl From<InvalidLimits> for RefusalReason {
    fn from(invalid: InvalidLimits) -> Self {
        Self::Invalid(Invalid::Limits(invalid))
    }
}
