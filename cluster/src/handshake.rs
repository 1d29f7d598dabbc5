//! The first words on every connection: who are you, and are you who I wanted?
//!
//! A connection is easily wrong: an address in a script points at last week's cluster, a data directory was
//! emptied under an old name, one node runs a newer build. Each of these is found here, before anything else is
//! said, and told to *both* sides in words.
//!
//! ```text
//! hello (from the side that connects)              reply (from the side that accepts)
//!  0  8  magic "EVENER\r\n"                          0  8  magic
//!  8  2  protocol version                            8  2  protocol version
//! 10  2  feature level                              10  2  feature level
//! 12  1  purpose: 1 peer, 2 inquiry                 12  1  0 welcome, else the reason to refuse
//! 13  1  known: 1 cluster, 2 node, 4 wanted         13  1  known: 1 cluster, 2 node
//! 14  2  length of the principal that follows       14  2  length of the words that follow, at most 1024
//! 16 16  cluster                                    16 16  cluster
//! 32  8  node                                       32  8  node
//! 40 16  incarnation                                40 16  incarnation
//! 56  8  the node that is wanted                    56  8  zero
//! 64     the principal, UTF-8, at most 1024 bytes   64     words for people, UTF-8
//! ```
//!
//! The principal is who the connecting node acts for. No node has one yet, so that length is zero.
//! Numbers are little endian. What stands before offset 16 of either stays as it is in every version to come, so
//! that two versions can always tell each other what they are.

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

/// What this build speaks. Only the same is spoken with.
pub const PROTOCOL_VERSION: u16 = 2;
/// Both sides must have said who they are within this time.
pub const HANDSHAKE_WAIT: Duration = Duration::from_secs(2);
/// Bytes of the words in a reply.
pub const REFUSAL_TEXT_BYTES_MAX: usize = 1024;
/// Bytes of the principal in a hello.
pub const PRINCIPAL_BYTES_MAX: usize = 1024;
/// Bytes of a hello, and of a reply without its words.
pub const HELLO_BYTES: usize = 64;

const MAGIC: &[u8; 8] = b"EVENER\r\n";
const KNOWN_CLUSTER: u8 = 1;
const KNOWN_NODE: u8 = 2;
const KNOWN_WANTED: u8 = 4;

/// Why a connection is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Between members.
    Peer,
    /// A stranger, or a member that does not know its cluster yet, asks.
    Inquiry,
}

/// Who a node says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its cluster; none before it founded or joined one.
    pub cluster: Option<ClusterId>,
    /// Its number; none before it was admitted.
    pub node: Option<NodeId>,
    /// Its data directory's life.
    pub incarnation: Incarnation,
    /// What its build understands.
    pub level: FeatureLevel,
}

/// The other side of a connection, as it said and as it was admitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerIdentity {
    /// Who it is.
    pub identity: Identity,
    /// Why the connection was opened, by whichever side did.
    pub purpose: Purpose,
    /// Where it is: the address that was called, or that the call came from.
    pub addr: String,
    /// Who the side that connected acts for, if it said so.
    pub principal: Option<Principal>,
}

impl PeerIdentity {
    /// Its number; none for a stranger.
    #[must_use]
    pub fn node(&self) -> Option<NodeId> {
        self.identity.node
    }

    /// How to call it in a message to people.
    #[must_use]
    pub fn name(&self) -> String {
        match self.identity.node {
            Some(node) => format!("node {node} at {}", self.addr),
            None => format!("the node at {}", self.addr),
        }
    }
}

/// What the cluster knows and the handshake asks: the membership is not this module's.
pub trait Admission: Send + Sync + 'static {
    /// Who this node is, now: it changes when the node joins.
    fn me(&self) -> Identity;

    /// Who this node acts for when it connects. None yet.
    fn principal(&self) -> Option<Principal> {
        None
    }

    /// Whether to go on with `them`. Asked by both sides, after protocol, cluster and wanted node were found
    /// right. Says no by [`Refused::not_a_member`], [`Refused::emptied`], [`Refused::not_ready`] or [`Refused::other`].
    fn admit(&self, them: &PeerIdentity) -> Result<(), Refused>;
}

/// Why a handshake was refused: what a program can tell apart. The words beside it are for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    /// Another protocol version: one of the two must be upgraded first.
    Protocol = 1,
    /// Another cluster.
    Cluster = 2,
    /// Another node than the one that was wanted.
    Node = 3,
    /// Not a member: never admitted, or removed.
    NotAMember = 4,
    /// A member's number with another data directory's life.
    Incarnation = 5,
    /// Not yet: ask again.
    NotReady = 6,
    /// Any other.
    Other = 7,
}

impl Reason {
    fn of(byte: u8) -> Self {
        use Reason::{Cluster, Incarnation, Node, NotAMember, NotReady, Other, Protocol};
        let known = [Protocol, Cluster, Node, NotAMember, Incarnation, NotReady];
        known.into_iter().find(|reason| *reason as u8 == byte).unwrap_or(Other)
    }
}

/// A no, with its words: lower case, what was found and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Refused {
    /// For programs.
    pub reason: Reason,
    /// For people.
    pub text: String,
}

impl Refused {
    const fn new(reason: Reason, text: String) -> Self {
        Self { reason, text }
    }

    /// No such member.
    #[must_use]
    pub fn not_a_member(node: NodeId, cluster: ClusterId) -> Self {
        let text = format!(
            "node {node} is no member of cluster {cluster}: it was never admitted, or it was removed; \
             start it with an empty data directory and --join to come as a new node"
        );
        Self::new(Reason::NotAMember, text)
    }

    /// A member no more, as it is told itself.
    #[must_use]
    pub const fn removed(removal_notice: String) -> Self {
        Self::new(Reason::NotAMember, removal_notice)
    }

    /// The number is a member's, the data directory is not.
    #[must_use]
    pub fn emptied(node: NodeId, known: Incarnation, got: Incarnation) -> Self {
        let text = format!(
            "node {node} comes with incarnation {got}, and the cluster knows it with {known}: its data directory was \
             emptied or replaced; bring the old one back, or remove the node and join as a new one under another name"
        );
        Self::new(Reason::Incarnation, text)
    }

    /// Not now.
    #[must_use]
    pub fn not_ready(text: impl Into<String>) -> Self {
        Self::new(Reason::NotReady, text.into())
    }

    /// Something else.
    #[must_use]
    pub fn other(text: impl Into<String>) -> Self {
        Self::new(Reason::Other, text.into())
    }

    fn protocol(theirs: u16) -> Self {
        let text = format!(
            "peer protocol {theirs} meets peer protocol {PROTOCOL_VERSION}: upgrade the older of the two builds first"
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
        let text = format!("you reached {reached}, wanted node {wanted}: two nodes were given one peer address");
        Self::new(Reason::Node, text)
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The other side said no.
    #[error("refused by {peer}: {refused}")]
    RefusedByPeer {
        /// By whom.
        peer: String,
        /// Why.
        refused: Refused,
    },
    /// This side says no.
    #[error("refused {peer}: {refused}")]
    RefusedHere {
        /// Whom.
        peer: String,
        /// Why.
        refused: Refused,
    },
    /// Not a node's peer port, or not a node.
    #[error("what is at {addr} does not speak as a peer does: give the node's peer address, not its http address")]
    NotAPeer {
        /// Where.
        addr: String,
    },
    /// Silence.
    #[error("{addr} said nothing of use within {HANDSHAKE_WAIT:?}: is it overloaded, or is its network cut?")]
    TimedOut {
        /// Where.
        addr: String,
    },
    /// The connection broke.
    #[error("lost {addr} while saying hello: {error}")]
    Broken {
        /// Where.
        addr: String,
        /// How.
        error: io::Error,
    },
}

impl HandshakeError {
    /// What the other side, or this one, refused; none where nothing was said.
    #[must_use]
    pub fn refused(&self) -> Option<&Refused> {
        match self {
            Self::RefusedByPeer { refused, .. } | Self::RefusedHere { refused, .. } => Some(refused),
            _ => None,
        }
    }
}

/// Says hello as the side that connects. `wanted`: the node that must answer, where it is known.
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

/// Answers a hello as the side that accepts.
pub async fn respond(
    stream: &mut BoxedStream,
    admission: &dyn Admission,
    addr: &str,
) -> Result<PeerIdentity, HandshakeError> {
    within(addr, async {
        let mut head = [0; HELLO_BYTES];
        // the magic alone first: whoever sends less than a hello and waits is a stranger, not a slow peer
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

/// Reads the principal that follows a hello, if one does. None: it is longer than it may be, or no text. What follows a
/// hello of another version is not read: the version alone is judged.
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
        Ok(Ok(said)) => Ok(said),
        Ok(Err(error)) => Err(HandshakeError::Broken { addr: addr.to_owned(), error }),
        Err(_) => Err(HandshakeError::TimedOut { addr: addr.to_owned() }),
    }
}

/// The part that needs no membership. `wanted` is (the node that was reached, the node that was wanted).
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
    /// With the principal behind it. One that is too long is not said: half of a name would be another's.
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

    /// None: not a node. A hello of another version is read as far as it can be: only its version counts.
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
    let length = u16::try_from(text.len()).expect("cut to words_bytes_max");
    bytes[14..16].copy_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

/// What hello and reply have in common.
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
