//! Oracles: the checks that every run must pass, one file per promise. An oracle receives the observations of clients
//! and handlers and the contents of the nodes at the end, and returns every violation of its promise.

use std::fmt;

use evener_core::{
    event::Event,
    id::{Position, Revision},
};

pub mod balanced;
pub mod durable;
pub mod handled;
pub mod history;
pub mod idempotent;
pub mod ordered;
pub mod owner;
pub mod replicas;

#[cfg(test)]
pub(crate) mod samples;

pub use history::{Answer, Call, Handling, History, Read};

/// An event as read from a node at the end of the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEvent {
    /// Its position.
    pub position: Position,
    /// Its revision in its stream.
    pub revision: Option<Revision>,
    /// The stored event.
    pub event: Event,
}

/// A violation of a promise.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    /// The promise: `P1` to `P10`, or `liveness`.
    pub promise: &'static str,
    /// The event, call or segment, and how the promise is broken.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is broken: {}", self.promise, self.what)
    }
}

/// Checks the promises on appends and reads.
#[must_use]
pub fn check_appends_and_reads(history: &History, log: &[LogEvent]) -> Vec<Violation> {
    let mut violations = durable::check(history, log);
    violations.extend(ordered::check(history, log));
    violations.extend(idempotent::check(history, log));
    violations
}
