//! Numbers that must not be mixed up are types of their own.

use core::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl $name {
            /// Returns the number after this one; the greatest stays.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
        }
    };
}

number!(
    /// An event's place in the one order of its context, from 0, without gaps. A *stored* position (of a token, a
    /// marker, a head) is the next position to read.
    Position(u64)
);
number!(
    /// The number of an event within its stream, from 0.
    Revision(u64)
);
number!(
    /// An event store of its own: positions, streams, ids.
    ContextId(u32)
);
number!(
    /// A member of the cluster. Numbers are never reused.
    NodeId(u64)
);
number!(
    /// One life of a member's process. Assigned by the log, so the later one is greater.
    SessionId(u64)
);
number!(
    /// The epoch of a claim or of a loan: a write under an older one is refused. All come from one count, so none is
    /// ever used twice, whatever is deleted, created or set aside again.
    Epoch(u64)
);
number!(
    /// Grows whenever the table changes from which balance plans are made.
    Generation(u64)
);
number!(
    /// A place in the Raft log.
    LogIndex(u64)
);
number!(
    /// A Raft term.
    Term(u64)
);
number!(
    /// A processor: assigned at its creation, never reused.
    ProcessorId(u32)
);
number!(
    /// The id of a segment within its processor: the low bits that its hashes share.
    SegmentId(u32)
);
number!(
    /// A set of handlers with one sequencing policy within a processor.
    ComponentId(u16)
);
number!(
    /// What all members understand: a new kind of command is proposed only from its level on.
    FeatureLevel(u16)
);

impl ContextId {
    /// The context of events for which no other is named.
    pub const DEFAULT: Self = Self(0);
    /// The context of what Evener itself reports.
    pub const SYSTEM: Self = Self(1);
}

impl FeatureLevel {
    /// From this level on the id of every event also follows from its source.
    pub const SOURCE_IDS: Self = Self(2);
    /// From this level on processors can be reset, and their segments split, merged and moved.
    pub const RESET: Self = Self(3);
    /// The level of this build.
    pub const CURRENT: Self = Self::RESET;
}

/// A cluster, chosen once when it is founded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClusterId(pub Uuid);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The life of one data directory: a node whose directory was emptied is a different node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Incarnation(pub Uuid);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
