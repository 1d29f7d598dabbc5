//! The encoding of votes, log positions, memberships and Raft's messages: a layout of our own, byte by byte, so that
//! no type of openraft reaches disk or wire. Golden tests check it.
//!
//! Numbers are little-endian; `?x` is a byte 0, or a byte 1 and `x`; `text` is a u16 length and UTF-8.
//!
//! ```text
//! vote        version u8 = 1 · term u64 · node u64 · committed u8
//! place       term u64 · index u64
//! membership  version u8 = 1 · configs u8 · each: voters u16 · each: node u64
//!             · members u16 · each: node u64 · name text · peer text · http text · incarnation 16 bytes
//! entry       term u64 · index u64 · kind u8 (0 blank, 1 membership, 2 commands) · context u32 · count u32
//!             · length u32 · payload
//! append      vote · ?previous place · ?committed place · entries u32 · each: entry
//! appended    0 · ?matched place | 1 · conflict place | 2 · higher vote
//! ballot      vote · ?last place · transfer u8
//! balloted    vote · granted u8 · ?last place
//! transfer    vote · to u64 · ?last place
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use evener_core::id::{ContextId, Incarnation};
use openraft::{
    EntryPayload,
    entry::RaftEntry,
    raft::{AppendEntriesRequest, StreamAppendError, TransferLeaderRequest, VoteRequest, VoteResponse},
};
use uuid::Uuid;

use super::types::{Entry, LogId, Membership, Payload, RaftMember, Types, Vote};

const VERSION: u8 = 1;

/// The bytes do not have the documented layout.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to read a {what}: {why}")]
pub(super) struct Malformed {
    what: &'static str,
    why: &'static str,
}

type Result<T> = std::result::Result<T, Malformed>;

/// Checks that the membership in a checkpoint can be decoded; there is none before the first membership.
pub(crate) fn check_membership(bytes: &[u8]) -> io::Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    Membership::from_bytes(Bytes::copy_from_slice(bytes)).map(drop).map_err(io::Error::other)
}

/// A follower's answer to an append request.
pub(super) type Appended = std::result::Result<Option<LogId>, StreamAppendError<Types>>;

/// A Raft type with a layout of our own.
pub(super) trait Layout: Sized {
    /// The type's name in errors.
    const WHAT: &'static str;
    /// Appends the encoded value.
    fn put(&self, to: &mut BytesMut);
    /// Decodes a value.
    fn take(from: &mut Reader) -> Result<Self>;

    /// Returns the encoded value.
    fn to_bytes(&self) -> Bytes {
        let mut to = BytesMut::new();
        self.put(&mut to);
        to.freeze()
    }

    /// Decodes a value that takes all of `bytes`.
    fn from_bytes(bytes: Bytes) -> Result<Self> {
        let mut from = Reader { bytes, what: Self::WHAT };
        let read = Self::take(&mut from)?;
        if from.bytes.is_empty() { Ok(read) } else { Err(from.error("there are more bytes after it")) }
    }
}

/// Reads from the front, and never past the end.
pub(super) struct Reader {
    bytes: Bytes,
    what: &'static str,
}

impl Reader {
    fn error(&self, why: &'static str) -> Malformed {
        Malformed { what: self.what, why }
    }

    fn cut(&mut self, len: usize) -> Result<Bytes> {
        if self.bytes.len() < len {
            return Err(self.error("it is truncated"));
        }
        Ok(self.bytes.split_to(len))
    }

    fn u8(&mut self) -> Result<u8> {
        Ok(self.cut(1)?.get_u8())
    }

    fn u16(&mut self) -> Result<u16> {
        Ok(self.cut(2)?.get_u16_le())
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(self.cut(4)?.get_u32_le())
    }

    fn u64(&mut self) -> Result<u64> {
        Ok(self.cut(8)?.get_u64_le())
    }

    fn flag(&mut self) -> Result<bool> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.error("a flag is neither 0 nor 1")),
        }
    }

    fn text(&mut self) -> Result<String> {
        let len = self.u16()?;
        let bytes = self.cut(usize::from(len))?;
        String::from_utf8(bytes.into()).map_err(|_| self.error("a text is not UTF-8"))
    }

    fn version(&mut self) -> Result<()> {
        if self.u8()? == VERSION { Ok(()) } else { Err(self.error("its version is unknown to this build")) }
    }

    fn maybe<T: Layout>(&mut self) -> Result<Option<T>> {
        if self.flag()? { T::take(self).map(Some) } else { Ok(None) }
    }
}

fn put_maybe<T: Layout>(value: Option<&T>, to: &mut BytesMut) {
    to.put_u8(u8::from(value.is_some()));
    if let Some(value) = value {
        value.put(to);
    }
}

fn put_text(text: &str, to: &mut BytesMut) {
    // Names and addresses are limited to 512 bytes at their entry points.
    let text = &text[..text.floor_char_boundary(usize::from(u16::MAX))];
    to.put_u16_le(text.len() as u16);
    to.put_slice(text.as_bytes());
}

impl Layout for Vote {
    const WHAT: &'static str = "vote";

    fn put(&self, to: &mut BytesMut) {
        to.put_u8(VERSION);
        to.put_u64_le(self.leader_id.term);
        to.put_u64_le(self.leader_id.voted_for);
        to.put_u8(u8::from(self.committed));
    }

    fn take(from: &mut Reader) -> Result<Self> {
        from.version()?;
        let (term, node) = (from.u64()?, from.u64()?);
        Ok(if from.flag()? { Self::new_committed(term, node) } else { Self::new(term, node) })
    }
}

impl Layout for LogId {
    const WHAT: &'static str = "place";

    fn put(&self, to: &mut BytesMut) {
        to.put_u64_le(self.leader_id.term);
        to.put_u64_le(self.index);
    }

    fn take(from: &mut Reader) -> Result<Self> {
        Ok(Self { leader_id: from.u64()?.into(), index: from.u64()? })
    }
}

impl Layout for RaftMember {
    const WHAT: &'static str = "member";

    fn put(&self, to: &mut BytesMut) {
        put_text(&self.name, to);
        put_text(&self.peer, to);
        put_text(&self.http, to);
        to.put_slice(self.incarnation.0.as_bytes());
    }

    fn take(from: &mut Reader) -> Result<Self> {
        let (name, peer, http) = (from.text()?, from.text()?, from.text()?);
        let incarnation = from.cut(16)?;
        let incarnation = Uuid::from_slice(&incarnation).expect("16 bytes were cut");
        Ok(Self { name, peer, http, incarnation: Incarnation(incarnation) })
    }
}

impl Layout for Membership {
    const WHAT: &'static str = "membership";

    fn put(&self, to: &mut BytesMut) {
        to.put_u8(VERSION);
        let configs = self.get_joint_config();
        to.put_u8(configs.len() as u8);
        for config in configs {
            to.put_u16_le(config.len() as u16);
            config.iter().for_each(|node| to.put_u64_le(*node));
        }
        to.put_u16_le(self.nodes().count() as u16);
        for (node, raft_member) in self.nodes() {
            to.put_u64_le(*node);
            raft_member.put(to);
        }
    }

    fn take(from: &mut Reader) -> Result<Self> {
        from.version()?;
        let mut configs = Vec::new();
        for _ in 0..from.u8()? {
            let voters = from.u16()?;
            configs.push((0..voters).map(|_| from.u64()).collect::<Result<BTreeSet<_>>>()?);
        }
        let raft_members = from.u16()?;
        let raft_members = (0..raft_members)
            .map(|_| Ok((from.u64()?, RaftMember::take(from)?)))
            .collect::<Result<BTreeMap<u64, RaftMember>>>()?;
        if configs.is_empty() && raft_members.is_empty() {
            return Ok(Self::default());
        }
        Self::new(configs, raft_members).map_err(|_| from.error("a voter is not a member, or there is no voter"))
    }
}

/// The numbers of entry kinds in frames and messages.
mod kind {
    pub(super) const BLANK: u8 = 0;
    pub(super) const MEMBERSHIP: u8 = 1;
    pub(super) const COMMANDS: u8 = 2;
}

impl Layout for Entry {
    const WHAT: &'static str = "entry";

    fn put(&self, to: &mut BytesMut) {
        let id = self.log_id();
        id.put(to);
        let (kind, context, count, payload) = match &self.payload {
            EntryPayload::Blank => (kind::BLANK, 0, 0, Bytes::new()),
            EntryPayload::Membership(membership) => (kind::MEMBERSHIP, 0, 0, membership.to_bytes()),
            EntryPayload::Normal(payload) => (kind::COMMANDS, payload.context.0, payload.count, payload.bytes.clone()),
        };
        to.put_u8(kind);
        to.put_u32_le(context);
        to.put_u32_le(count);
        to.put_u32_le(payload.len() as u32);
        to.put_slice(&payload);
    }

    fn take(from: &mut Reader) -> Result<Self> {
        let id = LogId::take(from)?;
        let kind = from.u8()?;
        let (context, count) = (ContextId(from.u32()?), from.u32()?);
        let len = from.u32()?;
        let bytes = from.cut(len as usize)?;
        let payload = match kind {
            kind::BLANK => EntryPayload::Blank,
            kind::MEMBERSHIP => EntryPayload::Membership(Membership::from_bytes(bytes)?),
            kind::COMMANDS => EntryPayload::Normal(Payload { context, count, bytes }),
            _ => return Err(from.error("its kind is unknown to this build")),
        };
        Ok(Self::new(id, payload))
    }
}

impl Layout for AppendEntriesRequest<Types> {
    const WHAT: &'static str = "request to append entries";

    fn put(&self, to: &mut BytesMut) {
        self.vote.put(to);
        put_maybe(self.prev_log_id.as_ref(), to);
        put_maybe(self.leader_commit.as_ref(), to);
        to.put_u32_le(self.entries.len() as u32);
        self.entries.iter().for_each(|entry| entry.put(to));
    }

    fn take(from: &mut Reader) -> Result<Self> {
        let vote = Vote::take(from)?;
        let (prev_log_id, leader_commit) = (from.maybe()?, from.maybe()?);
        let entries = from.u32()?;
        // No memory is taken because of an unverified count: each entry is read before the next is expected.
        let entries = (0..entries).map(|_| Entry::take(from)).collect::<Result<Vec<_>>>()?;
        Ok(Self { vote, prev_log_id, entries, leader_commit })
    }
}

impl Layout for Appended {
    const WHAT: &'static str = "answer to entries";

    fn put(&self, to: &mut BytesMut) {
        match self {
            Ok(matched) => {
                to.put_u8(0);
                put_maybe(matched.as_ref(), to);
            }
            Err(StreamAppendError::Conflict(place)) => {
                to.put_u8(1);
                place.put(to);
            }
            Err(StreamAppendError::HigherVote(vote)) => {
                to.put_u8(2);
                vote.put(to);
            }
        }
    }

    fn take(from: &mut Reader) -> Result<Self> {
        match from.u8()? {
            0 => Ok(Ok(from.maybe()?)),
            1 => Ok(Err(StreamAppendError::Conflict(LogId::take(from)?))),
            2 => Ok(Err(StreamAppendError::HigherVote(Vote::take(from)?))),
            _ => Err(from.error("its kind is unknown to this build")),
        }
    }
}

impl Layout for VoteRequest<Types> {
    const WHAT: &'static str = "request for a vote";

    fn put(&self, to: &mut BytesMut) {
        self.vote.put(to);
        put_maybe(self.last_log_id.as_ref(), to);
        to.put_u8(u8::from(self.leadership_transfer));
    }

    fn take(from: &mut Reader) -> Result<Self> {
        let mut request = Self::new(Vote::take(from)?, from.maybe()?);
        request.leadership_transfer = from.flag()?;
        Ok(request)
    }
}

impl Layout for VoteResponse<Types> {
    const WHAT: &'static str = "answer to a request for a vote";

    fn put(&self, to: &mut BytesMut) {
        self.vote.put(to);
        to.put_u8(u8::from(self.vote_granted));
        put_maybe(self.last_log_id.as_ref(), to);
    }

    fn take(from: &mut Reader) -> Result<Self> {
        let (vote, granted) = (Vote::take(from)?, from.flag()?);
        Ok(Self::new(vote, from.maybe()?, granted))
    }
}

impl Layout for TransferLeaderRequest<Types> {
    const WHAT: &'static str = "transfer of leadership";

    fn put(&self, to: &mut BytesMut) {
        self.from_leader().put(to);
        to.put_u64_le(*self.to_node_id());
        put_maybe(self.last_log_id(), to);
    }

    fn take(from: &mut Reader) -> Result<Self> {
        Ok(Self::new(Vote::take(from)?, from.u64()?, from.maybe()?))
    }
}

#[cfg(test)]
mod tests;
