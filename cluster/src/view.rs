//! What this node has applied: the replicated state, the index of all events, and the mark up to where both
//! stand. Whoever waits for something in the log waits here; nobody polls.

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

/// Up to where this node has applied the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// The last entry.
    pub index: LogIndex,
    /// Its term.
    pub term: Term,
    /// The position of the next event of the default context.
    pub head: Position,
    /// The last entry that changed anything but events and tokens.
    pub changed: LogIndex,
}

/// The group's membership as of the applied log. Raft's, in Raft's layout; kept here so that it stands in the
/// same checkpoint as the state.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct AppliedMembership {
    /// Where it was set; none before the first.
    pub at: Option<(Term, LogIndex)>,
    /// Raft's membership.
    pub layout: Vec<u8>,
}

#[derive(Default)]
struct Inner {
    state: State,
    /// The last entry applied; none before the first.
    last: Option<(Term, LogIndex)>,
    membership: AppliedMembership,
}

/// What this node has applied.
pub struct StateView {
    inner: RwLock<Inner>,
    applied: watch::Sender<Applied>,
}

impl Default for StateView {
    /// What was before the first entry.
    fn default() -> Self {
        Self::new(Inner::default())
    }
}

impl StateView {
    /// What a checkpoint holds. An error means that this build cannot read it; `check_layout` tells whether it can read
    /// the layout of the seats, which is Raft's.
    pub fn recover(checkpoint: &Checkpoint, check_layout: impl Fn(&[u8]) -> io::Result<()>) -> io::Result<Self> {
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

    /// The replicated state as of now. Hold it briefly: nothing is applied meanwhile.
    pub fn state(&self) -> MappedRwLockReadGuard<'_, State> {
        RwLockReadGuard::map(self.inner.read(), |inner| &inner.state)
    }

    /// The replicated state, and up to where it is applied: both of one moment.
    pub fn with_state<R>(&self, read: impl FnOnce(&State, LogIndex) -> R) -> R {
        let inner = self.inner.read();
        read(&inner.state, inner.last.unwrap_or_default().1)
    }

    /// The mark, and when it moves.
    pub fn applied(&self) -> watch::Receiver<Applied> {
        self.applied.subscribe()
    }

    /// The last entry applied; none before the first.
    pub fn last(&self) -> Option<(Term, LogIndex)> {
        self.inner.read().last
    }

    /// The group's membership as applied.
    pub fn membership(&self) -> AppliedMembership {
        self.inner.read().membership.clone()
    }

    /// An entry without commands was applied; perhaps it set the membership.
    pub fn apply_without_commands(&self, term: Term, index: LogIndex, membership: Option<Bytes>) -> Verdict {
        let mut inner = self.inner.write();
        inner.last = Some((term, index));
        if let Some(layout) = membership {
            inner.membership = AppliedMembership { at: Some((term, index)), layout: layout.to_vec() };
        }
        let head = inner.state.head(ContextId::DEFAULT);
        verdict(index, ContextId::DEFAULT, head, &inner.state, &[])
    }

    /// Replaces everything by what a checkpoint holds, see [`Self::recover`].
    pub fn install(&self, checkpoint: &Checkpoint, check_layout: impl Fn(&[u8]) -> io::Result<()>) -> io::Result<()> {
        *self.inner.write() = Self::recover(checkpoint, check_layout)?.inner.into_inner();
        self.publish();
        Ok(())
    }

    /// Applies an entry: what became of its commands, and which of its events stand where.
    pub fn apply(&self, term: Term, index: LogIndex, entry: &Entry) -> (Vec<Outcome>, Verdict) {
        let mut inner = self.inner.write();
        let head = inner.state.head(entry.context);
        let outcomes = inner.state.apply(index, entry);
        inner.last = Some((term, index));
        let verdict = verdict(index, entry.context, head, &inner.state, &outcomes);
        (outcomes, verdict)
    }

    /// Moves the mark to what was applied, and wakes who waits for it.
    pub fn publish(&self) {
        let mark = mark(&self.inner.read());
        self.applied.send_if_modified(|applied| std::mem::replace(applied, mark) != mark);
    }

    /// Waits until `index` is applied here.
    pub async fn wait_applied(&self, index: LogIndex) {
        let mut applied = self.applied.subscribe();
        // It cannot close: the sender is `self`.
        let _ = applied.wait_for(|applied| applied.index >= index).await;
    }

    /// What a checkpoint should hold, and of which entry: taken at once, encoded by whoever calls the closure. None
    /// before the first entry. The entry may be one whose batch is not settled yet.
    pub fn image(&self) -> Option<(LogIndex, impl FnOnce() -> Checkpoint + Send + 'static)> {
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

/// Which of an entry's appends were stored, and where.
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
