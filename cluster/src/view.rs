//! The replicated state as applied on this node, and the mark up to which it is applied. Tasks that wait for an entry
//! wait for this mark, and do not poll.

use std::io;

use bytes::Bytes;
use evener_core::{
    append::Appended,
    command::{Entry, Outcome},
    id::{ContextId, LogIndex, Position, Term},
    state::State,
};
use evener_store::{Checkpoint, Verdict, codec};
use parking_lot::{MappedRwLockReadGuard, RwLock, RwLockReadGuard};
use tokio::sync::watch;

/// The mark up to which this node has applied the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// The index of the last applied entry.
    pub index: LogIndex,
    /// The term of that entry.
    pub term: Term,
    /// The position of the next event of the default context.
    pub head: Position,
    /// The last entry that changed anything other than events and tokens.
    pub changed: LogIndex,
}

/// The Raft group's membership as of the applied log, in Raft's encoding. It is kept here so that it is in the same
/// checkpoint as the state.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct AppliedMembership {
    /// The entry that set it; `None` before the first.
    pub at: Option<(Term, LogIndex)>,
    /// The encoded membership.
    pub layout: Vec<u8>,
}

#[derive(Default)]
struct Inner {
    state: State,
    /// The last applied entry; `None` before the first.
    last: Option<(Term, LogIndex)>,
    membership: AppliedMembership,
}

/// The replicated state as applied on this node.
pub(crate) struct StateView {
    inner: RwLock<Inner>,
    applied: watch::Sender<Applied>,
}

impl Default for StateView {
    /// Returns the state before the first entry.
    fn default() -> Self {
        Self::new(Inner::default())
    }
}

impl StateView {
    /// Returns the state in a checkpoint. An error means that this build cannot decode it; `check_layout` checks
    /// whether it can decode Raft's membership.
    pub(crate) fn recover(checkpoint: &Checkpoint, check_layout: impl Fn(&[u8]) -> io::Result<()>) -> io::Result<Self> {
        let inner = Inner {
            state: codec::decode_image(&checkpoint.image).map_err(io::Error::other)?,
            last: Some((checkpoint.term, checkpoint.index)),
            membership: codec::decode_image(&checkpoint.membership).map_err(io::Error::other)?,
        };
        check_layout(&inner.membership.layout)?;
        Ok(Self::new(inner))
    }

    fn new(inner: Inner) -> Self {
        let (applied, _) = watch::channel(mark(&inner));
        Self { inner: RwLock::new(inner), applied }
    }

    /// Returns the current replicated state. Hold the guard briefly: it blocks apply.
    pub(crate) fn state(&self) -> MappedRwLockReadGuard<'_, State> {
        RwLockReadGuard::map(self.inner.read(), |inner| &inner.state)
    }

    /// Calls `read` with the replicated state and the index of the last applied entry, both of one moment.
    pub(crate) fn with_state<R>(&self, read: impl FnOnce(&State, LogIndex) -> R) -> R {
        let inner = self.inner.read();
        read(&inner.state, inner.last.unwrap_or_default().1)
    }

    /// Returns a receiver for the applied mark.
    pub(crate) fn applied(&self) -> watch::Receiver<Applied> {
        self.applied.subscribe()
    }

    /// Returns the last applied entry; `None` before the first.
    pub(crate) fn last(&self) -> Option<(Term, LogIndex)> {
        self.inner.read().last
    }

    /// Returns the Raft group's membership as applied.
    pub(crate) fn membership(&self) -> AppliedMembership {
        self.inner.read().membership.clone()
    }

    /// Applies an entry without commands, which may set the membership.
    pub(crate) fn apply_without_commands(&self, term: Term, index: LogIndex, membership: Option<Bytes>) -> Verdict {
        let mut inner = self.inner.write();
        inner.last = Some((term, index));
        if let Some(layout) = membership {
            inner.membership = AppliedMembership { at: Some((term, index)), layout: layout.to_vec() };
        }
        let head = inner.state.head(ContextId::DEFAULT);
        verdict(index, ContextId::DEFAULT, head, &inner.state, &[])
    }

    /// Replaces the state with that of a checkpoint, see [`Self::recover`].
    pub(crate) fn install(
        &self,
        checkpoint: &Checkpoint,
        check_layout: impl Fn(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        *self.inner.write() = Self::recover(checkpoint, check_layout)?.inner.into_inner();
        self.publish();
        Ok(())
    }

    /// Applies an entry, and returns the outcomes of its commands and the positions of its events.
    pub(crate) fn apply(&self, term: Term, index: LogIndex, entry: &Entry) -> (Vec<Outcome>, Verdict) {
        let mut inner = self.inner.write();
        let head = inner.state.head(entry.context);
        let outcomes = inner.state.apply(index, entry);
        inner.last = Some((term, index));
        let verdict = verdict(index, entry.context, head, &inner.state, &outcomes);
        (outcomes, verdict)
    }

    /// Advances the mark to what was applied, and wakes the tasks that wait for it.
    pub(crate) fn publish(&self) {
        let mark = mark(&self.inner.read());
        self.applied.send_if_modified(|applied| std::mem::replace(applied, mark) != mark);
    }

    /// Waits until `index` is applied here.
    pub(crate) async fn wait_applied(&self, index: LogIndex) {
        let mut applied = self.applied.subscribe();
        // The channel cannot close: `self` owns the sender.
        let _ = applied.wait_for(|applied| applied.index >= index).await;
    }

    /// Returns the index of the last applied entry and a closure that encodes a checkpoint of the state as of that
    /// entry; `None` before the first entry. The batch of that entry may not be fully applied yet.
    pub(crate) fn image(&self) -> Option<(LogIndex, impl FnOnce() -> Checkpoint + Send + 'static)> {
        let inner = self.inner.read();
        let (term, index) = inner.last?;
        let (membership, state) = (inner.membership.clone(), inner.state.clone());
        let encode = move || {
            let membership = codec::encode_image(&membership);
            Checkpoint { index, term, membership, image: codec::encode_image(&state) }
        };
        Some((index, encode))
    }
}

fn mark(inner: &Inner) -> Applied {
    let (term, index) = inner.last.unwrap_or_default();
    Applied { index, term, head: inner.state.head(ContextId::DEFAULT), changed: inner.state.changed }
}

/// Returns which of an entry's appends were stored, and at which positions.
fn verdict(index: LogIndex, context: ContextId, head: Position, state: &State, outcomes: &[Outcome]) -> Verdict {
    let mut accepted = Vec::new();
    for (number, outcome) in (0..).zip(outcomes) {
        if let Outcome::Appended(Appended { repeated: false, .. }) = outcome {
            accepted.push(number);
        }
    }
    let events = state.head(context).0 - head.0;
    let events = u32::try_from(events).expect("an entry has fewer events than bytes");
    Verdict { index, context, first: head, accepted, events, recorded: state.recorded }
}
