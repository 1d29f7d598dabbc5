//! Raft, by openraft: the only folder that knows it. Nothing of it reaches disk, wire or the rest of the crate.

mod engine;
mod layout;
mod log;
mod machine;
mod memory;
mod network;
mod types;

#[cfg(any(test, feature = "testing"))]
pub mod fuzz;

pub use self::{
    engine::{Engine, News, Role, Standing, WriteError},
    layout::check_membership,
    network::{Answers, Call, Lane, Peers},
    types::{Payload, Seat},
};

#[cfg(test)]
mod suite_tests;
