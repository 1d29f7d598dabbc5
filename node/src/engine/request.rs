//! The requests to a node. HTTP, the command line and the library all make these and nothing else.

use evener_core::{
    append,
    criteria::Criteria,
    id::{ContextId, Position},
    principal::Principal,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::verbs::What;

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Add events: all or none.
    Append(append::Request),
    /// Add events in many appends; each is judged and answered alone.
    AppendMany(Vec<append::Request>),
    /// A page of events.
    Read(Read),
    /// Like a read, and where nothing is there yet it waits a while for something to come.
    Tail(Read),
    /// All processors.
    Processors,
    /// One processor.
    Processor(String),
    /// What a processor has set aside.
    DeadLetters(String),
    /// What this node does.
    Status,
    /// What the cluster looks like from this node.
    ClusterStatus,
    /// The changes that are remembered.
    Operations(OperationFilter),
    /// What came of a change.
    Operation(Uuid),
    /// Change something.
    Change(Change),
}

/// Which events to read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Read {
    /// Of which context.
    pub context: ContextId,
    /// The first position that is meant.
    pub from: Position,
    /// The position after the last that is meant; none is the head.
    pub to: Option<Position>,
    /// No more events than this.
    pub limit: Option<u64>,
    /// Which of them.
    pub criteria: Criteria,
    /// Only of this stream.
    pub stream: Option<String>,
    /// The last first.
    pub backwards: bool,
    /// How fresh the answer must be.
    pub consistency: Consistency,
    /// It goes on with a read of which a page was answered already.
    pub continues: bool,
}

/// How fresh the answer of a read must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Consistency {
    /// Everything that was acknowledged before the read began is seen. Needs a majority.
    #[default]
    Linearizable,
    /// What this node has. Always answered.
    Local,
}

/// Which of the remembered operations to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OperationFilter {
    /// Only those on this processor.
    pub processor: Option<String>,
    /// Only those that name this node.
    pub node: Option<String>,
    /// Only those of this kind: the last word of the command, as `pause` or `skip-event`.
    pub kind: Option<String>,
    /// Only those made before this one.
    pub before: Option<Uuid>,
    /// No more than this: see [`OPERATIONS_PAGE_MAX`](super::OPERATIONS_PAGE_MAX).
    pub limit: Option<u64>,
}

/// A change, with what every change can say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Names it: repeated with the same name it is done once.
    pub operation: Uuid,
    /// The principal, if it is known: it is established by the server that accepts the request, never read from it.
    pub principal: Option<Principal>,
    /// Why, in the person's words.
    pub reason: Option<String>,
    /// Only say what it would come to.
    pub dry_run: bool,
    /// What.
    pub what: What,
}

impl Request {
    /// Returns the request as this principal asks it. It is kept with what a change comes to.
    #[must_use]
    pub fn asked_by(self, principal: Option<Principal>) -> Self {
        match self {
            Self::Change(change) => Self::Change(Change { principal, ..change }),
            other => other,
        }
    }
}

impl Change {
    /// A change under a new name.
    #[must_use]
    pub fn new(what: What) -> Self {
        Self { operation: Uuid::new_v4(), principal: None, reason: None, dry_run: false, what }
    }
}
