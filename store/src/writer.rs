//! The one writer of a node, as a pure machine: what is asked of it, and what the disk reports, come in; what the
//! disk is to do, and who is to be told, go out.
//!
//! The order of writes that survives a crash:
//! - One group is in flight at a time. What is asked meanwhile waits in order and makes the next group: appends next
//!   to each other are one group, up to [`GROUP_BYTES_MAX`]; anything else is a group of its own. A group's callers
//!   are told after its last sync, in order.
//! - A group of frames is one write and one sync per chunk. The next chunk's file is made only after the full one is
//!   synced, and its name is synced before anybody is told. So only the last chunk can end in a torn write.
//! - The watermark goes ahead of a group, without a sync: it tells what the group before has synced. So it is exact
//!   after the process dies. After the machine dies it may be as old as its last sync, see [`Input::SyncMark`].
//! - A truncation first lowers the watermark and syncs it, then deletes the later chunks from the last one on, each
//!   deletion synced, so that no gap can be left; then shortens the chunk that stays, and syncs that before a frame
//!   can be written over it.
//! - The vote and the checkpoint are written beside the old one, synced, renamed, and the name is synced.
//! - An operation for which the disk has no space waits until there is (see [`crate::Disk::submit`]). Room is taken
//!   from the file system before bytes are written, so a group that has begun to be written does not wait.
//! - A write or a sync that fails otherwise ends everything: nobody knows what the disk holds, and a second sync may
//!   lie.

use std::{collections::VecDeque, io, mem};

use bytes::Bytes;
use evener_core::id::{LogIndex, Term};

use crate::{
    checkpoint::Saved,
    chunk::{CHUNK_DIR, chunk_file, create, encode_header},
    disk::{Done, Op},
    error::stopped,
    frame::{Frame, PAYLOAD_BYTES_MAX, Place},
    log::{Log, Phase},
    verdict::Verdict,
    vote::{Promise, VOTE_BYTES_MAX},
    watermark::Watermark,
};

/// Bytes of one group of frames. What a crash can tear is at most this long, so it also bounds what may be taken for
/// a torn tail.
pub const GROUP_BYTES_MAX: usize = 2 << 20;

/// What is asked of the writer, or reported to it.
pub(crate) enum Input {
    /// Frames follow the last one.
    Append(Vec<Frame>, Done),
    /// Everything after this frame goes.
    Truncate(Option<LogIndex>, Done),
    /// This is the vote.
    Vote(Bytes, Done),
    /// Frames up to this one are not shown; where the log ends before it, it begins anew after it.
    Hide(Option<(LogIndex, Term)>, Done),
    /// The cluster has committed up to here.
    Committed(LogIndex),
    /// The watermark goes to the disk, if it has moved since it last did.
    SyncMark,
    /// A chunk is sealed with this footer.
    Seal { chunk: LogIndex, footer: Vec<u8>, hash: u128 },
    /// A checkpoint is saved.
    Checkpoint(Box<Saved>, Done),
    /// The group in flight is on the disk, or could not be written.
    Finished(io::Result<()>),
    /// A watermark could not be written, or something else that must stop the node.
    Failed(String),
}

/// What is to be done now, in this order.
#[derive(Default)]
#[must_use]
pub(crate) struct Effects {
    /// Submitted; nobody waits for it.
    pub mark: Option<Op>,
    /// Submitted; how it went comes back as [`Input::Finished`].
    pub group: Option<Vec<Op>>,
    /// Told, after the disk has been given its work.
    pub tell: Vec<(Done, io::Result<()>)>,
}

/// The machine.
pub(crate) struct Writer {
    /// What readers see.
    pub log: Log,
    /// The vote and the hidden mark, as they will be once all is written.
    pub promise: Promise,
    /// Verdicts of consecutive frames: all that are in chunks not sealed yet.
    pub verdicts: VecDeque<Verdict>,
    /// The next frame to be applied; none while the log was always empty.
    pub applied_next: Option<LogIndex>,
    /// Why nothing is written any more.
    pub failed: Option<String>,
    chunk_bytes: u64,
    queue: VecDeque<Group>,
    flying: Option<Group>,
    mark: Watermark,
    marked: Watermark,
    /// As it was last given to the disk with a sync.
    synced_mark: Watermark,
    has_checkpoint: bool,
}

struct Group {
    work: Work,
    done: Vec<Done>,
}

enum Work {
    Append(Append),
    Ops(Vec<Op>, Then),
}

struct Append {
    pieces: Vec<Piece>,
    bytes: usize,
    /// The last of its frames that has not been truncated since.
    last: Option<LogIndex>,
    base: LogIndex,
    end: (Place, LogIndex),
}

/// Bytes in a row of one chunk.
struct Piece {
    place: Place,
    bytes: Vec<u8>,
}

/// What holds once the group is on the disk.
enum Then {
    Nothing,
    /// The watermark is synced.
    Marked,
    /// The watermark was lowered.
    Lowered(Watermark),
    /// The chunk has its footer.
    Sealed {
        chunk: LogIndex,
        hash: u128,
        bytes: u64,
    },
}

impl Writer {
    pub fn new(log: Log, chunk_bytes: u64, promise: Promise, mark: Watermark, has_checkpoint: bool) -> Self {
        Self {
            log,
            promise,
            verdicts: VecDeque::new(),
            applied_next: None,
            failed: None,
            chunk_bytes,
            queue: VecDeque::new(),
            flying: None,
            mark,
            marked: mark,
            synced_mark: mark,
            has_checkpoint,
        }
    }

    pub fn committed(&self) -> Option<LogIndex> {
        self.mark.committed
    }

    /// Whether something can still be asked for.
    pub fn check(&self) -> io::Result<()> {
        self.failed.as_ref().map_or(Ok(()), |reason| Err(stopped(reason)))
    }

    /// Whether these frames can follow: asked before [`Input::Append`].
    pub fn check_append(&self, frames: &[Frame]) -> io::Result<()> {
        self.check()?;
        let invalid = |told: String| Err(io::Error::new(io::ErrorKind::InvalidInput, told));
        let mut next = self.log.next();
        for frame in frames {
            if next.is_some_and(|next| next != frame.index) {
                let next = next.unwrap_or_default();
                return invalid(format!("frame {} cannot be appended: the log goes on with {next}", frame.index));
            }
            if frame.payload.len() > PAYLOAD_BYTES_MAX {
                let (index, len) = (frame.index, frame.payload.len());
                return invalid(format!("frame {index} has {len} bytes of payload, more than {PAYLOAD_BYTES_MAX}"));
            }
            next = Some(frame.index.next());
        }
        Ok(())
    }

    /// Takes one input.
    pub fn step(&mut self, input: Input) -> Effects {
        let mut effects = Effects::default();
        match input {
            // A watermark that failed has stopped the journal; who waited for the group behind it was told then.
            Input::Finished(_) if self.failed.is_some() => {}
            Input::Finished(result) => match result {
                Ok(()) => self.finish(&mut effects),
                Err(error) => self.fail(error.to_string(), &mut effects),
            },
            Input::Failed(reason) => self.fail(reason, &mut effects),
            Input::SyncMark => self.sync_mark(),
            Input::Committed(index) => self.mark.committed = self.mark.committed.max(Some(index)),
            Input::Append(_, done)
            | Input::Truncate(_, done)
            | Input::Vote(_, done)
            | Input::Hide(_, done)
            | Input::Checkpoint(_, done)
                if self.failed.is_some() =>
            {
                effects.tell.push((done, self.check()));
            }
            Input::Append(frames, done) => self.append(frames, done),
            Input::Truncate(last, done) => self.truncate(last, done, &mut effects),
            Input::Vote(vote, done) => self.vote(vote, done, &mut effects),
            Input::Hide(hidden, done) => self.hide(hidden, done, &mut effects),
            Input::Seal { chunk, footer, hash } => self.seal(chunk, footer, hash),
            Input::Checkpoint(saved, done) => {
                let ops = saved.replace(self.has_checkpoint);
                self.has_checkpoint = true;
                self.enqueue(ops, Then::Nothing, Some(done));
            }
        }
        self.start(&mut effects);
        effects
    }

    fn append(&mut self, frames: Vec<Frame>, done: Done) {
        for frame in frames {
            let bytes = frame.bytes();
            let (place, _) = self.log.push(frame.clone());
            let (base, chunk_bytes) = (self.log.base().expect("a frame was pushed"), self.chunk_bytes);
            let group = self.open_append(bytes, base, (place, frame.index));
            group.write(&frame, place, chunk_bytes);
        }
        match self.queue.back_mut() {
            Some(group @ Group { work: Work::Append(_), .. }) => group.done.push(done),
            // There were no frames: told once all before is done.
            _ => self.enqueue(Vec::new(), Then::Nothing, Some(done)),
        }
    }

    /// The group of frames at the end of the queue, made if there is none, or none that takes so many more.
    fn open_append(&mut self, bytes: usize, base: LogIndex, end: (Place, LogIndex)) -> &mut Append {
        let fits = match self.queue.back() {
            Some(Group { work: Work::Append(append), .. }) => append.bytes + bytes <= GROUP_BYTES_MAX,
            _ => false,
        };
        if !fits {
            let work = Work::Append(Append { pieces: Vec::new(), bytes: 0, last: None, base, end });
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
            let told = last.map_or_else(|| "the beginning".to_owned(), |last| format!("frame {last}"));
            let reason = format!(
                "asked to cut the log after {told}, and more than that is applied: the other nodes have lost what was \
                 acknowledged, as where an older copy of a data directory was put back; keep this directory, it may \
                 be the last that has all"
            );
            self.fail(reason, effects);
            effects.tell.push((done, self.check()));
            return;
        }
        let (ops, then) = self.cut(last);
        self.enqueue(ops, then, Some(done));
    }

    /// Cuts the log in memory; tells what the disk must do for it.
    fn cut(&mut self, last: Option<LogIndex>) -> (Vec<Op>, Then) {
        let next = last.map_or(LogIndex(0), LogIndex::next);
        if self.log.chunks.last().is_none_or(|chunk| chunk.next() <= next) {
            return (Vec::new(), Then::Nothing);
        }
        for group in self.queue.iter_mut().chain(&mut self.flying) {
            if let Work::Append(append) = &mut group.work {
                append.last = append.last.min(last);
            }
        }
        let cut = self.log.truncate(last);
        let lowered = Watermark {
            base: self.log.base(),
            end: self.log.chunks.last().map(|chunk| (chunk.end_place(), chunk.next())),
            committed: self.mark.committed,
        };
        (truncation(lowered, &cut, self.chunk_bytes), Then::Lowered(lowered))
    }

    fn vote(&mut self, vote: Bytes, done: Done, effects: &mut Effects) {
        if vote.len() > VOTE_BYTES_MAX {
            let told = format!("a vote has at most {VOTE_BYTES_MAX} bytes, and this one has {}", vote.len());
            effects.tell.push((done, Err(io::Error::new(io::ErrorKind::InvalidInput, told))));
            return;
        }
        self.promise.vote = Some(vote);
        let ops = self.promise.replace();
        self.enqueue(ops, Then::Nothing, Some(done));
    }

    fn hide(&mut self, hidden: Option<(LogIndex, Term)>, done: Done, effects: &mut Effects) {
        let beyond = match (hidden, self.log.last()) {
            (Some((hidden, _)), Some((last, _))) => hidden > last,
            _ => false,
        };
        if beyond && self.log.chunks.iter().any(|chunk| chunk.phase != Phase::Open) {
            self.fail("asked to begin the log anew, and some of it is sealed".into(), effects);
            effects.tell.push((done, self.check()));
            return;
        }
        self.promise.hidden = hidden;
        self.log.hidden = hidden;
        let mut ops = self.promise.replace();
        let mut then = Then::Nothing;
        if beyond {
            let (more, lowered) = self.cut(None);
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
        self.enqueue(ops, Then::Sealed { chunk, hash, bytes }, None);
    }

    /// Behind the groups that wait: the last of them is then covered, too.
    fn sync_mark(&mut self) {
        let moved = self.mark.end != self.synced_mark.end || self.mark.base != self.synced_mark.base;
        if self.failed.is_none() && moved && !self.queue.iter().any(Group::syncs_mark) {
            self.enqueue(Vec::new(), Then::Marked, None);
        }
    }

    fn enqueue(&mut self, ops: Vec<Op>, then: Then, done: Option<Done>) {
        self.queue.push_back(Group { work: Work::Ops(ops, then), done: done.into_iter().collect() });
    }

    /// Gives the disk the next group if it has none.
    fn start(&mut self, effects: &mut Effects) {
        if self.flying.is_some() || self.failed.is_some() {
            return;
        }
        let Some(mut group) = self.queue.pop_front() else {
            if self.mark != self.marked {
                effects.mark = Some(self.mark.write());
                self.marked = self.mark;
            }
            return;
        };
        let mut ops = Vec::new();
        match &mut group.work {
            Work::Append(append) => {
                if self.mark != self.marked {
                    ops.push(self.mark.write());
                    self.marked = self.mark;
                }
                append.pieces.drain(..).for_each(|piece| piece.ops(self.chunk_bytes, &mut ops));
            }
            // What it says is what is synced now.
            Work::Ops(_, Then::Marked) => {
                ops = self.mark.write_and_sync();
                self.marked = self.mark;
                self.synced_mark = self.mark;
            }
            Work::Ops(given, _) => ops = mem::take(given),
        }
        self.flying = Some(group);
        effects.group = Some(ops);
    }

    fn finish(&mut self, effects: &mut Effects) {
        let group = self.flying.take().expect("the disk reports once for each group");
        match group.work {
            Work::Append(append) => {
                self.mark.base = Some(append.base);
                self.mark.end = Some((append.end.0, append.end.1.next()));
                if let Some(last) = append.last {
                    self.log.synced(last);
                }
            }
            Work::Ops(_, Then::Nothing | Then::Marked) => {}
            Work::Ops(_, Then::Lowered(lowered)) => {
                self.mark = Watermark { committed: self.mark.committed, ..lowered };
                self.marked = lowered;
                self.synced_mark = lowered;
            }
            Work::Ops(_, Then::Sealed { chunk, hash, bytes }) => {
                let sealed = self.log.chunk_mut(chunk).expect("a sealed chunk stays");
                sealed.phase = Phase::Sealed { hash, bytes };
                self.forget_verdicts();
            }
        }
        effects.tell.extend(group.done.into_iter().map(|done| (done, Ok(()))));
    }

    /// Verdicts are kept in memory until the chunk that holds their frames tells them.
    fn forget_verdicts(&mut self) {
        let open = self.log.chunks.iter().find(|chunk| !chunk.is_sealed());
        let keep = open.map_or(LogIndex(u64::MAX), |chunk| chunk.first);
        while self.verdicts.pop_front_if(|verdict| verdict.index < keep).is_some() {}
    }

    fn fail(&mut self, reason: String, effects: &mut Effects) {
        if self.failed.is_none() {
            tracing::error!(reason, "the journal has stopped, and this node must stop");
            self.failed = Some(reason);
        }
        let waiting = self.flying.take().into_iter().chain(mem::take(&mut self.queue));
        for done in waiting.flat_map(|group| group.done) {
            effects.tell.push((done, self.check()));
        }
    }
}

impl Group {
    fn syncs_mark(&self) -> bool {
        matches!(self.work, Work::Ops(_, Then::Marked))
    }
}

impl Append {
    fn write(&mut self, frame: &Frame, place: Place, chunk_bytes: u64) {
        let follows = self.pieces.last().is_some_and(|piece| piece.place.chunk == place.chunk);
        if !follows {
            let fresh = place.chunk == frame.index;
            let header = encode_header(place.chunk, chunk_bytes);
            let (offset, bytes) = if fresh { (0, header.to_vec()) } else { (place.offset, Vec::new()) };
            self.pieces.push(Piece { place: Place { offset, ..place }, bytes });
        }
        let piece = self.pieces.last_mut().expect("one was pushed if there was none");
        frame.encode(place, &mut piece.bytes);
        let end = place.offset + frame.bytes() as u64;
        debug_assert_eq!(piece.place.offset + piece.bytes.len() as u64, end, "bytes in a row");
        self.bytes += frame.bytes();
        self.last = Some(frame.index);
        self.end = (Place { offset: end, ..place }, frame.index);
    }
}

impl Piece {
    fn ops(self, chunk_bytes: u64, ops: &mut Vec<Op>) {
        let Self { place, bytes } = self;
        let file = chunk_file(place.chunk);
        let (fresh, end) = (place.offset == 0, place.offset + bytes.len() as u64);
        // Room is taken before bytes are written, also for a last frame that ends beyond the size of a chunk: what
        // waits for space is then never a write in place.
        if fresh || end > chunk_bytes {
            ops.push(create(place.chunk, chunk_bytes.max(end)));
        }
        ops.push(Op::Write { file: file.clone(), offset: place.offset, bytes: bytes.into() });
        ops.push(Op::SyncData { file });
        if fresh {
            ops.push(Op::SyncDir { dir: CHUNK_DIR.into() });
        }
    }
}

/// What the disk must do so that the log ends at `lowered`.
pub(crate) fn truncation(lowered: Watermark, cut: &crate::log::Cut, chunk_bytes: u64) -> Vec<Op> {
    let mut ops = lowered.write_and_sync();
    for chunk in &cut.removed {
        ops.push(Op::Remove { file: chunk_file(*chunk) });
        ops.push(Op::SyncDir { dir: CHUNK_DIR.into() });
    }
    if let Some(Place { chunk, offset }) = cut.shortened {
        ops.push(Op::Truncate { file: chunk_file(chunk), len: offset });
        ops.push(create(chunk, chunk_bytes));
        ops.push(Op::SyncData { file: chunk_file(chunk) });
    }
    ops
}
