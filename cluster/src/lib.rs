//! Many nodes, one log.
//!
//! Read in this order; each module needs only what stands above it. What replaces the world in tests and what a node
//! is told (`transport`, `config`); how two nodes talk (`message`, `handshake`, `link`); what is applied and where a
//! start begins (`view`, `recovery`, `log_clock`); consensus (`raft`, the only folder that knows openraft); what a
//! node knows of leadership, members, sessions, disks and the others (`leadership` to `heartbeat`); its connections to
//! them (`links`); how commands get into the log (`proposal`, `proposer`). A [`Cluster`] is all of it together, for
//! one node. On it stand what it does for its peers (`peer_service`), how it becomes a member (`join`), the tasks that
//! run as long as it does (`session_task` to `clock_watch`), and `start`, which starts them.

pub mod transport;

#[cfg(any(test, feature = "testing"))]
pub mod sim_wire;

pub mod config;
mod unique_id;

pub mod message;

pub mod handshake;

pub mod link;

mod view;

mod admission;
mod log_clock;
mod recovery;

mod raft;

mod leadership;
mod membership;

pub mod error;
mod messages;
mod searches;
mod sessions;

mod disk_reserve;
mod heartbeat;
pub mod status;

mod links;

mod proposal;
mod proposer;

mod cluster;

mod join;
mod peer_service;

mod disk_task;
mod heartbeat_task;
mod leader_duties;
mod leadership_task;
mod peer_events;
mod session_task;

mod clock_watch;

mod start;

#[cfg(any(test, feature = "testing"))]
pub mod fuzz;

pub use self::{
    cluster::{Cluster, StatusProvider},
    config::Config,
    disk_reserve::{DiskStatus, REFUSAL as DISK_RESERVE_REFUSAL},
    error::{Class, Error, StartError},
    leadership::Leadership,
    raft::Role,
    searches::SearchPhase,
    status::{NonVoterReason, Status},
    view::Applied,
};
