//! What clients and handlers saw of a run, in the order in which they saw it.

use evener_core::{
    append::{Appended, Refusal, Request},
    id::{Epoch, NodeId, Position, SegmentId},
};

/// How many things were seen before this one. Of two calls, one came before the other if it had returned when the
/// other was made; no clock is asked.
pub type LogicalTime = u64;

/// Everything that was seen.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// What clients asked to be stored.
    pub calls: Vec<Call>,
    /// What clients read.
    pub reads: Vec<Read>,
    /// What handlers were given, and finished.
    pub handlings: Vec<Handling>,
    now: LogicalTime,
}

/// One append, however often its client repeated it.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// What was asked.
    pub request: Request,
    /// When it was asked first.
    pub invoked_at: LogicalTime,
    /// Every answer but "unknown", and when it came.
    pub answers: Vec<(LogicalTime, Answer)>,
}

/// What an append was answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// It is stored.
    Stored(Appended),
    /// It is not, and will not be.
    Refused(Refusal),
}

/// One linearizable read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// When it was asked for.
    pub invoked_at: LogicalTime,
    /// When it was answered.
    pub returned_at: LogicalTime,
    /// From here.
    pub from: Position,
    /// The ids of what stood there, in order.
    pub ids: Vec<uuid::Uuid>,
    /// It saw everything before this place.
    pub next: Position,
}

/// One event handled by one handler, to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handling {
    /// When it ended.
    pub time: LogicalTime,
    /// On which node.
    pub node: NodeId,
    /// For which processor.
    pub processor: String,
    /// In which segment.
    pub segment: SegmentId,
    /// Under which epoch.
    pub epoch: Epoch,
    /// The event's sequence was lent: the segment, and its epoch, are another node's.
    pub lent: bool,
    /// Which event.
    pub position: Position,
    /// It did what the handler is for; else it failed.
    pub done: bool,
}

impl History {
    /// One more thing is seen.
    pub fn tick(&mut self) -> LogicalTime {
        self.now += 1;
        self.now
    }

    /// A client asks; answers the call's number.
    pub fn invoked(&mut self, request: Request) -> usize {
        let invoked_at = self.tick();
        self.calls.push(Call { request, invoked_at, answers: Vec::new() });
        self.calls.len() - 1
    }

    /// A client is answered.
    pub fn returned(&mut self, call: usize, answer: Answer) {
        let time = self.tick();
        self.calls[call].answers.push((time, answer));
    }

    /// How many appends are known to be stored.
    #[must_use]
    pub fn acknowledged(&self) -> usize {
        self.calls.iter().filter(|call| call.stored().is_some()).count()
    }
}

impl Call {
    /// Where it stands, once it is known to be stored.
    #[must_use]
    pub fn stored(&self) -> Option<Appended> {
        self.answers.iter().find_map(|(_, answer)| match answer {
            Answer::Stored(appended) => Some(*appended),
            Answer::Refused(_) => None,
        })
    }

    /// When it was first known to be stored.
    #[must_use]
    pub fn acknowledged_at(&self) -> Option<LogicalTime> {
        self.answers.iter().find(|(_, answer)| matches!(answer, Answer::Stored(_))).map(|(time, _)| *time)
    }
}
