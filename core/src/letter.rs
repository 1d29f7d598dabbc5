//! Failed events: a sequence set aside, its letters, and the loan of one try to another node.

use alloc::{collections::VecDeque, string::String};
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    id::{ComponentId, Epoch, NodeId, Position},
    time::Timestamp,
};

/// A sequence of one component.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SequenceKey {
    /// The component whose policy named it.
    pub component: ComponentId,
    /// Its name: the event's key, stream, tag, as the policy says.
    pub name: String,
}

/// An event that waits in a sequence set aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Letter {
    /// The position of the event.
    pub position: Position,
    /// Its type.
    pub kind: String,
    /// How often it was tried.
    pub attempts: u32,
    /// Whether the event was a replay when its segment passed it.
    pub replaying: bool,
}

/// One failed try, as reported by the node that tried it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The number of the attempt, from 1.
    pub attempt: u32,
    /// The cause, as the handler describes it.
    pub cause: String,
    /// The wait before the next attempt, jitter included.
    pub wait_ms: u32,
    /// The random number for the jitter, in 1/65536, kept so that the schedule can be explained.
    pub random: u16,
    /// No further attempt is made automatically: this was the last one, or the handler returned *set aside*.
    pub last: bool,
}

impl Failure {
    /// Returns the wait before the next attempt.
    #[must_use]
    pub const fn wait(&self) -> Duration {
        Duration::from_millis(self.wait_ms as u64)
    }
}

/// What a sequence waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WaitsFor {
    /// Its first letter is tried again on its schedule.
    NextTry,
    /// It is *dead*: only an operator can retry, skip or drop it.
    Operator,
}

/// One try of a sequence, lent to another node. The claim does not move.
///
/// It has an epoch of its own, by which the log knows it. Its holder passes another epoch to handlers: that of the
/// segment's claim when the try begins, see [`claim`](crate::claim).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loan {
    /// The borrower.
    pub node: NodeId,
    /// The fence: no other loan, and no claim, has the same.
    pub epoch: Epoch,
}

/// A sequence set aside: its first letter failed, the others queue behind it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetAside {
    /// The letters in log order; the first one failed. Never empty.
    pub letters: VecDeque<Letter>,
    /// The cause of the first letter's latest failure.
    pub cause: String,
    /// When the log recorded that failure.
    pub recorded: Timestamp,
    /// The wait from `recorded` to the next attempt.
    pub wait_ms: u32,
    /// The random number for the jitter of that wait.
    pub random: u16,
    /// What it waits for.
    pub waits_for: WaitsFor,
    /// The loan of its next try, from the fourth attempt on.
    pub loan: Option<Loan>,
    /// Grows whenever the schedule is changed by anything but an attempt. The result of a try that began under an
    /// earlier revision is not counted.
    pub revision: u32,
}

impl SetAside {
    /// Returns when the next attempt is due, on the log's clock; `None` if it waits for an operator.
    #[must_use]
    pub fn due(&self) -> Option<Timestamp> {
        (self.waits_for == WaitsFor::NextTry)
            .then(|| self.recorded.after(Duration::from_millis(u64::from(self.wait_ms))))
    }

    /// Returns the letter that is tried next.
    #[must_use]
    pub fn first(&self) -> &Letter {
        self.letters.front().expect("a sequence set aside has at least one letter")
    }
}

/// Returns at most `max` bytes of a text, cut at a character's end.
#[must_use]
pub fn truncate(text: &str, max: u32) -> String {
    let mut end = text.len().min(max as usize);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].into()
}
