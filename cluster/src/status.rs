//! The status of a node: plain values, returned at once, without requests to other nodes.

use std::{collections::BTreeMap, time::Duration};

use evener_core::id::{ClusterId, LogIndex, NodeId, Position, SessionId};

pub use crate::{
    disk_reserve::DiskStatus,
    leadership::{Leadership, NoDecision, NoDecisionReason},
    membership::NonVoterReason,
    raft::Role,
};

/// The maximum size of the status that one member's program sends to another, in bytes: the same as for an append, so
/// that it does not delay the heartbeats on the same link for long. The link itself refuses a message over its own
/// limit before allocating memory for it.
pub const STATUS_BYTES_MAX: usize = 1 << 20;

/// Returns the message that refuses a status of `bytes` bytes.
pub(crate) fn too_long(bytes: usize) -> String {
    format!("a status has {bytes} bytes, and status_bytes_max is {STATUS_BYTES_MAX}")
}

/// The status of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The cluster's id.
    pub cluster: ClusterId,
    /// The member's number.
    pub node: NodeId,
    /// The member's name.
    pub name: String,
    /// The address at which peers reach the node.
    pub peer: String,
    /// The address at which clients reach the node.
    pub http: String,
    /// The node's role in the Raft group.
    pub role: Role,
    /// The leader, its term, and whether anything can be decided, as far as the node knows.
    pub leadership: Leadership,
    /// The voters; during a change, those that vote both before and after it.
    pub voters: Vec<NodeId>,
    /// The members of the Raft group that do not vote.
    pub learners: Vec<NodeId>,
    /// The members that do not vote, with the reasons.
    pub non_voters: BTreeMap<NodeId, NonVoterReason>,
    /// The last entry of the node's log.
    pub last: Option<LogIndex>,
    /// The last entry that the node knows to be committed.
    pub committed: Option<LogIndex>,
    /// The last entry that the node has applied.
    pub applied: LogIndex,
    /// The last entry that is durable on the node's disk.
    pub durable: Option<LogIndex>,
    /// The position of the next event of the default context.
    pub head: Position,
    /// The node's session, if it has one.
    pub session: Option<SessionId>,
    /// The number of commands queued or in flight on the node.
    pub proposing: usize,
    /// On the leader: the last entry known to match in each other node's log.
    pub matched: BTreeMap<NodeId, Option<LogIndex>>,
    /// How many milliseconds the node's wall clock is ahead of the majority's, if known.
    pub clock_ahead_ms: Option<i64>,
    /// How far the log's time is ahead of the majority's clock.
    pub log_ahead: Duration,
    /// The free space on the node's disk.
    pub disk: DiskStatus,
    /// Why appends are refused; `None` while they are accepted.
    pub append_refusal: Option<String>,
    /// Why the node has stopped, if it has.
    pub stopped: Option<String>,
}
