//! The replicated limits: what `apply` reads, the same on every node, changed only by a command.

use serde::{Deserialize, Serialize};

/// Every limit has a name, a default and a reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Bytes of one event, attributes and payload: 1 MiB less its frame, so that it fits an entry alone.
    pub event_bytes_max: u32,
    /// Events of one append.
    pub append_events_max: u32,
    /// Bytes of one append: an append and an entry are at most 1 MiB.
    pub append_bytes_max: u32,
    /// Bytes of one tag.
    pub tag_bytes_max: u32,
    /// Tags of one event.
    pub event_tags_max: u32,
    /// Bytes of a name: of a stream, key, type, source, processor.
    pub name_bytes_max: u32,
    /// Conditions of one append, and items of one set of criteria.
    pub conditions_max: u32,
    /// Events kept in memory by `apply` for the conditions of appends in flight. A check that is older than
    /// this is answered *retry*.
    pub tail_events: u32,
    /// Processors in the cluster.
    pub processors_max: u32,
    /// Segments of one processor.
    pub segments_max: u32,
    /// Sequences set aside per processor; then its segments stall (P6 names this exception).
    pub sequences_max: u32,
    /// Letters of one sequence set aside; then its segment stalls.
    pub letters_max: u32,
    /// Bytes of a cause that are kept.
    pub cause_bytes_max: u32,
    /// Operations whose outcome is remembered.
    pub operations_max: u32,
    /// How long a released segment may not return to its node: two leases of 5 s.
    pub release_bar_ms: u32,
    /// Attempts by the segment's owner before a failing sequence is lent, or its segment moved.
    pub own_attempts: u32,
    /// Items of one token; a merge that would make more is refused.
    pub token_items_max: u32,
}

impl Limits {
    /// What a new cluster starts with.
    pub const DEFAULT: Self = Self {
        event_bytes_max: 1_000_000,
        append_events_max: 10_000,
        append_bytes_max: 1_000_000,
        tag_bytes_max: 256,
        event_tags_max: 64,
        name_bytes_max: 512,
        conditions_max: 64,
        tail_events: 16_384,
        processors_max: 1_024,
        segments_max: 16_384,
        sequences_max: 1_024,
        letters_max: 1_024,
        cause_bytes_max: 1_024,
        operations_max: 1_024,
        release_bar_ms: 10_000,
        own_attempts: 3,
        token_items_max: 64,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}
