//! A token: how far a segment has come. A list, so that split, merge and replay stay exact.

use alloc::{vec, vec::Vec};

use serde::{Deserialize, Serialize};

use crate::{id::Position, segment::Segment};

/// Items that are disjoint and cover the segment together; never empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token(Vec<Item>);

/// How far one part of the segment has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// Which part.
    pub part: Segment,
    /// The next position to read.
    pub next: Position,
    /// Events before this place are replays.
    pub replay_until: Position,
    /// Places above `next` that are done already, where sequences run beside each other.
    pub done: Vec<Position>,
}

impl Token {
    /// A token for the whole of `segment`, standing at `next`.
    #[must_use]
    pub fn new(segment: Segment, next: Position) -> Self {
        Self(vec![Item { part: segment, next, replay_until: Position(0), done: Vec::new() }])
    }

    /// Its items.
    #[must_use]
    pub fn items(&self) -> &[Item] {
        &self.0
    }

    /// The least place that any part has still to read.
    #[must_use]
    pub fn low(&self) -> Position {
        self.0.iter().map(|item| item.next).min().expect("a token has at least one item")
    }

    /// Whether the event at `position` with this hash has still to be handled.
    #[must_use]
    pub fn wants(&self, hash: u64, position: Position) -> bool {
        self.0
            .iter()
            .find(|item| item.part.holds(hash))
            .is_some_and(|item| item.next <= position && !item.done.contains(&position))
    }

    /// Whether handling the event at `position` with this hash is a replay.
    #[must_use]
    pub fn replays(&self, hash: u64, position: Position) -> bool {
        self.0.iter().any(|item| item.part.holds(hash) && position < item.replay_until)
    }

    /// All before `next` is done. Parts that are further already stay; tokens only grow.
    pub fn advance(&mut self, next: Position) {
        for item in &mut self.0 {
            item.next = item.next.max(next);
            item.done.retain(|done| *done >= item.next);
        }
        self.collapse();
    }
}

impl Token {
    fn collapse(&mut self) {}
}
