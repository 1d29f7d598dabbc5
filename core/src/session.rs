//! A session: the one lease of a node. Renewals stay in the leader's memory; only its beginning and its end
//! are entries.

use alloc::{collections::BTreeMap, string::String, vec::Vec};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::id::{LogIndex, NodeId, SessionId};

/// One life of a node's process, as the log knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Whose.
    pub node: NodeId,
    /// Which life; the greater is the later.
    pub session: SessionId,
    /// Where it began.
    pub since: LogIndex,
    /// Processors (by name) and their versions that this process can run. Processors without Rust code run
    /// anywhere and are not listed.
    pub capabilities: BTreeMap<String, Vec<u32>>,
    /// Its share, relative to others; 1 by default.
    pub weight: u32,
    /// Drawn by the process: the same beginning told twice is one session.
    pub nonce: Uuid,
    /// It is leaving: it is given nothing more, and hands over what it has.
    pub draining: bool,
}
