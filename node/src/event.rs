//! An event as it stands in the log.

use evener_core::{
    event::Event,
    id::{Position, Revision},
    time::Timestamp,
};

/// An event with what its place in the log says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Where it stands in the one order of its context.
    pub position: Position,
    /// Its number within its stream; none if it has no stream.
    pub revision: Option<Revision>,
    /// When the log recorded it.
    pub recorded: Timestamp,
    /// What its producer told.
    pub event: Event,
}
