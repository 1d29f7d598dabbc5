//! The state machine: the replicated state decides on each committed entry, its events enter the index, its verdict
//! is recorded in the journal, the mark moves, and its proposer is answered, in this order.
//!
//! Raft snapshots are never taken: the log is kept whole, and a restart begins with our checkpoint. Their methods are
//! implemented all the same, because openraft calls them when it starts.

use std::{io, sync::Arc};

use bytes::Bytes;
use evener_core::{
    command::Outcome,
    id::{LogIndex, Term},
};
use evener_store::{Checkpoint, Verdict, payload};
use futures::{Stream, TryStreamExt};
use openraft::{
    EntryPayload, OptionalSend, RaftSnapshotBuilder,
    entry::RaftEntry,
    storage::{ApplyResponder, EntryResponder, RaftStateMachine},
    type_config::alias::{SnapshotMetaOf, SnapshotOf},
};
use parking_lot::Mutex;

use super::{
    layout::{Layout, check_membership},
    types::{LogId, Membership, Payload, StoredMembership, Types, log_id},
};
use crate::recovery::AppliedState;

/// The maximum entries that are applied before the mark moves and their proposers are answered.
const BATCH_ENTRIES_MAX: usize = 64;

/// The replicated state, as openraft uses it.
#[derive(Clone)]
pub(super) struct Machine {
    applied_state: AppliedState,
    /// The latest snapshot requested in this process.
    snapshot: Arc<Mutex<Option<Snapshot>>>,
}

type Snapshot = SnapshotOf<Types, SnapshotData>;

/// None for a state to which nothing was applied.
pub(super) type SnapshotData = Option<Checkpoint>;

/// Applied entries whose results are not published yet.
#[derive(Default)]
struct Batch {
    verdicts: Vec<Verdict>,
    bytes: usize,
    answers: Vec<(ApplyResponder<Types>, Vec<Outcome>)>,
}

impl Machine {
    pub(super) fn new(applied_state: AppliedState) -> Self {
        Self { applied_state, snapshot: Arc::default() }
    }

    fn judge(&self, term: Term, index: LogIndex, payload: &Payload) -> io::Result<(Vec<Outcome>, Verdict)> {
        let entry = payload::read_entry(&payload.bytes)
            .map_err(|error| io::Error::other(format!("failed to apply entry {index} of the log: {error}")))?;
        let (outcomes, verdict) = self.applied_state.view.apply(term, index, &entry);
        self.applied_state.index_events(index, verdict.recorded, &entry, &outcomes);
        Ok((outcomes, verdict))
    }

    fn membership(&self) -> io::Result<StoredMembership> {
        let applied = self.applied_state.view.membership();
        let Some((term, index)) = applied.at else { return Ok(StoredMembership::default()) };
        let membership = Membership::from_bytes(Bytes::from(applied.layout)).map_err(io::Error::other)?;
        Ok(StoredMembership::new(Some(log_id(term, index)), membership))
    }

    fn last(&self) -> Option<LogId> {
        self.applied_state.view.last().map(|(term, index)| log_id(term, index))
    }

    /// Moves the mark and then answers the waiting proposers, so that their reads see their writes.
    fn settle(&self, batch: &mut Batch) {
        let Batch { verdicts, bytes, answers } = std::mem::take(batch);
        self.applied_state.applied(verdicts, bytes);
        for (responder, outcomes) in answers {
            responder.send(outcomes);
        }
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok((self.last(), self.membership()?))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + OptionalSend,
    {
        let mut batch = Batch::default();
        while let Some((entry, responder)) = entries.try_next().await? {
            let id = entry.log_id();
            let (term, index) = (Term(id.leader_id.term), LogIndex(id.index));
            let (outcomes, verdict) = match &entry.payload {
                EntryPayload::Normal(payload) => {
                    batch.bytes += payload.bytes.len();
                    self.judge(term, index, payload)?
                }
                EntryPayload::Membership(membership) => (
                    Vec::new(),
                    self.applied_state.view.apply_without_commands(term, index, Some(membership.to_bytes())),
                ),
                EntryPayload::Blank => (Vec::new(), self.applied_state.view.apply_without_commands(term, index, None)),
            };
            batch.verdicts.push(verdict);
            batch.answers.extend(responder.map(|responder| (responder, outcomes)));
            if batch.verdicts.len() >= BATCH_ENTRIES_MAX {
                self.settle(&mut batch);
                // Yields now and then, so that a long replay does not block its thread.
                tokio::task::yield_now().await;
            }
        }
        self.settle(&mut batch);
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMetaOf<Types>, snapshot: SnapshotData) -> io::Result<()> {
        if let Some(checkpoint) = &snapshot {
            self.applied_state.view.install(checkpoint, check_membership)?;
        }
        *self.snapshot.lock() = Some(Snapshot { meta: meta.clone(), snapshot });
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        Ok(self.snapshot.lock().clone())
    }
}

impl RaftSnapshotBuilder<Types> for Machine {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        let meta = SnapshotMetaOf::<Types> { last_log_id: self.last(), last_membership: self.membership()? };
        let snapshot = Snapshot { meta, snapshot: self.applied_state.view.image().map(|(_, encode)| encode()) };
        *self.snapshot.lock() = Some(snapshot.clone());
        Ok(snapshot)
    }
}
