//! A session: the one lease of a node. Renewals stay in the leader's memory; only the beginning and the end of a
//! session are entries.

use alloc::{collections::BTreeMap, string::String, vec::Vec};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::id::{LogIndex, NodeId, SessionId};

/// One life of a node's process, as the log knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// The node.
    pub node: NodeId,
    /// The session's number; a later session has a greater one.
    pub session: SessionId,
    /// The entry that began it.
    pub since: LogIndex,
    /// Processors (by name) and their versions that this process can run. Processors without Rust code run
    /// anywhere and are not listed.
    pub capabilities: BTreeMap<String, Vec<u32>>,
    /// Its share, relative to others; 1 by default.
    pub weight: u32,
    /// Drawn by the process: the same beginning, proposed twice, is one session.
    pub nonce: Uuid,
    /// Whether the node is leaving: it is given nothing more, and hands over what it has.
    pub draining: bool,
}
