//! The delivery of one event to a handler, and the handler's verdict.

use std::{sync::Arc, time::Duration};

use evener_core::{
    id::{Epoch, SegmentId},
    replay::ReplayPhase,
};
use futures::future::BoxFuture;

use super::{Reset, Result, SequenceGuard};
use crate::event::Stored;

/// The maximum bytes of a stored cause; longer ones are truncated. The replicated state may hold thousands of causes.
pub const CAUSE_BYTES_MAX: usize = 1_024;

/// The delivery of one event to a handler.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The processor that handles the event.
    pub processor: Arc<str>,
    /// The segment that the event belongs to.
    pub segment: SegmentId,
    /// The hash bits that select the segment.
    pub mask: u32,
    /// The epoch of the claim on the segment: the fencing token.
    pub epoch: Epoch,
    /// Whether another node owns the segment and has lent the sequence to this node for one attempt.
    pub lent: bool,
    /// The number of the attempt at this event, from 1.
    pub attempt: u32,
    /// Whether the event's sequence is set aside: it is retried independently of its segment.
    pub is_set_aside: bool,
    /// Whether the processor had passed the event before a reset.
    pub replaying: bool,
    /// The context that was given with the reset, as JSON, if the event is a replay and one was given.
    pub replay_context: Option<Arc<str>>,
    /// The event with its position in the log.
    pub stored: Arc<Stored>,
    /// The sequence's lock, held while the event is handled.
    pub(crate) guard: SequenceGuard,
}

/// The outcome of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The event was handled.
    Handled,
    /// The handler failed; the event is retried.
    Retry {
        /// Why it failed.
        cause: String,
        /// The delay before the next attempt, if it differs from the processor's schedule.
        after: Option<Duration>,
    },
    /// The handler failed and a retry will not help: the sequence waits for an operator.
    SetAside {
        /// Why it failed.
        cause: String,
    },
    /// The handler failed; the event is skipped.
    Skip {
        /// Why it failed.
        cause: String,
    },
    /// The handler could not be run. The event is not at fault; its segment waits with it.
    Unable {
        /// Why the handler could not be run.
        cause: String,
    },
}

impl Verdict {
    pub(crate) fn retry(because: impl Into<String>) -> Self {
        Self::Retry { cause: cause(because.into()), after: None }
    }

    pub(crate) fn unable(because: impl Into<String>) -> Self {
        Self::Unable { cause: cause(because.into()) }
    }
}

/// Handles the events of one processor on this node: functions, or programs.
pub trait Runner: Send + Sync + 'static {
    /// Handles one event. Dropping the future cancels it; a cancelled handler must not leave partial work that breaks a
    /// later delivery.
    fn run(&self, delivery: Delivery) -> BoxFuture<'static, Verdict>;

    /// Runs the hook that ends this phase of a replay, if the processor has one. Dropping the future cancels it.
    fn run_hook(&self, _phase: ReplayPhase, _reset: Reset) -> BoxFuture<'static, Result> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Releases the resources of a segment that is no longer handled on this node.
    fn close(&self, _segment: SegmentId) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// Returns the cause to store: truncated, and with a placeholder if it is blank.
pub(crate) fn cause(mut text: String) -> String {
    if text.trim().is_empty() {
        return "the handler gave no reason".to_owned();
    }
    if text.len() > CAUSE_BYTES_MAX {
        text.truncate(text.floor_char_boundary(CAUSE_BYTES_MAX - '…'.len_utf8()));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blank_cause_says_that_no_reason_was_given() {
        for blank in ["", " ", "\n", "\t \r\n"] {
            assert_eq!(cause(blank.into()), "the handler gave no reason", "{blank:?}");
            assert_eq!(Verdict::retry(blank), Verdict::retry("the handler gave no reason"));
        }
        assert_eq!(cause(" x\n".into()), " x\n");
    }

    #[test]
    fn a_long_cause_is_cut_between_letters() {
        assert_eq!(cause("short".into()), "short");
        let cut = cause("ü".repeat(CAUSE_BYTES_MAX));
        assert!(cut.len() <= CAUSE_BYTES_MAX && cut.len() > CAUSE_BYTES_MAX - 4 && cut.ends_with("ü…"));
    }
}
