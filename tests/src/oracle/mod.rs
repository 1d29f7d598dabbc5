//! What must be true of any run, whoever made it: one file per promise. An oracle is given what clients saw, what
//! handlers saw and what the nodes hold at the end, and names each thing that breaks the promise.

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

/// An event as a node gave it out at the end of the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEvent {
    /// Where it stands.
    pub position: Position,
    /// Its number within its stream.
    pub revision: Option<Revision>,
    /// What was stored.
    pub event: Event,
}

/// A promise that did not hold, and what shows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    /// `P1` to `P10`.
    pub promise: &'static str,
    /// Which event, call or segment, and how.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is broken: {}", self.promise, self.what)
    }
}

/// Everything that the promises on appends and reads say of a run.
#[must_use]
pub fn check_appends_and_reads(history: &History, log: &[LogEvent]) -> Vec<Violation> {
    let mut violations = durable::check(history, log);
    violations.extend(ordered::check(history, log));
    violations.extend(idempotent::check(history, log));
    violations
}
