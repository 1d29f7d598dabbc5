//! Many nodes, one log.
//!
//! Read in this order: the mouths (`transport`) and what goes over them (`message`, `handshake`, `link`, `links`);
//! consensus (`raft`, the only folder that knows openraft); what is applied, where a start begins and under whose
//! time (`view`, `recovery`, `log_clock`); how commands get into the log (`proposal`, `proposer`); how a node becomes
//! a member (`join`, `gate`), keeps its session (`session_task`, `sessions`), and what only the leader does
//! (`leader_duties`, `leadership`, `membership`). A [`Cluster`] is all of it together, for one node; `start` makes it.

pub mod config;
pub mod error;
pub mod status;

pub mod transport;

pub mod message;

pub mod handshake;

pub mod link;

#[cfg(any(test, feature = "testing"))]
pub mod sim_wire;

mod links;
mod messages;
mod peer_service;

mod raft;

mod recovery;
mod searches;
mod view;

mod clock_watch;
mod log_clock;

mod proposal;
mod proposer;
mod pulse;
mod pulse_task;

mod disk_reserve;
mod disk_task;

mod dice;
mod gate;
mod join;

mod session_task;
mod sessions;

mod leader_duties;
mod leadership;
mod leadership_task;
mod membership;

mod peer_events;

mod start;

mod cluster;

#[cfg(any(test, feature = "testing"))]
pub mod fuzz;

pub use self::{
    cluster::Cluster,
    config::Config,
    disk_reserve::{DiskRoom, REFUSAL as DISK_RESERVE_REFUSAL},
    error::{Class, Error, StartError},
    leadership::Leadership,
    raft::Role,
    searches::Turn,
    status::{Status, Voteless},
    view::Applied,
};
