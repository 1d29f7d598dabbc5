//! The messages of a coordinator, which its workers and the progress sender answer.

use std::sync::Arc;

use evener_core::{command::Stale, coordinator::Input};
use tokio::sync::OwnedSemaphorePermit;

use crate::event::Stored;

/// What a coordinator is told.
pub(super) enum CoordinatorMessage {
    /// The log or the session moved: look. The permit is the credit of whoever says so.
    Refresh(OwnedSemaphorePermit),
    /// What was told was judged, or not.
    ProgressJudged(SendResult),
    /// What was not judged is told again.
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
