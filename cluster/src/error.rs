//! What a caller can do about a failure: nothing else tells errors apart.

use std::time::Duration;

use evener_core::{append::Refusal, command::RefusalReason, id::NodeId};

use crate::leadership::NoDecision;

/// Before one asks again a leader that has no majority: at least so long,
const RETRY_AFTER_MIN: Duration = Duration::from_secs(1);
/// and no longer than this, however long it has lasted.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);
/// What helps where there is no majority.
const HINT: &str = "start or reconnect those that are missing: `evener cluster status` shows them";

/// What a caller should do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Class {
    /// Ask for something else: it makes no sense, or a limit forbids it.
    Invalid,
    /// Look again and decide: something else is true than was expected.
    Conflict,
    /// It may not be now, or not here; nothing happened.
    Refused,
    /// It may have happened. Ask again with the same ids.
    Unknown,
    /// It did not happen: too much at once. Ask again later.
    Overloaded,
}

/// Why something asked of the cluster was not done, or is not known to be done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What to do about it.
    pub class: Class,
    /// What was being done, to what, and what to do next.
    pub message: String,
    /// When to ask again.
    pub retry_after: Option<Duration>,
    /// Who leads, if that helps.
    pub leader: Option<NodeId>,
    /// Why an append was refused, in detail.
    pub refusal: Option<Box<Refusal>>,
    /// Why another command was refused, in detail.
    pub why: Option<Box<RefusalReason>>,
}

impl Error {
    /// An error of this class.
    pub fn new(class: Class, message: impl Into<String>) -> Self {
        Self { class, message: message.into(), retry_after: None, leader: None, refusal: None, why: None }
    }

    /// With a hint when to ask again.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// A queue of this node is full.
    #[must_use]
    pub fn overloaded(limit: &str, max: usize) -> Self {
        let message = format!("this node has as much under way as {limit} = {max} allows; ask again later");
        Self::new(Class::Overloaded, message).retry_after(Duration::from_millis(100))
    }

    /// Nobody leads, or nobody that leads could be reached, and nothing was sent to anybody.
    #[must_use]
    pub fn no_leader(tried: Duration) -> Self {
        let message = format!(
            "no leader could be reached within {tried:?}: less than a majority of the voters is up or reachable; \
             nothing was written; see `evener cluster status`"
        );
        Self::new(Class::Overloaded, message).retry_after(Duration::from_secs(1))
    }

    /// This node leads, and not enough of the others answer it. Nothing was done.
    #[must_use]
    pub fn no_majority(no_decision: &NoDecision) -> Self {
        let silence = no_decision.since.elapsed();
        let message = format!("{}; nothing was done; {HINT}", no_decision.describe());
        // What has lasted for long will hardly be over in a moment.
        Self::new(Class::Overloaded, message).retry_after(silence.clamp(RETRY_AFTER_MIN, RETRY_AFTER_MAX))
    }

    /// It was sent, and no answer came.
    #[must_use]
    pub fn unknown(why: impl std::fmt::Display) -> Self {
        let message = format!("it is not known whether it was written: {why}; ask again with the same ids");
        Self::new(Class::Unknown, message).retry_after(Duration::from_millis(500))
    }

    /// This node has stopped.
    #[must_use]
    pub fn stopped(why: &str) -> Self {
        Self::new(Class::Refused, format!("this node has stopped: {why}; ask another one"))
    }
}

/// What is refused is a value, and is put into words where it is shown; the message here is for logs.
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

/// What is wrong with how a node was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum StartRefusal {
    /// Its directory, or the cluster it asked, is another one than was meant.
    OtherCluster,
    /// Its directory is of the right cluster, and of a node with another name.
    OtherName,
    /// A member of its name has another directory: this one was emptied, or the name is taken.
    EmptiedDirectory,
    /// A cluster answers where one was to be founded.
    ClusterAnswers,
    /// Its directory is empty, and nobody said to found or to join.
    NoCluster,
    /// It is a member no more.
    Removed,
    /// Something else.
    InvalidConfig,
}

/// Why a node does not start. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its data cannot be read, or are not its own.
    #[error(transparent)]
    Open(#[from] evener_store::error::OpenError),
    /// Its address cannot be had, or its peers cannot be reached.
    #[error("{0}")]
    Network(String),
    /// What it was told contradicts what is.
    #[error("{message}")]
    Refused {
        /// What is wrong with it.
        reason: StartRefusal,
        /// In words, with the way out.
        message: String,
    },
    /// It was a member, and is none any more.
    #[error("{0}")]
    Removed(String),
    /// Something below failed.
    #[error("{0}")]
    Failed(String),
}
