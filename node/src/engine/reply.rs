//! What a node answers. The field names are part of the contract.

use evener_core::{append::Appended, id::Position, limits::Limits};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::{
    error::ApiError,
    event::Stored,
    status::{ActorStatus, SegmentsWanted, Standstill},
};

/// One answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// The events are in the log.
    Appended(Appended),
    /// One answer for each append, in their order.
    Many(Vec<Result<Appended, ApiError>>),
    /// Some of the events asked for.
    Page(Page),
    /// Processors, by name.
    Processors(Vec<Processor>),
    /// A processor.
    Processor(Box<Processor>),
    /// What a processor has set aside.
    DeadLetters(Vec<DeadLetter>),
    /// What this node does.
    Status(Box<Status>),
    /// What the cluster looks like.
    Cluster(Box<Cluster>),
    /// Changes, the newest first.
    Operations(Vec<Operation>),
    /// What came of a change.
    Operation(Operation),
}

/// Some of the events asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// In the order asked for.
    pub events: Vec<Stored>,
    /// Where to go on.
    pub next: Position,
    /// What was seen: for the conditions of an append.
    pub marker: Position,
    /// The `to` of the pages to come, so that all of them together are one view.
    pub to: Position,
    /// Nothing more is to come.
    pub end: bool,
}

/// A processor.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Processor {
    /// Its name.
    pub name: String,
    /// Which version runs.
    pub version: u32,
    /// `running`, `replaying`, `preparing`, `caught-up`, `paused`, `stalled`, `flooded`, `unowned` or `leaderless`: of
    /// its segments the one that most wants a look.
    pub state: String,
    /// The state as tables and the page show it: as `state`, or `N set aside` instead of `running` and `caught-up` if
    /// something is set aside.
    #[serde(default)]
    pub display_state: String,
    /// The position of the next event there will be.
    pub head: u64,
    /// Its shares.
    pub segments: Vec<Segment>,
    /// What it has set aside.
    pub set_aside: SetAside,
    /// What was said at its creation.
    pub definition: Value,
    /// Events that a handler, `on_error` or a person skipped, ever.
    pub skipped: u64,
    /// Its latest replay, if it ever had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay: Option<Replay>,
    /// How full the limits of what it may set aside are.
    #[serde(default)]
    pub room: Room,
    /// The nodes whose program asks for another number of segments than it was created with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub segments_wanted: Vec<WantedBy>,
    /// The last operations on it, the newest first, where it is shown alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<Operation>,
}

/// The latest replay of a processor.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Replay {
    /// `preparing` while the hook that prepares it runs, `running`, `ending` while the hook that follows it runs, or
    /// `ended`.
    pub phase: String,
    /// The position to which the processor was reset.
    pub from: u64,
    /// The position before which events are replayed.
    pub until: u64,
    /// The position before which all segments have replayed everything.
    pub position: u64,
    /// When the reset was recorded.
    pub started: String,
    /// Positions that the slowest segment has passed per second since then, while it runs.
    pub events_per_second: Option<f64>,
    /// The seconds that it needs at this rate, while it runs.
    pub eta_seconds: Option<f64>,
    /// The context that was given with the reset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<Value>,
}

/// A node whose program asks for another number of segments than a processor was created with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WantedBy {
    /// The node's name.
    pub node: String,
    /// How many segments the processor was created with; they stay.
    pub stored: u32,
    /// How many the program asks for.
    pub wanted: u32,
}

/// How full the limits of what a processor may set aside are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Room {
    /// Sequences set aside, of `sequences_max`: all segments stall if one more fails then.
    pub sequences: Used,
    /// Letters of the sequence that has the most, of `letters_max`: its segment stalls if one more comes then.
    pub letters: Used,
}

/// How much of a limit is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    /// So much of it is.
    pub used: u64,
    /// The limit.
    pub max: u64,
}

/// A segment of a processor.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Segment {
    /// Its number.
    pub id: u32,
    /// Which bits of a hash it looks at.
    pub mask: u32,
    /// The name of the node that has it.
    pub owner: Option<String>,
    /// The fence.
    pub epoch: u64,
    /// The next position to read.
    pub token: u64,
    /// Events that are to be handled still.
    pub lag_events: u64,
    /// How long the oldest of them has waited.
    pub lag_seconds: f64,
    /// `running`, `replaying`, `preparing`, `caught-up`, `paused`, `stalled`, `flooded`, `moving`, `unowned` or
    /// `leaderless`. One that is preparing waits for the hook of a replay. One that is stalled waits with an event
    /// (`on_error: stop`), for a handler program that runs, for room under a limit, or for a new worker; one that is
    /// flooded is paused, as many of its sequences fail; without a leader none runs, and all that is reported of it may
    /// be old.
    pub state: String,
    /// The state as tables and the page show it: as `state`, or `N set aside` instead of `running` and `caught-up` if
    /// something is set aside.
    #[serde(default)]
    pub display_state: String,
    /// How often the event that it waits with was tried.
    pub attempt: Option<u32>,
    /// When that is tried again.
    pub retry_at: Option<String>,
    /// What of it is set aside: it was passed and not handled, also where the segment has caught up.
    #[serde(default)]
    pub set_aside: SetAside,
    /// Why it is not simply running.
    pub reason: Option<String>,
    /// The position before which its events are replays, while it has any left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay_until: Option<u64>,
    /// The position of the event that it waits with, where it does: `skip-event` passes over that one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_with: Option<u64>,
    /// The name of the node that an operator bound it to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned: Option<String>,
}

/// How much is set aside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetAside {
    /// Sequences.
    pub sequences: u64,
    /// Letters in all of them.
    pub letters: u64,
    /// Sequences that wait for a person.
    pub dead: u64,
}

/// A sequence set aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Its name; empty for the one sequence of the events that the policy finds no name for.
    pub sequence: String,
    /// What people call it where its name is empty, as `(no subject)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unnamed: Option<String>,
    /// `waiting` for its time or `dead`: waiting for a person.
    pub state: String,
    /// Its events, the one that fails first.
    pub letters: Vec<Letter>,
    /// Why the first failed last.
    pub cause: String,
    /// When it is tried again.
    pub retry_at: Option<String>,
    /// The node that its next try is lent to.
    pub lent_to: Option<String>,
    /// The segment that it belongs to.
    pub segment: Option<u32>,
}

/// An event set aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Letter {
    /// Its position.
    pub position: u64,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// How often it was tried.
    pub attempts: u32,
}

/// What a node does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Its name.
    pub node: String,
    /// Of the program.
    pub version: String,
    /// Since its start.
    pub uptime_s: u64,
    /// `leader`, `follower` or `learner`.
    pub role: String,
    /// The Raft term.
    pub term: u64,
    /// The name of the leader, where one is known.
    pub leader: Option<String>,
    /// The position of the next event there will be.
    pub head: u64,
    /// The last Raft index applied.
    pub applied: u64,
    /// The last Raft index synced to disk.
    pub durable: u64,
    /// The room on its disk.
    #[serde(default)]
    pub disk: Disk,
    /// What the replicated state is: equal on nodes that applied the same.
    pub state_hash: StateHash,
    /// Why nothing can be decided, as far as this node knows, and which nodes are missing; none if a leader answers it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// By how many milliseconds this node's clock is ahead of the majority's, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_ahead_ms: Option<i64>,
    /// By how many milliseconds the log's time is ahead of the majority's clock: the log's never goes back.
    #[serde(default)]
    pub log_ahead_ms: u64,
    /// What is at work here.
    pub actors: Vec<ActorStatus>,
    /// Segments of this node that are stalled for reasons that are not in the log.
    #[serde(default)]
    pub standstills: Vec<Standstill>,
    /// Processors of which this node's program asks for another number of segments than they were created with.
    #[serde(default)]
    pub segments_wanted: Vec<SegmentsWanted>,
}

/// The room on the disk of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// Bytes that are free.
    pub free_bytes: u64,
    /// Bytes of the file system.
    pub total_bytes: u64,
    /// Below this many free bytes appends are refused.
    pub reserve_bytes: u64,
    /// Bytes that the log takes on it.
    #[serde(default)]
    pub log_bytes: u64,
    /// Why appends are refused; none while they are taken.
    pub appends_refused: Option<String>,
}

/// What the replicated state is after an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateHash {
    /// After this Raft index.
    pub index: u64,
    /// Sixteen hex digits.
    pub hash: String,
}

/// What the cluster looks like from one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// Its id.
    pub cluster: String,
    /// The name of the leader, where one is known.
    pub leader: Option<String>,
    /// The position of the next event there will be.
    pub head: u64,
    /// Why nothing can be decided, as far as the asked node knows, and which nodes are missing; none if a leader
    /// answers it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// How many members vote.
    pub voters: u64,
    /// How many more of them may be lost, and the cluster goes on.
    pub may_lose: u64,
    /// The nodes that were admitted and have not left.
    pub members: Vec<Member>,
    /// Segments without an owner, and why.
    pub unowned: Vec<Unowned>,
    /// The limits in force.
    pub limits: Limits,
}

/// A member of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Its number.
    pub id: u64,
    /// `leader`, `follower` or `learner`.
    pub role: String,
    /// Why it has no vote, if it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Where peers reach it.
    pub peer: String,
    /// Where clients reach it.
    pub http: String,
    /// Whether it has a session.
    pub alive: bool,
    /// The last Raft index known to be applied there.
    pub applied: Option<u64>,
    /// Embedded processors that it can run.
    pub capabilities: Vec<String>,
    /// Segments that it owns.
    pub segments: u64,
}

/// A segment without an owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unowned {
    /// Of which processor.
    pub processor: String,
    /// Which segment.
    pub segment: u32,
    /// Why.
    pub reason: String,
}

/// What came of a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// Its name.
    pub operation: Uuid,
    /// What came of it.
    pub state: OperationState,
    /// What was done, or what it waits for, or why it was refused.
    pub why: Option<String>,
    /// How many things it touched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed: Option<u64>,
    /// How many events it gives up, of a change that does: counted when it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<u64>,
    /// Nothing was done: this is what it would come to.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// What is remembered of it; none in the answer to the change itself.
    #[serde(flatten)]
    pub note: Option<Note>,
}

/// What is remembered of a change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// When it was made, in RFC 3339.
    pub recorded: String,
    /// The Raft index of the entry that made it. Several may have one.
    #[serde(default)]
    pub index: u64,
    /// The principal of the request; none as long as requests have no principal.
    #[serde(default)]
    pub principal: Option<String>,
    /// What was done: the last word of the command, as `pause`, `skip-event` or `leave`.
    #[serde(default)]
    pub kind: String,
    /// What it was done to.
    #[serde(default)]
    pub subject: Subject,
    /// Why, in a person's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The code of the error, if it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
}

/// What a change was made to. Several of these may be set: a segment has a processor, and is claimed for a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Subject {
    /// The name of the processor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processor: Option<String>,
    /// The segment of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub segment: Option<u32>,
    /// The position of the event that was skipped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<u64>,
    /// The name of the sequence; none if all that were set aside are meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence: Option<String>,
    /// The component that the sequence is of, unless it is the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub component: Option<u16>,
    /// The name that the node had then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Its number: a name may be given again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_id: Option<u64>,
    /// The peer address of a node that is to join.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
}

/// What came of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OperationState {
    /// It holds.
    Done,
    /// It is decided, and takes effect once something else is finished.
    Waiting,
    /// It was not done.
    Refused,
}
