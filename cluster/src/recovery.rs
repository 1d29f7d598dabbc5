//! Recovery of the applied state at a start, and the checkpoints that it starts from: the replicated state, the index
//! of all events, and the entries after the checkpoint.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use evener_core::{
    command::{Entry, Outcome},
    id::{ClusterId, ContextId, LogIndex},
    time::Timestamp,
};
use evener_store::{
    Checkpoint, Disk, Identity, Journal, OpenError, Recovered, Verdict, index::Index, recovery::UnusableCheckpoint,
};
use tokio::{
    sync::oneshot,
    time::{sleep, timeout},
};

use crate::{config::Checkpoint as Settings, view::StateView};

/// The data that applying an entry changes.
#[derive(Clone)]
pub(crate) struct AppliedState {
    /// The replicated state.
    pub view: Arc<StateView>,
    /// The index of all events.
    pub index: Index,
    /// `None` in openraft's test suite for state machines, which has no log.
    journal: Option<Journal>,
    pace: Arc<Pace>,
}

/// Determines when the next checkpoint is due.
struct Pace {
    settings: Settings,
    entries: AtomicU64,
    bytes: AtomicU64,
    writing: AtomicBool,
}

impl AppliedState {
    /// Opens the journal of a node of `cluster`. The applied state is that of the newest usable checkpoint, with an
    /// index of all events whose positions are known. Later entries are applied again when Raft reports them as
    /// committed; if no checkpoint is usable, these are all entries. For `check_layout` see [`StateView::recover`].
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        journal: evener_store::JournalSettings,
        settings: Settings,
        cluster: ClusterId,
        check_layout: impl Fn(&[u8]) -> io::Result<()>,
    ) -> Result<(Self, Journal, Recovered), OpenError> {
        let mut view = None;
        let mut accept = |checkpoint: &Checkpoint| {
            view = Some(state_of(cluster, checkpoint, &check_layout)?);
            Ok(())
        };
        let (journal, recovered) = Journal::open_with(disk, journal, &mut accept)?;
        let view = view.unwrap_or_default();
        let index = Index::default();
        rebuild(&index, &journal).map_err(OpenError::io("index the events of the log"))?;
        let pace =
            Pace { settings, entries: AtomicU64::new(0), bytes: AtomicU64::new(0), writing: AtomicBool::new(false) };
        let applied_state = Self { view: Arc::new(view), index, journal: Some(journal.clone()), pace: Arc::new(pace) };
        Ok((applied_state, journal, recovered))
    }

    /// Logs what a start found on disk.
    pub(crate) fn log_recovery(&self, identity: &Identity, recovered: &Recovered, took: Duration) {
        let ends = self.journal.as_ref().and_then(|journal| Some((journal.first()?.0, journal.last()?.0)));
        tracing::info!(
            cluster = %identity.cluster,
            member = %identity.node,
            fresh = recovered.fresh,
            frames = ends.map_or(0, |(first, last)| last.0.saturating_sub(first.0) + 1),
            last_frame = ends.map(|(_, last)| last.0),
            events = self.index.head(ContextId::DEFAULT).0,
            checkpoint = recovered.checkpoint.as_ref().map(|checkpoint| checkpoint.index.0),
            torn_bytes = recovered.torn.as_ref().map(|torn| torn.bytes),
            took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            "recovered the log"
        );
    }

    #[cfg(test)]
    pub(crate) fn without_log(self) -> Self {
        Self { journal: None, ..self }
    }

    /// Adds the events of an applied entry to the index.
    pub(crate) fn index_events(&self, index: LogIndex, recorded: Timestamp, entry: &Entry, outcomes: &[Outcome]) {
        self.view.with_state(|state, _| {
            let digest = |position| state.digest(entry.context, position);
            self.index.apply(index, recorded, entry, outcomes, digest);
        });
    }

    /// Records that entries were applied: the journal may seal their chunks, and the applied mark advances. Starts a
    /// checkpoint if one is due.
    pub(crate) fn applied(&self, verdicts: Vec<Verdict>, bytes: usize) {
        if verdicts.is_empty() {
            return;
        }
        let entries = self.pace.entries.fetch_add(verdicts.len() as u64, Relaxed) + verdicts.len() as u64;
        let bytes = self.pace.bytes.fetch_add(bytes as u64, Relaxed) + bytes as u64;
        if let Some(journal) = &self.journal {
            journal.applied(verdicts);
        }
        self.view.publish();
        let due = entries >= self.pace.settings.entries || bytes >= self.pace.settings.bytes;
        if due && !self.pace.writing.swap(true, Relaxed) {
            let applied_state = self.clone();
            // In a task of its own, so that apply continues while the image is encoded and written.
            tokio::spawn(async move {
                if let Err(error) = applied_state.checkpoint().await {
                    tracing::warn!(%error, "failed to write a checkpoint; trying again later");
                    // A failed checkpoint costs as much work as a written one, so do not retry at once.
                    sleep(RETRY_AFTER).await;
                }
                applied_state.pace.writing.store(false, Relaxed);
            });
        }
    }

    /// Writes a checkpoint of the current state.
    pub(crate) async fn checkpoint(&self) -> io::Result<()> {
        let (Some(journal), Some((index, encode))) = (&self.journal, self.view.image()) else { return Ok(()) };
        let (entries, bytes) = (self.pace.entries.load(Relaxed), self.pace.bytes.load(Relaxed));
        // The image may be of the middle of a batch: the journal accepts it once it has the verdicts of the whole
        // batch.
        if timeout(SETTLE_WAIT, self.view.wait_applied(index)).await.is_err() {
            return Err(io::Error::other(format!("the batch that contains entry {index} was not applied in time")));
        }
        let checkpoint = encode();
        has_space_for(journal, &checkpoint)?;
        let (done, wait) = oneshot::channel();
        journal.save_checkpoint(
            checkpoint,
            Box::new(move |result| {
                let _ = done.send(result);
            }),
        );
        wait.await.map_err(|_| io::Error::other("the journal's writer has stopped"))??;
        // Subtracted only after success, so that a failed checkpoint is due again.
        self.pace.entries.fetch_sub(entries, Relaxed);
        self.pace.bytes.fetch_sub(bytes, Relaxed);
        Ok(())
    }
}

/// Decodes a checkpoint, which must be of this cluster: files may be copied by hand, and the state of another cluster
/// would be used until the log contradicts it.
fn state_of(
    cluster: ClusterId,
    checkpoint: &Checkpoint,
    check_layout: impl Fn(&[u8]) -> io::Result<()>,
) -> Result<StateView, UnusableCheckpoint> {
    let view = StateView::recover(checkpoint, check_layout).map_err(UnusableCheckpoint::Unreadable)?;
    let found = view.state().cluster;
    if found == cluster {
        Ok(view)
    } else if found == ClusterId::default() {
        Err(UnusableCheckpoint::Unreadable(io::Error::other("its state is older than the cluster")))
    } else {
        Err(UnusableCheckpoint::Foreign(format!("it is of cluster {found}, and this node is of cluster {cluster}")))
    }
}

/// Refuses a checkpoint that would leave the log without space for its next chunk: the writer would wait for space, and
/// the log with it.
fn has_space_for(journal: &Journal, checkpoint: &Checkpoint) -> io::Result<()> {
    let free = journal.space()?.free;
    let bytes = (checkpoint.image.len() + checkpoint.membership.len()) as u64;
    if free >= bytes.saturating_add(journal.chunk_bytes()) {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::StorageFull,
        format!("the checkpoint has {bytes} bytes; {free} bytes are free, and the log needs a chunk of them"),
    ))
}

/// The delay before a failed checkpoint is retried.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// The longest time that applying a batch takes, unless the node is stopping.
const SETTLE_WAIT: Duration = Duration::from_secs(10);

/// The number of bytes of the log that are read at once to build the index.
const REBUILD_BYTES_MAX: usize = 4 << 20;

fn rebuild(index: &Index, journal: &Journal) -> io::Result<()> {
    let (Some((first, _)), Some(to)) = (journal.first(), journal.applied_next()) else { return Ok(()) };
    let mut from = first;
    while from < to {
        let frames = journal.read_applied(from, to, REBUILD_BYTES_MAX)?;
        let Some((last, _)) = frames.last() else { break };
        from = last.index.next();
        for (frame, verdict) in frames.iter().filter(|(_, verdict)| verdict.events > 0) {
            index
                .apply_accepted(frame.index, verdict.recorded, verdict.first, &verdict.accepted, &frame.payload)
                .map_err(io::Error::other)?;
        }
    }
    Ok(())
}
