//! The replicated state: the same on every node, changed only by the log.
//!
//! [`State::apply`] takes one entry and returns the outcome of each of its commands. It is a function of the state and
//! the entry alone: the same log gives the same state everywhere, and [`State::chain`] shows it.

use alloc::{
    collections::{BTreeMap, VecDeque},
    format,
    string::String,
    vec::Vec,
};

use crate::{
    append::{self, Append, Appended},
    canonical::Canonical,
    command::{Command, Entry, Found, Outcome, RefusalReason},
    hash,
    id::{
        ClusterId, ContextId, Epoch, FeatureLevel, Generation, LogIndex, NodeId, Position, ProcessorId, SegmentId,
        SessionId, Term,
    },
    limits::Limits,
    member::Member,
    processor::{Handler, Processor},
    reason::{Existing, Invalid, NotFound},
    removal::Removal,
    session::Session,
    tail::Tail,
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

mod advance;
mod bounds;
mod letters;
mod membership;
mod operate;
mod operation;
mod reset;
mod reshape;
#[cfg(test)]
mod tests;

pub use crate::subject::{ChangeKind, Subject};
pub use operation::Operation;

/// The replicated state, which is the same on every node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The cluster's id; nil before it is founded.
    pub cluster: ClusterId,
    /// The level that all members understand.
    pub level: FeatureLevel,
    /// The limits by which `apply` is bounded.
    pub limits: Limits,
    /// The log's clock: `max(previous, the leader's)`.
    pub recorded: Timestamp,
    /// The generation of everything from which balance plans are made: members, sessions, claims, processors.
    pub generation: Generation,
    /// The last entry that changed anything except events and tokens.
    pub changed: LogIndex,
    /// Event stores.
    pub contexts: BTreeMap<ContextId, Context>,
    /// The members.
    pub members: BTreeMap<NodeId, Member>,
    /// The latest removed members.
    pub removals: BTreeMap<NodeId, Removal>,
    /// The nodes that are active as far as the log knows.
    pub sessions: BTreeMap<NodeId, Session>,
    /// Processors.
    pub processors: BTreeMap<ProcessorId, Processor>,
    /// The names of processors.
    pub names: BTreeMap<String, ProcessorId>,
    /// The latest operations with their outcomes, oldest first.
    pub operations: VecDeque<Operation>,
    /// Numbers that are never reused.
    pub issued: IssuedIds,
    /// The digest of all entries and outcomes so far: equal on nodes that applied the same.
    pub chain: u64,
}

/// An event store of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Context {
    /// Its name.
    pub name: String,
    /// Its latest events.
    pub tail: Tail,
}

impl Context {
    /// Returns the position of the next event.
    #[must_use]
    pub fn head(&self) -> Position {
        self.tail.head()
    }
}

/// The goal of a change, if it is not reached by the change's own entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Goal {
    /// The claim of the segment is not moving.
    Settled(ProcessorId, SegmentId),
    /// A node at this peer address is a member.
    Joined(String),
    /// This node is not a member any more.
    Left(NodeId),
    /// This node leads, or did not become the leader before the term ended.
    Leads(NodeId, Term),
}

/// The last number assigned of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuedIds {
    /// Of members.
    pub node: NodeId,
    /// Of sessions.
    pub session: SessionId,
    /// Of processors.
    pub processor: ProcessorId,
    /// Of claims and loans, of all processors together: if a processor is created under the name of a deleted one, its
    /// epochs continue above those that databases have seen of the deleted one.
    pub epoch: Epoch,
}

impl IssuedIds {
    /// Returns an epoch above all others.
    const fn next_epoch(&mut self) -> Epoch {
        self.epoch = self.epoch.next();
        self.epoch
    }
}

impl State {
    /// Judges the commands of one entry, in order, and returns their outcomes in the same order.
    pub fn apply(&mut self, index: LogIndex, entry: &Entry) -> Vec<Outcome> {
        self.recorded = self.recorded.max(entry.proposed);
        let mut outcomes = Vec::with_capacity(entry.commands.len());
        for command in &entry.commands {
            outcomes.push(self.judge(index, entry.context, command));
        }
        self.chain = chained(self.chain, index, entry, &outcomes);
        outcomes
    }

    fn judge(&mut self, index: LogIndex, context: ContextId, command: &Command) -> Outcome {
        if let Command::Found(found) = command {
            return self.found(index, found);
        }
        if let Command::Unreadable { kind, .. } = command {
            return Outcome::Refused(RefusalReason::Unreadable(*kind));
        }
        if self.cluster == ClusterId::default() {
            return invalid(Invalid::NotFounded);
        }
        match command {
            Command::Found(_) | Command::Unreadable { .. } => unreachable!("judged above"),
            Command::Append(append) => self.append(context, append),
            Command::Advance(advance) => self.advance(index, advance),
            Command::Admit(admit) => self.admit(index, admit),
            Command::Remove(node) => self.remove(index, *node),
            Command::Begin(begin) => self.begin(index, begin),
            Command::Drain(node, session) => self.drain(index, *node, *session),
            Command::Expire(node, session) => self.expire(index, *node, *session),
            Command::Assign(assign) => self.assign(index, assign),
            Command::HandOver(hand_over) => self.hand_over(index, hand_over),
            Command::Operate(operate) => self.operate(index, operate),
            Command::RaiseLevel(level) => self.raise_level(index, *level),
            Command::HookDone(done) => self.hook_done(index, done),
        }
    }

    /// Founds the cluster.
    fn found(&mut self, index: LogIndex, found: &Found) -> Outcome {
        if self.cluster != ClusterId::default() {
            return exists(Existing::Cluster(self.cluster));
        }
        if let Err(unfit) = found.limits.check() {
            return Outcome::Refused(unfit.into());
        }
        if let Err(passed) = found.first.within(&found.limits) {
            return Outcome::Refused(passed.into());
        }
        self.cluster = found.cluster;
        self.limits = found.limits;
        self.level = found.first.level;
        for (id, name) in [(ContextId::DEFAULT, "default"), (ContextId::SYSTEM, "system")] {
            self.contexts.insert(id, Context { name: name.into(), tail: Tail::default() });
        }
        self.admit(index, &found.first)
    }

    fn append(&mut self, context: ContextId, append: &Append) -> Outcome {
        let Limits { tail_events, tail_bytes, .. } = self.limits;
        let Some(context) = self.contexts.get_mut(&context) else {
            return not_found(NotFound::Context(context));
        };
        match append::judge(&context.tail, append) {
            Err(refusal) => Outcome::AppendRefused(refusal),
            Ok(Some(appended)) => Outcome::Appended(appended),
            Ok(None) => {
                let first = context.head();
                append.events.iter().for_each(|event| context.tail.push(event, tail_events, tail_bytes));
                Outcome::Appended(Appended { first, next: context.head(), repeated: false })
            }
        }
    }

    /// Returns the position of a context's next event.
    #[must_use]
    pub fn head(&self, context: ContextId) -> Position {
        self.contexts.get(&context).map_or(Position(0), Context::head)
    }

    /// Returns the digest of an event that was added a moment ago; none once the tail has forgotten it.
    #[must_use]
    pub fn digest(&self, context: ContextId, position: Position) -> Option<u64> {
        self.contexts.get(&context)?.tail.digest(position)
    }

    /// Returns a processor by its name.
    #[must_use]
    pub fn processor(&self, name: &str) -> Option<&Processor> {
        self.processors.get(self.names.get(name)?)
    }

    /// Returns what people call a member, or a node that is none.
    #[must_use]
    pub fn name_of(&self, node: NodeId) -> String {
        self.members.get(&node).map_or_else(|| format!("node {node}"), |member| member.name.clone())
    }

    /// Returns the member with this name.
    #[must_use]
    pub fn member(&self, name: &str) -> Option<&Member> {
        self.members.values().find(|member| member.name == name)
    }

    /// Returns whether the process that `session` describes can run `processor`.
    #[must_use]
    pub fn capable(session: &Session, processor: &Processor) -> bool {
        match processor.definition.handler {
            Handler::Exec(_) | Handler::Webhook(_) => true,
            Handler::Embedded => session
                .capabilities
                .get(&processor.definition.name)
                .is_some_and(|versions| versions.contains(&processor.version)),
        }
    }

    /// Returns whether `node` may be given work of `processor`: it is active, is not leaving, and can run it.
    #[must_use]
    pub fn can_run(&self, node: NodeId, processor: &Processor) -> bool {
        self.sessions.get(&node).is_some_and(|session| !session.draining && Self::capable(session, processor))
    }

    /// Notes that the table changed: plans made before are void, and watchers are notified.
    fn mark_changed(&mut self, index: LogIndex) {
        self.generation = self.generation.next();
        self.changed = index;
    }
}

const fn invalid(why: Invalid) -> Outcome {
    Outcome::Refused(RefusalReason::Invalid(why))
}

const fn not_found(subject: NotFound) -> Outcome {
    Outcome::Refused(RefusalReason::NotFound(subject))
}

fn processor_not_found(name: &str) -> Outcome {
    not_found(NotFound::Processor(name.into()))
}

const fn exists(existing: Existing) -> Outcome {
    Outcome::Refused(RefusalReason::Exists(existing))
}

/// Returns the digest of everything so far and this entry with its outcomes.
fn chained(before: u64, index: LogIndex, entry: &Entry, outcomes: &[Outcome]) -> u64 {
    let mut digest = hash::Hasher::new();
    digest.part(Some(&before.to_le_bytes()));
    digest.part(Some(&index.0.to_le_bytes()));
    digest.part(Some(&entry.proposed.0.to_le_bytes()));
    for outcome in outcomes {
        match outcome {
            Outcome::Appended(Appended { first, next, repeated }) => {
                let (first, next) = (first.0.to_le_bytes(), next.0.to_le_bytes());
                digest.part(Some(&first));
                digest.part(Some(&next));
                digest.part(Some(&[u8::from(*repeated)]));
            }
            other => {
                let mut bytes = Vec::new();
                other.write(&mut bytes);
                digest.part(Some(&bytes));
            }
        }
    }
    digest.finish()
}
