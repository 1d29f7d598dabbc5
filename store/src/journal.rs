//! The journal: the Raft log, the vote and the checkpoint of one node. The Raft log *is* the event log, so every event
//! is written once.
//!
//! A [`Journal`] is a handle; clones refer to the same journal. Appended frames can be read at once; they are durable
//! when `done` is called. `crate::writer` documents the order of writes, [`crate::recovery`] the recovery at a start.

use std::{io, sync::Arc};

use bytes::Bytes;
use evener_core::id::{LogIndex, Term};
use parking_lot::Mutex;
use xxhash_rust::xxh3::Xxh3;

use crate::{
    checkpoint::{CHECKPOINT_BYTES_MAX, Checkpoint, SavedCheckpoint},
    chunk::{CHUNK_HEADER_BYTES, chunk_file, damaged_frame, is_full},
    disk::{Disk, Done, Space},
    error::{Damage, OpenError, stopped_error},
    footer,
    frame::{FRAME_BYTES_MAX, Frame, FrameError, FrameLocation},
    log::{Chunk, FrameSource, Phase},
    recovery::{self, AcceptCheckpoint, Recovered},
    scan::{Scan, ScanStep},
    settings::JournalSettings,
    verdict::Verdict,
    writer::{Effects, Input, Writer},
};

/// A description of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkInfo {
    /// The index of its first frame.
    pub first: LogIndex,
    /// The index of its last frame.
    pub last: LogIndex,
    /// The length of its file if it is sealed, otherwise of its header and frames.
    pub bytes: u64,
    /// Its hash, the same on every node; `None` until it is sealed.
    pub hash: Option<u128>,
}

/// The Raft log, the vote and the checkpoint of one node.
#[derive(Clone)]
pub struct Journal {
    inner: Arc<Inner>,
}

struct Inner {
    disk: Arc<dyn Disk>,
    chunk_bytes: u64,
    writer: Mutex<Writer>,
    /// The verdicts of the sealed chunk that was read last, by its first index.
    footer: Mutex<Option<(LogIndex, Arc<Vec<Verdict>>)>>,
}

impl Journal {
    /// Opens the journal in a data directory: creates it if the directory is empty, otherwise checks and recovers it.
    pub fn open(disk: Arc<dyn Disk>, settings: JournalSettings) -> Result<(Self, Recovered), OpenError> {
        Self::open_with(disk, settings, &mut |_| Ok(()))
    }

    /// Opens the journal, and uses the first checkpoint that `accept` accepts. A rejected checkpoint is skipped, as is
    /// one whose file is invalid.
    pub fn open_with(
        disk: Arc<dyn Disk>,
        settings: JournalSettings,
        accept: &mut AcceptCheckpoint<'_>,
    ) -> Result<(Self, Recovered), OpenError> {
        let (writer, recovered) = recovery::recover(&*disk, settings, accept)?;
        let inner =
            Inner { disk, chunk_bytes: settings.chunk_bytes, writer: Mutex::new(writer), footer: Mutex::default() };
        Ok((Self { inner: Arc::new(inner) }, recovered))
    }

    /// Appends frames. They can be read when this returns, and are durable when `done` is called. An error means that
    /// nothing was appended, and `done` will not be called.
    pub fn append(&self, frames: Vec<Frame>, done: Done) -> io::Result<()> {
        let mut writer = self.inner.writer.lock();
        writer.check_append(&frames)?;
        let completions = self.inner.step_locked(&mut writer, Input::Append(frames, done));
        drop(writer);
        completions.call_all();
        Ok(())
    }

    /// Removes every frame after `last`, or all frames for `None`. Applied frames cannot be removed: the journal stops
    /// on such a request.
    pub fn truncate_after(&self, last: Option<LogIndex>, done: Done) {
        self.step(Input::Truncate(last, done));
    }

    /// Replaces the vote.
    pub fn save_vote(&self, vote: Bytes, done: Done) {
        self.step(Input::Vote(vote, done));
    }

    /// Returns the vote saved last.
    pub fn vote(&self) -> Option<Bytes> {
        self.inner.writer.lock().vote_record.vote.clone()
    }

    /// Records the committed index. It is not synced: after a crash an earlier index may be found.
    pub fn save_committed(&self, index: LogIndex) {
        self.step(Input::Committed(index));
    }

    /// Syncs the watermark if it has moved since the last sync; to be called once a second. If a later start cannot
    /// read a frame appended before that, it is damage and not a torn write, even after a power cut.
    pub fn sync_watermark(&self) {
        self.step(Input::SyncWatermark);
    }

    /// Returns the last recorded committed index.
    pub fn committed(&self) -> Option<LogIndex> {
        self.inner.writer.lock().committed()
    }

    /// Hides all frames up to this one. They stay on disk; but if the log ends before this frame, it is removed and
    /// starts over after it.
    pub fn hide_below(&self, hidden: Option<(LogIndex, Term)>, done: Done) {
        self.step(Input::Hide(hidden, done));
    }

    /// Returns the last hidden frame.
    pub fn hidden(&self) -> Option<(LogIndex, Term)> {
        self.inner.writer.lock().log.hidden
    }

    /// Returns the first visible frame.
    pub fn first(&self) -> Option<(LogIndex, Term)> {
        self.inner.writer.lock().log.first()
    }

    /// Returns the last frame; if there is none, the last hidden frame.
    pub fn last(&self) -> Option<(LogIndex, Term)> {
        self.inner.writer.lock().log.last()
    }

    /// Returns the last durable frame.
    pub fn durable(&self) -> Option<LogIndex> {
        self.inner.writer.lock().log.durable
    }

    /// Returns the term of a frame without reading it.
    pub fn term_at(&self, index: LogIndex) -> Option<Term> {
        self.inner.writer.lock().log.term_at(index)
    }

    /// Returns the chunks in order.
    pub fn chunks(&self) -> Vec<ChunkInfo> {
        let writer = self.inner.writer.lock();
        let info = |chunk: &Chunk| {
            let (bytes, hash) = match chunk.phase {
                Phase::Sealed { hash, bytes } => (bytes, Some(hash)),
                Phase::Open | Phase::Sealing => (chunk.end(), None),
            };
            ChunkInfo { first: chunk.first, last: LogIndex(chunk.next().0 - 1), bytes, hash }
        };
        writer.log.chunks.iter().map(info).collect()
    }

    /// Returns how many bytes the chunks of the log take on disk, footers included.
    #[must_use]
    pub fn log_bytes(&self) -> u64 {
        let bytes = |chunk: &Chunk| match chunk.phase {
            Phase::Sealed { bytes, .. } => bytes,
            Phase::Open | Phase::Sealing => chunk.end(),
        };
        self.inner.writer.lock().log.chunks.iter().map(bytes).sum()
    }

    /// Reads the visible frames of `[from, to)` in order and without gaps: at least one if there is any, then as many
    /// as `bytes_max` allows. Recent frames come from memory, older ones from the disk, with their checksums verified.
    pub fn read(&self, from: LogIndex, to: LogIndex, bytes_max: usize) -> io::Result<Vec<Frame>> {
        let mut frames: Vec<Frame> = Vec::new();
        let (mut from, mut left) = (from, bytes_max);
        while from < to {
            let more = self.read_some(from, to, left)?;
            let Some(last) = more.last() else { break };
            from = last.index.next();
            let taken: usize = more.iter().map(Frame::bytes).sum();
            if frames.is_empty() {
                frames = more;
            } else if taken <= left {
                frames.extend(more);
            } else {
                break;
            }
            left = left.saturating_sub(taken);
            if left == 0 {
                break;
            }
        }
        Ok(frames)
    }

    /// Reads one frame; returns `None` if it is not in the log or hidden.
    pub fn get(&self, index: LogIndex) -> io::Result<Option<Frame>> {
        Ok(self.read_some(index, index.next(), 0)?.pop().filter(|frame| frame.index == index))
    }

    /// Reads frames as [`Journal::read`] does, from memory or from one chunk.
    fn read_some(&self, from: LogIndex, to: LogIndex, bytes_max: usize) -> io::Result<Vec<Frame>> {
        loop {
            let (source, truncations) = {
                let writer = self.inner.writer.lock();
                (writer.log.source(from, to, bytes_max), writer.log.truncations)
            };
            let (location, len, first) = match source {
                FrameSource::Empty => return Ok(Vec::new()),
                FrameSource::Memory(frames) => return Ok(frames),
                FrameSource::Chunk { location, len, first } => (location, len, first),
            };
            let frames = self.inner.read_frames(location, len, first);
            // A concurrent truncation may have changed the bytes that were read: then the read is repeated.
            if frames.is_ok() || self.inner.writer.lock().log.truncations == truncations {
                return frames;
            }
        }
    }

    /// Reads the applied frames of `[from, to)` as [`Journal::read`] does, with their verdicts.
    pub fn read_applied(&self, from: LogIndex, to: LogIndex, bytes_max: usize) -> io::Result<Vec<(Frame, Verdict)>> {
        let frames = self.read(from, to, bytes_max)?;
        let mut judged = Vec::with_capacity(frames.len());
        for frame in frames {
            let Some(verdict) = self.verdict(frame.index)? else { break };
            judged.push((frame, verdict));
        }
        Ok(judged)
    }

    /// Returns the verdict of a frame, or `None` if it is not applied.
    pub fn verdict(&self, index: LogIndex) -> io::Result<Option<Verdict>> {
        let (chunk, end, bytes) = {
            let writer = self.inner.writer.lock();
            let Some(chunk) = writer.log.chunk_of(index) else { return Ok(None) };
            let Phase::Sealed { bytes, .. } = chunk.phase else {
                let first = writer.verdicts.front().map_or(LogIndex(u64::MAX), |verdict| verdict.index);
                let number = index.0.checked_sub(first.0);
                return Ok(number.and_then(|number| writer.verdicts.get(number as usize).cloned()));
            };
            (chunk.first, chunk.end(), bytes)
        };
        let verdicts = self.inner.sealed_verdicts(chunk, end, bytes)?;
        Ok(verdicts.get((index.0 - chunk.0) as usize).cloned())
    }

    /// Records the verdicts of applied frames, one per frame, in order. Seals chunks that are fully applied and synced,
    /// off the append path: the caller reads the chunk, the disk thread writes the footer.
    ///
    /// The verdicts of frames that a start replays must equal those in the footers: otherwise the footers or the state
    /// are damaged, and the journal stops.
    pub fn applied(&self, verdicts: Vec<Verdict>) {
        if let Err(error) = self.check_replayed(&verdicts) {
            return self.step(Input::Failed(error.to_string()));
        }
        let due = {
            let mut writer = self.inner.writer.lock();
            if let Err(reason) = record_verdicts(&mut writer, verdicts) {
                let completions = self.inner.step_locked(&mut writer, Input::Failed(reason));
                drop(writer);
                return completions.call_all();
            }
            chunks_to_seal(&mut writer, self.inner.chunk_bytes)
        };
        for sealing in due {
            let input = match self.inner.footer_of(&sealing) {
                Ok((footer, hash)) => Input::Seal { chunk: sealing.first, footer, hash },
                Err(error) => Input::Failed(format!("failed to seal {}: {error}", chunk_file(sealing.first))),
            };
            self.step(input);
        }
    }

    /// Compares the verdicts of frames in sealed chunks, which are the first ones, with those in the footers.
    fn check_replayed(&self, verdicts: &[Verdict]) -> io::Result<()> {
        let mut rest = verdicts;
        while let Some(first) = rest.first() {
            let (chunk, next, end, bytes) = {
                let writer = self.inner.writer.lock();
                let Some(chunk) = writer.log.chunk_of(first.index) else { return Ok(()) };
                let Phase::Sealed { bytes, .. } = chunk.phase else { return Ok(()) };
                (chunk.first, chunk.next(), chunk.end(), bytes)
            };
            let sealed = self.inner.sealed_verdicts(chunk, end, bytes)?;
            let (here, later) = rest.split_at(rest.partition_point(|verdict| verdict.index < next));
            let differs = |verdict: &&Verdict| sealed.get((verdict.index.0 - chunk.0) as usize) != Some(*verdict);
            if let Some(verdict) = here.iter().find(differs) {
                let found = "its footer records another result of applying the frame";
                return Err(Damage::new(chunk_file(chunk), end, found).with_frame(verdict.index).into());
            }
            rest = later;
        }
        Ok(())
    }

    /// Returns the next frame to apply, or `None` if the log was always empty.
    pub fn applied_next(&self) -> Option<LogIndex> {
        self.inner.writer.lock().applied_next
    }

    /// Saves an image of the replicated state. It must not be newer than the verdicts passed to [`Journal::applied`].
    /// It is written after all frames appended before it, so it is never newer than the synced log.
    pub fn save_checkpoint(&self, checkpoint: Checkpoint, done: Done) {
        let writer = self.inner.writer.lock();
        let index = checkpoint.index;
        let open: Vec<_> = writer.verdicts.iter().take_while(|verdict| verdict.index <= index).cloned().collect();
        let saved = SavedCheckpoint { checkpoint, open };
        let refused = if writer.applied_next.is_none_or(|next| index >= next) {
            Some(format!("a checkpoint of frame {index} cannot be saved before the frame is applied"))
        } else if saved.bytes() > CHECKPOINT_BYTES_MAX {
            Some(format!("the checkpoint exceeds the limit of {CHECKPOINT_BYTES_MAX} bytes"))
        } else {
            None
        };
        drop(writer);
        match refused {
            Some(reason) => done(Err(io::Error::new(io::ErrorKind::InvalidInput, reason))),
            None => self.step(Input::Checkpoint(Box::new(saved), done)),
        }
    }

    /// Reads and checks every byte of the chunks, and returns the first damage as an error.
    pub fn verify(&self) -> io::Result<()> {
        let chunks = self.inner.writer.lock().log.chunks.clone();
        for chunk in chunks {
            match chunk.phase {
                Phase::Sealed { bytes, .. } => self.inner.verify_sealed(chunk, bytes)?,
                Phase::Open | Phase::Sealing => {
                    let mut from = chunk.first;
                    while let Some(last) = self.read(from, chunk.next(), FRAME_BYTES_MAX)?.last() {
                        from = last.index.next();
                    }
                }
            }
        }
        Ok(())
    }

    /// Returns the space of its file system.
    pub fn space(&self) -> io::Result<Space> {
        self.inner.disk.space()
    }

    /// Returns the size of chunks.
    #[must_use]
    pub fn chunk_bytes(&self) -> u64 {
        self.inner.chunk_bytes
    }

    /// Returns why the journal has stopped, or `None` while it runs.
    pub fn stopped(&self) -> Option<String> {
        self.inner.writer.lock().failed.clone()
    }

    fn step(&self, input: Input) {
        Inner::step(self.inner.clone(), input);
    }
}

/// Records verdicts in memory, except those of frames in sealed chunks, whose footers hold them.
fn record_verdicts(writer: &mut Writer, verdicts: Vec<Verdict>) -> Result<(), String> {
    for verdict in verdicts {
        let next = writer.applied_next.or_else(|| writer.log.base()).unwrap_or_default();
        if verdict.index < next {
            continue;
        }
        if verdict.index > next {
            return Err(format!("frame {} was applied, but the next frame is {next}", verdict.index));
        }
        let Some(chunk) = writer.log.chunk_of(verdict.index) else {
            return Err(format!("frame {next} was applied, but is not in the log"));
        };
        let sealed = chunk.is_sealed();
        writer.applied_next = Some(next.next());
        if !sealed {
            writer.verdicts.push_back(verdict);
        }
    }
    Ok(())
}

/// The input of a footer.
struct SealInput {
    first: LogIndex,
    ends: Vec<u32>,
    terms: Vec<(LogIndex, Term)>,
    verdicts: Vec<Verdict>,
}

fn chunks_to_seal(writer: &mut Writer, chunk_bytes: u64) -> Vec<SealInput> {
    let Writer { log, verdicts, applied_next, .. } = writer;
    let ready = (*applied_next).min(log.durable.map(LogIndex::next)).unwrap_or_default();
    let mut due = Vec::new();
    for at in 0..log.chunks.len() {
        let chunk = &mut log.chunks[at];
        if chunk.is_sealed() {
            continue;
        }
        if chunk.next() > ready || !is_full(chunk.end(), chunk_bytes) {
            break;
        }
        if chunk.phase == Phase::Sealing {
            continue;
        }
        chunk.phase = Phase::Sealing;
        let (first, next, ends) = (chunk.first, chunk.next(), chunk.ends.clone());
        let oldest = verdicts.front().map_or(first, |verdict| verdict.index);
        let skip = (first.0 - oldest.0) as usize;
        let verdicts = verdicts.iter().skip(skip).take(ends.len()).cloned().collect();
        due.push(SealInput { first, ends, terms: log.terms_in(first, next), verdicts });
    }
    due
}

/// Callbacks with their results, to be called once the writer is unlocked.
#[must_use]
struct Completions(Vec<(Done, io::Result<()>)>);

impl Completions {
    fn call_all(self) {
        self.0.into_iter().for_each(|(done, result)| done(result));
    }
}

impl Inner {
    /// Processes one input. Drops its own handle before it calls the callbacks, so that a caller that drops the last
    /// handle in a callback unlocks the directory at once.
    fn step(inner: Arc<Self>, input: Input) {
        let completions = inner.step_locked(&mut inner.writer.lock(), input);
        drop(inner);
        completions.call_all();
    }

    /// Processes one input. Submits to the disk while the writer is locked, to keep the order.
    fn step_locked(self: &Arc<Self>, writer: &mut Writer, input: Input) -> Completions {
        let Effects { watermark, group, completions } = writer.step(input);
        if let Some(watermark) = watermark {
            let journal = Arc::downgrade(self);
            let report = move |result: io::Result<()>| {
                if let (Err(error), Some(journal)) = (result, journal.upgrade()) {
                    Self::step(journal, Input::Failed(error.to_string()));
                }
            };
            self.disk.submit(vec![watermark], Box::new(report));
        }
        if let Some(group) = group {
            let journal = self.clone();
            self.disk.submit(group, Box::new(move |result| Self::step(journal, Input::Finished(result))));
        }
        Completions(completions)
    }

    /// Reads adjacent frames from a chunk and checks each.
    fn read_frames(&self, location: FrameLocation, len: usize, first: LogIndex) -> io::Result<Vec<Frame>> {
        let file = chunk_file(location.chunk);
        let bytes = self.disk.read(&file, location.offset, len).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::NotFound => {
                Damage::new(&file, location.offset, format!("the file ends before this offset: {error}"))
                    .with_frame(first)
                    .into()
            }
            _ => error,
        })?;
        let bytes = Bytes::from(bytes);
        let mut frames = Vec::new();
        let (mut at, mut index) = (0, first);
        while at < bytes.len() {
            let here = FrameLocation { offset: location.offset + at as u64, ..location };
            let frame = Frame::decode(here, &bytes.slice(at..))
                .map_err(|error| damaged_frame(location.chunk, here.offset, index, &error))?;
            crate::chunk::check_index(location.chunk, here.offset, index, &frame)?;
            at += frame.bytes();
            index = index.next();
            frames.push(frame);
        }
        Ok(frames)
    }

    fn sealed_verdicts(&self, chunk: LogIndex, end: u64, bytes: u64) -> io::Result<Arc<Vec<Verdict>>> {
        if let Some((_, verdicts)) = self.footer.lock().as_ref().filter(|(first, _)| *first == chunk) {
            return Ok(verdicts.clone());
        }
        let file = chunk_file(chunk);
        let read = self.disk.read(&file, end, (bytes - end) as usize)?;
        let footer = footer::decode(chunk, end, &read).map_err(|found| Damage::new(&file, end, found))?;
        let verdicts = Arc::new(footer.verdicts);
        *self.footer.lock() = Some((chunk, verdicts.clone()));
        Ok(verdicts)
    }

    /// Checks that a sealed chunk has exactly the footer that follows from its frames and verdicts.
    fn verify_sealed(&self, chunk: Chunk, bytes: u64) -> io::Result<()> {
        let (first, end, file) = (chunk.first, chunk.end(), chunk_file(chunk.first));
        let read = self.disk.read(&file, end, (bytes - end) as usize)?;
        let footer = footer::decode(first, end, &read).map_err(|found| Damage::new(&file, end, found))?;
        let sealing = SealInput { first, ends: chunk.ends, terms: footer.terms, verdicts: footer.verdicts };
        let (made, _) = self.footer_of(&sealing)?;
        if made != read {
            return Err(Damage::new(&file, end, "its footer does not match its frames").into());
        }
        Ok(())
    }

    /// Reads a chunk, checks each frame, and encodes its footer.
    fn footer_of(&self, sealing: &SealInput) -> io::Result<(Vec<u8>, u128)> {
        let end = u64::from(*sealing.ends.last().expect("a full chunk has a frame"));
        let header = self.disk.read(&chunk_file(sealing.first), 0, CHUNK_HEADER_BYTES)?;
        crate::chunk::decode_header(sealing.first, &header)?;
        let mut hash = Xxh3::new();
        hash.update(&header);
        let mut scan = Scan::new(&*self.disk, sealing.first, end);
        for frame_end in &sealing.ends {
            let (location, index) = (scan.location, scan.next);
            let damage = |error| Err(damaged_frame(sealing.first, location.offset, index, &error).into());
            match scan.step()? {
                ScanStep::Frame(_, bytes) => hash.update(&bytes),
                ScanStep::Invalid(error) => return damage(error),
                ScanStep::WrongIndex(_) => return damage(FrameError::Empty),
            }
            if scan.location.offset != u64::from(*frame_end) {
                return Err(stopped_error("a frame ends at another offset on the disk than in memory"));
            }
        }
        footer::encode(sealing.first, &sealing.ends, &sealing.terms, &sealing.verdicts, hash).map_err(io::Error::other)
    }
}
