//! A token: the progress of a segment. It is a list, so that split, merge and replay stay exact: an event is compared
//! with the item that covers its hash.
//!
//! ```text
//!   segment (1, 1) after a merge, the half (3, 3) being ahead:
//!
//!   part (1, 3)   ...handled...|next=40                      wanted from here on
//!   part (3, 3)   ...handled........................|next=90
//! ```
//!
//! A token has one form only: items in the order of their parts, equal siblings collapsed into the part of which they
//! are the halves. So two tokens with the same meaning are equal, and splitting one and merging it again restores it.

use alloc::{vec, vec::Vec};
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::{id::Position, segment::Segment};

/// Items that are disjoint and together cover the segment; never empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token(Vec<Item>);

/// The progress of one part of the segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// The part.
    pub part: Segment,
    /// The next position to read.
    pub next: Position,
    /// Events before this position are replays; 0 if none is left. Set by a reset.
    pub replay_until: Position,
    /// Positions above `next` that are already done, in order, if sequences run concurrently. No command sets it yet.
    pub done: Vec<Position>,
    /// Positions at or after `replay_until` that are replays too, in order, because they were done before the reset.
    pub again: Vec<Position>,
}

/// Why two tokens were not merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// Their segments are not the halves of one.
    NotSiblings,
    /// The merged token would have this many items, more than `token_items_max`; items collapse once they are at the
    /// same position.
    TooManyItems(usize),
}

impl Token {
    /// Makes a token for the whole of `segment`, at `next`.
    #[must_use]
    pub fn new(segment: Segment, next: Position) -> Self {
        Self(vec![Item { part: segment, next, replay_until: Position(0), done: Vec::new(), again: Vec::new() }])
    }

    /// Returns its items.
    #[must_use]
    pub fn items(&self) -> &[Item] {
        &self.0
    }

    /// Returns the lowest position that any part has still to read.
    #[must_use]
    pub fn low(&self) -> Position {
        self.0.iter().map(|item| item.next).min().expect("a token has at least one item")
    }

    /// Returns whether the event at `position` with this hash has still to be handled.
    #[must_use]
    pub fn wants(&self, hash: u64, position: Position) -> bool {
        self.item_of(hash).is_some_and(|item| item.next <= position && !item.done.contains(&position))
    }

    /// Moves all parts to `next`. Parts that are further already stay; tokens only grow.
    pub fn advance(&mut self, next: Position) {
        for item in &mut self.0 {
            item.advance(next);
        }
        self.collapse();
    }

    /// Returns whether the event at `position` with this hash was passed before a reset, so that it is a replay now.
    #[must_use]
    pub fn replays(&self, hash: u64, position: Position) -> bool {
        self.item_of(hash).is_some_and(|item| position < item.replay_until || item.again.contains(&position))
    }

    /// Returns the position at which the last replay of its parts ends; `None` if no part replays.
    #[must_use]
    pub fn replay_end(&self) -> Option<Position> {
        self.0.iter().filter_map(Item::replay_end).max()
    }

    /// Moves all parts to `next`, forward or back. Events that were passed before are replays from now on.
    pub fn reset(&mut self, next: Position) {
        for item in &mut self.0 {
            item.reset(next);
        }
        self.collapse();
    }

    /// Ends the replay: every part continues where it was before the reset, or where it is if that is further.
    pub fn end_replay(&mut self) {
        for item in &mut self.0 {
            item.end_replay();
        }
        self.collapse();
    }

    /// Returns the tokens of both halves of `segment`, to which this token belongs; `None` if it cannot be split.
    #[must_use]
    pub fn split(&self, segment: Segment) -> Option<(Self, Self)> {
        debug_assert!(self.belongs_to(segment), "{self:?} does not cover {segment:?}");
        let (left, _) = segment.split()?;
        let whole = |item: &Item| item.part == segment;
        let (lefts, rights) = match self.0.as_slice() {
            [item] if whole(item) => {
                let (left, right) = item.clone().halves();
                (vec![left], vec![right])
            }
            items => items.iter().cloned().partition(|item| left.covers(item.part)),
        };
        Some((Self(lefts), Self(rights)))
    }

    /// Returns the token of both halves together.
    ///
    /// # Errors
    ///
    /// If `mine` and `theirs`, the segments of the two tokens, are not siblings, or if more than `items_max` items
    /// would be left.
    pub fn merge(&self, mine: Segment, other: &Self, theirs: Segment, items_max: u32) -> Result<Self, Error> {
        mine.merge(theirs).ok_or(Error::NotSiblings)?;
        let mut merged = Self([self.items(), other.items()].concat());
        merged.collapse();
        match merged.0.len() {
            items if items > items_max as usize => Err(Error::TooManyItems(items)),
            _ => Ok(merged),
        }
    }

    /// Returns whether its parts are disjoint and make up `segment`, in the one form of tokens.
    #[must_use]
    pub fn belongs_to(&self, segment: Segment) -> bool {
        let size = |part: Segment| 1_u64 << (32 - part.mask.count_ones());
        let covered: u64 = self.0.iter().map(|item| size(item.part)).sum();
        let disjoint = |(at, item): (usize, &Item)| self.0.iter().skip(at + 1).all(|o| !o.part.covers(item.part));
        let mut collapsed = self.clone();
        collapsed.collapse();
        covered == size(segment)
            && self.0.iter().all(|item| segment.covers(item.part))
            && self.0.iter().enumerate().all(disjoint)
            && collapsed == *self
    }

    fn item_of(&self, hash: u64) -> Option<&Item> {
        self.0.iter().find(|item| item.part.holds(hash))
    }

    /// Brings the items into the one form. At most two items collapse at a time, and there are at most 64.
    fn collapse(&mut self) {
        while let Some((left, right)) = self.equal_siblings() {
            let right = self.0.remove(right);
            let item = &mut self.0[left];
            item.part = item.part.merge(right.part).expect("they are siblings");
        }
        self.0.sort_by_key(|item| item.part);
    }

    fn equal_siblings(&self) -> Option<(usize, usize)> {
        (1..self.0.len()).find_map(|right| {
            let left = (0..right).find(|left| self.0[*left].meets(&self.0[right]))?;
            Some((left, right))
        })
    }
}

impl Item {
    fn advance(&mut self, next: Position) {
        self.next = self.next.max(next);
        self.tidy();
    }

    fn reset(&mut self, next: Position) {
        let end = self.replay_until.max(self.next);
        let done = core::mem::take(&mut self.done);
        self.again.extend(done.into_iter().filter(|place| *place >= end));
        self.again.sort_unstable();
        self.again.dedup();
        (self.next, self.replay_until) = (next, end);
        self.tidy();
    }

    fn end_replay(&mut self) {
        self.next = self.next.max(self.replay_until);
        let again = core::mem::take(&mut self.again);
        self.done.extend(again.into_iter().filter(|place| *place >= self.next));
        self.done.sort_unstable();
        self.done.dedup();
        self.tidy();
    }

    fn replay_end(&self) -> Option<Position> {
        let end = self.again.last().map_or(self.replay_until, |last| last.next().max(self.replay_until));
        (end > self.next).then_some(end)
    }

    /// Removes what `next` has passed.
    fn tidy(&mut self) {
        while self.done.first().is_some_and(|place| *place <= self.next) {
            let place = self.done.remove(0);
            self.next = self.next.max(place.next());
        }
        self.again.retain(|place| *place >= self.next);
        if self.replay_until <= self.next {
            self.replay_until = Position(0);
        }
    }

    fn halves(self) -> (Self, Self) {
        let (left, right) = self.part.split().expect("a part with a part inside has halves");
        (Self { part: left, ..self.clone() }, Self { part: right, ..self })
    }

    /// Returns whether it and its sibling `other` have the same progress.
    fn meets(&self, other: &Self) -> bool {
        self.part.merge(other.part).is_some()
            && self.next == other.next
            && self.replay_until == other.replay_until
            && self.done == other.done
            && self.again == other.again
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSiblings => write!(f, "the segments are not the halves of one"),
            Self::TooManyItems(items) => {
                write!(f, "the merged token would have {items} parts; try again when their positions are closer")
            }
        }
    }
}

impl core::error::Error for Error {}

#[cfg(test)]
mod tests;
