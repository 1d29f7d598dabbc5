//! A processor: a named consumer with its own progress, cut into segments.

use alloc::{collections::BTreeMap, string::String};
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    backoff::Backoff,
    claim::Claim,
    criteria::Criteria,
    hash,
    id::{ContextId, Generation, LogIndex, Position, ProcessorId, SegmentId},
    letter::{Failure, SequenceKey, SetAside},
    limits::Limits,
    name,
    segment::Segment,
    sequence::Sequencing,
    time::Timestamp,
    token::Token,
};

/// What a person says of a processor when creating it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// Unique in the cluster.
    pub name: String,
    /// Whose events it handles.
    pub context: ContextId,
    /// Who handles them.
    pub handler: Handler,
    /// How many segments it starts with.
    pub segments: u32,
    /// Where it starts.
    pub start: Start,
    /// Which events it wants; others only move its token.
    pub criteria: Criteria,
    /// Which events must be handled one after the other.
    pub sequencing: Sequencing,
    /// What happens when an event keeps failing.
    pub on_error: OnError,
    /// How failed work is tried again.
    pub backoff: Backoff,
}

/// Who handles the events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Handler {
    /// Functions in the program that embeds the node: only nodes that say so can run it.
    Embedded,
    /// A program started by `sh -c`, one per segment at work.
    Exec(String),
    /// A URL that events are posted to.
    Webhook(String),
}

/// Where a processor starts. A first run is not a replay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Start {
    /// With the first event there is.
    #[default]
    Beginning,
    /// With the first event after its creation.
    Head,
    /// With this position.
    At(Position),
}

/// What happens when an event keeps failing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnError {
    /// Its sequence is set aside and tried on its schedule; after the last attempt it waits for a person.
    #[default]
    SetAside,
    /// The whole segment waits with it.
    Stop,
    /// Like `SetAside`, but after the last attempt the event is skipped and the sequence goes on.
    Skip,
}

/// A processor as the log knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Processor {
    /// Its number.
    pub id: ProcessorId,
    /// What was asked for.
    pub definition: Definition,
    /// Of the sequencing policy and the hash: a silent change is refused.
    pub fingerprint: u64,
    /// Which version of it runs; versions beside each other come later.
    pub version: u32,
    /// Raised by a reset: rows that users keep under an older one are void.
    pub generation: Generation,
    /// A person stopped it.
    pub paused: bool,
    /// When it was created.
    pub created: Timestamp,
    /// The last entry that changed anything of it but tokens: what its coordinators watch.
    pub changed: LogIndex,
    /// Its shares.
    pub segments: BTreeMap<SegmentId, Share>,
    /// Its sequences set aside.
    pub set_aside: BTreeMap<SequenceKey, SetAside>,
    /// Letters in all of them together.
    pub letters: u64,
    /// Events that a handler, `on_error: skip` or a person skipped, ever.
    pub skipped: u64,
}

/// One segment of a processor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// Which hashes are its.
    pub segment: Segment,
    /// How far it has come.
    pub token: Token,
    /// Who may move the token.
    pub claim: Claim,
    /// Why it stands still, where it does (`on_error: stop`, a limit, a flood).
    pub stalled: Option<Stall>,
}

/// A segment that waits with its failing event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stall {
    /// The event it waits with.
    pub position: Position,
    /// The latest failure there.
    pub failure: Failure,
    /// When the log recorded it.
    pub recorded: Timestamp,
}

/// How full a limit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fullness {
    /// So much of it is used.
    pub used: u64,
    /// The limit.
    pub max: u64,
}

/// Whether somebody should look at what fills a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// There is room.
    #[default]
    Room,
    /// Four fifths of it are used.
    Near,
    /// All of it is.
    Full,
}

impl Fullness {
    /// Returns whether it is near the limit, or has reached it.
    #[must_use]
    pub const fn level(self) -> Level {
        match self {
            Self { used, max } if used >= max => Level::Full,
            Self { used, max } if used * 5 >= max * 4 => Level::Near,
            _ => Level::Room,
        }
    }
}

/// Why nothing new can be defined so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// Its name is none.
    Name(name::Error),
    /// Its command has a NUL in it, and arguments of programs end at one.
    Nul,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(error) => write!(f, "the name of a processor {error}"),
            Self::Nul => {
                f.write_str("the command of a processor has a NUL character in it, which no argument of a program can")
            }
        }
    }
}

impl core::error::Error for Unfit {}

impl Definition {
    /// Checks that a new processor can be defined so. What exists already, under the rules of its day, is not judged
    /// again: this is asked before a processor is created, and never when the log is applied.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn check_new(&self) -> Result<(), Unfit> {
        name::check(&self.name).map_err(Unfit::Name)?;
        match &self.handler {
            Handler::Exec(command) if command.contains('\0') => Err(Unfit::Nul),
            _ => Ok(()),
        }
    }

    /// What must not change silently: what decides which segment an event belongs to.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = hash::Hasher::new();
        hasher.part(Some(&[hash::VERSION]));
        self.sequencing.write_to(&mut hasher);
        hasher.finish()
    }
}

impl Processor {
    /// The share that owns `hash`.
    #[must_use]
    pub fn share_of(&self, hash: u64) -> Option<(&SegmentId, &Share)> {
        self.segments.iter().find(|(_, share)| share.segment.holds(hash))
    }

    /// The least place that any of its segments has still to read.
    #[must_use]
    pub fn low(&self) -> Option<Position> {
        self.segments.values().map(|share| share.token.low()).min()
    }

    /// Names of sequences set aside whose hash `segment` holds.
    pub fn set_aside_in(&self, segment: Segment) -> impl Iterator<Item = (&SequenceKey, &SetAside)> {
        self.set_aside.iter().filter(move |(key, _)| segment.holds(hash::sequence(key.name.as_bytes())))
    }

    /// Sequences that wait for a person.
    #[must_use]
    pub fn dead(&self) -> usize {
        let dead = crate::letter::Waiting::ForAPerson;
        self.set_aside.values().filter(|set_aside| set_aside.waiting == dead).count()
    }

    /// Returns how full `letters_max` is for the sequence that has the most letters, and how full `sequences_max` is.
    #[must_use]
    pub fn fullness(&self, limits: &Limits) -> (Fullness, Fullness) {
        let letters = self.set_aside.values().map(|set_aside| set_aside.letters.len() as u64).max().unwrap_or(0);
        let sequences = self.set_aside.len() as u64;
        let of = |used, max: u32| Fullness { used, max: u64::from(max) };
        (of(letters, limits.letters_max), of(sequences, limits.sequences_max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_near_from_four_fifths_on() {
        let level = |used, max| Fullness { used, max }.level();
        assert_eq!([level(0, 10), level(7, 10), level(8, 10), level(10, 10)].map(|level| level as u8), [0, 0, 1, 2]);
        assert_eq!(
            [level(819, 1_024), level(820, 1_024), level(0, 1), level(1, 1)].map(|level| level as u8),
            [0, 1, 0, 2]
        );
    }
}
