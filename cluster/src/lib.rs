//! Many nodes, one log.

pub mod transport;

pub mod message;

pub mod handshake;

pub mod link;
