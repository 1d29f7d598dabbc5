//! The commands of the replicated state, and their outcomes. An [`Entry`] is the content of one Raft entry.

use alloc::{boxed::Box, collections::BTreeMap, string::String, vec::Vec};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    append::{Append, Appended, Refusal},
    criteria::Criteria,
    id::{
        ClusterId, ComponentId, ContextId, Epoch, FeatureLevel, Generation, Incarnation, LogIndex, NodeId, Position,
        ProcessorId, SegmentId, SessionId, Term,
    },
    letter::{Failure, SequenceKey},
    limits::{LimitExceeded, Limits, Measured},
    principal::Principal,
    processor::Definition,
    replay::{HookDone, ResetTo},
    time::Timestamp,
};

mod size;

pub use crate::reason::RefusalReason;
pub use size::{LETTER_BYTES_MAX, PROGRESS_HEAD_BYTES, TOKEN_BYTES_MAX, commands_of};

/// One entry of the Raft log: the commands that were waiting when it was made. Each is judged separately.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The leader's wall clock when the entry was made. The state makes it monotonic.
    pub proposed: Timestamp,
    /// The context of its appends.
    pub context: ContextId,
    /// The commands, in order; each is judged separately.
    pub commands: Vec<Command>,
}

/// One command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// The cluster is founded. The first command of its log; refused afterwards.
    Found(Found),
    /// Events are appended.
    Append(Append),
    /// Progress of one node since its last tick.
    Advance(Advance),
    /// A node asks to be a member.
    Admit(Admit),
    /// A member leaves permanently.
    Remove(NodeId),
    /// A member's process starts.
    Begin(Begin),
    /// A member's process is leaving: it is given no more work.
    Drain(NodeId, SessionId),
    /// A member's process ended, or the leader lost contact with it.
    Expire(NodeId, SessionId),
    /// The balancer's plan.
    Assign(Assign),
    /// An owner passes a claim on.
    HandOver(HandOver),
    /// An operator makes a change.
    Operate(Operate),
    /// All members understand this level.
    RaiseLevel(FeatureLevel),
    /// A hook of a replay has run.
    HookDone(HookDone),
    /// An entry of the log that should be a command of a known kind and cannot be read as one. It is refused, and so
    /// changes nothing: a node must be able to skip any bytes in the log.
    Unreadable {
        /// The kind that its bytes name; 0 if not even that can be read.
        kind: u16,
        /// Its bytes.
        body: Vec<u8>,
    },
}

impl Command {
    /// Checks whether the command may be proposed, as far as that is not decided by `apply`: commands that an older
    /// version let into the log are judged as they were then.
    ///
    /// # Errors
    ///
    /// The limit that it exceeds.
    pub fn may_be_proposed(&self) -> Result<(), LimitExceeded> {
        match self {
            Self::Append(append) => {
                let criteria = append.conditions.iter().map(|condition| &condition.criteria);
                Criteria::together_within(criteria, Measured::AppendCriteria)
            }
            Self::Operate(operate) => operate.change.may_be_proposed(),
            _ => Ok(()),
        }
    }
}

impl Command {
    /// Returns the level that all members must understand before the command may be proposed.
    #[must_use]
    pub const fn level(&self) -> FeatureLevel {
        match self {
            Self::HookDone(_) => FeatureLevel::RESET,
            Self::Operate(Operate {
                change: Change::Reset(..) | Change::Split(..) | Change::Merge(..) | Change::Move(..),
                ..
            }) => FeatureLevel::RESET,
            _ => FeatureLevel(0),
        }
    }
}

impl Change {
    /// Checks whether the change may be proposed: see [`Command::may_be_proposed`].
    ///
    /// # Errors
    ///
    /// The limit that it exceeds.
    pub fn may_be_proposed(&self) -> Result<(), LimitExceeded> {
        match self {
            Self::Create(definition) => Criteria::together_within([&definition.criteria], Measured::ProcessorCriteria),
            _ => Ok(()),
        }
    }
}

/// The founding of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// The cluster's id, for all time.
    pub cluster: ClusterId,
    /// The initial limits.
    pub limits: Limits,
    /// Its first member.
    pub first: Admit,
}

/// A node's request to become a member. When it is repeated with the same incarnation, the answer is the same number,
/// and the member's addresses are updated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admit {
    /// Unique among members.
    pub name: String,
    /// The incarnation of its data directory.
    pub incarnation: Incarnation,
    /// The address for peers.
    pub peer: String,
    /// The address for clients.
    pub http: String,
    /// The level that its build understands.
    pub level: FeatureLevel,
}

/// The start of a member's process: any earlier session of the member ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begin {
    /// The member.
    pub node: NodeId,
    /// Must equal the member's incarnation.
    pub incarnation: Incarnation,
    /// The present address for peers.
    pub peer: String,
    /// The present address for clients.
    pub http: String,
    /// The level that its build understands.
    pub level: FeatureLevel,
    /// The embedded processors that it can run, with their versions.
    pub capabilities: BTreeMap<String, Vec<u32>>,
    /// Its share, relative to other nodes.
    pub weight: u32,
    /// Drawn by the process, so that a command that is proposed twice begins one session.
    pub nonce: Uuid,
}

/// Progress of one node since its last tick.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advance {
    /// The node.
    pub node: NodeId,
    /// Its session. An ended session moves nothing.
    pub session: SessionId,
    /// The index up to which the node had applied the log when it made this: `scanned` does not apply to claims that
    /// were given later.
    pub as_of: LogIndex,
    /// The progress of each processor.
    pub items: Vec<Progress>,
}

/// The progress of one processor on one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The processor.
    pub processor: ProcessorId,
    /// The new token of every segment that the node owned at `as_of` and that `tokens` does not name.
    pub scanned: Option<Position>,
    /// Tokens that differ from `scanned`. A segment named with its present token does not move.
    pub tokens: Vec<TokenMove>,
    /// What became of failed events, in order. Judged before the tokens: a refused letter holds back the token of its
    /// segment.
    pub letters: Vec<LetterMove>,
}

/// A new token of one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenMove {
    /// The segment.
    pub segment: SegmentId,
    /// The epoch of its claim.
    pub epoch: Epoch,
    /// The next position to read.
    pub next: Position,
}

/// The right by which a letter is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Right {
    /// The claim of the segment that contains the sequence.
    Claim(SegmentId, Epoch),
    /// The loan of its sequence.
    Loan {
        /// The loan's own epoch, by which the log knows it.
        epoch: Epoch,
        /// The segment that contains the sequence, ...
        segment: SegmentId,
        /// ... and the epoch of its claim, both as of when the holder learned of the loan.
        claim: Epoch,
    },
}

impl Right {
    /// Returns the claim that this right is, or that belongs to the loan: handlers receive it. A former holder must not
    /// look it up again, or its handler would receive an epoch that is not its own.
    #[must_use]
    pub const fn claim(self) -> (SegmentId, Epoch) {
        match self {
            Self::Claim(segment, epoch) | Self::Loan { segment, claim: epoch, .. } => (segment, epoch),
        }
    }

    /// Returns whether the claim belongs to another node.
    #[must_use]
    pub const fn is_lent(self) -> bool {
        matches!(self, Self::Loan { .. })
    }
}

/// What became of one event that failed, or that is queued behind a failed one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LetterMove {
    /// The event failed: its sequence is set aside with it.
    SetAside {
        /// The segment whose owner handled it.
        segment: SegmentId,
        /// The epoch of the claim.
        epoch: Epoch,
        /// Its sequence.
        sequence: SequenceKey,
        /// The event.
        position: Position,
        /// Its type.
        kind: String,
        /// Its first failure.
        failure: Failure,
    },
    /// The event belongs to a sequence that is set aside, and is queued.
    Queue {
        /// The segment of the event.
        segment: SegmentId,
        /// The epoch of the claim.
        epoch: Epoch,
        /// Its sequence.
        sequence: SequenceKey,
        /// The event.
        position: Position,
        /// Its type.
        kind: String,
    },
    /// The handler returned *skip*: the event is skipped and counted.
    Skipped {
        /// The segment of the event.
        segment: SegmentId,
        /// The epoch of the claim.
        epoch: Epoch,
        /// Its sequence.
        sequence: SequenceKey,
        /// The event.
        position: Position,
    },
    /// The first letter was handled, or its handler returned *skip*.
    Done {
        /// The right to change the letter.
        right: Right,
        /// Its sequence.
        sequence: SequenceKey,
        /// The event.
        position: Position,
        /// Whether it was skipped instead of handled.
        skipped: bool,
    },
    /// The first letter failed again, as builds before `Tried` reported it.
    Failed {
        /// The right to change the letter.
        right: Right,
        /// Its sequence.
        sequence: SequenceKey,
        /// The event.
        position: Position,
        /// The failure.
        failure: Failure,
    },
    /// The segment waits with this event, because of `on_error: stop` or because its handler cannot be called. From the
    /// attempt in `own_attempts` on, the claim moves to another capable node if there is one; at once if the handler
    /// cannot be called on this node.
    Stall {
        /// The segment.
        segment: SegmentId,
        /// The epoch of the claim.
        epoch: Epoch,
        /// The event.
        position: Position,
        /// The failure.
        failure: Failure,
        /// Whether the handler could not be called on this node, so that the event itself did not fail.
        unable: bool,
    },
    /// The event with which the segment waited is done.
    Resume {
        /// The segment.
        segment: SegmentId,
        /// The epoch of the claim.
        epoch: Epoch,
        /// The event.
        position: Position,
    },
    /// A leaving node returns a loan: none of its handlers has the letter any more, so that nothing needs to be fenced.
    Return {
        /// The loan.
        right: Right,
        /// Its sequence.
        sequence: SequenceKey,
    },
    /// The first letter was tried, and was not handled.
    Tried {
        /// The right to change the letter.
        right: Right,
        /// Its sequence.
        sequence: SequenceKey,
        /// The event.
        position: Position,
        /// The revision of the sequence when the try began. If an operator has changed the schedule since, the try does
        /// not change it.
        revision: u32,
        /// The failure.
        failure: Failure,
        /// Whether the handler could not be called on this node. Such a try does not count as an attempt.
        unable: bool,
    },
}

/// The balancer's plan, refused as a whole if the state has changed since `generation`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assign {
    /// The generation of the state from which the plan was made.
    pub generation: Generation,
    /// The moves. A claim without an owner is given at once; otherwise its owner is asked to hand it over.
    pub moves: Vec<Move>,
}

/// One move of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// The processor.
    pub processor: ProcessorId,
    /// The segment.
    pub segment: SegmentId,
    /// The node that gets it.
    pub to: NodeId,
}

/// An owner hands a claim over, with its final token, in this one entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandOver {
    /// The present owner.
    pub node: NodeId,
    /// Its session.
    pub session: SessionId,
    /// The processor.
    pub processor: ProcessorId,
    /// The segment.
    pub segment: SegmentId,
    /// The epoch of the claim.
    pub epoch: Epoch,
    /// The final token: the next position to read.
    pub next: Position,
    /// The next owner; `None` if the claim is only released.
    pub to: Option<NodeId>,
    /// Letters that were not sent yet; judged first.
    pub letters: Vec<LetterMove>,
}

/// An operator's change, with an id by which its outcome can be queried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operate {
    /// A repetition with the same id has no effect.
    pub operation: Uuid,
    /// The requester, if known.
    pub principal: Option<Principal>,
    /// The operator's reason.
    pub reason: Option<String>,
    /// The change.
    pub change: Change,
}

/// A change that an operator can make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// A processor is created. An equal one that exists already is no error.
    Create(Box<Definition>),
    /// A processor is deleted, with its progress and letters.
    Delete(String),
    /// A processor is paused or resumed.
    Pause(String, bool),
    /// A segment is taken from its owner, which may not have it again for two leases.
    Release(String, SegmentId),
    /// A segment is given to this node, and pinned to it.
    Claim(String, SegmentId, NodeId),
    /// A segment is no longer pinned to a node.
    Unpin(String, SegmentId),
    /// Sequences that are set aside are tried now, skip one letter, or are dropped.
    Letters(String, Selection, LetterChange),
    /// Limits are changed.
    SetLimits(Limits),
    /// A node with this peer address is expected to join.
    Expect(String),
    /// A member leaves permanently: an active one hands over first and then ends by itself.
    Leave(NodeId),
    /// This member becomes the leader, in a later term than this one.
    Lead(NodeId, Term),
    /// The event at this position, with which a segment waits, is skipped.
    SkipEvent(String, SegmentId, Position),
    /// All segments of a processor move to another position. Events that they had passed are replays, whose handlers
    /// receive the context, which is JSON.
    Reset(String, ResetTo, Option<String>),
    /// A segment is split in two: this one, else the one that needs it most.
    Split(String, Option<SegmentId>),
    /// A segment is merged with its sibling: this one, else the one for which that is best.
    Merge(String, Option<SegmentId>),
    /// A segment moves to this node, and is pinned to it.
    Move(String, SegmentId, NodeId),
}

/// A selection of sequences.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Selection {
    /// This sequence.
    Sequence(ComponentId, String),
    /// All sequences of the processor.
    All,
}

/// A change of the selected sequences.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LetterChange {
    /// They are tried now, and attempts are counted from 1 again.
    Retry,
    /// The first letter is skipped; the next one is tried now.
    Skip,
    /// All letters are dropped.
    Drop,
}

/// The outcome of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The command was applied, and has no result.
    Done,
    /// The events are stored.
    Appended(Appended),
    /// The append was refused; nothing of it is stored.
    AppendRefused(Refusal),
    /// The node is a member.
    Admitted(NodeId),
    /// The session has begun.
    Begun(SessionId),
    /// The advance was judged; these parts of it were refused.
    Advanced(Vec<Stale>),
    /// Refused, for this reason.
    Refused(RefusalReason),
    /// An operator's change was applied to this many items.
    Changed(u64),
}

/// A refused part of an advance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stale {
    /// The processor.
    pub processor: ProcessorId,
    /// The segment; `None` for a loan, or for the whole item.
    pub segment: Option<SegmentId>,
    /// The reason.
    pub reason: RefusalReason,
}
