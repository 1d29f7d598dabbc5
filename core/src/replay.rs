//! A replay: what a reset makes a processor do again.
//!
//! ```text
//!  reset ---> preparing ---> running ---> ending ---> ended
//!                hook           |           hook        ^
//!                               +-----------------------+   without hooks
//! ```
//!
//! A processor that is *preparing* handles nothing, so that its hook can, say, clear a table first. A node runs a hook
//! and reports that with [`HookDone`]; if the node ends before, another one runs it again: at least once.

use alloc::{collections::BTreeMap, string::String, vec::Vec};

use serde::{Deserialize, Serialize};

use crate::{
    id::{Generation, NodeId, Position, ProcessorId, SessionId},
    letter::{Letter, SequenceKey},
    time::Timestamp,
};

/// Where a reset moves a processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ResetTo {
    /// The first event of the log.
    Beginning,
    /// The next event: everything that is not handled yet is skipped.
    Head,
    /// This position.
    At(Position),
    /// The end of the running replay: every segment continues where it was before the reset.
    ReplayEnd,
}

/// The latest replay of a processor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replay {
    /// The context that the operator gave, as JSON.
    pub context: Option<String>,
    /// When the reset was recorded.
    pub started: Timestamp,
    /// The position to which the reset moved the processor.
    pub from: Position,
    /// The position before which its events are replays, as far as the segment had passed them.
    pub until: Position,
    /// What is being done.
    pub phase: ReplayPhase,
    /// Letters that the reset dropped, because their events are handled again. If an operator ends the replay before
    /// that, they are set aside again: their events were never handled.
    pub dropped: BTreeMap<SequenceKey, Vec<Letter>>,
}

/// What is being done for a replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReplayPhase {
    /// The hook that prepares the replay runs; nothing is handled.
    Preparing,
    /// Events are handled again.
    Running,
    /// The hook that follows the replay runs; new events are handled.
    Ending,
    /// It is over.
    Ended,
}

/// The report that a hook of a replay has run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookDone {
    /// The node that ran it.
    pub node: NodeId,
    /// Its session.
    pub session: SessionId,
    /// The processor.
    pub processor: ProcessorId,
    /// The processor's generation: a later reset has hooks of its own.
    pub generation: Generation,
    /// The phase that ends: `Preparing` or `Ending`.
    pub phase: ReplayPhase,
}

impl Replay {
    /// Returns whether the event was never handled, because it was set aside until the reset dropped its letter.
    /// Handling it now is no replay, although its segment had passed it.
    #[must_use]
    pub fn is_unhandled(&self, sequence: &SequenceKey, position: Position) -> bool {
        let letters = self.dropped.get(sequence);
        letters.is_some_and(|all| all.iter().any(|letter| letter.position == position && !letter.replaying))
    }

    /// Returns whether a hook has to be run.
    #[must_use]
    pub const fn awaits_hook(&self) -> bool {
        matches!(self.phase, ReplayPhase::Preparing | ReplayPhase::Ending)
    }
}
