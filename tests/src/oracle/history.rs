//! The observations of clients and handlers in a run, in order.

use evener_core::{
    append::{Appended, Refusal, Request},
    id::{Epoch, NodeId, Position, SegmentId},
};

/// The number of earlier observations. A call precedes another one if it returned before the other was invoked; no wall
/// clock is involved.
pub type LogicalTime = u64;

/// All observations of a run.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The appends of clients.
    pub calls: Vec<Call>,
    /// The reads of clients.
    pub reads: Vec<Read>,
    /// The finished deliveries to handlers.
    pub handlings: Vec<Handling>,
    now: LogicalTime,
}

/// One append with all its repetitions.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// The request.
    pub request: Request,
    /// When it was first sent.
    pub invoked_at: LogicalTime,
    /// Every answer with a known outcome, and when it arrived.
    pub answers: Vec<(LogicalTime, Answer)>,
}

/// The answer to an append.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// The events are stored.
    Stored(Appended),
    /// The events are not stored, and never will be.
    Refused(Refusal),
}

/// One linearizable read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// When it was sent.
    pub invoked_at: LogicalTime,
    /// When its answer arrived.
    pub returned_at: LogicalTime,
    /// The first position.
    pub from: Position,
    /// The ids of the events read, in order.
    pub ids: Vec<uuid::Uuid>,
    /// The position after the last one read.
    pub next: Position,
}

/// One delivery to a handler that returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handling {
    /// When the handler returned.
    pub time: LogicalTime,
    /// The node.
    pub node: NodeId,
    /// The processor.
    pub processor: String,
    /// The segment.
    pub segment: SegmentId,
    /// The epoch of the claim.
    pub epoch: Epoch,
    /// Whether the event's sequence was lent: segment and epoch are then those of the owner, another node.
    pub lent: bool,
    /// The position of the event.
    pub position: Position,
    /// Whether the handler succeeded.
    pub done: bool,
}

impl History {
    /// Counts one more observation, and returns its time.
    pub fn tick(&mut self) -> LogicalTime {
        self.now += 1;
        self.now
    }

    /// Records that a client sent an append; returns the number of the call.
    pub fn invoked(&mut self, request: Request) -> usize {
        let invoked_at = self.tick();
        self.calls.push(Call { request, invoked_at, answers: Vec::new() });
        self.calls.len() - 1
    }

    /// Records that a client received an answer.
    pub fn returned(&mut self, call: usize, answer: Answer) {
        let time = self.tick();
        self.calls[call].answers.push((time, answer));
    }

    /// Returns the number of acknowledged appends.
    #[must_use]
    pub fn acknowledged(&self) -> usize {
        self.calls.iter().filter(|call| call.stored().is_some()).count()
    }
}

impl Call {
    /// Returns its positions, if it was acknowledged.
    #[must_use]
    pub fn stored(&self) -> Option<Appended> {
        self.answers.iter().find_map(|(_, answer)| match answer {
            Answer::Stored(appended) => Some(*appended),
            Answer::Refused(_) => None,
        })
    }

    /// Returns when it was first acknowledged.
    #[must_use]
    pub fn acknowledged_at(&self) -> Option<LogicalTime> {
        self.answers.iter().find(|(_, answer)| matches!(answer, Answer::Stored(_))).map(|(time, _)| *time)
    }
}
