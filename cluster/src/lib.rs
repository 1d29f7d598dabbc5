//! A cluster of nodes with one replicated log.
//!
//! Read the modules in this order; each depends only on those before it. The interfaces to the outside and the
//! configuration (`transport`, `config`); communication between two nodes (`message`, `handshake`, `link`); the applied
//! state and its recovery (`view`, `recovery`, `log_clock`); consensus (`raft`, the only module that uses openraft);
//! what a node knows about leadership, members, sessions, disks and the other nodes (`leadership` to `heartbeat`); its
//! connections to them (`links`); proposals (`proposal`, `proposer`). A [`Cluster`] combines all of these for one node.
//! On top of it: the services for peers (`peer_service`), becoming a member (`join`), the tasks that run until the node
//! stops (`session_task` to `clock_watch`), and `start`, which starts them.

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
    disk_reserve::DiskStatus,
    error::{Class, Error, ErrorReason, StartError},
    leadership::Leadership,
    raft::Role,
    searches::SearchPhase,
    status::{NonVoterReason, Status},
    view::Applied,
};
