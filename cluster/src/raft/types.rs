//! Which types openraft works with here.
//!
//! The classic log id (term and index) and no identity of the leader in it: smaller, and what a frame holds.
//! The runtime is always the one whose dice come from a seed, so that the simulated node is the real one.

use std::fmt;

use bytes::Bytes;
use evener_core::{
    command::Outcome,
    id::{ContextId, Incarnation, LogIndex, Term},
};
use openraft::{impls::leader_id_std, type_config::alias};

/// One openraft instance's types.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Types;

impl openraft::RaftTypeConfig for Types {
    type D = Payload;
    type R = Vec<Outcome>;
    type NodeId = u64;
    type Node = RaftMember;
    type Term = u64;
    type LeaderId = leader_id_std::LeaderId<u64, u64>;
    type Vote = openraft::impls::Vote<Self::LeaderId>;
    type Payload = openraft::EntryPayload<Payload, u64, RaftMember>;
    type Entry = alias::DefaultEntryOf<Self>;
    // The default one also signals the commit, which nobody here waits for. The macro cannot say this.
    type Responder<T>
        = openraft::impls::OneshotResponder<Self, T>
    where
        T: Send + 'static;
    type Batch<T>
        = openraft::impls::InlineBatch<T>
    where
        T: Send + 'static;
    type AsyncRuntime = Runtime;
    type ErrorSource = openraft::impls::BoxedErrorSource;
}

/// Tokio, with dice that follow from a seed. Whatever spawns must stand inside [`seeded`].
pub type Runtime = openraft_rt::deterministic_rng::DeterministicRng<openraft_rt_tokio::TokioRuntime>;

pub type LogId = alias::LogIdOf<Types>;
pub type Vote = alias::VoteOf<Types>;
pub type Entry = alias::EntryOf<Types>;
pub type Membership = openraft::Membership<u64, RaftMember>;
pub type StoredMembership = alias::StoredMembershipOf<Types>;

/// Runs `work` with dice thrown from `seed`.
pub async fn seeded<F: Future>(seed: u64, work: F) -> F::Output {
    Runtime::scope(seed, work).await
}

/// A place in the log, as openraft names it.
pub fn log_id(term: Term, index: LogIndex) -> LogId {
    LogId { leader_id: term.0.into(), index: index.0 }
}

/// What an entry carries: commands, encoded once where they were gathered.
#[derive(Clone, PartialEq, Eq)]
pub struct Payload {
    /// Where its appends go.
    pub context: ContextId,
    /// How many events are in it.
    pub count: u32,
    /// The encoded `core::command::Entry`.
    pub bytes: Bytes,
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} events in {} bytes for context {}", self.count, self.bytes.len(), self.context)
    }
}

/// A member's seat in the Raft group: what one needs to find it, and to know that it is the one meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RaftMember {
    /// The member's name.
    pub name: String,
    /// Where peers reach it.
    pub peer: String,
    /// Where clients reach it.
    pub http: String,
    /// Its data directory's life.
    pub incarnation: Incarnation,
}
