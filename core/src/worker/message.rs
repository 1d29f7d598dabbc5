//! The settings, inputs, effects, reports and status of a worker.

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
    /// The position of the event.
    pub position: Position,
    /// The sequence within which it must be handled in order.
    pub sequence: SequenceKey,
    /// The hash of the sequence.
    pub hash: u64,
    /// Its type.
    pub kind: String,
    /// Whether the event was passed before a reset.
    pub replaying: bool,
    /// The event itself, in the form that the handler takes.
    pub event: T,
}

/// The settings of a new worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The claim it works under; `None` if it only tries letters that are lent to its node.
    pub claim: Option<(SegmentId, Epoch)>,
    /// The mask of its segment, which handlers receive beside the claim.
    pub mask: u32,
    /// What happens when an event fails.
    pub on_error: OnError,
    /// How failed work is tried again.
    pub backoff: Backoff,
    /// The maximum number of events passed to the handler at once.
    pub batch_events_max: usize,
    /// The maximum size of a reported cause: the log keeps no more.
    pub cause_bytes_max: u32,
    /// The event with which it waits since an earlier owner's failure (`on_error: stop`).
    pub stalled: Option<Stalled>,
}

/// An event with which a segment waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stalled {
    /// The position of the event.
    pub position: Position,
    /// How often the event was tried.
    pub attempts: u32,
    /// When the event is tried again.
    pub due: Moment,
}

/// A sequence set aside, as the log knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetAsideSequence {
    /// The position of its first letter.
    pub position: Position,
    /// How often the first letter was tried.
    pub attempts: u32,
    /// When the first letter is tried next; `None` if it waits for an operator.
    pub due: Option<Moment>,
    /// The right by which this worker may try it; `None` while it is lent to another node.
    pub right: Option<Right>,
    /// The mask of its segment, from the same state as the right.
    pub mask: u32,
    /// The revision of the sequence in that state: it is reported with the result of a try.
    pub revision: u32,
    /// The wait before the next try.
    pub wait: Duration,
    /// Whether its first letter is a replay.
    pub replaying: bool,
}

impl SetAsideSequence {
    /// Returns a sequence that no worker tries: the log has had no room for it yet.
    #[must_use]
    pub const fn untried(position: Position) -> Self {
        let wait = Duration::ZERO;
        Self { position, attempts: 0, due: None, right: None, mask: 0, revision: 0, wait, replaying: false }
    }
}

/// A failure, as the handler describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The cause, as the handler describes it.
    pub cause: String,
    /// What it means for the event.
    pub kind: FaultKind,
    /// The handler's own wait before the next attempt.
    pub after: Option<Duration>,
    /// A random number for the jitter, from the caller.
    pub random: u16,
}

/// What a failure means for the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// Another attempt may help.
    Retry,
    /// No further attempt is made automatically.
    SetAside,
    /// The event is skipped.
    Skip,
    /// Nothing: the handler was not called. Whatever `on_error` is, the segment waits with the event until some node
    /// can call the handler, so that a missing handler makes no letter of a healthy event; and a letter does not come
    /// closer to its last attempt.
    Unable,
}

/// An input of a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input<T> {
    /// Events of its segment, in log order, after all those it was fed before.
    Feed(Vec<Work<T>>),
    /// The run is over: this many events were handled, then one failed, or the run was stopped, or none was left.
    Ran {
        /// The number of handled events.
        handled: usize,
        /// The failure of the next one, if it failed.
        fault: Option<Fault>,
    },
    /// A try of a letter is over.
    Tried {
        /// The sequence.
        sequence: SequenceKey,
        /// The failure, if it failed.
        fault: Option<Fault>,
    },
    /// The sequences of its segment that are set aside, in a state of the log that includes its reports up to
    /// `settled`.
    SetAside {
        /// The last of its reports that the log has judged.
        settled: u64,
        /// All sequences that are set aside.
        sequences: BTreeMap<SequenceKey, SetAsideSequence>,
    },
    /// An operator paused or resumed the processor.
    SetPaused(bool),
    /// The claim is to be handed over: running handlers end, all other events are dropped.
    Drain,
    /// A requested moment has come.
    Woken,
}

/// What a worker requests, in order, before the next input.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "effects must be performed, in order"]
pub enum Effect<T> {
    /// Call the handler with these, one after the other, until one fails. Answered by [`Input::Ran`].
    Run {
        /// In order; never empty.
        works: Vec<Work<T>>,
        /// The attempt of the first event; the others are at their first attempt.
        attempt: u32,
    },
    /// End the run after the event in the handler.
    StopRun,
    /// Call the handler with the first letter of a sequence. Answered by [`Input::Tried`].
    Try {
        /// The sequence.
        sequence: SequenceKey,
        /// The position of its first letter.
        position: Position,
        /// The attempt.
        attempt: u32,
        /// The right to try it.
        right: Right,
        /// The mask of the segment, from the same state as the right.
        mask: u32,
        /// Whether the letter is a replay.
        replaying: bool,
    },
    /// Send a report to the coordinator.
    Report(Report),
    /// Inform the coordinator that the worker is paused and no handler runs any more. After the last report of the run.
    ReportPaused,
    /// Send [`Input::Woken`] at that moment.
    WakeAt(Moment),
}

/// The results of events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The number of the report, counted per worker from 1.
    pub number: u64,
    /// Events done since the last report: handled, or letters by now. Always the first ones of those that it was fed
    /// and had not reported before.
    pub done: usize,
    /// Letters for the log, in order.
    pub letters: Vec<LetterMove>,
    /// Whether no handler runs any more, and none will: the answer to [`Input::Drain`].
    pub drained: bool,
}

/// The phase of a worker that is paused because too many sequences fail.
pub const FLOODED: &str = "flooded";

/// The status of a worker, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The phase in one word.
    pub phase: &'static str,
    /// Events fed and not passed to the handler yet.
    pub queue: usize,
    /// The attempt that runs or is waited for.
    pub attempt: u32,
    /// When the next attempt is made.
    pub retry_at: Option<Moment>,
    /// The reason why it does not proceed, if it does not.
    pub reason: Option<String>,
}
