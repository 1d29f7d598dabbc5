//! How a node stands: plain values, told at once, asking nobody.

use std::{collections::BTreeMap, time::Duration};

use evener_core::id::{ClusterId, LogIndex, NodeId, Position, SessionId};

pub use crate::{
    disk_reserve::DiskStatus,
    leadership::{Leadership, NoDecision, NoDecisionReason},
    membership::NonVoterReason,
    raft::Role,
};

/// Bytes of the status that the program of one member sends another one: as many as an append may have, so that they do
/// not stand long before the heartbeats on the same link. The link itself refuses what is longer than a message may be
/// before it takes memory for it.
pub const STATUS_BYTES_MAX: usize = 1 << 20;

/// Says that a status of so many bytes is refused.
pub(crate) fn too_long(bytes: usize) -> String {
    format!("a status has {bytes} bytes, and status_bytes_max is {STATUS_BYTES_MAX}")
}

/// How a node stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Of which cluster.
    pub cluster: ClusterId,
    /// Which member.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// Where peers reach it.
    pub peer: String,
    /// Where clients reach it.
    pub http: String,
    /// Its part in the group.
    pub role: Role,
    /// Who leads, in which term, and whether anything can be decided, as far as it knows.
    pub leadership: Leadership,
    /// Who votes; while that is being changed, whoever does before and after.
    pub voters: Vec<NodeId>,
    /// Who follows the log without a vote.
    pub learners: Vec<NodeId>,
    /// Members that do not vote, and why.
    pub non_voters: BTreeMap<NodeId, NonVoterReason>,
    /// The end of its log.
    pub last: Option<LogIndex>,
    /// What it knows to be committed.
    pub committed: Option<LogIndex>,
    /// What it has applied.
    pub applied: LogIndex,
    /// The end of what is on its disk.
    pub durable: Option<LogIndex>,
    /// The position of the next event of the default context.
    pub head: Position,
    /// Its session; none while it has none.
    pub session: Option<SessionId>,
    /// Commands that wait here or are under way.
    pub proposing: usize,
    /// On the leader: how far each other's log is known to reach.
    pub matched: BTreeMap<NodeId, Option<LogIndex>>,
    /// How many milliseconds its wall clock is ahead of the majority's, where that can be told.
    pub clock_ahead_ms: Option<i64>,
    /// How far the log's time is ahead of the majority's clock: what is recorded later stays so far ahead.
    pub log_ahead: Duration,
    /// The room on its disk.
    pub disk: DiskStatus,
    /// Why no append is taken; none while appends are.
    pub append_refusal: Option<String>,
    /// Why it has stopped.
    pub stopped: Option<String>,
}
