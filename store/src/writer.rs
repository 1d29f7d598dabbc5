//! The single writer of a node, as a pure state machine. Its inputs are requests and the disk's reports; its effects
//! are operations of the disk and callbacks.
//!
//! The order of writes that survives a crash:
//! - One group is in flight at a time. Requests queue behind it in order: consecutive appends form one group, up to
//!   [`GROUP_BYTES_MAX`]; any other request is its own group. The callbacks of a group are called after its last sync,
//!   in order.
//! - A group of frames is one write and one sync per chunk. The file of the next chunk is created only after the full
//!   chunk is synced, and its name is synced before the callbacks. So only the last chunk can end in a torn write.
//! - The watermark is written before a group, without a sync, and covers the previous group. So it is exact after the
//!   process dies. After the machine dies it may be as old as its last sync, see [`Input::SyncWatermark`].
//! - A truncation first lowers the watermark and syncs it, then removes the later chunks from the last one and syncs
//!   each removal, so that there can be no gap; then it shortens the remaining chunk and syncs that before a frame can
//!   be written there.
//! - The vote and the checkpoint are written to a new file, synced and renamed, and the name is synced.
//! - An operation without space on the disk waits until there is some (see [`crate::Disk::submit`]). Space is allocated
//!   before bytes are written, so a group whose write has started does not wait.
//! - Any other failed write or sync stops the writer: the content of the disk is unknown, and a second sync may falsely
//!   succeed.

use std::{collections::VecDeque, io, mem};

use bytes::Bytes;
use evener_core::id::{LogIndex, Term};

use crate::{
    checkpoint::SavedCheckpoint,
    chunk::{CHUNK_DIR, chunk_file, create, encode_header},
    disk::{Done, Op},
    error::stopped_error,
    frame::{Frame, FrameLocation, PAYLOAD_BYTES_MAX},
    log::{Log, Phase},
    verdict::Verdict,
    vote::{VOTE_BYTES_MAX, VoteRecord},
    watermark::Watermark,
};

/// Bytes of one group of frames. A torn write is at most this long, so this also bounds the tail that may be truncated
/// at a start.
pub const GROUP_BYTES_MAX: usize = 2 << 20;

/// A request to the writer, or a report.
pub(crate) enum Input {
    /// Append frames.
    Append(Vec<Frame>, Done),
    /// Remove all frames after this one.
    Truncate(Option<LogIndex>, Done),
    /// Save the vote.
    Vote(Bytes, Done),
    /// Hide frames up to this one; if the log ends before it, the log starts over after it.
    Hide(Option<(LogIndex, Term)>, Done),
    /// Record the committed index.
    Committed(LogIndex),
    /// Sync the watermark if it has moved since the last sync.
    SyncWatermark,
    /// Seal a chunk with this footer.
    Seal { chunk: LogIndex, footer: Vec<u8>, hash: u128 },
    /// Save a checkpoint.
    Checkpoint(Box<SavedCheckpoint>, Done),
    /// The group in flight is durable, or has failed.
    Finished(io::Result<()>),
    /// Writing a watermark failed, or another error occurred that must stop the node.
    Failed(String),
}

/// The effects of an input, to be executed in this order.
#[derive(Default)]
#[must_use]
pub(crate) struct Effects {
    /// Submit this operation without waiting for it.
    pub watermark: Option<Op>,
    /// Submit this group; its result returns as [`Input::Finished`].
    pub group: Option<Vec<Op>>,
    /// Call these callbacks, after submitting to the disk.
    pub completions: Vec<(Done, io::Result<()>)>,
}

/// The state machine of the writer.
pub(crate) struct Writer {
    /// The log in memory.
    pub log: Log,
    /// The vote and the last hidden frame after all queued writes.
    pub vote_record: VoteRecord,
    /// The verdicts of consecutive frames: all in unsealed chunks.
    pub verdicts: VecDeque<Verdict>,
    /// The next frame to apply; `None` while the log was always empty.
    pub applied_next: Option<LogIndex>,
    /// Why the writer has stopped, if it has.
    pub failed: Option<String>,
    chunk_bytes: u64,
    queue: VecDeque<Group>,
    in_flight: Option<Group>,
    watermark: Watermark,
    written_watermark: Watermark,
    /// The watermark that was last submitted with a sync.
    synced_watermark: Watermark,
    has_checkpoint: bool,
}

struct Group {
    work: Work,
    done: Vec<Done>,
}

enum Work {
    Append(Append),
    Ops(Vec<Op>, OnDone),
}

struct Append {
    writes: Vec<ChunkWrite>,
    bytes: usize,
    /// The last of its frames that has not been truncated since.
    last: Option<LogIndex>,
    base: LogIndex,
    end: (FrameLocation, LogIndex),
}

/// Consecutive bytes of one chunk.
struct ChunkWrite {
    location: FrameLocation,
    bytes: Vec<u8>,
}

/// What holds once the group is on the disk.
enum OnDone {
    Nothing,
    /// The watermark is synced.
    WatermarkSynced,
    /// The watermark was lowered.
    WatermarkLowered(Watermark),
    /// The chunk has its footer.
    Sealed {
        chunk: LogIndex,
        hash: u128,
        bytes: u64,
    },
}

impl Writer {
    pub(crate) fn new(
        log: Log,
        chunk_bytes: u64,
        vote_record: VoteRecord,
        watermark: Watermark,
        has_checkpoint: bool,
    ) -> Self {
        Self {
            log,
            vote_record,
            verdicts: VecDeque::new(),
            applied_next: None,
            failed: None,
            chunk_bytes,
            queue: VecDeque::new(),
            in_flight: None,
            watermark,
            written_watermark: watermark,
            synced_watermark: watermark,
            has_checkpoint,
        }
    }

    pub(crate) fn committed(&self) -> Option<LogIndex> {
        self.watermark.committed
    }

    /// Checks that the writer has not stopped.
    pub(crate) fn check(&self) -> io::Result<()> {
        self.failed.as_ref().map_or(Ok(()), |reason| Err(stopped_error(reason)))
    }

    /// Checks that these frames can be appended; to be called before [`Input::Append`].
    pub(crate) fn check_append(&self, frames: &[Frame]) -> io::Result<()> {
        self.check()?;
        let invalid = |message: String| Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        let mut next = self.log.next();
        for frame in frames {
            if next.is_some_and(|next| next != frame.index) {
                let next = next.unwrap_or_default();
                return invalid(format!("frame {} cannot be appended: the next frame is {next}", frame.index));
            }
            if frame.payload.len() > PAYLOAD_BYTES_MAX {
                let (index, len) = (frame.index, frame.payload.len());
                return invalid(format!("frame {index} has {len} bytes of payload, more than {PAYLOAD_BYTES_MAX}"));
            }
            next = Some(frame.index.next());
        }
        Ok(())
    }

    /// Processes one input.
    pub(crate) fn step(&mut self, input: Input) -> Effects {
        let mut effects = Effects::default();
        match input {
            // A failed watermark has stopped the journal and completed the group behind it with an error.
            Input::Finished(_) if self.failed.is_some() => {}
            Input::Finished(result) => match result {
                Ok(()) => self.finish(&mut effects),
                Err(error) => self.fail(error.to_string(), &mut effects),
            },
            Input::Failed(reason) => self.fail(reason, &mut effects),
            Input::SyncWatermark => self.sync_watermark(),
            Input::Committed(index) => self.watermark.committed = self.watermark.committed.max(Some(index)),
            Input::Append(_, done)
            | Input::Truncate(_, done)
            | Input::Vote(_, done)
            | Input::Hide(_, done)
            | Input::Checkpoint(_, done)
                if self.failed.is_some() =>
            {
                effects.completions.push((done, self.check()));
            }
            Input::Append(frames, done) => self.append(frames, done),
            Input::Truncate(last, done) => self.truncate(last, done, &mut effects),
            Input::Vote(vote, done) => self.vote(vote, done, &mut effects),
            Input::Hide(hidden, done) => self.hide(hidden, done, &mut effects),
            Input::Seal { chunk, footer, hash } => self.seal(chunk, footer, hash),
            Input::Checkpoint(saved, done) => {
                let ops = saved.replace(self.has_checkpoint);
                self.has_checkpoint = true;
                self.enqueue(ops, OnDone::Nothing, Some(done));
            }
        }
        self.start(&mut effects);
        effects
    }

    fn append(&mut self, frames: Vec<Frame>, done: Done) {
        for frame in frames {
            let bytes = frame.bytes();
            let (location, _) = self.log.push(frame.clone());
            let (base, chunk_bytes) = (self.log.base().expect("a frame was pushed"), self.chunk_bytes);
            let group = self.open_append(bytes, base, (location, frame.index));
            group.write(&frame, location, chunk_bytes);
        }
        match self.queue.back_mut() {
            Some(group @ Group { work: Work::Append(_), .. }) => group.done.push(done),
            // There were no frames: it completes after all groups before it.
            _ => self.enqueue(Vec::new(), OnDone::Nothing, Some(done)),
        }
    }

    /// Returns the group of frames at the end of the queue; creates one if there is none or it is full.
    fn open_append(&mut self, bytes: usize, base: LogIndex, end: (FrameLocation, LogIndex)) -> &mut Append {
        let fits = match self.queue.back() {
            Some(Group { work: Work::Append(append), .. }) => append.bytes + bytes <= GROUP_BYTES_MAX,
            _ => false,
        };
        if !fits {
            let work = Work::Append(Append { writes: Vec::new(), bytes: 0, last: None, base, end });
            self.queue.push_back(Group { work, done: Vec::new() });
        }
        match self.queue.back_mut() {
            Some(Group { work: Work::Append(append), .. }) => append,
            _ => unreachable!("one was pushed if there was none"),
        }
    }

    fn truncate(&mut self, last: Option<LogIndex>, done: Done, effects: &mut Effects) {
        let next = last.map_or(LogIndex(0), LogIndex::next);
        let sealed = self.log.chunks.iter().any(|chunk| chunk.phase != Phase::Open && chunk.next() > next);
        if sealed || self.applied_next.is_some_and(|applied| next < applied) {
            let kept = last.map_or_else(|| "the beginning".to_owned(), |last| format!("frame {last}"));
            let reason = format!(
                "asked to truncate the log after {kept}, but later frames are applied: the other nodes have lost \
                 acknowledged entries, for example because an older copy of a data directory was restored; keep this \
                 directory, it may be the last complete one"
            );
            self.fail(reason, effects);
            effects.completions.push((done, self.check()));
            return;
        }
        let (ops, then) = self.truncate_log(last);
        self.enqueue(ops, then, Some(done));
    }

    /// Truncates the log in memory; returns the operations that truncate it on the disk.
    fn truncate_log(&mut self, last: Option<LogIndex>) -> (Vec<Op>, OnDone) {
        let next = last.map_or(LogIndex(0), LogIndex::next);
        if self.log.chunks.last().is_none_or(|chunk| chunk.next() <= next) {
            return (Vec::new(), OnDone::Nothing);
        }
        for group in self.queue.iter_mut().chain(&mut self.in_flight) {
            if let Work::Append(append) = &mut group.work {
                append.last = append.last.min(last);
            }
        }
        let truncation = self.log.truncate(last);
        let lowered = Watermark {
            base: self.log.base(),
            end: self.log.chunks.last().map(|chunk| (chunk.end_location(), chunk.next())),
            committed: self.watermark.committed,
        };
        (truncation_ops(lowered, &truncation, self.chunk_bytes), OnDone::WatermarkLowered(lowered))
    }

    fn vote(&mut self, vote: Bytes, done: Done, effects: &mut Effects) {
        if vote.len() > VOTE_BYTES_MAX {
            let message = format!("a vote has at most {VOTE_BYTES_MAX} bytes, and this one has {}", vote.len());
            effects.completions.push((done, Err(io::Error::new(io::ErrorKind::InvalidInput, message))));
            return;
        }
        self.vote_record.vote = Some(vote);
        let ops = self.vote_record.replace();
        self.enqueue(ops, OnDone::Nothing, Some(done));
    }

    fn hide(&mut self, hidden: Option<(LogIndex, Term)>, done: Done, effects: &mut Effects) {
        let beyond = match (hidden, self.log.last()) {
            (Some((hidden, _)), Some((last, _))) => hidden > last,
            _ => false,
        };
        if beyond && self.log.chunks.iter().any(|chunk| chunk.phase != Phase::Open) {
            self.fail("asked to start the log over, but some of it is sealed".into(), effects);
            effects.completions.push((done, self.check()));
            return;
        }
        self.vote_record.hidden = hidden;
        self.log.hidden = hidden;
        let mut ops = self.vote_record.replace();
        let mut then = OnDone::Nothing;
        if beyond {
            let (more, lowered) = self.truncate_log(None);
            ops.extend(more);
            then = lowered;
            self.applied_next = None;
            self.verdicts.clear();
        }
        self.enqueue(ops, then, Some(done));
    }

    fn seal(&mut self, chunk: LogIndex, footer: Vec<u8>, hash: u128) {
        let end = self.log.chunk_mut(chunk).expect("a chunk being sealed stays").end();
        let bytes = end + footer.len() as u64;
        let file = chunk_file(chunk);
        let ops = vec![
            Op::Create { file: file.clone(), preallocate: bytes },
            Op::Write { file: file.clone(), offset: end, bytes: footer.into() },
            Op::Truncate { file: file.clone(), len: bytes },
            Op::SyncData { file },
        ];
        self.enqueue(ops, OnDone::Sealed { chunk, hash, bytes }, None);
    }

    /// Queues a sync of the watermark behind the waiting groups, so that it covers the last of them.
    fn sync_watermark(&mut self) {
        let moved =
            self.watermark.end != self.synced_watermark.end || self.watermark.base != self.synced_watermark.base;
        if self.failed.is_none() && moved && !self.queue.iter().any(Group::syncs_watermark) {
            self.enqueue(Vec::new(), OnDone::WatermarkSynced, None);
        }
    }

    fn enqueue(&mut self, ops: Vec<Op>, then: OnDone, done: Option<Done>) {
        self.queue.push_back(Group { work: Work::Ops(ops, then), done: done.into_iter().collect() });
    }

    /// Starts the next group if none is in flight.
    fn start(&mut self, effects: &mut Effects) {
        if self.in_flight.is_some() || self.failed.is_some() {
            return;
        }
        let Some(mut group) = self.queue.pop_front() else {
            if self.watermark != self.written_watermark {
                effects.watermark = Some(self.watermark.write());
                self.written_watermark = self.watermark;
            }
            return;
        };
        let mut ops = Vec::new();
        match &mut group.work {
            Work::Append(append) => {
                if self.watermark != self.written_watermark {
                    ops.push(self.watermark.write());
                    self.written_watermark = self.watermark;
                }
                append.writes.drain(..).for_each(|chunk_write| chunk_write.ops(self.chunk_bytes, &mut ops));
            }
            // It covers all groups that have finished.
            Work::Ops(_, OnDone::WatermarkSynced) => {
                ops = self.watermark.write_and_sync();
                self.written_watermark = self.watermark;
                self.synced_watermark = self.watermark;
            }
            Work::Ops(group_ops, _) => ops = mem::take(group_ops),
        }
        self.in_flight = Some(group);
        effects.group = Some(ops);
    }

    fn finish(&mut self, effects: &mut Effects) {
        let group = self.in_flight.take().expect("the disk reports once for each group");
        match group.work {
            Work::Append(append) => {
                self.watermark.base = Some(append.base);
                self.watermark.end = Some((append.end.0, append.end.1.next()));
                if let Some(last) = append.last {
                    self.log.synced(last);
                }
            }
            Work::Ops(_, OnDone::Nothing | OnDone::WatermarkSynced) => {}
            Work::Ops(_, OnDone::WatermarkLowered(lowered)) => {
                self.watermark = Watermark { committed: self.watermark.committed, ..lowered };
                self.written_watermark = lowered;
                self.synced_watermark = lowered;
            }
            Work::Ops(_, OnDone::Sealed { chunk, hash, bytes }) => {
                let sealed = self.log.chunk_mut(chunk).expect("a sealed chunk stays");
                sealed.phase = Phase::Sealed { hash, bytes };
                self.forget_verdicts();
            }
        }
        effects.completions.extend(group.done.into_iter().map(|done| (done, Ok(()))));
    }

    /// Drops the verdicts of frames in sealed chunks, whose footers hold them.
    fn forget_verdicts(&mut self) {
        let open = self.log.chunks.iter().find(|chunk| !chunk.is_sealed());
        let keep = open.map_or(LogIndex(u64::MAX), |chunk| chunk.first);
        while self.verdicts.pop_front_if(|verdict| verdict.index < keep).is_some() {}
    }

    fn fail(&mut self, reason: String, effects: &mut Effects) {
        if self.failed.is_none() {
            tracing::error!(reason, "the journal has stopped; this node must stop");
            self.failed = Some(reason);
        }
        let groups = self.in_flight.take().into_iter().chain(mem::take(&mut self.queue));
        for done in groups.flat_map(|group| group.done) {
            effects.completions.push((done, self.check()));
        }
    }
}

impl Group {
    fn syncs_watermark(&self) -> bool {
        matches!(self.work, Work::Ops(_, OnDone::WatermarkSynced))
    }
}

impl Append {
    fn write(&mut self, frame: &Frame, location: FrameLocation, chunk_bytes: u64) {
        let follows = self.writes.last().is_some_and(|chunk_write| chunk_write.location.chunk == location.chunk);
        if !follows {
            let fresh = location.chunk == frame.index;
            let header = encode_header(location.chunk, chunk_bytes);
            let (offset, bytes) = if fresh { (0, header.to_vec()) } else { (location.offset, Vec::new()) };
            self.writes.push(ChunkWrite { location: FrameLocation { offset, ..location }, bytes });
        }
        let chunk_write = self.writes.last_mut().expect("one was pushed if there was none");
        frame.encode(location, &mut chunk_write.bytes);
        let end = location.offset + frame.bytes() as u64;
        debug_assert_eq!(chunk_write.location.offset + chunk_write.bytes.len() as u64, end, "bytes in a row");
        self.bytes += frame.bytes();
        self.last = Some(frame.index);
        self.end = (FrameLocation { offset: end, ..location }, frame.index);
    }
}

impl ChunkWrite {
    fn ops(self, chunk_bytes: u64, ops: &mut Vec<Op>) {
        let Self { location, bytes } = self;
        let file = chunk_file(location.chunk);
        let (fresh, end) = (location.offset == 0, location.offset + bytes.len() as u64);
        // Space is allocated before bytes are written, also for a last frame that exceeds the size of a chunk, so that
        // a write in place never waits for space.
        if fresh || end > chunk_bytes {
            ops.push(create(location.chunk, chunk_bytes.max(end)));
        }
        ops.push(Op::Write { file: file.clone(), offset: location.offset, bytes: bytes.into() });
        ops.push(Op::SyncData { file });
        if fresh {
            ops.push(Op::SyncDir { dir: CHUNK_DIR.into() });
        }
    }
}

/// Returns the operations that truncate the log on the disk to end at `lowered`.
pub(crate) fn truncation_ops(lowered: Watermark, truncation: &crate::log::Truncation, chunk_bytes: u64) -> Vec<Op> {
    let mut ops = lowered.write_and_sync();
    for chunk in &truncation.removed {
        ops.push(Op::Remove { file: chunk_file(*chunk) });
        ops.push(Op::SyncDir { dir: CHUNK_DIR.into() });
    }
    if let Some(FrameLocation { chunk, offset }) = truncation.shortened {
        ops.push(Op::Truncate { file: chunk_file(chunk), len: offset });
        ops.push(create(chunk, chunk_bytes));
        ops.push(Op::SyncData { file: chunk_file(chunk) });
    }
    ops
}
