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
    replay::Replay,
    segment::Segment,
    sequence::Sequencing,
    time::Timestamp,
    token::Token,
};

/// The definition with which a processor is created.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// Unique in the cluster.
    pub name: String,
    /// The context whose events it handles.
    pub context: ContextId,
    /// How its events are handled.
    pub handler: Handler,
    /// How many segments it starts with.
    pub segments: u32,
    /// The position at which it starts.
    pub start: Start,
    /// The events that it handles; others only move its tokens.
    pub criteria: Criteria,
    /// Which events must be handled one after the other.
    pub sequencing: Sequencing,
    /// What happens when an event fails.
    pub on_error: OnError,
    /// How failed work is tried again.
    pub backoff: Backoff,
}

/// How the events of a processor are handled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Handler {
    /// By functions in the program that embeds the node: only nodes that announce it can run it.
    Embedded,
    /// By a program started with `sh -c`, one per active segment.
    Exec(String),
    /// By requests to this URL.
    Webhook(String),
}

/// The position at which a processor starts. A first run is not a replay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Start {
    /// The first event of the log.
    #[default]
    Beginning,
    /// The first event after its creation.
    Head,
    /// This position.
    At(Position),
}

/// What happens when an event fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnError {
    /// Its sequence is set aside and tried on its schedule; after the last attempt it waits for an operator.
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
    /// The definition that it was created with.
    pub definition: Definition,
    /// The fingerprint of the sequencing policy and the hash: a silent change is refused.
    pub fingerprint: u64,
    /// The version that runs; for now there is only one.
    pub version: u32,
    /// Raised by a reset: rows in users' databases under an older one are void.
    pub generation: Generation,
    /// Whether an operator paused it.
    pub paused: bool,
    /// Its latest replay, if it was ever reset to a position that it had passed.
    pub replay: Option<Replay>,
    /// When it was created.
    pub created: Timestamp,
    /// The last entry that changed anything of it except tokens: its coordinators watch this.
    pub changed: LogIndex,
    /// Its segments.
    pub segments: BTreeMap<SegmentId, Share>,
    /// Its sequences set aside.
    pub set_aside: BTreeMap<SequenceKey, SetAside>,
    /// Letters in all of them together.
    pub letters: u64,
    /// Events that a handler, `on_error: skip` or an operator skipped, in total.
    pub skipped: u64,
}

/// One segment of a processor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// The hashes that it covers.
    pub segment: Segment,
    /// Its progress.
    pub token: Token,
    /// The right to move the token.
    pub claim: Claim,
    /// The event with which it waits, if any.
    pub stalled: Option<Stall>,
    /// What is to become of it once its owner has handed it over. Until then the balancer leaves it alone.
    pub reshape: Option<Reshape>,
}

/// What is to become of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reshape {
    /// It is split into its halves.
    Split,
    /// It is merged with its sibling.
    Merge,
}

/// A segment that waits with a failing event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stall {
    /// The position of the event.
    pub position: Position,
    /// Its latest failure.
    pub failure: Failure,
    /// When the log recorded that failure.
    pub recorded: Timestamp,
}

/// The use of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitUsage {
    /// The amount in use.
    pub used: u64,
    /// The limit.
    pub max: u64,
}

/// Whether the use of a limit needs attention.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum UsageLevel {
    /// There is room.
    #[default]
    Room,
    /// At least four fifths are used.
    Near,
    /// Everything is used.
    Full,
}

impl LimitUsage {
    /// Returns whether the limit is near, or reached.
    #[must_use]
    pub const fn level(self) -> UsageLevel {
        match self {
            Self { used, max } if used >= max => UsageLevel::Full,
            Self { used, max } if used * 5 >= max * 4 => UsageLevel::Near,
            _ => UsageLevel::Room,
        }
    }
}

/// Why a new processor cannot have a definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidDefinition {
    /// Its name is not valid.
    Name(name::Error),
    /// Its command contains a NUL character, at which program arguments end.
    Nul,
}

impl fmt::Display for InvalidDefinition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(error) => write!(f, "the name of a processor {error}"),
            Self::Nul => {
                f.write_str("the command of a processor contains a NUL character, which program arguments cannot")
            }
        }
    }
}

impl core::error::Error for InvalidDefinition {}

impl Definition {
    /// Checks that a new processor can have this definition. Existing processors, which were created under earlier
    /// rules, are not checked again: this is called before a processor is created, and never when the log is applied.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn check_new(&self) -> Result<(), InvalidDefinition> {
        name::check(&self.name).map_err(InvalidDefinition::Name)?;
        match &self.handler {
            Handler::Exec(command) if command.contains('\0') => Err(InvalidDefinition::Nul),
            _ => Ok(()),
        }
    }

    /// Returns the fingerprint of everything that must not change silently, because it decides to which segment an
    /// event belongs.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = hash::Hasher::new();
        hasher.part(Some(&[hash::VERSION]));
        self.sequencing.write_to(&mut hasher);
        hasher.finish()
    }
}

impl Processor {
    /// Returns a copy without the sequences set aside, which may hold many letters.
    #[must_use]
    pub fn without_letters(&self) -> Self {
        Self {
            id: self.id,
            definition: self.definition.clone(),
            fingerprint: self.fingerprint,
            version: self.version,
            generation: self.generation,
            paused: self.paused,
            replay: self.replay.clone(),
            created: self.created,
            changed: self.changed,
            segments: self.segments.clone(),
            set_aside: BTreeMap::new(),
            letters: self.letters,
            skipped: self.skipped,
        }
    }

    /// Returns the segment that covers `hash`.
    #[must_use]
    pub fn share_of(&self, hash: u64) -> Option<(&SegmentId, &Share)> {
        self.segments.iter().find(|(_, share)| share.segment.holds(hash))
    }

    /// Returns whether the event is a replay for the segment `share`.
    #[must_use]
    pub fn replays(&self, share: &Share, sequence: &SequenceKey, position: Position) -> bool {
        let unhandled = || self.replay.as_ref().is_some_and(|replay| replay.is_unhandled(sequence, position));
        share.token.replays(hash::sequence(sequence.name.as_bytes()), position) && !unhandled()
    }

    /// Returns the lowest position that any of its segments has still to read.
    #[must_use]
    pub fn low(&self) -> Option<Position> {
        self.segments.values().map(|share| share.token.low()).min()
    }

    /// Returns the sequences set aside whose hash `segment` covers.
    pub fn set_aside_in(&self, segment: Segment) -> impl Iterator<Item = (&SequenceKey, &SetAside)> {
        self.set_aside.iter().filter(move |(key, _)| segment.holds(hash::sequence(key.name.as_bytes())))
    }

    /// Returns the sequences that wait for an operator.
    #[must_use]
    pub fn dead(&self) -> usize {
        let dead = crate::letter::WaitsFor::Operator;
        self.set_aside.values().filter(|set_aside| set_aside.waits_for == dead).count()
    }

    /// Returns how full `letters_max` is for the sequence that has the most letters, and how full `sequences_max` is.
    #[must_use]
    pub fn limit_usage(&self, limits: &Limits) -> (LimitUsage, LimitUsage) {
        let letters = self.set_aside.values().map(|set_aside| set_aside.letters.len() as u64).max().unwrap_or(0);
        let sequences = self.set_aside.len() as u64;
        let of = |used, max: u32| LimitUsage { used, max: u64::from(max) };
        (of(letters, limits.letters_max), of(sequences, limits.sequences_max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_near_from_four_fifths_of_use() {
        let level = |used, max| LimitUsage { used, max }.level();
        assert_eq!([level(0, 10), level(7, 10), level(8, 10), level(10, 10)].map(|level| level as u8), [0, 0, 1, 2]);
        assert_eq!(
            [level(819, 1_024), level(820, 1_024), level(0, 1), level(1, 1)].map(|level| level as u8),
            [0, 1, 0, 2]
        );
    }
}
