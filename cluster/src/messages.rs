//! What nodes ask each other beside Raft, and what they answer. Written by the store's codec; a change of any of
//! these is a change of the protocol's version.

use evener_core::{
    command::Admit,
    id::{ClusterId, LogIndex, NodeId, SessionId},
    member::Member,
};
use serde::{Deserialize, Serialize};

use crate::error::StartRefusal;

/// Who answers: to strangers too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeInfo {
    /// Its cluster; none before it founded or joined one.
    pub cluster: Option<ClusterId>,
    /// Its number.
    pub node: Option<NodeId>,
    /// Its name.
    pub name: String,
    /// Who leads, as far as it knows.
    pub leader: Option<NodeId>,
    /// Everybody.
    pub members: Vec<Member>,
}

/// A node wants to be a member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    /// Who it is.
    pub admit: Admit,
    /// Only of this cluster.
    pub cluster: Option<ClusterId>,
}

/// The answer to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Joined {
    /// It is one now.
    Admitted {
        /// Of this cluster.
        cluster: ClusterId,
        /// With this number.
        node: NodeId,
        /// The cluster's constant: bytes of a chunk.
        chunk_bytes: u64,
        /// Everybody.
        members: Vec<Member>,
    },
    /// Not now; it may ask again.
    Retry(String),
    /// No.
    Refused {
        /// What is wrong with it.
        reason: StartRefusal,
        /// In words, with the way out.
        message: String,
    },
}

/// The session of a node lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renew {
    /// Whose.
    pub node: NodeId,
    /// Which life.
    pub session: SessionId,
}

/// The answer to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Renewed {
    /// The lease begins anew.
    Kept,
    /// The log ended that session.
    SessionEnded,
    /// Somebody else leads, or nobody yet.
    NotLeader,
    /// The node lacks what it acknowledged to this leader.
    LostEntries,
}

/// Up to where one must have applied the log to read what is true now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReadAt {
    /// Up to here.
    Index(LogIndex),
    /// Somebody else leads, or nobody yet, or it could not be found out.
    NotLeader,
}

/// To the leader: let this node lead instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferLeadership {
    /// Which.
    pub to: NodeId,
}

#[cfg(test)]
mod tests {
    use std::{fmt::Write, io};

    use crate::{
        fuzz::{message_samples, read_and_written},
        handshake::PROTOCOL_VERSION,
    };

    /// Nodes of one protocol version read each other's messages.
    #[test]
    fn golden_messages_of_this_protocol_version() {
        const GOLDEN: &[(u16, &str)] = &[(2, include_str!("messages/golden-2.txt"))];
        let changed = "a message between nodes has changed: raise PROTOCOL_VERSION in cluster/src/handshake.rs, and \
                       add the file cluster/src/messages/golden-VERSION.txt, which EVENER_GOLDEN=1 writes";
        let mut made = String::new();
        for message in message_samples() {
            assert_eq!(read_and_written(&message), message);
            message.iter().for_each(|byte| write!(made, "{byte:02x}").unwrap());
            made.push('\n');
        }
        if std::env::var_os("EVENER_GOLDEN").is_some() {
            let path = format!("{}/src/messages/golden-{PROTOCOL_VERSION}.txt", env!("CARGO_MANIFEST_DIR"));
            // One that is there stays.
            let _ = std::fs::File::create_new(path).map(|mut file| io::Write::write_all(&mut file, made.as_bytes()));
        }
        let (_, golden) = GOLDEN.iter().find(|(version, _)| *version == PROTOCOL_VERSION).expect(changed);
        assert!(made == *golden, "{changed}");
    }
}
