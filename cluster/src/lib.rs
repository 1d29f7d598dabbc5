//! Many nodes, one log.

pub mod transport;

pub mod message;

pub mod handshake;

pub mod link;

#[cfg(any(test, feature = "testing"))]
pub mod sim_wire;
