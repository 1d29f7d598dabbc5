//! The messages of a coordinator, which its workers and the progress sender answer.

use std::sync::Arc;

use evener_core::{command::Stale, coordinator::Input};
use tokio::sync::OwnedSemaphorePermit;

use crate::event::Stored;

/// A message to a coordinator.
pub(super) enum CoordinatorMessage {
    /// The applied state or the session has changed. The permit is the sender's credit.
    Refresh(OwnedSemaphorePermit),
    /// The log's judgement of sent progress, or an error.
    ProgressJudged(SendResult),
    /// Send the progress without a judgement again.
    RetrySend,
    /// An input of the machine.
    Input(Input<Arc<Stored>>),
}

/// Why progress was not stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SendError {
    /// The outcome is unknown; it is sent again.
    Unknown,
    /// The log refuses it for this reason.
    Refused(String),
}

/// The result of sending progress: the stale parts.
pub(super) type SendResult = Result<Vec<Stale>, SendError>;
