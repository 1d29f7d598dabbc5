//! The types that openraft is used with.
//!
//! The log id is the classic one (term and index) without the leader's identity: it is smaller, and what a frame
//! holds. The runtime always takes its randomness from a seed, so that the simulated node runs the same code as the
//! real one.

use std::fmt;

use bytes::Bytes;
use evener_core::{
    command::Outcome,
    id::{ContextId, Incarnation, LogIndex, Term},
};
use openraft::{impls::leader_id_std, type_config::alias};

/// The types of openraft's instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Types;

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
    // The default one also signals the commit, which has no receiver here. The macro cannot express this.
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

/// Tokio, with randomness that follows from a seed. Every task must be spawned inside [`seeded`].
pub(super) type Runtime = openraft_rt::deterministic_rng::DeterministicRng<openraft_rt_tokio::TokioRuntime>;

pub(super) type LogId = alias::LogIdOf<Types>;
pub(super) type Vote = alias::VoteOf<Types>;
pub(super) type Entry = alias::EntryOf<Types>;
pub(super) type Membership = openraft::Membership<u64, RaftMember>;
pub(super) type StoredMembership = alias::StoredMembershipOf<Types>;

/// Runs `work` with randomness from `seed`.
pub(super) async fn seeded<F: Future>(seed: u64, work: F) -> F::Output {
    Runtime::scope(seed, work).await
}

/// Returns a log position as openraft's type.
pub(super) fn log_id(term: Term, index: LogIndex) -> LogId {
    LogId { leader_id: term.0.into(), index: index.0 }
}

/// The payload of an entry: commands, encoded once at their origin.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Payload {
    /// The context of its appends.
    pub context: ContextId,
    /// The number of its events.
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

/// A member's entry in the Raft group: what is needed to reach it and to verify its identity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RaftMember {
    /// The member's name.
    pub name: String,
    /// Its address for peers.
    pub peer: String,
    /// Its address for clients.
    pub http: String,
    /// The incarnation of its data directory.
    pub incarnation: Incarnation,
}
