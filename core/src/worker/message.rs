//! What a worker is told and what it wants: its settings, inputs, effects, reports, and what it shows.

use alloc::{collections::BTreeMap, string::String, vec::Vec};
use core::time::Duration;

use crate::{
    backoff::Backoff,
    command::{LetterMove, Right},
    id::{Epoch, Position, SegmentId},
    letter::SequenceKey,
    processor::OnError,
    time::Moment,
};

/// An event on its way to a handler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Work<T> {
    /// Where it stands.
    pub position: Position,
    /// What it must be handled in order with.
    pub sequence: SequenceKey,
    /// Of the sequence.
    pub hash: u64,
    /// Its type.
    pub kind: String,
    /// The event itself, in whatever form the handler takes it.
    pub event: T,
}

/// What a worker is made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The claim it works under; none where it only tries letters that are lent to its node.
    pub claim: Option<(SegmentId, Epoch)>,
    /// The mask of its segment: what handlers are shown beside the claim.
    pub mask: u32,
    /// What a failure comes to.
    pub on_error: OnError,
    /// How failed work is tried again.
    pub backoff: Backoff,
    /// Events handed to the handler at once.
    pub batch_events_max: usize,
    /// Bytes of a cause that are told: the log keeps no more.
    pub cause_bytes_max: u32,
    /// The event it waits with since an earlier owner's failure (`on_error: stop`).
    pub stalled: Option<Stalled>,
}

/// An event that a segment waits with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stalled {
    /// Which event.
    pub position: Position,
    /// How often it was tried.
    pub attempts: u32,
    /// When it is tried again.
    pub due: Moment,
}

/// A sequence set aside, as the log knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waits {
    /// Its first letter.
    pub position: Position,
    /// How often that was tried.
    pub attempts: u32,
    /// When it is tried next; none if it waits for a person.
    pub due: Option<Moment>,
    /// By which right this worker may try it; none while it is lent to another node.
    pub right: Option<Right>,
    /// The mask of its segment, as the right was seen.
    pub mask: u32,
    /// The sequence's as this was seen: it goes with what comes of a try.
    pub revision: u32,
    /// The wait that leads to the next try.
    pub wait: Duration,
}

impl Waits {
    /// Returns a sequence that nobody tries: the log has had no room for it yet.
    #[must_use]
    pub const fn of_nobody(position: Position) -> Self {
        Self { position, attempts: 0, due: None, right: None, mask: 0, revision: 0, wait: Duration::ZERO }
    }
}

/// What a failed handling comes to, as the handler says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// In the handler's words.
    pub cause: String,
    /// What it says of the event.
    pub meaning: Meaning,
    /// The handler's own wait before the next attempt.
    pub after: Option<Duration>,
    /// Drawn by the caller.
    pub draw: u16,
}

/// What a failure says of the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// Another attempt may help.
    Retry,
    /// Try no more by itself.
    SetAside,
    /// Pass it over.
    Skip,
    /// Nothing: the handler never saw it. Whatever `on_error` is, the segment waits with the event until some node
    /// can ask, so that no handler that is missing makes a letter of a healthy event; and what is a letter already is
    /// not closer to its last attempt.
    Unable,
}

/// What happens to a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input<T> {
    /// Events of its segment, in log order, after all it was fed before.
    Feed(Vec<Work<T>>),
    /// The run is over: so many were handled, then one failed, or the run was stopped, or none was left.
    Ran {
        /// How many were handled.
        handled: usize,
        /// How the next one failed.
        fault: Option<Fault>,
    },
    /// A try of a letter is over.
    Tried {
        /// Which sequence.
        sequence: SequenceKey,
        /// How it failed, if it did.
        fault: Option<Fault>,
    },
    /// The sequences of its segment that are set aside, as of the log with its reports up to `settled` in it.
    Aside {
        /// The last of its reports that the log has judged.
        settled: u64,
        /// All of them.
        sequences: BTreeMap<SequenceKey, Waits>,
    },
    /// A person paused the processor, or let it go on.
    Paused(bool),
    /// The claim is to be handed over: end what runs, drop the rest.
    Drain,
    /// A moment asked for has come.
    Woke,
}

/// What a worker wants done, in order, before the next input.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "effects are wishes: somebody has to carry them out"]
pub enum Effect<T> {
    /// Call the handler with these, one after the other, until one fails. Answered by [`Input::Ran`].
    Run {
        /// In order; never empty.
        works: Vec<Work<T>>,
        /// Which attempt this is, of the first; the others are at their first.
        attempt: u32,
    },
    /// End the run after the event that is being handled.
    StopRun,
    /// Call the handler with the first letter of a sequence. Answered by [`Input::Tried`].
    Try {
        /// Which sequence.
        sequence: SequenceKey,
        /// Its first letter.
        position: Position,
        /// Which attempt this is.
        attempt: u32,
        /// Under which right.
        right: Right,
        /// The mask of the segment, as the right was seen.
        mask: u32,
    },
    /// Tell the coordinator.
    Report(Report),
    /// Tell the coordinator: it is paused, and nothing runs any more. After the last report of what ran.
    Rests,
    /// Send [`Input::Woke`] then.
    WakeAt(Moment),
}

/// What became of events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Counts this worker's reports, from 1.
    pub number: u64,
    /// Events done since the last report: handled, or letters by now. Always the first ones of what it was fed
    /// and had not reported before.
    pub done: usize,
    /// What is to be told to the log, in order.
    pub letters: Vec<LetterMove>,
    /// Nothing runs any more and nothing will: the answer to [`Input::Drain`].
    pub drained: bool,
}

/// The phase of a worker that rests, as too many sequences fail.
pub const FLOODED: &str = "flooded";

/// What a worker is doing, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// In a word.
    pub phase: &'static str,
    /// Events fed and not begun.
    pub queue: usize,
    /// The attempt that runs or is waited for.
    pub attempt: u32,
    /// When something is tried again.
    pub retry_at: Option<Moment>,
    /// Why it stands still, where it does.
    pub reason: Option<String>,
}
