//! The decoders of the bytes that peers send, for fuzz tests.

use std::{io::Cursor, time::Duration};

use bytes::{Bytes, BytesMut};
use evener_core::{
    canonical::samples::outcomes,
    command::Admit,
    fuzz::Decoder,
    id::{ClusterId, ContextId, FeatureLevel, Incarnation, LogIndex, NodeId, SessionId},
    member::Member,
    time::Timestamp,
};
use evener_store::{codec, fuzz::commands, payload::EncodedCommand};
use serde::{Serialize, de::DeserializeOwned};
use uuid::Uuid;

use crate::{
    error::StartRefusal,
    handshake::{self, Admission, Identity, PeerIdentity, Purpose, Refused},
    heartbeat::Heartbeat,
    message::{Kind, Message, Role},
    messages::{Join, Joined, NodeInfo, ReadAt, Renew, Renewed, TransferLeadership},
    proposal::{self, Group, ProposalResult},
    raft,
    transport::BoxedStream,
};

/// Returns every decoder of bytes that peers send.
#[must_use]
pub fn decoders() -> Vec<Decoder> {
    let mut decoders = vec![
        Decoder::new("handshake", handshake, hellos),
        Decoder::new("peer-frame", frames, frame_samples),
        Decoder::new("peer-message", messages, message_samples),
        Decoder::new("proposal", proposals, proposal_samples),
        Decoder::new("pulse", heartbeat, heartbeat_samples),
    ];
    decoders.extend(raft::fuzz::decoders());
    decoders
}

/// Decodes a heartbeat, and checks that what this version knows of it is encoded again unchanged.
fn heartbeat(bytes: &[u8]) {
    if let Some(heartbeat) = Heartbeat::decode(bytes) {
        assert_eq!(Heartbeat::decode(&heartbeat.encode()), Some(heartbeat));
    }
}

fn heartbeat_samples() -> Vec<Vec<u8>> {
    let since_leader_answer = Duration::from_millis(1_500);
    let heartbeat =
        Heartbeat { wall: Timestamp(1_700_000_000_000), leader: Some(NodeId(3)), since_leader_answer, disk_low: true };
    vec![heartbeat.encode().to_vec(), Heartbeat { leader: None, ..heartbeat }.encode().to_vec()]
}

struct Node;

impl Admission for Node {
    fn me(&self) -> Identity {
        Identity {
            cluster: Some(ClusterId(Uuid::from_u128(1))),
            node: Some(NodeId(7)),
            incarnation: Incarnation(Uuid::from_u128(2)),
            level: FeatureLevel(1),
        }
    }

    fn admit(&self, _: &PeerIdentity) -> Result<(), Refused> {
        Ok(())
    }
}

/// Runs both sides of the handshake: the initiator reads a reply, the responder a hello.
fn handshake(bytes: &[u8]) {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime on one thread needs nothing");
    }
    let stream = || -> BoxedStream { Box::new(tokio::io::join(Cursor::new(bytes.to_vec()), tokio::io::sink())) };
    RUNTIME.with(|runtime| {
        runtime.block_on(async {
            _ = handshake::respond(&mut stream(), &Node, "a:1").await;
            _ = handshake::initiate(&mut stream(), &Node, Purpose::Peer, Some(NodeId(7)), "b:1").await;
        });
    });
}

/// Returns a hello and the replies to it, as encoded on the wire.
fn hellos() -> Vec<Vec<u8>> {
    let mut hello = b"EVENER\r\n\x02\0\x03\0\x01\x07\0\0".to_vec();
    hello.extend_from_slice(Uuid::from_u128(1).as_bytes());
    hello.extend_from_slice(&9_u64.to_le_bytes());
    hello.extend_from_slice(Uuid::from_u128(2).as_bytes());
    hello.extend_from_slice(&7_u64.to_le_bytes());
    let mut refusal = hello.clone();
    refusal[12..16].copy_from_slice(&[4, 3, 3, 0]);
    refusal.extend_from_slice(b"no.");
    let mut admitted = hello.clone();
    admitted[12..16].copy_from_slice(&[0, 3, 0, 0]);
    let mut principal = hello.clone();
    principal[14] = 3;
    principal.extend_from_slice(b"ada");
    vec![hello, refusal, admitted, principal]
}

/// Decodes the messages in the bytes of a connection.
fn frames(bytes: &[u8]) {
    let mut bytes = BytesMut::from(bytes);
    while let Ok(Some(message)) = Message::take(&mut bytes) {
        let mut again = BytesMut::new();
        message.put_head(&mut again);
        again.extend_from_slice(&message.payload);
        assert_eq!(Message::take(&mut again), Ok(Some(message)), "a message is encoded as it was read");
    }
}

fn frame_samples() -> Vec<Vec<u8>> {
    let frame = |role, payload: &'static [u8]| {
        let message = Message { kind: Kind::RENEW, role, id: 300, payload: Bytes::from_static(payload) };
        let mut bytes = BytesMut::new();
        message.put_head(&mut bytes);
        bytes.extend_from_slice(&message.payload);
        bytes.to_vec()
    };
    let one = frame(Role::Call, b"hey");
    vec![[one.clone(), frame(Role::Item, b""), frame(Role::Credit, b"\0\0\x01\0")].concat(), one]
}

/// Decodes a message between nodes other than Raft's. The first byte selects the type.
fn messages(bytes: &[u8]) {
    let Some((choice, bytes)) = bytes.split_first() else { return };
    match choice % 8 {
        0 => again::<NodeInfo>(bytes),
        1 => again::<Join>(bytes),
        2 => again::<Joined>(bytes),
        3 => again::<Renew>(bytes),
        4 => again::<Renewed>(bytes),
        5 => again::<ReadAt>(bytes),
        6 => again::<TransferLeadership>(bytes),
        _ => again::<Vec<ProposalResult>>(bytes),
    }
}

fn again<T: Serialize + DeserializeOwned>(bytes: &[u8]) {
    if let Ok(value) = codec::decode_message::<T>(bytes) {
        let bytes = codec::encode_message(&value).expect("a decoded message is small enough to encode");
        assert!(codec::decode_message::<T>(&bytes).is_ok(), "a message is encoded as it was read");
    }
}

/// Returns messages of every type, with every variant and every outcome of a command.
pub(crate) fn message_samples() -> Vec<Vec<u8>> {
    let peer = || "h:1".to_owned();
    let (name, incarnation, http) = ("n1".to_owned(), Incarnation(Uuid::from_u128(2)), "http://h:2".to_owned());
    let (cluster, node, level) = (ClusterId(Uuid::from_u128(1)), NodeId(7), FeatureLevel(1));
    let admit = Admit { name: name.clone(), incarnation, peer: peer(), http: http.clone(), level };
    let member = Member { node, name: name.clone(), incarnation, peer: peer(), http, level, leaving: true };
    let (cluster, session, members) = (Some(cluster), SessionId(8), vec![member]);
    let fates = vec![
        ProposalResult::Decided((LogIndex(3), outcomes())),
        ProposalResult::NotLeader(Some(node)),
        ProposalResult::NotLeader(None),
        ProposalResult::Unknown("w".into()),
        ProposalResult::Refused("w".into()),
    ];
    let info = NodeInfo { cluster, node: Some(node), name: name.clone(), leader: Some(node), members: members.clone() };
    let unfounded = NodeInfo { cluster: None, node: None, name, leader: None, members: Vec::new() };
    let admitted = Joined::Admitted { cluster: cluster.unwrap_or_default(), node, chunk_bytes: 65_536, members };
    let wrongs = [
        StartRefusal::OtherCluster,
        StartRefusal::OtherName,
        StartRefusal::EmptiedDirectory,
        StartRefusal::ClusterAnswers,
        StartRefusal::NoCluster,
        StartRefusal::Removed,
        StartRefusal::InvalidConfig,
    ];
    let no = |reason| sample(2, &Joined::Refused { reason, message: "w".into() });
    let mut all = vec![
        sample(0, &info),
        sample(0, &unfounded),
        sample(1, &Join { admit: admit.clone(), cluster }),
        sample(1, &Join { admit, cluster: None }),
        sample(2, &admitted),
        sample(2, &Joined::Retry("w".into())),
        sample(3, &Renew { node, session }),
        sample(5, &ReadAt::Index(LogIndex(300))),
        sample(5, &ReadAt::NotLeader),
        sample(6, &TransferLeadership { to: node }),
        sample(7, &fates),
    ];
    all.extend(wrongs.map(no));
    let renewed = [Renewed::Kept, Renewed::SessionEnded, Renewed::NotLeader, Renewed::LostEntries];
    all.extend(renewed.map(|renewed| sample(4, &renewed)));
    all
}

/// Decodes a message of the type that its first byte selects, and encodes it again.
#[cfg(test)]
pub(crate) fn read_and_written(bytes: &[u8]) -> Vec<u8> {
    fn again<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Bytes {
        codec::encode_message(&codec::decode_message::<T>(bytes).expect("the sample is valid"))
            .expect("the sample is small")
    }
    let body = &bytes[1..];
    let written = match bytes[0] {
        0 => again::<NodeInfo>(body),
        1 => again::<Join>(body),
        2 => again::<Joined>(body),
        3 => again::<Renew>(body),
        4 => again::<Renewed>(body),
        5 => again::<ReadAt>(body),
        6 => again::<TransferLeadership>(body),
        _ => again::<Vec<ProposalResult>>(body),
    };
    [&bytes[..1], &written].concat()
}

fn sample<T: Serialize>(choice: u8, value: &T) -> Vec<u8> {
    [&[choice], &codec::encode_message(value).expect("the sample is small")[..]].concat()
}

/// Decodes groups of commands from another node, and each command in them.
fn proposals(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    let Some(groups) = proposal::decode(bytes) else { return };
    groups.iter().flat_map(|group| &group.commands).for_each(|command| _ = command.decode());
    let again = proposal::encode(groups.iter());
    let same = proposal::decode(again.clone()).is_some_and(|groups| proposal::encode(groups.iter()) == again);
    assert!(same, "groups are encoded as they were read");
}

fn proposal_samples() -> Vec<Vec<u8>> {
    let groups: Vec<_> = commands().into_iter().map(|command| Group::new(ContextId::DEFAULT, &[command])).collect();
    let raw = Group {
        context: ContextId(3),
        events: 2,
        repeatable: true,
        commands: vec![EncodedCommand::from_parts(7, Bytes::from_static(b"ab"))],
    };
    let one = groups.iter().map(|group| proposal::encode([group].into_iter()).to_vec());
    one.chain([proposal::encode(groups.iter().take(3)).to_vec(), proposal::encode([&raw].into_iter()).to_vec()])
        .collect()
}
