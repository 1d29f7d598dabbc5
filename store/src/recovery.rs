//! What a start makes of a data directory. Four things can be found:
//!
//! - Nothing after the last frame: the node was stopped, or the crash tore nothing.
//! - Rubbish beyond the watermark, at most a group long, in the last chunk: a write that a crash tore. Nobody was
//!   told that it is there. It is cut, with a log line.
//! - Behind the frames of a full chunk, a footer of which sectors are missing: a crash came while it was written. It is
//!   made again from the frames.
//! - Anything else is damage: bytes that were synced are not what they were. Nothing is changed and the directory is
//!   not opened, for a node that forgot what it has acknowledged must not vote.
//!
//! Then everything that will be built on is synced once: after a mere kill it may be in the page cache only.
//!
//! A checkpoint is never damage: whatever is wrong with one, the one before it or the whole log takes its place. Only
//! one of this log that the log contradicts is: the log has lost frames then. One of another cluster says nothing about
//! this log. One of another node of the same cluster may be used: at a frame of the same index and term, every node has
//! the same state.

use std::io;

use evener_core::id::LogIndex;

use crate::{
    checkpoint::{Checkpoint, Saved},
    chunk::{
        CHUNK_BYTES_MAX, CHUNK_BYTES_MIN, CHUNK_DIR, CHUNK_HEADER_BYTES, chunk_file, chunk_file_bytes_max, chunk_first,
        create, damaged_frame, decode_header, is_full,
    },
    disk::{Disk, Op},
    error::{Damage, OpenError},
    footer::{self, TRAILER_BYTES},
    frame::{FrameError, Place},
    journal::Settings,
    log::{Chunk, Log, Phase},
    scan::{Found, Scan},
    verdict::Verdict,
    vote::Promise,
    watermark::Watermark,
    writer::{GROUP_BYTES_MAX, Writer, truncation},
};

/// What was found at a start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The directory had nothing in it: this is its first start.
    pub fresh: bool,
    /// The newest image of the state that can be used; none if all of the log is to be replayed.
    pub checkpoint: Option<Checkpoint>,
    /// What the end of the log had to lose.
    pub torn: Option<Torn>,
}

/// A write that a crash tore, now cut. Nobody was told that it was there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Torn {
    /// The first frame of it.
    pub frame: LogIndex,
    /// Where it stood.
    pub place: Place,
    /// How many bytes were there.
    pub bytes: u64,
}

/// Reads the image of a checkpoint, or says why it cannot be used: what is in it is not this crate's.
pub type Accept<'a> = dyn FnMut(&Checkpoint) -> Result<(), Unusable> + 'a;

/// Why the image of a checkpoint is not used.
#[derive(Debug)]
pub enum Unusable {
    /// It cannot be decoded.
    Unreadable(io::Error),
    /// It belongs to another cluster, as described.
    Foreign(String),
}

pub(crate) fn recover(
    disk: &dyn Disk,
    settings: Settings,
    accept: &mut Accept<'_>,
) -> Result<(Writer, Recovered), OpenError> {
    let Settings { chunk_bytes, recent_bytes_max } = settings;
    if !(CHUNK_BYTES_MIN..=CHUNK_BYTES_MAX).contains(&chunk_bytes) {
        return Err(OpenError::Setting(format!(
            "chunk_bytes is {chunk_bytes}, and may be {CHUNK_BYTES_MIN} to {CHUNK_BYTES_MAX}"
        )));
    }
    let firsts = chunk_files(disk)?;
    let (promise, mark, fresh) = first_files(disk, &firsts)?;
    let log = Log::new(chunk_bytes, recent_bytes_max);
    let mut start = Start { disk, chunk_bytes, mark, log, mend: Vec::new(), torn: None };
    start.chunks(&firsts)?;
    start.check_mark()?;
    start.log.hidden = promise.hidden;
    start.finish_hiding();
    let (saved, has_checkpoint) = start.checkpoint(accept)?;
    let mark = start.sync()?;
    let Start { log, torn, .. } = start;
    let mut writer = Writer::new(log, chunk_bytes, promise, mark, has_checkpoint);
    let mut recovered = Recovered { fresh, checkpoint: None, torn };
    if let Some(Saved { checkpoint, open }) = saved {
        writer.applied_next = Some(checkpoint.index.next());
        let unsealed = |verdict: &Verdict| writer.log.chunk_of(verdict.index).is_some_and(|chunk| !chunk.is_sealed());
        writer.verdicts = open.into_iter().filter(unsealed).collect();
        recovered.checkpoint = Some(checkpoint);
    }
    Ok((writer, recovered))
}

/// The chunks that have a file.
fn chunk_files(disk: &dyn Disk) -> Result<Vec<LogIndex>, OpenError> {
    let names = disk.list(CHUNK_DIR).map_err(OpenError::io(format!("list the chunks in {}", disk.name())))?;
    let mut firsts = Vec::new();
    for name in names {
        match chunk_first(&name) {
            Some(first) => firsts.push(first),
            None => tracing::warn!(name, "a file that is no chunk stands among the chunks"),
        }
    }
    Ok(firsts)
}

/// The vote and the watermark. Both are there from the first start on, the vote last, so that they can be missed.
fn first_files(disk: &dyn Disk, firsts: &[LogIndex]) -> Result<(Promise, Watermark, bool), OpenError> {
    let doing = |file: &str| format!("read the {file} in {}", disk.name());
    let promise = Promise::read(disk).map_err(OpenError::io(doing("vote")))?;
    if let Some(promise) = promise {
        let mark = Watermark::read(disk).map_err(OpenError::io(doing("watermark")))?;
        let mark = mark.ok_or_else(|| Damage::new("watermark", 0, "the file is missing"))?;
        return Ok((promise, mark, false));
    }
    let (saved, failed) = Saved::read(disk);
    if !firsts.is_empty() || !saved.is_empty() || !failed.is_empty() {
        return Err(Damage::new("vote", 0, "the file is missing").into());
    }
    let (promise, mark) = (Promise::default(), Watermark::default());
    let mut ops = mark.write_and_sync();
    // Its name must be there before the vote's is: a vote without a watermark is damage.
    ops.push(Op::SyncDir { dir: String::new() });
    ops.extend(promise.replace());
    disk.perform(ops).map_err(OpenError::io(format!("begin the data directory {}", disk.name())))?;
    Ok((promise, mark, true))
}

/// What is wrong with a checkpoint. The advice of a damage is for files that nothing else replaces; this one the log
/// does.
fn unreadable(error: &io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Damage>()) {
        Some(Damage { file, found, .. }) => format!("{file}: {found}"),
        None => error.to_string(),
    }
}

struct Start<'a> {
    disk: &'a dyn Disk,
    chunk_bytes: u64,
    mark: Watermark,
    log: Log,
    /// What is to be done once nothing was found damaged.
    mend: Vec<Op>,
    torn: Option<Torn>,
}

impl Start<'_> {
    fn chunks(&mut self, firsts: &[LogIndex]) -> Result<(), OpenError> {
        for (number, &first) in firsts.iter().enumerate() {
            if let Some(next) = self.log.chunks.last().map(Chunk::next).filter(|next| *next != first) {
                let found = format!("the chunk with frame {next} is missing: this one follows");
                return Err(Damage::new(chunk_file(first), 0, found).of_frame(next).into());
            }
            self.chunk(first, number + 1 == firsts.len())?;
        }
        Ok(())
    }

    /// Reads the frames of one chunk, or its footer.
    fn chunk(&mut self, first: LogIndex, is_last: bool) -> Result<(), OpenError> {
        let file = chunk_file(first);
        let doing = || OpenError::io(format!("read {file} in {}", self.disk.name()));
        let len = self.disk.len(&file).map_err(doing())?.unwrap_or(0);
        if len > chunk_file_bytes_max(self.chunk_bytes) {
            let found = format!("the file has {len} bytes, more than a chunk can have");
            return Err(Damage::new(&file, 0, found).into());
        }
        let header = self.disk.read(&file, 0, CHUNK_HEADER_BYTES.min(len as usize)).map_err(doing())?;
        match decode_header(first, &header) {
            Ok(chunk_bytes) if chunk_bytes == self.chunk_bytes => {}
            Ok(found) => {
                let (directory, asked) = (self.disk.name(), self.chunk_bytes);
                return Err(OpenError::ChunkBytes { directory, found, asked });
            }
            Err(damage) => {
                let scan = Scan::new(self.disk, first, len).and_header();
                let end = scan.last_written().map_err(doing())?.map_or(0, |last| last + 1);
                return self.tear(scan.place, first, end, is_last, damage);
            }
        }
        if self.sealed(first, len)? {
            return Ok(());
        }
        self.scan(first, len, is_last)
    }

    /// Takes the chunk from its footer, if it has a good one.
    fn sealed(&mut self, first: LogIndex, len: u64) -> Result<bool, OpenError> {
        let file = chunk_file(first);
        let doing = || OpenError::io(format!("read the footer of {file} in {}", self.disk.name()));
        let Some(trailer_at) = len.checked_sub(TRAILER_BYTES as u64) else { return Ok(false) };
        let trailer = self.disk.read(&file, trailer_at, TRAILER_BYTES).map_err(doing())?;
        let Some(length) = footer::length(&trailer) else { return Ok(false) };
        let Some(end) = len.checked_sub(length as u64) else { return Ok(false) };
        let bytes = self.disk.read(&file, end, length).map_err(doing())?;
        let footer = match footer::decode(first, end, &bytes) {
            Ok(footer) if is_full(end, self.chunk_bytes) => footer,
            Ok(_) => return Ok(false),
            // The frames tell where it should stand, and whether it was written whole.
            Err(_) => return Ok(false),
        };
        let chunk = Chunk { first, ends: footer.ends, phase: Phase::Sealed { hash: footer.hash, bytes: len } };
        self.log.restore(chunk, &footer.terms);
        Ok(true)
    }

    /// Reads every frame.
    fn scan(&mut self, first: LogIndex, len: u64, is_last: bool) -> Result<(), OpenError> {
        let file = chunk_file(first);
        let doing = || OpenError::io(format!("read {file} in {}", self.disk.name()));
        let mut scan = Scan::new(self.disk, first, len);
        while !is_full(scan.place.offset, self.chunk_bytes) {
            let (place, index) = (scan.place, scan.next);
            let error = match scan.step().map_err(doing())? {
                Found::Frame(frame, _) => {
                    self.log.push(frame);
                    self.log.synced(index);
                    continue;
                }
                Found::Stranger(other) => {
                    let found = format!("a frame with index {other} stands here");
                    return Err(Damage::new(file, place.offset, found).of_frame(index).into());
                }
                Found::Bad(error) => error,
            };
            let damage = damaged_frame(first, place.offset, index, &error);
            if let FrameError::Version(_) | FrameError::Kind(_) | FrameError::Flags(_) = error {
                return Err(damage.into());
            }
            let end = scan.last_written().map_err(doing())?.map_or(place.offset, |last| last + 1);
            return self.tear(place, index, end, is_last, damage);
        }
        self.bad_footer(first, scan.place.offset, len)
    }

    /// Judges what follows the frames of a full chunk that has no good footer. A crash while it was written leaves
    /// whole sectors unwritten, and it is made again from the frames; one that was written whole is damaged.
    fn bad_footer(&self, first: LogIndex, end: u64, len: u64) -> Result<(), OpenError> {
        let file = chunk_file(first);
        let bytes = self.disk.read(&file, end, len.saturating_sub(end) as usize);
        let bytes = bytes.map_err(OpenError::io(format!("read the footer of {file} in {}", self.disk.name())))?;
        match footer::decode(first, end, &bytes) {
            Err(found) if footer::is_written_whole(end, &bytes) => Err(Damage::new(file, end, found).into()),
            Err(found) if !bytes.is_empty() => {
                tracing::warn!(file, found, "the footer of a chunk was torn: it is made again from the frames");
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The log ends at `place`, and bytes go on up to `end`: torn, or damaged.
    fn tear(
        &mut self,
        place: Place,
        frame: LogIndex,
        end: u64,
        is_last: bool,
        damage: Damage,
    ) -> Result<(), OpenError> {
        let synced = self.mark.end.is_some_and(|(synced, _)| synced > place);
        let bytes = end - place.offset;
        if synced || !is_last || bytes > GROUP_BYTES_MAX as u64 {
            return Err(damage.into());
        }
        let whole_file = self.log.chunks.last().is_none_or(|chunk| chunk.first != place.chunk);
        if bytes > 0 || whole_file {
            tracing::warn!(
                chunk = %place.chunk, offset = place.offset, %frame, bytes,
                "the end of the log was torn by a crash, and nobody was told of it: it is cut"
            );
            self.torn = Some(Torn { frame, place, bytes });
        }
        let file = chunk_file(place.chunk);
        if whole_file {
            self.mend.push(Op::Remove { file });
            self.mend.push(Op::SyncDir { dir: CHUNK_DIR.into() });
        } else if bytes > 0 {
            self.mend.push(Op::Truncate { file: file.clone(), len: place.offset });
            self.mend.push(create(place.chunk, self.chunk_bytes));
            self.mend.push(Op::SyncData { file });
        }
        Ok(())
    }

    /// What was known to be synced must be there.
    fn check_mark(&self) -> Result<(), OpenError> {
        if let Some(base) = self.mark.base.filter(|base| self.log.base() != Some(*base)) {
            let found = "the file is missing, and the log began with it";
            return Err(Damage::new(chunk_file(base), 0, found).of_frame(base).into());
        }
        let Some((place, next)) = self.mark.end else { return Ok(()) };
        let chunk = self.log.chunks.iter().find(|chunk| chunk.first == place.chunk);
        let holds = chunk
            .is_some_and(|chunk| (chunk.first..=chunk.next()).contains(&next) && chunk.start_of(next) == place.offset);
        if holds {
            return Ok(());
        }
        let found = format!("frames up to {next} were synced, and here is not where they end");
        Err(Damage::new(chunk_file(place.chunk), place.offset, found).into())
    }

    /// A crash came between the mark that hides all of the log and its end.
    fn finish_hiding(&mut self) {
        let Some(hidden) = self.log.hidden.map(|(index, _)| index) else { return };
        if self.log.chunks.last().is_some_and(|chunk| chunk.next() <= hidden) {
            let cut = self.log.truncate(None);
            let lowered = Watermark { base: None, end: None, committed: self.mark.committed };
            self.mend.extend(truncation(lowered, &cut, self.chunk_bytes));
        }
    }

    /// The newest checkpoint that can be used: it is in the log, and what it does not say of its frames, footers do.
    /// The one before it is looked at only if that cannot be used.
    fn checkpoint(&self, accept: &mut Accept<'_>) -> Result<(Option<Saved>, bool), OpenError> {
        let exists = Saved::exists(self.disk).map_err(OpenError::io("look for a checkpoint"))?;
        for file in Saved::FILES {
            let saved = match Saved::read_from(self.disk, file) {
                Ok(None) => continue,
                Ok(Some(saved)) => saved,
                Err(error) => {
                    let why = unreadable(&error);
                    tracing::warn!(why, "a checkpoint cannot be read; replaying the log instead");
                    continue;
                }
            };
            let index = saved.checkpoint.index;
            let contradiction = self.contradiction(&saved.checkpoint);
            if contradiction.is_none() && !self.covers(&saved) {
                tracing::warn!(
                    %index,
                    "a checkpoint lacks what became of frames before it: more of the log is replayed"
                );
                continue;
            }
            match (accept(&saved.checkpoint), contradiction) {
                (Err(Unusable::Foreign(why)), _) => {
                    tracing::warn!(file, %index, why, "a checkpoint is of another cluster; replaying the log instead");
                }
                (_, Some(damage)) => return Err(damage.into()),
                (Ok(()), None) => return Ok((Some(saved), exists)),
                (Err(Unusable::Unreadable(why)), None) => {
                    tracing::warn!(%index, %why, "a checkpoint cannot be read; replaying the log instead");
                }
            }
        }
        self.check_replay()?;
        Ok((None, exists))
    }

    /// Returns how the log contradicts a checkpoint of it, if it does.
    fn contradiction(&self, checkpoint: &Checkpoint) -> Option<Damage> {
        let Checkpoint { index, term, .. } = *checkpoint;
        let found = if self.log.last().is_none_or(|(last, _)| index > last) {
            format!("it is of frame {index}, and the log ends before it")
        } else if self.log.term_at(index).is_some_and(|there| there != term) {
            format!("it is of frame {index} in term {term}, and the log has another term there")
        } else {
            return None;
        };
        Some(Damage::new("checkpoint", 0, found).of_frame(index))
    }

    /// Without a checkpoint everything is applied again, so the log must have everything.
    fn check_replay(&self) -> Result<(), OpenError> {
        match self.log.base() {
            Some(base) if base > LogIndex(0) && self.log.hidden.is_none() => {
                let found = format!("no checkpoint can be read, and the log lacks the frames before {base}");
                Err(Damage::new("checkpoint", 0, found).of_frame(base).into())
            }
            _ => Ok(()),
        }
    }

    fn covers(&self, saved: &Saved) -> bool {
        let index = saved.checkpoint.index;
        let told_from = saved.open.first().map_or(index.next(), |verdict| verdict.index);
        let mut open = self.log.chunks.iter().filter(|chunk| chunk.first <= index && !chunk.is_sealed());
        open.next().is_none_or(|chunk| chunk.first >= told_from)
    }

    /// Mends, and puts on the disk what may be in the page cache only.
    fn sync(&mut self) -> Result<Watermark, OpenError> {
        let mut ops = std::mem::take(&mut self.mend);
        for chunk in self.log.chunks.iter().filter(|chunk| !chunk.is_sealed()) {
            ops.push(Op::SyncData { file: chunk_file(chunk.first) });
        }
        for dir in ["", CHUNK_DIR] {
            ops.push(Op::SyncDir { dir: dir.into() });
        }
        let mark = Watermark {
            base: self.log.base(),
            end: self.log.chunks.last().map(|chunk| (chunk.end_place(), chunk.next())),
            committed: self.mark.committed,
        };
        ops.extend(mark.write_and_sync());
        self.disk.perform(ops).map_err(OpenError::io(format!("mend and sync the log in {}", self.disk.name())))?;
        if let Some(next) = self.log.chunks.last().map(Chunk::next) {
            self.log.synced(LogIndex(next.0 - 1));
        }
        Ok(mark)
    }
}
