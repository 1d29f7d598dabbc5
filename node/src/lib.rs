//! Evener: an event store and event processor in one.

// `#[derive(Event)]` names this crate, also from within.
extern crate self as evener;

pub mod prelude;

pub mod event;
pub mod node;

pub mod actors;
pub mod exec;
pub mod handler;
pub mod threads;

mod doubt;
mod log_writer;
mod logs;
mod open_files;
mod printable;
mod pulse;
mod words;

pub mod cloudevent;

pub mod codes;
pub mod engine;
pub mod error;
pub mod wire;

pub mod bench;
pub mod demo;
pub mod rig;

pub mod settings;
pub mod status;

pub use evener_core::{
    criteria::{Criteria, Criterion},
    event::Event as RawEvent,
    id::{Epoch, Position, Revision, SegmentId},
    processor::{OnError, Start},
    sequence::Sequencing,
};
pub use evener_derive::Event;
pub use handler::{
    Attempt, Claim, Error, Event, Every, FromDelivery, Meta, Outcome, Processor, Raw, Replaying, Result, State,
};
pub use node::Node;

pub mod http;
pub mod metrics;

pub mod client;

pub mod cli;

#[cfg(any(test, feature = "testing"))]
#[doc(hidden)]
pub mod fuzz;
