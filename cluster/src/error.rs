//! Errors, classified by what the caller can do about them.

use std::time::Duration;

use evener_core::{append::Refusal, command::RefusalReason, id::NodeId};

use crate::leadership::NoDecision;

/// The shortest delay before a request to a leader without a majority is retried,
const RETRY_AFTER_MIN: Duration = Duration::from_secs(1);
/// and the longest one, however long the majority has been missing.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);
/// The hint for errors about a missing majority.
const HINT: &str = "start or reconnect those that are missing: `evener cluster status` shows them";

/// What the caller should do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Class {
    /// Change the request: it is invalid, or exceeds a limit.
    Invalid,
    /// Read the current state and decide again: it differs from what the request expects.
    Conflict,
    /// The request is not possible now or on this node; nothing was changed.
    Refused,
    /// The outcome is unknown. Retry with the same ids.
    Unknown,
    /// Too many requests; nothing was changed. Retry later.
    Overloaded,
}

/// A reason that callers distinguish from others of its class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorReason {
    /// There is no leader, or one without a majority.
    NoLeader,
    /// The disk reserve of a node is reached.
    DiskReserve,
}

/// Why a request to the cluster failed, or why its outcome is unknown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What the caller should do.
    pub class: Class,
    /// The reason, if callers distinguish it.
    pub reason: Option<ErrorReason>,
    /// What failed, on what, why, and what to do next.
    pub message: String,
    /// The delay before a retry.
    pub retry_after: Option<Duration>,
    /// The leader, if that helps the caller.
    pub leader: Option<NodeId>,
    /// Why an append was refused, in detail.
    pub refusal: Option<Box<Refusal>>,
    /// Why another command was refused, in detail.
    pub why: Option<Box<RefusalReason>>,
}

impl Error {
    /// Returns an error of this class.
    pub fn new(class: Class, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { class, reason: None, message, retry_after: None, leader: None, refusal: None, why: None }
    }

    /// Sets the reason.
    #[must_use]
    pub(crate) fn reason(mut self, reason: ErrorReason) -> Self {
        self.reason = Some(reason);
        self
    }

    /// Sets the delay before a retry.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Returns the error for a full queue of this node.
    #[must_use]
    pub fn overloaded(limit: &str, max: usize) -> Self {
        let message = format!("this node has reached {limit} = {max}; retry later");
        Self::new(Class::Overloaded, message).retry_after(Duration::from_millis(100))
    }

    /// Returns the error for a request that no leader could be reached for; nothing was sent.
    #[must_use]
    pub fn no_leader(tried: Duration) -> Self {
        let message = format!(
            "no leader could be reached within {tried:?}: less than a majority of the voters is up or reachable; \
             nothing was written; see `evener cluster status`"
        );
        Self::new(Class::Overloaded, message).reason(ErrorReason::NoLeader).retry_after(Duration::from_secs(1))
    }

    /// Returns the error for a request that was not started because there is no majority or no leader.
    #[must_use]
    pub fn no_majority(no_decision: &NoDecision) -> Self {
        let lasted = no_decision.since.elapsed();
        let message = format!("{}; nothing was done; {HINT}", no_decision.describe());
        // A majority that has been missing for long is unlikely to return soon.
        Self::new(Class::Overloaded, message)
            .reason(ErrorReason::NoLeader)
            .retry_after(lasted.clamp(RETRY_AFTER_MIN, RETRY_AFTER_MAX))
    }

    /// Returns the error for a request that was sent and not answered.
    #[must_use]
    pub fn unknown(why: impl std::fmt::Display) -> Self {
        let message = format!("the outcome is unknown: {why}; retry with the same ids");
        Self::new(Class::Unknown, message).retry_after(Duration::from_millis(500))
    }

    /// Returns the error for a request to a node that has stopped.
    #[must_use]
    pub fn stopped(why: &str) -> Self {
        Self::new(Class::Refused, format!("this node has stopped: {why}; ask another node"))
    }
}

/// Refusals are values and are described for users by the embedding program; the message here is for logs.
impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        let class = match &refusal {
            Refusal::Conflict { .. } | Refusal::Revision { .. } | Refusal::Duplicate { .. } => Class::Conflict,
            Refusal::Retry => Class::Overloaded,
            Refusal::Limit(_) | Refusal::SameIdTwice(_) | Refusal::NoType(_) | Refusal::Ahead { .. } => Class::Invalid,
        };
        let message = format!("the append was refused: {refusal:?}");
        Self { refusal: Some(Box::new(refusal)), ..Self::new(class, message) }
    }
}

impl From<RefusalReason> for Error {
    fn from(why: RefusalReason) -> Self {
        let class = match &why {
            RefusalReason::Fenced | RefusalReason::Outdated => Class::Refused,
            RefusalReason::NotFound(_) | RefusalReason::Invalid(_) | RefusalReason::Unreadable(_) => Class::Invalid,
            RefusalReason::Exists(_) => Class::Conflict,
            RefusalReason::Limit(_) => Class::Overloaded,
        };
        let message = format!("the log refused the command: {why:?}");
        Self { why: Some(Box::new(why)), ..Self::new(class, message) }
    }
}

/// Why a start was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum StartRefusal {
    /// The node's directory, or the cluster at the given address, belongs to another cluster.
    OtherCluster,
    /// The directory belongs to a node with another name.
    OtherName,
    /// A member with this name has another directory: this one was emptied, or the name is taken.
    EmptiedDirectory,
    /// A cluster answers at an address given together with `bootstrap`.
    ClusterAnswers,
    /// The directory is empty, and the configuration neither founds nor joins a cluster.
    NoCluster,
    /// The node was removed from the cluster.
    Removed,
    /// Another error in the configuration.
    InvalidConfig,
}

/// Why a node does not start. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory cannot be opened.
    #[error(transparent)]
    Open(#[from] evener_store::error::OpenError),
    /// The listen address cannot be bound, or peers cannot be reached.
    #[error("{0}")]
    Network(String),
    /// The configuration contradicts the directory or the cluster.
    #[error("{message}")]
    Refused {
        /// The kind of contradiction.
        reason: StartRefusal,
        /// The description, with a hint what to do.
        message: String,
    },
    /// The node is no longer a member.
    #[error("{0}")]
    Removed(String),
    /// The disk, Raft or another component failed.
    #[error("{0}")]
    Failed(String),
}
