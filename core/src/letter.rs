//! What failed: a sequence set aside, its letters, and the loan of one try to another node.

use alloc::{collections::VecDeque, string::String};
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    id::{ComponentId, Epoch, NodeId, Position},
    time::Timestamp,
};

/// Which sequence, of which component.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SequenceKey {
    /// The component whose policy named it.
    pub component: ComponentId,
    /// Its name: the event's key, stream, tag, as the policy says.
    pub name: String,
}

/// An event that waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Letter {
    /// Which event.
    pub position: Position,
    /// Its type.
    pub kind: String,
    /// How often it was tried.
    pub attempts: u32,
}

/// One failed try, as whoever tried it tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Which attempt this was, from 1.
    pub attempt: u32,
    /// Why, in the handler's words.
    pub cause: String,
    /// How long to wait before the next, jitter included.
    pub wait_ms: u32,
    /// What the dice gave for it, in 1/65536, kept so that the schedule can be explained.
    pub draw: u16,
    /// No further try by itself: the last attempt, or a handler that said *set aside*.
    pub last: bool,
}

impl Failure {
    /// The wait before the next attempt.
    #[must_use]
    pub const fn wait(&self) -> Duration {
        Duration::from_millis(self.wait_ms as u64)
    }
}

/// Whether a sequence waits for its time or for a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Waiting {
    /// Its first letter is tried again at the schedule.
    ForItsTime,
    /// It is *dead*: only a person can retry, skip or drop it.
    ForAPerson,
}

/// One try of a sequence, lent to another node. The claim does not move.
///
/// It has an epoch of its own for the log to know it by. What its holder shows to handlers is the epoch of the
/// segment's claim, as it stands when the try begins: see [`claim`](crate::claim).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loan {
    /// To whom.
    pub node: NodeId,
    /// Fences it: no other loan, nor any claim, has the same.
    pub epoch: Epoch,
}

/// A sequence set aside: its first letter failed, the others queue behind it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetAside {
    /// In log order, the first one failed. Never empty.
    pub letters: VecDeque<Letter>,
    /// Of the first letter's latest failure.
    pub cause: String,
    /// When the log recorded that.
    pub recorded: Timestamp,
    /// The wait from `recorded` to the next attempt.
    pub wait_ms: u32,
    /// What the dice gave for it.
    pub draw: u16,
    /// What it waits for.
    pub waiting: Waiting,
    /// To whom its next try is lent, from the fourth attempt on.
    pub loan: Option<Loan>,
    /// Grows whenever the schedule is changed by anything but an attempt. What comes of a try that began under an
    /// earlier one is not counted.
    pub revision: u32,
}

impl SetAside {
    /// When the next attempt is due, on the log's clock; none if it waits for a person.
    #[must_use]
    pub fn due(&self) -> Option<Timestamp> {
        (self.waiting == Waiting::ForItsTime)
            .then(|| self.recorded.after(Duration::from_millis(u64::from(self.wait_ms))))
    }

    /// The letter that is tried next.
    #[must_use]
    pub fn first(&self) -> &Letter {
        self.letters.front().expect("a sequence set aside has at least one letter")
    }
}

/// Returns at most `max` bytes of a text, cut at a character's end.
#[must_use]
pub fn cut(text: &str, max: u32) -> String {
    let mut end = text.len().min(max as usize);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].into()
}
