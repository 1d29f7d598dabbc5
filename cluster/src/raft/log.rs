//! Raft's log, stored in the journal: the Raft log *is* the event log, and a payload is written once.
//!
//! Votes, entries and truncations go through the journal's single ordered writer. An entry is readable when `append`
//! returns, and reported as durable when it is synced; several groups may be under way.

use std::{
    fmt::Debug,
    io,
    ops::{Bound, RangeBounds},
};

use evener_core::id::{ContextId, LogIndex, Term};
use evener_store::{Frame, FrameKind, Journal};
use futures::{Stream, TryStreamExt, stream};
use openraft::{
    EntryPayload, OptionalSend, RaftLogReader,
    entry::RaftEntry,
    storage::{IOFlushed, LogState, RaftLogStorage},
};
use tokio::sync::oneshot;

use super::{
    layout::Layout,
    types::{Entry, LogId, Membership, Payload, Types, Vote, log_id},
};

/// The maximum bytes of entries read at once: for one message to a follower, and for one step of apply. A message
/// that exceeds it by one entry still fits the peer frame of 4 MiB, as an entry has at most 1 MiB.
const READ_BYTES_MAX: usize = 1 << 20;

/// The journal, as openraft uses it.
#[derive(Clone)]
pub(super) struct Log {
    journal: Journal,
}

impl Log {
    pub(super) fn new(journal: Journal) -> Self {
        Self { journal }
    }

    fn read(&self, from: u64, to: u64, bytes_max: usize) -> io::Result<Vec<Entry>> {
        let Some((first, _)) = self.journal.first() else { return Ok(Vec::new()) };
        self.journal.read(LogIndex(from).max(first), LogIndex(to), bytes_max)?.into_iter().map(entry_of).collect()
    }
}

/// Returns the frame that stores an entry.
fn frame_of(entry: Entry) -> Frame {
    let id = entry.log_id();
    let (kind, context, count, payload) = match entry.payload {
        EntryPayload::Blank => (FrameKind::Blank, ContextId::DEFAULT, 0, bytes::Bytes::new()),
        EntryPayload::Membership(membership) => (FrameKind::Membership, ContextId::DEFAULT, 0, membership.to_bytes()),
        EntryPayload::Normal(payload) => (FrameKind::Commands, payload.context, payload.count, payload.bytes),
    };
    Frame { index: LogIndex(id.index), term: Term(id.leader_id.term), kind, context, count, payload }
}

/// Returns the entry stored in a frame.
fn entry_of(frame: Frame) -> io::Result<Entry> {
    let payload = match frame.kind {
        FrameKind::Blank => EntryPayload::Blank,
        FrameKind::Membership => {
            EntryPayload::Membership(Membership::from_bytes(frame.payload).map_err(|error| {
                io::Error::other(format!("failed to read entry {} of the log: {error}", frame.index))
            })?)
        }
        FrameKind::Commands => {
            EntryPayload::Normal(Payload { context: frame.context, count: frame.count, bytes: frame.payload })
        }
    };
    Ok(Entry::new(log_id(frame.term, frame.index), payload))
}

fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let from = match range.start_bound() {
        Bound::Included(from) => *from,
        Bound::Excluded(before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let to = match range.end_bound() {
        Bound::Included(last) => last.saturating_add(1),
        Bound::Excluded(to) => *to,
        Bound::Unbounded => u64::MAX,
    };
    (from, to)
}

/// Starts work that ends with a call of its `done`, and waits for that.
async fn finished(start: impl FnOnce(evener_store::disk::Done)) -> io::Result<()> {
    let (done, wait) = oneshot::channel();
    start(Box::new(move |result| {
        let _ = done.send(result);
    }));
    wait.await.map_err(|_| io::Error::other("the journal's writer has stopped"))?
}

impl RaftLogReader<Types> for Log {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<Entry>> {
        let (mut from, to) = bounds(&range);
        let mut entries = Vec::new();
        loop {
            let more = self.read(from, to, READ_BYTES_MAX)?;
            let Some(last) = more.last() else { return Ok(entries) };
            from = last.index() + 1;
            entries.extend(more);
        }
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.read(start, end, READ_BYTES_MAX)
    }

    async fn entries_stream<RB>(&mut self, range: RB) -> impl Stream<Item = io::Result<Entry>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (from, to) = bounds(&range);
        let parts = stream::try_unfold((self.clone(), from), move |(log, from)| async move {
            let part = log.read(from, to, READ_BYTES_MAX)?;
            let next = part.last().map(|last| last.index() + 1);
            Ok::<_, io::Error>(next.map(|next| (stream::iter(part.into_iter().map(Ok)), (log, next))))
        });
        Box::pin(parts.try_flatten())
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        self.journal.vote().map(|bytes| Vote::from_bytes(bytes).map_err(io::Error::other)).transpose()
    }
}

impl RaftLogStorage<Types> for Log {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        let id = |(index, term)| log_id(term, index);
        // Hidden entries are purged for openraft. This happens only in its own storage tests.
        Ok(LogState { last_purged_log_id: self.journal.hidden().map(id), last_log_id: self.journal.last().map(id) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let bytes = vote.to_bytes();
        finished(|done| self.journal.save_vote(bytes, done)).await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        if let Some(id) = committed {
            self.journal.save_committed(LogIndex(id.index));
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        let Some(index) = self.journal.committed() else { return Ok(None) };
        // The commit mark is not synced with the log: after a crash it may point past the log's end. Such entries are
        // committed, so a majority still has them and sends them again.
        let index = self.journal.last().map_or(index, |(last, _)| index.min(last));
        Ok(self.journal.term_at(index).map(|term| log_id(term, index)))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let frames = entries.into_iter().map(frame_of).collect();
        self.journal.append(frames, Box::new(move |result| callback.io_completed(result)))
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        finished(|done| self.journal.truncate_after(last.map(|id| LogIndex(id.index)), done)).await
    }

    #[cfg(not(test))]
    async fn purge(&mut self, log_id: LogId) -> io::Result<()> {
        // The log is kept whole. A purge means that openraft does not use our settings.
        Err(io::Error::other(format!(
            "refused to purge the log up to {log_id}: the log is kept whole; this is a bug in evener, \
             please report it"
        )))
    }

    #[cfg(test)]
    async fn purge(&mut self, log_id: LogId) -> io::Result<()> {
        let place = (LogIndex(log_id.index), Term(log_id.leader_id.term));
        finished(|done| self.journal.hide_below(Some(place), done)).await
    }
}
