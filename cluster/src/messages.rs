//! The requests between nodes beside Raft, and their answers, encoded by the store's codec. A change to any of these
//! is a change of the protocol's version.

use evener_core::{
    command::Admit,
    id::{ClusterId, LogIndex, NodeId, SessionId},
    member::Member,
};
use serde::{Deserialize, Serialize};

use crate::error::StartRefusal;

/// The identity of the answering node, also for unidentified peers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NodeInfo {
    /// Its cluster; none before it has founded or joined one.
    pub cluster: Option<ClusterId>,
    /// Its number.
    pub node: Option<NodeId>,
    /// Its name.
    pub name: String,
    /// The leader, as far as it knows.
    pub leader: Option<NodeId>,
    /// All members.
    pub members: Vec<Member>,
}

/// A request to become a member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Join {
    /// The joining node.
    pub admit: Admit,
    /// The only cluster that it wants to join.
    pub cluster: Option<ClusterId>,
}

/// The answer to [`Join`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Joined {
    /// The node is a member now.
    Admitted {
        /// The cluster.
        cluster: ClusterId,
        /// Its number.
        node: NodeId,
        /// The cluster's constant: bytes of a chunk.
        chunk_bytes: u64,
        /// All members.
        members: Vec<Member>,
    },
    /// Not now; the node may try again.
    Retry(String),
    /// Refused.
    Refused {
        /// The reason.
        reason: StartRefusal,
        /// A text for people, with the remedy.
        message: String,
    },
}

/// A renewal of a node's session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Renew {
    /// The node.
    pub node: NodeId,
    /// The session.
    pub session: SessionId,
}

/// The answer to [`Renew`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Renewed {
    /// The lease starts again.
    Kept,
    /// The log ended that session.
    SessionEnded,
    /// Another node leads, or none does yet.
    NotLeader,
    /// The node has lost entries that it acknowledged to this leader.
    LostEntries,
}

/// The index up to which a node must have applied the log for a linearizable read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ReadAt {
    /// Up to this index.
    Index(LogIndex),
    /// Another node leads, or none does yet, or the index could not be determined.
    NotLeader,
}

/// A request to the leader to transfer leadership to another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TransferLeadership {
    /// The node that is to lead.
    pub to: NodeId,
}

#[cfg(test)]
mod tests {
    use std::io;

    use crate::{
        fuzz::{message_samples, read_and_written},
        handshake::PROTOCOL_VERSION,
    };

    /// Nodes of one protocol version read each other's messages: what was once sent is still read and written alike.
    #[test]
    fn golden_messages_of_this_protocol_version() {
        const GOLDEN: &[(u16, &str)] = &[(2, include_str!("messages/golden-2.txt"))];
        let changed = "a message between nodes has changed: raise PROTOCOL_VERSION in cluster/src/handshake.rs, and \
                       add the file cluster/src/messages/golden-VERSION.txt, which EVENER_GOLDEN=1 writes";
        let added = "a message between nodes is new: raise PROTOCOL_VERSION as for a changed one; or, if no older node \
                     receives it because of a feature level, add it to the file with EVENER_GOLDEN=1";
        let hex = |message: &Vec<u8>| message.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
        let samples = message_samples();
        for message in &samples {
            assert_eq!(read_and_written(message), *message);
        }
        let golden = GOLDEN.iter().find(|(version, _)| *version == PROTOCOL_VERSION).map_or("", |(_, golden)| golden);
        let new: String = samples.iter().map(hex).filter(|line| !golden.lines().any(|known| known == line)).fold(
            String::new(),
            |mut lines, line| {
                lines += &line;
                lines.push('\n');
                lines
            },
        );
        if std::env::var_os("EVENER_GOLDEN").is_some() {
            let path = format!("{}/src/messages/golden-{PROTOCOL_VERSION}.txt", env!("CARGO_MANIFEST_DIR"));
            let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
            file.and_then(|mut file| io::Write::write_all(&mut file, new.as_bytes())).unwrap();
        }
        assert!(!golden.is_empty(), "{changed}");
        for line in golden.lines() {
            let byte = |at: usize| u8::from_str_radix(&line[at..at + 2], 16).unwrap();
            let message: Vec<u8> = (0..line.len()).step_by(2).map(byte).collect();
            assert_eq!(hex(&read_and_written(&message)), line, "{changed}");
        }
        assert!(new.is_empty(), "{added}:\n{new}");
    }
}
