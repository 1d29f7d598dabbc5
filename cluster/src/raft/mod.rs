//! Raft, by openraft: the only folder that depends on it. None of its types reach disk, wire or the rest of the
//! crate.

mod acknowledged;
mod consensus;
mod layout;
mod log;
mod machine;
mod network;
mod types;

#[cfg(any(test, feature = "testing"))]
pub(crate) mod fuzz;

pub use self::consensus::Role;
pub(crate) use self::{
    consensus::{Consensus, LeaderChanges, RaftStatus, WriteError},
    layout::check_membership,
    network::{Answers, Call, ConnectionClass, Peers},
    types::{Payload, RaftMember},
};

#[cfg(test)]
mod suite_tests;
