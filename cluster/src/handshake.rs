//! The handshake: the first exchange on every connection, in which both sides identify themselves.
//!
//! A connection easily reaches the wrong node: an address in a script points at an old cluster, a data directory was
//! emptied while its node kept its name, or one node runs a newer build. The handshake detects each of these before
//! any other exchange and reports it to *both* sides.
//!
//! ```text
//! hello (from the side that connects)              reply (from the side that accepts)
//!  0  8  magic "EVENER\r\n"                          0  8  magic
//!  8  2  protocol version                            8  2  protocol version
//! 10  2  feature level                              10  2  feature level
//! 12  1  purpose: 1 peer, 2 inquiry                 12  1  0 welcome, else the reason to refuse
//! 13  1  known: 1 cluster, 2 node, 4 wanted         13  1  known: 1 cluster, 2 node
//! 14  2  length of the principal that follows       14  2  length of the text that follows, at most 1024
//! 16 16  cluster                                    16 16  cluster
//! 32  8  node                                       32  8  node
//! 40 16  incarnation                                40 16  incarnation
//! 56  8  the node that is wanted                    56  8  zero
//! 64     the principal, UTF-8, at most 1024 bytes   64     text for people, UTF-8
//! ```
//!
//! The principal is the user or program for which the connecting node acts. No node has one yet, so its length is
//! zero. Numbers are little endian. The layout before offset 16 of both messages stays the same in every later
//! version, so that any two versions can report their versions to each other.

use std::{io, time::Duration};

use evener_core::{
    id::{ClusterId, FeatureLevel, Incarnation, NodeId},
    principal::Principal,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};
use uuid::Uuid;

use crate::transport::BoxedStream;

/// The protocol version of this build. Only nodes of the same version talk to each other.
pub const PROTOCOL_VERSION: u16 = 2;
/// The time within which both sides must have identified themselves.
pub const HANDSHAKE_WAIT: Duration = Duration::from_secs(2);
/// The maximum length in bytes of the text in a reply.
pub const REFUSAL_TEXT_BYTES_MAX: usize = 1024;
/// The maximum length in bytes of the principal in a hello.
pub const PRINCIPAL_BYTES_MAX: usize = 1024;
/// The length in bytes of a hello without its principal, and of a reply without its text.
pub const HELLO_BYTES: usize = 64;

const MAGIC: &[u8; 8] = b"EVENER\r\n";
const KNOWN_CLUSTER: u8 = 1;
const KNOWN_NODE: u8 = 2;
const KNOWN_WANTED: u8 = 4;

/// The reason why a connection is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A connection between members.
    Peer,
    /// A query by an unidentified peer, or by a member that does not know its cluster yet.
    Inquiry,
}

/// The identity that a node presents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its cluster; none before it has founded or joined one.
    pub cluster: Option<ClusterId>,
    /// Its number; none before it is admitted.
    pub node: Option<NodeId>,
    /// The incarnation of its data directory.
    pub incarnation: Incarnation,
    /// The feature level of its build.
    pub level: FeatureLevel,
}

/// The other side of a connection, as it identified itself and was admitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerIdentity {
    /// Its identity.
    pub identity: Identity,
    /// The reason why the connection was opened, by either side.
    pub purpose: Purpose,
    /// Its address: the address connected to, or the address the connection came from.
    pub addr: String,
    /// The principal for which the connecting side acts, if it sent one.
    pub principal: Option<Principal>,
}

impl PeerIdentity {
    /// Returns its number; none for an unidentified peer.
    #[must_use]
    pub fn node(&self) -> Option<NodeId> {
        self.identity.node
    }

    /// Returns its description for messages to people.
    #[must_use]
    pub fn name(&self) -> String {
        match self.identity.node {
            Some(node) => format!("node {node} at {}", self.addr),
            None => format!("the node at {}", self.addr),
        }
    }
}

/// What the handshake needs from the cluster: the identity of this node, and the decision about a peer.
pub trait Admission: Send + Sync + 'static {
    /// Returns the current identity of this node. It changes when the node joins.
    fn me(&self) -> Identity;

    /// Returns the principal for which this node acts when it connects. None yet.
    fn principal(&self) -> Option<Principal> {
        None
    }

    /// Decides whether to continue with `them`. Both sides call it after protocol, cluster and wanted node were
    /// checked. It refuses by [`Refused::not_a_member`], [`Refused::emptied`], [`Refused::not_ready`] or
    /// [`Refused::other`].
    fn admit(&self, them: &PeerIdentity) -> Result<(), Refused>;
}

/// The reason of a refused handshake, for programs. The text beside it is for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    /// A different protocol version: one of the two nodes must be upgraded first.
    Protocol = 1,
    /// A different cluster.
    Cluster = 2,
    /// A different node than the wanted one.
    Node = 3,
    /// Not a member: never admitted, or removed.
    NotAMember = 4,
    /// A member's number with the incarnation of another data directory.
    Incarnation = 5,
    /// Not ready yet: try again.
    NotReady = 6,
    /// Any other reason.
    Other = 7,
}

impl Reason {
    fn of(byte: u8) -> Self {
        use Reason::{Cluster, Incarnation, Node, NotAMember, NotReady, Other, Protocol};
        let known = [Protocol, Cluster, Node, NotAMember, Incarnation, NotReady];
        known.into_iter().find(|reason| *reason as u8 == byte).unwrap_or(Other)
    }
}

/// A refusal and its text: lower case, with the cause and the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Refused {
    /// The reason, for programs.
    pub reason: Reason,
    /// The text, for people.
    pub text: String,
}

impl Refused {
    const fn new(reason: Reason, text: String) -> Self {
        Self { reason, text }
    }

    /// Refuses a node that is not a member.
    #[must_use]
    pub fn not_a_member(node: NodeId, cluster: ClusterId) -> Self {
        let text = format!(
            "node {node} is not a member of cluster {cluster}: it was never admitted, or it was removed; \
             start it with an empty data directory and --join to come as a new node"
        );
        Self::new(Reason::NotAMember, text)
    }

    /// Refuses a removed member with its removal notice.
    #[must_use]
    pub const fn removed(removal_notice: String) -> Self {
        Self::new(Reason::NotAMember, removal_notice)
    }

    /// Refuses a member's number that comes with another data directory.
    #[must_use]
    pub fn emptied(node: NodeId, known: Incarnation, got: Incarnation) -> Self {
        let text = format!(
            "node {node} has incarnation {got}, and the cluster knows {known}: its data directory was \
             emptied or replaced; bring the old one back, or remove the node and join as a new one under another name"
        );
        Self::new(Reason::Incarnation, text)
    }

    /// Refuses for now.
    #[must_use]
    pub fn not_ready(text: impl Into<String>) -> Self {
        Self::new(Reason::NotReady, text.into())
    }

    /// Refuses for any other reason.
    #[must_use]
    pub fn other(text: impl Into<String>) -> Self {
        Self::new(Reason::Other, text.into())
    }

    fn protocol(theirs: u16) -> Self {
        let text = format!(
            "peer protocol {theirs} does not match peer protocol {PROTOCOL_VERSION}: upgrade the older build first"
        );
        Self::new(Reason::Protocol, text)
    }

    fn cluster(mine: ClusterId, theirs: ClusterId) -> Self {
        let text = format!(
            "a node of cluster {theirs} reached a node of cluster {mine}: check the addresses given by --join and \
             --peer, and that each data directory is the one meant"
        );
        Self::new(Reason::Cluster, text)
    }

    fn no_cluster(theirs: ClusterId) -> Self {
        let text = format!("a node of cluster {theirs} reached one that belongs to no cluster yet: it must join first");
        Self::new(Reason::NotReady, text)
    }

    fn node(reached: Option<NodeId>, wanted: NodeId) -> Self {
        let reached = reached.map_or_else(|| "a node without a number".to_owned(), |node| format!("node {node}"));
        let text = format!("you reached {reached}, wanted node {wanted}: two nodes have the same peer address");
        Self::new(Reason::Node, text)
    }
}

/// The reason why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The other side refused.
    #[error("refused by {peer}: {refused}")]
    RefusedByPeer {
        /// The other side.
        peer: String,
        /// The refusal.
        refused: Refused,
    },
    /// This side refused.
    #[error("refused {peer}: {refused}")]
    RefusedHere {
        /// The other side.
        peer: String,
        /// The refusal.
        refused: Refused,
    },
    /// The other side is not a peer listener, or not a node.
    #[error("{addr} does not speak the peer protocol: give the node's peer address, not its http address")]
    NotAPeer {
        /// Its address.
        addr: String,
    },
    /// The other side did not identify itself in time.
    #[error("no handshake from {addr} within {HANDSHAKE_WAIT:?}: check its load and its network")]
    TimedOut {
        /// Its address.
        addr: String,
    },
    /// The connection broke.
    #[error("lost {addr} during the handshake: {error}")]
    Broken {
        /// The address of the other side.
        addr: String,
        /// The error.
        error: io::Error,
    },
}

impl HandshakeError {
    /// Returns the refusal of either side; none if the handshake failed in another way.
    #[must_use]
    pub fn refused(&self) -> Option<&Refused> {
        match self {
            Self::RefusedByPeer { refused, .. } | Self::RefusedHere { refused, .. } => Some(refused),
            _ => None,
        }
    }
}

/// Performs the handshake as the connecting side. `wanted` is the node that must answer, if it is known.
pub async fn initiate(
    stream: &mut BoxedStream,
    admission: &dyn Admission,
    purpose: Purpose,
    wanted: Option<NodeId>,
    addr: &str,
) -> Result<PeerIdentity, HandshakeError> {
    let me = admission.me();
    let (reply, text) = within(addr, async {
        let principal = admission.principal();
        stream.write_all(&Hello { version: PROTOCOL_VERSION, me, purpose, wanted }.encode(principal.as_ref())).await?;
        stream.flush().await?;
        let mut head = [0; HELLO_BYTES];
        stream.read_exact(&mut head).await?;
        let Some(reply) = Reply::decode(&head) else { return Ok(None) };
        let mut text = vec![0; reply.text_bytes.min(REFUSAL_TEXT_BYTES_MAX)];
        stream.read_exact(&mut text).await?;
        Ok(Some((reply, String::from_utf8_lossy(&text).into_owned())))
    })
    .await?
    .ok_or_else(|| HandshakeError::NotAPeer { addr: addr.to_owned() })?;
    let them = PeerIdentity { identity: reply.identity, purpose, addr: addr.to_owned(), principal: None };
    if let Some(reason) = reply.refused {
        return Err(HandshakeError::RefusedByPeer { peer: them.name(), refused: Refused { reason, text } });
    }
    let judged = judge(&me, reply.version, &them, wanted.map(|wanted| (them.node(), wanted)));
    match judged.and_then(|()| admission.admit(&them)) {
        Ok(()) => Ok(them),
        Err(refused) => Err(HandshakeError::RefusedHere { peer: them.name(), refused }),
    }
}

/// Performs the handshake as the accepting side.
pub async fn respond(
    stream: &mut BoxedStream,
    admission: &dyn Admission,
    addr: &str,
) -> Result<PeerIdentity, HandshakeError> {
    within(addr, async {
        let mut head = [0; HELLO_BYTES];
        // Read the magic first: a peer that sends fewer bytes than a hello and then waits is not a node, not slow.
        stream.read_exact(&mut head[..MAGIC.len()]).await?;
        if head[..MAGIC.len()] != *MAGIC {
            return Ok(Err(HandshakeError::NotAPeer { addr: addr.to_owned() }));
        }
        stream.read_exact(&mut head[MAGIC.len()..]).await?;
        let Some(hello) = Hello::decode(&head) else {
            return Ok(Err(HandshakeError::NotAPeer { addr: addr.to_owned() }));
        };
        let Some(principal) = read_principal(stream, &hello, &head).await? else {
            return Ok(Err(HandshakeError::NotAPeer { addr: addr.to_owned() }));
        };
        let me = admission.me();
        let them = PeerIdentity { identity: hello.me, purpose: hello.purpose, addr: addr.to_owned(), principal };
        let judged = judge(&me, hello.version, &them, hello.wanted.map(|wanted| (me.node, wanted)));
        let verdict = judged.and_then(|()| admission.admit(&them));
        stream.write_all(&reply(&me, verdict.as_ref().err())).await?;
        stream.flush().await?;
        Ok(match verdict {
            Ok(()) => Ok(them),
            Err(refused) => Err(HandshakeError::RefusedHere { peer: them.name(), refused }),
        })
    })
    .await?
}

/// Reads the principal that follows a hello, if there is one. Returns none if it is too long or not UTF-8. What
/// follows a hello of another version is not read, as only the version counts then.
async fn read_principal(
    stream: &mut BoxedStream,
    hello: &Hello,
    head: &[u8; HELLO_BYTES],
) -> io::Result<Option<Option<Principal>>> {
    let bytes = usize::from(u16::from_le_bytes(part(head, 14)));
    if bytes == 0 || hello.version != PROTOCOL_VERSION {
        return Ok(Some(None));
    }
    if bytes > PRINCIPAL_BYTES_MAX {
        return Ok(None);
    }
    let mut name = vec![0; bytes];
    stream.read_exact(&mut name).await?;
    Ok(String::from_utf8(name).ok().map(|name| Some(Principal(name))))
}

async fn within<T>(addr: &str, saying: impl Future<Output = io::Result<T>>) -> Result<T, HandshakeError> {
    match timeout(HANDSHAKE_WAIT, saying).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(HandshakeError::Broken { addr: addr.to_owned(), error }),
        Err(_) => Err(HandshakeError::TimedOut { addr: addr.to_owned() }),
    }
}

/// Checks what needs no membership. `wanted` is (the node that was reached, the node that was wanted).
fn judge(
    me: &Identity,
    version: u16,
    them: &PeerIdentity,
    wanted: Option<(Option<NodeId>, NodeId)>,
) -> Result<(), Refused> {
    if version != PROTOCOL_VERSION {
        return Err(Refused::protocol(version));
    }
    match (me.cluster, them.identity.cluster) {
        (Some(mine), Some(theirs)) if mine != theirs => return Err(Refused::cluster(mine, theirs)),
        (None, Some(theirs)) if them.purpose == Purpose::Peer => return Err(Refused::no_cluster(theirs)),
        (Some(mine), None) if them.purpose == Purpose::Peer => return Err(Refused::no_cluster(mine)),
        _ => {}
    }
    match wanted {
        Some((reached, wanted)) if reached != Some(wanted) => Err(Refused::node(reached, wanted)),
        _ => Ok(()),
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Hello {
    version: u16,
    me: Identity,
    purpose: Purpose,
    wanted: Option<NodeId>,
}

impl Hello {
    /// Encodes the hello, followed by the principal. A principal that is too long is left out, because a truncated
    /// name could be the name of another principal.
    fn encode(&self, principal: Option<&Principal>) -> Vec<u8> {
        let purpose = match self.purpose {
            Purpose::Peer => 1,
            Purpose::Inquiry => 2,
        };
        let mut bytes = head(&self.me, self.version, purpose);
        if let Some(NodeId(wanted)) = self.wanted {
            bytes[13] |= KNOWN_WANTED;
            bytes[56..64].copy_from_slice(&wanted.to_le_bytes());
        }
        let principal = principal.filter(|Principal(name)| name.len() <= PRINCIPAL_BYTES_MAX);
        let principal = principal.map_or("", |Principal(name)| name.as_str());
        let length = u16::try_from(principal.len()).expect("at most principal_bytes_max");
        bytes[14..16].copy_from_slice(&length.to_le_bytes());
        [&bytes[..], principal.as_bytes()].concat()
    }

    /// Returns none if it is not from a node. Of a hello of another version only the version is used.
    fn decode(bytes: &[u8; HELLO_BYTES]) -> Option<Self> {
        let (version, me) = read_head(bytes)?;
        let purpose = match bytes[12] {
            1 => Purpose::Peer,
            2 => Purpose::Inquiry,
            _ if version != PROTOCOL_VERSION => Purpose::Inquiry,
            _ => return None,
        };
        let wanted = (bytes[13] & KNOWN_WANTED != 0).then(|| NodeId(u64::from_le_bytes(part(bytes, 56))));
        Some(Self { version, me, purpose, wanted })
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Reply {
    version: u16,
    identity: Identity,
    refused: Option<Reason>,
    text_bytes: usize,
}

impl Reply {
    fn decode(bytes: &[u8; HELLO_BYTES]) -> Option<Self> {
        let (version, identity) = read_head(bytes)?;
        let refused = (bytes[12] != 0).then(|| Reason::of(bytes[12]));
        Some(Self { version, identity, refused, text_bytes: usize::from(u16::from_le_bytes(part(bytes, 14))) })
    }
}

fn reply(me: &Identity, refused: Option<&Refused>) -> Vec<u8> {
    let mut bytes = head(me, PROTOCOL_VERSION, refused.map_or(0, |refused| refused.reason as u8)).to_vec();
    let text = refused.map_or("", |refused| &refused.text[..refused.text.floor_char_boundary(REFUSAL_TEXT_BYTES_MAX)]);
    let length = u16::try_from(text.len()).expect("cut to refusal_text_bytes_max");
    bytes[14..16].copy_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

/// Encodes the part that hello and reply have in common.
fn head(me: &Identity, version: u16, byte_12: u8) -> [u8; HELLO_BYTES] {
    let mut bytes = [0; HELLO_BYTES];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..10].copy_from_slice(&version.to_le_bytes());
    bytes[10..12].copy_from_slice(&me.level.0.to_le_bytes());
    bytes[12] = byte_12;
    if let Some(cluster) = me.cluster {
        bytes[13] |= KNOWN_CLUSTER;
        bytes[16..32].copy_from_slice(cluster.0.as_bytes());
    }
    if let Some(NodeId(node)) = me.node {
        bytes[13] |= KNOWN_NODE;
        bytes[32..40].copy_from_slice(&node.to_le_bytes());
    }
    bytes[40..56].copy_from_slice(me.incarnation.0.as_bytes());
    bytes
}

fn read_head(bytes: &[u8; HELLO_BYTES]) -> Option<(u16, Identity)> {
    if bytes[..8] != *MAGIC {
        return None;
    }
    let known = |bit: u8| bytes[13] & bit != 0;
    let identity = Identity {
        cluster: known(KNOWN_CLUSTER).then(|| ClusterId(Uuid::from_bytes(part(bytes, 16)))),
        node: known(KNOWN_NODE).then(|| NodeId(u64::from_le_bytes(part(bytes, 32)))),
        incarnation: Incarnation(Uuid::from_bytes(part(bytes, 40))),
        level: FeatureLevel(u16::from_le_bytes(part(bytes, 10))),
    };
    Some((u16::from_le_bytes(part(bytes, 8)), identity))
}

fn part<const N: usize>(bytes: &[u8; HELLO_BYTES], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("the parts lie within a hello")
}

#[cfg(test)]
#[path = "handshake/tests.rs"]
mod tests;
