//! One event on its way to whoever handles it, and what they make of it.

use std::{sync::Arc, time::Duration};

use evener_core::id::{Epoch, SegmentId};
use futures::future::BoxFuture;

use super::Turn;
use crate::event::Stored;

/// Bytes of a cause that are kept: enough for a sentence and what it was about, a thousand times over in the
/// replicated state.
pub const CAUSE_BYTES_MAX: usize = 1_024;

/// One event on its way to a handler.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Whose event it is.
    pub processor: Arc<str>,
    /// In which segment.
    pub segment: SegmentId,
    /// Which bits of a hash that segment looks at.
    pub mask: u32,
    /// Of the claim on the segment: the fence.
    pub epoch: Epoch,
    /// The claim is another node's, which has lent this one a try of the sequence.
    pub lent: bool,
    /// Which attempt at this event, from 1.
    pub attempt: u32,
    /// Its sequence is set aside: it is tried beside what its segment does.
    pub is_set_aside: bool,
    /// It was handled before a reset.
    pub replaying: bool,
    /// The event, at its place in the log.
    pub stored: Arc<Stored>,
    /// Held while it is handled.
    pub(crate) turn: Turn,
}

/// What became of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The event is done.
    Handled,
    /// It failed, and is tried again.
    Retry {
        /// Why it failed.
        cause: String,
        /// The wait before the next try, if not the one of the processor's schedule.
        after: Option<Duration>,
    },
    /// It failed, and no further try will help: its sequence waits for a person.
    SetAside {
        /// Why it failed.
        cause: String,
    },
    /// It failed, and is passed over.
    Skip {
        /// Why it failed.
        cause: String,
    },
    /// Nobody could be asked: this says nothing of the event, with which the segment waits.
    Unable {
        /// Why nobody could be asked.
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
    /// Handles one event. Whoever drops the future gives up on it; it must leave nothing half done that a later
    /// delivery would trip over.
    fn run(&self, delivery: Delivery) -> BoxFuture<'static, Verdict>;

    /// The segment is at work here no longer.
    fn close(&self, _segment: SegmentId) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// Returns a cause as it is kept: cut, and never blank, as a blank one tells nobody that there was none.
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
