//! What may be asked of the replicated state, and how it answers. An [`Entry`] is what one Raft entry holds.

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
    limits::{Limits, Measured, Passed},
    principal::Principal,
    processor::Definition,
    time::Timestamp,
};

mod size;

pub use crate::reason::Why;
pub use size::{LETTER_BYTES_MAX, PROGRESS_HEAD_BYTES, TOKEN_BYTES_MAX, commands_of};

/// One entry of the Raft log: whatever was waiting when it was made, judged command by command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The leader's wall clock when it was made. The state makes it monotone.
    pub proposed: Timestamp,
    /// Where its appends go.
    pub context: ContextId,
    /// In order; each is judged alone.
    pub commands: Vec<Command>,
}

/// One thing asked of the state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// The cluster begins. The first command of its log; refused ever after.
    Found(Found),
    /// Events are added.
    Append(Append),
    /// What moved on one node since its last tick.
    Advance(Advance),
    /// A node asks to be a member.
    Admit(Admit),
    /// A member leaves for ever.
    Remove(NodeId),
    /// A member's process begins.
    Begin(Begin),
    /// A member's process is leaving: it is given nothing more.
    Drain(NodeId, SessionId),
    /// A member's process ended, or the leader lost it.
    Expire(NodeId, SessionId),
    /// The balancer's plan.
    Assign(Assign),
    /// An owner passes a claim on.
    HandOver(HandOver),
    /// A person changes something.
    Operate(Operate),
    /// All members understand this level now.
    RaiseLevel(FeatureLevel),
    /// What stands in the log where a command of a known kind should, and cannot be read as one. It is refused, and so
    /// changes nothing: a node must be able to pass over whatever is in the log.
    Unreadable {
        /// Which kind it says it is; 0 if not even that can be read.
        kind: u16,
        /// Its bytes.
        body: Vec<u8>,
    },
}

impl Command {
    /// Whether it may be proposed, as far as that is not for `apply` to say: what an older version let into the log is
    /// judged as it was.
    ///
    /// # Errors
    ///
    /// The limit that it passes.
    pub fn may_be_proposed(&self) -> Result<(), Passed> {
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

impl Change {
    /// Whether it may be proposed: see [`Command::may_be_proposed`].
    ///
    /// # Errors
    ///
    /// The limit that it passes.
    pub fn may_be_proposed(&self) -> Result<(), Passed> {
        match self {
            Self::Create(definition) => Criteria::together_within([&definition.criteria], Measured::ProcessorCriteria),
            _ => Ok(()),
        }
    }
}

/// The cluster begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// Its name for ever.
    pub cluster: ClusterId,
    /// What it starts with.
    pub limits: Limits,
    /// Its first member.
    pub first: Admit,
}

/// A node asks to be a member. Asked again with the same incarnation it is answered with the same number,
/// and its addresses are brought up to date.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admit {
    /// Unique among members.
    pub name: String,
    /// Its data directory's life.
    pub incarnation: Incarnation,
    /// Where peers reach it.
    pub peer: String,
    /// Where clients reach it.
    pub http: String,
    /// What its build understands.
    pub level: FeatureLevel,
}

/// A member's process begins: any earlier session of it ends here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begin {
    /// Whose.
    pub node: NodeId,
    /// Must be the member's.
    pub incarnation: Incarnation,
    /// Where peers reach it now.
    pub peer: String,
    /// Where clients reach it now.
    pub http: String,
    /// What its build understands.
    pub level: FeatureLevel,
    /// Embedded processors it can run, and which versions of them.
    pub capabilities: BTreeMap<String, Vec<u32>>,
    /// Its share, relative to others.
    pub weight: u32,
    /// Drawn by the process, so that an entry proposed twice begins one session.
    pub nonce: Uuid,
}

/// What moved on one node since its last tick.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advance {
    /// Whose.
    pub node: NodeId,
    /// A session that is no more moves nothing.
    pub session: SessionId,
    /// Up to where the node had applied the log when it made this: claims given later are not meant by
    /// `scanned`.
    pub as_of: LogIndex,
    /// Per processor.
    pub items: Vec<Progress>,
}

/// What moved of one processor on one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Of which processor.
    pub processor: ProcessorId,
    /// Every segment of it that the node owned at `as_of` and that `tokens` does not name stands here.
    pub scanned: Option<Position>,
    /// Segments that stand elsewhere. Such an item at its present place says "not `scanned`".
    pub tokens: Vec<TokenMove>,
    /// What became of events that failed, in order. Judged before the tokens: a letter that is refused holds
    /// its segment's token back.
    pub letters: Vec<LetterMove>,
}

/// A token moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenMove {
    /// Whose.
    pub segment: SegmentId,
    /// The fence.
    pub epoch: Epoch,
    /// The next position to read.
    pub next: Position,
}

/// By which right a letter is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Right {
    /// The claim of the segment that holds its sequence.
    Claim(SegmentId, Epoch),
    /// The loan of its sequence.
    Loan {
        /// The loan's own epoch, by which the log knows it.
        epoch: Epoch,
        /// The segment that holds the sequence, ...
        segment: SegmentId,
        /// ... and the epoch of its claim: as they were where its holder saw that it has the loan.
        claim: Epoch,
    },
}

impl Right {
    /// The claim that it is or stands beside: what a handler is shown. A late holder must not look it up anew, or
    /// it would show what is not its to show.
    #[must_use]
    pub const fn claim(self) -> (SegmentId, Epoch) {
        match self {
            Self::Claim(segment, epoch) | Self::Loan { segment, claim: epoch, .. } => (segment, epoch),
        }
    }

    /// Whether the claim is another node's.
    #[must_use]
    pub const fn is_lent(self) -> bool {
        matches!(self, Self::Loan { .. })
    }
}

/// What became of one event that failed, or that waits behind one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LetterMove {
    /// The event failed: its sequence is set aside with it.
    SetAside {
        /// The claim that handled it.
        segment: SegmentId,
        /// The fence.
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
    /// The event belongs to a sequence set aside: it queues behind.
    Queue {
        /// The claim that met it.
        segment: SegmentId,
        /// The fence.
        epoch: Epoch,
        /// Its sequence.
        sequence: SequenceKey,
        /// The event.
        position: Position,
        /// Its type.
        kind: String,
    },
    /// Its handler said *skip*: the event is passed over, and only counted.
    Skipped {
        /// The claim that met it.
        segment: SegmentId,
        /// The fence.
        epoch: Epoch,
        /// Its sequence.
        sequence: SequenceKey,
        /// The event.
        position: Position,
    },
    /// The first letter was handled, or its handler said *skip*.
    Done {
        /// By which right.
        right: Right,
        /// Its sequence.
        sequence: SequenceKey,
        /// The event.
        position: Position,
        /// It was skipped, not handled.
        skipped: bool,
    },
    /// The first letter failed once more: as builds before `Tried` told it.
    Failed {
        /// By which right.
        right: Right,
        /// Its sequence.
        sequence: SequenceKey,
        /// The event.
        position: Position,
        /// How.
        failure: Failure,
    },
    /// `on_error: stop`, or nobody to ask: the segment waits with this event. From the attempt that `own_attempts`
    /// names on the claim goes to another capable node where there is one; at once where nobody can be asked here.
    Stall {
        /// The claim.
        segment: SegmentId,
        /// The fence.
        epoch: Epoch,
        /// The event.
        position: Position,
        /// How.
        failure: Failure,
        /// Not the event failed: its handler cannot be asked on this node.
        unable: bool,
    },
    /// What the segment waited with is done.
    Resume {
        /// The claim.
        segment: SegmentId,
        /// The fence.
        epoch: Epoch,
        /// The event.
        position: Position,
    },
    /// A node that leaves gives back what was lent to it: nothing of that runs there any more, and nobody need be
    /// fenced.
    Return {
        /// The loan.
        right: Right,
        /// Its sequence.
        sequence: SequenceKey,
    },
    /// The first letter was tried, and was not handled.
    Tried {
        /// By which right.
        right: Right,
        /// Its sequence.
        sequence: SequenceKey,
        /// The event.
        position: Position,
        /// The sequence's as the try began: a try that began before a person changed the schedule changes it no more.
        revision: u32,
        /// How.
        failure: Failure,
        /// Not the event failed: its handler cannot be asked on this node. It counts as no attempt.
        unable: bool,
    },
}

/// The balancer's plan, refused as a whole if the table has moved on since `generation`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assign {
    /// The table it was made from.
    pub generation: Generation,
    /// Given at once where nobody owns the claim; else its owner is asked to hand it over.
    pub moves: Vec<Move>,
}

/// One move of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// Of which processor.
    pub processor: ProcessorId,
    /// Which segment.
    pub segment: SegmentId,
    /// To whom.
    pub to: NodeId,
}

/// An owner passes a claim on, with its final token, in this one entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandOver {
    /// Who gives.
    pub node: NodeId,
    /// In which life.
    pub session: SessionId,
    /// Of which processor.
    pub processor: ProcessorId,
    /// Which segment.
    pub segment: SegmentId,
    /// The fence.
    pub epoch: Epoch,
    /// The final token: the next position to read.
    pub next: Position,
    /// Who takes; none where it is only given up.
    pub to: Option<NodeId>,
    /// What is still to be told of its letters; judged first.
    pub letters: Vec<LetterMove>,
}

/// A person changes something, by name, so that the outcome can be asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operate {
    /// Repeated with the same id it is done once.
    pub operation: Uuid,
    /// Who asks, if that is known.
    pub principal: Option<Principal>,
    /// Why, in the person's words.
    pub reason: Option<String>,
    /// What.
    pub change: Change,
}

/// What a person can change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// A processor is created. An equal one that exists already is no error.
    Create(Box<Definition>),
    /// A processor is deleted, with its progress and letters.
    Delete(String),
    /// A processor is stopped, or goes on.
    Pause(String, bool),
    /// A segment is taken from its owner, who may not have it back for two leases.
    Release(String, SegmentId),
    /// A segment is given to this node, and bound to it.
    Claim(String, SegmentId, NodeId),
    /// A segment is no longer bound to a node.
    Unpin(String, SegmentId),
    /// Sequences set aside are tried now, skipped by one letter, or dropped.
    Letters(String, Selection, LetterChange),
    /// Limits are changed.
    SetLimits(Limits),
    /// A node at this peer address is expected to join.
    Expect(String),
    /// A member is to leave for ever: one that lives hands over first and goes by itself.
    Leave(NodeId),
    /// This member is to lead, from a later term on than this one.
    Lead(NodeId, Term),
    /// The event that a segment waits with, which is the one at this position, is passed over.
    SkipEvent(String, SegmentId, Position),
}

/// Which sequences are meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Selection {
    /// This one.
    Sequence(ComponentId, String),
    /// All of the processor.
    All,
}

/// What is done with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LetterChange {
    /// Tried now, the count of attempts begun anew.
    Retry,
    /// The first letter is passed over; those behind it are tried now.
    Skip,
    /// All letters are given up.
    Drop,
}

/// How a command was answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It holds, and there is nothing to say.
    Done,
    /// The events stand in the log.
    Appended(Appended),
    /// The append was refused; nothing of it is stored.
    Refused(Refusal),
    /// The node is a member.
    Admitted(NodeId),
    /// The session has begun.
    Begun(SessionId),
    /// The advance was judged; these parts of it did not hold.
    Advanced(Vec<Stale>),
    /// Not done, for this reason.
    Not(Why),
    /// A person's change: how many things it touched.
    Changed(u64),
}

/// A part of an advance that did not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stale {
    /// Of which processor.
    pub processor: ProcessorId,
    /// Which segment; none for a loan, or for the whole item.
    pub segment: Option<SegmentId>,
    /// Why.
    pub why: Why,
}
