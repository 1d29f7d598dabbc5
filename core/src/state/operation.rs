//! Remembered operations: the change, its requester, its reason and its outcome.

use alloc::string::String;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Goal, State, exists};
use crate::{
    canonical::Canonical,
    command::{Change, LetterChange, Outcome, Selection},
    id::{LogIndex, NodeId},
    letter::SequenceKey,
    principal::Principal,
    reason::Existing,
    subject::{ChangeKind, Subject},
    time::Timestamp,
};

/// An operator's change and its outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// Its id.
    pub operation: Uuid,
    /// The entry that applied it.
    pub index: LogIndex,
    /// When it was recorded.
    pub recorded: Timestamp,
    /// The requester, if known.
    pub principal: Option<Principal>,
    /// The operator's reason.
    pub reason: Option<String>,
    /// The kind of the change, ...
    pub kind: ChangeKind,
    /// ... and its subject.
    pub subject: Subject,
    /// The digest of the whole change: another change under the same id is refused.
    pub digest: u64,
    /// The outcome.
    pub outcome: Outcome,
    /// The goal that the outcome has not reached yet, if any.
    pub goal: Option<Goal>,
}

impl Change {
    /// Returns the kind of the change.
    #[must_use]
    pub const fn kind(&self) -> ChangeKind {
        match self {
            Self::Create(_) => ChangeKind::Create,
            Self::Delete(_) => ChangeKind::Delete,
            Self::Pause(_, true) => ChangeKind::Pause,
            Self::Pause(_, false) => ChangeKind::Resume,
            Self::Release(..) => ChangeKind::Release,
            Self::Claim(..) => ChangeKind::Claim,
            Self::Unpin(..) => ChangeKind::Unpin,
            Self::Letters(_, _, LetterChange::Retry) => ChangeKind::Retry,
            Self::Letters(_, _, LetterChange::Skip) => ChangeKind::Skip,
            Self::Letters(_, _, LetterChange::Drop) => ChangeKind::Drop,
            Self::SetLimits(_) => ChangeKind::SetLimits,
            Self::Expect(_) => ChangeKind::Expect,
            Self::Leave(_) => ChangeKind::Leave,
            Self::Lead(..) => ChangeKind::Lead,
            Self::SkipEvent(..) => ChangeKind::SkipEvent,
            Self::Reset(..) => ChangeKind::Reset,
            Self::Split(..) => ChangeKind::Split,
            Self::Merge(..) => ChangeKind::Merge,
            Self::Move(..) => ChangeKind::Move,
        }
    }

    /// Returns the subject of the change.
    #[must_use]
    pub fn subject(&self, state: &State) -> Subject {
        let of = |name: &String| Subject { processor: Some(name.clone()), ..Subject::default() };
        let node = |node: &NodeId| {
            let member = state.members.get(node).map(|member| member.name.clone());
            Subject { node: Some(*node), member, ..Subject::default() }
        };
        match self {
            Self::Create(definition) => of(&definition.name),
            Self::Delete(name) | Self::Pause(name, _) | Self::Reset(name, ..) => of(name),
            Self::Release(name, segment) | Self::Unpin(name, segment) => {
                Subject { segment: Some(*segment), ..of(name) }
            }
            Self::Split(name, segment) | Self::Merge(name, segment) => Subject { segment: *segment, ..of(name) },
            Self::Claim(name, segment, to) | Self::Move(name, segment, to) => {
                Subject { processor: Some(name.clone()), segment: Some(*segment), ..node(to) }
            }
            Self::SkipEvent(name, segment, position) => {
                Subject { segment: Some(*segment), position: Some(*position), ..of(name) }
            }
            Self::Letters(name, Selection::All, _) => of(name),
            Self::Letters(name, Selection::Sequence(component, sequence), _) => {
                let sequence = SequenceKey { component: *component, name: sequence.clone() };
                Subject { sequence: Some(sequence), ..of(name) }
            }
            Self::SetLimits(_) => Subject::default(),
            Self::Expect(peer) => Subject { address: Some(peer.clone()), ..Subject::default() },
            Self::Leave(to) | Self::Lead(to, _) => node(to),
        }
    }
}

impl Operation {
    /// Returns the answer to `change` under the same id: the first outcome, or that it made another change.
    pub(super) fn again(&self, change: &Change) -> Outcome {
        if self.digest == change.canonical_digest() {
            return self.outcome.clone();
        }
        let (kind, subject) = (self.kind, self.subject.clone());
        let Self { operation, recorded, .. } = *self;
        exists(Existing::Operation { operation, kind, subject, recorded })
    }
}
