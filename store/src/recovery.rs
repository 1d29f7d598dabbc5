//! Recovery of a data directory at a start. It distinguishes four cases:
//!
//! - Nothing after the last frame: the node was stopped, or a crash tore no write.
//! - Invalid bytes after the watermark, at most a group long, in the last chunk: a torn write, which was never
//!   acknowledged. It is truncated, with a log line.
//! - After the frames of a full chunk, a footer with missing sectors: a crash occurred while it was written. It is
//!   rebuilt from the frames.
//! - Anything else is damage: synced bytes have changed. Nothing is modified and the directory is not opened, because a
//!   node that lost acknowledged entries must not vote.
//!
//! Then the log is synced once: after a kill of the process it may be in the page cache only.
//!
//! An invalid checkpoint is not damage: the previous one or a replay of the whole log replaces it. Only a checkpoint of
//! this log that contradicts it is damage, because then the log has lost frames. A checkpoint of another cluster proves
//! nothing about this log. A checkpoint of another node of this cluster may be used: at a frame of the same index and
//! term, every node has the same state.

use std::io;

use evener_core::id::LogIndex;

use crate::{
    checkpoint::{Checkpoint, SavedCheckpoint},
    chunk::{
        CHUNK_BYTES_MAX, CHUNK_BYTES_MIN, CHUNK_DIR, CHUNK_HEADER_BYTES, chunk_file, chunk_file_bytes_max, chunk_first,
        create, damaged_frame, decode_header, is_full,
    },
    disk::{Disk, Op},
    error::{Damage, OpenError},
    footer::{self, TRAILER_BYTES},
    frame::{FrameError, FrameLocation},
    log::{Chunk, Log, Phase},
    scan::{Scan, ScanStep},
    settings::JournalSettings,
    verdict::Verdict,
    vote::VoteRecord,
    watermark::Watermark,
    writer::{GROUP_BYTES_MAX, Writer, truncation_ops},
};

/// The result of a recovery.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Whether the directory was empty: this is its first start.
    pub fresh: bool,
    /// The newest usable checkpoint; `None` if the whole log must be replayed.
    pub checkpoint: Option<Checkpoint>,
    /// The torn write that was truncated, if any.
    pub torn: Option<TornWrite>,
}

/// A torn write, which was truncated. It was never acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornWrite {
    /// Its first frame.
    pub frame: LogIndex,
    /// Its location.
    pub location: FrameLocation,
    /// The number of its bytes.
    pub bytes: u64,
}

/// Reads the image of a checkpoint, which is opaque to this crate, or returns why it cannot be used.
pub type AcceptCheckpoint<'a> = dyn FnMut(&Checkpoint) -> Result<(), UnusableCheckpoint> + 'a;

/// Why the image of a checkpoint cannot be used.
#[derive(Debug)]
pub enum UnusableCheckpoint {
    /// It cannot be decoded.
    Unreadable(io::Error),
    /// It belongs to another cluster; the text describes both.
    Foreign(String),
}

pub(crate) fn recover(
    disk: &dyn Disk,
    settings: JournalSettings,
    accept: &mut AcceptCheckpoint<'_>,
) -> Result<(Writer, Recovered), OpenError> {
    let JournalSettings { chunk_bytes, recent_bytes_max } = settings;
    if !(CHUNK_BYTES_MIN..=CHUNK_BYTES_MAX).contains(&chunk_bytes) {
        return Err(OpenError::Setting(format!(
            "chunk_bytes is {chunk_bytes}, but must be {CHUNK_BYTES_MIN} to {CHUNK_BYTES_MAX}"
        )));
    }
    let firsts = chunk_files(disk)?;
    let (vote_record, watermark, fresh) = vote_and_watermark(disk, &firsts)?;
    let log = Log::new(chunk_bytes, recent_bytes_max);
    let mut recovery = Recovery { disk, chunk_bytes, watermark, log, repairs: Vec::new(), torn: None };
    recovery.chunks(&firsts)?;
    recovery.check_watermark()?;
    recovery.log.hidden = vote_record.hidden;
    recovery.finish_hiding();
    let (saved, has_checkpoint) = recovery.checkpoint(accept)?;
    let watermark = recovery.sync()?;
    let Recovery { log, torn, .. } = recovery;
    let mut writer = Writer::new(log, chunk_bytes, vote_record, watermark, has_checkpoint);
    let mut recovered = Recovered { fresh, checkpoint: None, torn };
    if let Some(SavedCheckpoint { checkpoint, open }) = saved {
        writer.applied_next = Some(checkpoint.index.next());
        let unsealed = |verdict: &Verdict| writer.log.chunk_of(verdict.index).is_some_and(|chunk| !chunk.is_sealed());
        writer.verdicts = open.into_iter().filter(unsealed).collect();
        recovered.checkpoint = Some(checkpoint);
    }
    Ok((writer, recovered))
}

/// Returns the first indexes of the chunks that have a file.
fn chunk_files(disk: &dyn Disk) -> Result<Vec<LogIndex>, OpenError> {
    let names = disk.list(CHUNK_DIR).map_err(OpenError::io(format!("list the chunks in {}", disk.name())))?;
    let mut firsts = Vec::new();
    for name in names {
        match chunk_first(&name) {
            Some(first) => firsts.push(first),
            None => tracing::warn!(name, "unexpected file in the directory of chunks"),
        }
    }
    Ok(firsts)
}

/// Returns the vote, the watermark and whether this is the first start. A first start writes both files, the vote last,
/// so that a later start detects a missing one.
fn vote_and_watermark(disk: &dyn Disk, firsts: &[LogIndex]) -> Result<(VoteRecord, Watermark, bool), OpenError> {
    let doing = |file: &str| format!("read the {file} in {}", disk.name());
    let vote_record = VoteRecord::read(disk).map_err(OpenError::io(doing("vote")))?;
    if let Some(vote_record) = vote_record {
        let watermark = Watermark::read(disk).map_err(OpenError::io(doing("watermark")))?;
        let watermark = watermark.ok_or_else(|| Damage::new("watermark", 0, "the file is missing"))?;
        return Ok((vote_record, watermark, false));
    }
    let (saved, failed) = SavedCheckpoint::read(disk);
    if !firsts.is_empty() || !saved.is_empty() || !failed.is_empty() {
        return Err(Damage::new("vote", 0, "the file is missing").into());
    }
    let (vote_record, watermark) = (VoteRecord::default(), Watermark::default());
    let mut ops = watermark.write_and_sync();
    // The watermark's name is synced before the vote is written: a vote without a watermark is damage.
    ops.push(Op::SyncDir { dir: String::new() });
    ops.extend(vote_record.replace());
    disk.perform(ops).map_err(OpenError::io(format!("initialize the data directory {}", disk.name())))?;
    Ok((vote_record, watermark, true))
}

/// Describes what is wrong with a checkpoint, without the hint of a damage: the log replaces the file.
fn unreadable(error: &io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Damage>()) {
        Some(Damage { file, found, .. }) => format!("{file}: {found}"),
        None => error.to_string(),
    }
}

struct Recovery<'a> {
    disk: &'a dyn Disk,
    chunk_bytes: u64,
    watermark: Watermark,
    log: Log,
    /// The repairs to perform if there is no damage.
    repairs: Vec<Op>,
    torn: Option<TornWrite>,
}

impl Recovery<'_> {
    fn chunks(&mut self, firsts: &[LogIndex]) -> Result<(), OpenError> {
        for (number, &first) in firsts.iter().enumerate() {
            if let Some(next) = self.log.chunks.last().map(Chunk::next).filter(|next| *next != first) {
                let found = format!("the chunk of frame {next}, which precedes this one, is missing");
                return Err(Damage::new(chunk_file(first), 0, found).with_frame(next).into());
            }
            self.chunk(first, number + 1 == firsts.len())?;
        }
        Ok(())
    }

    /// Reads one chunk from its footer or its frames.
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
                let scan = Scan::new(self.disk, first, len).starting_at_header();
                let end = scan.last_written().map_err(doing())?.map_or(0, |last| last + 1);
                return self.end_of_log(scan.location, first, end, is_last, damage);
            }
        }
        if self.sealed(first, len)? {
            return Ok(());
        }
        self.scan(first, len, is_last)
    }

    /// Reads the chunk from its footer, if it is valid; returns whether it is.
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
            // The scan of the frames finds its offset, and whether it was written completely.
            Err(_) => return Ok(false),
        };
        let chunk = Chunk { first, ends: footer.ends, phase: Phase::Sealed { hash: footer.hash, bytes: len } };
        self.log.restore(chunk, &footer.terms);
        Ok(true)
    }

    /// Reads the chunk from its frames.
    fn scan(&mut self, first: LogIndex, len: u64, is_last: bool) -> Result<(), OpenError> {
        let file = chunk_file(first);
        let doing = || OpenError::io(format!("read {file} in {}", self.disk.name()));
        let mut scan = Scan::new(self.disk, first, len);
        while !is_full(scan.location.offset, self.chunk_bytes) {
            let (location, index) = (scan.location, scan.next);
            let error = match scan.step().map_err(doing())? {
                ScanStep::Frame(frame, _) => {
                    self.log.push(frame);
                    self.log.synced(index);
                    continue;
                }
                ScanStep::WrongIndex(other) => {
                    let found = format!("found a frame with index {other} here");
                    return Err(Damage::new(file, location.offset, found).with_frame(index).into());
                }
                ScanStep::Invalid(error) => error,
            };
            let damage = damaged_frame(first, location.offset, index, &error);
            if let FrameError::Version(_) | FrameError::Kind(_) | FrameError::Flags(_) = error {
                return Err(damage.into());
            }
            let end = scan.last_written().map_err(doing())?.map_or(location.offset, |last| last + 1);
            return self.end_of_log(location, index, end, is_last, damage);
        }
        self.bad_footer(first, scan.location.offset, len)
    }

    /// Checks the bytes after the frames of a full chunk without a valid footer. A footer with unwritten sectors was
    /// torn by a crash and is rebuilt from the frames; a completely written one is damaged.
    fn bad_footer(&self, first: LogIndex, end: u64, len: u64) -> Result<(), OpenError> {
        let file = chunk_file(first);
        let bytes = self.disk.read(&file, end, len.saturating_sub(end) as usize);
        let bytes = bytes.map_err(OpenError::io(format!("read the footer of {file} in {}", self.disk.name())))?;
        match footer::decode(first, end, &bytes) {
            Err(found) if footer::is_fully_written(end, &bytes) => Err(Damage::new(file, end, found).into()),
            Err(found) if !bytes.is_empty() => {
                tracing::warn!(file, found, "a crash tore the footer of a chunk; rebuilding it from the frames");
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Ends the log at `location`: the invalid bytes up to `end` are a torn write or damage.
    fn end_of_log(
        &mut self,
        location: FrameLocation,
        frame: LogIndex,
        end: u64,
        is_last: bool,
        damage: Damage,
    ) -> Result<(), OpenError> {
        let synced = self.watermark.end.is_some_and(|(synced, _)| synced > location);
        let bytes = end - location.offset;
        if synced || !is_last || bytes > GROUP_BYTES_MAX as u64 {
            return Err(damage.into());
        }
        let whole_file = self.log.chunks.last().is_none_or(|chunk| chunk.first != location.chunk);
        if bytes > 0 || whole_file {
            tracing::warn!(
                chunk = %location.chunk, offset = location.offset, %frame, bytes,
                "a crash tore the end of the log, which was not acknowledged; truncating it"
            );
            self.torn = Some(TornWrite { frame, location, bytes });
        }
        let file = chunk_file(location.chunk);
        if whole_file {
            self.repairs.push(Op::Remove { file });
            self.repairs.push(Op::SyncDir { dir: CHUNK_DIR.into() });
        } else if bytes > 0 {
            self.repairs.push(Op::Truncate { file: file.clone(), len: location.offset });
            self.repairs.push(create(location.chunk, self.chunk_bytes));
            self.repairs.push(Op::SyncData { file });
        }
        Ok(())
    }

    /// Checks that the log has all frames that the watermark covers.
    fn check_watermark(&self) -> Result<(), OpenError> {
        if let Some(base) = self.watermark.base.filter(|base| self.log.base() != Some(*base)) {
            let found = "the file is missing, but the log started with it";
            return Err(Damage::new(chunk_file(base), 0, found).with_frame(base).into());
        }
        let Some((location, next)) = self.watermark.end else { return Ok(()) };
        let chunk = self.log.chunks.iter().find(|chunk| chunk.first == location.chunk);
        let holds = chunk.is_some_and(|chunk| {
            (chunk.first..=chunk.next()).contains(&next) && chunk.start_of(next) == location.offset
        });
        if holds {
            return Ok(());
        }
        let found = format!("frames up to {next} were synced, but they do not end here");
        Err(Damage::new(chunk_file(location.chunk), location.offset, found).into())
    }

    /// Completes hiding the whole log if a crash interrupted it before the log was removed.
    fn finish_hiding(&mut self) {
        let Some(hidden) = self.log.hidden.map(|(index, _)| index) else { return };
        if self.log.chunks.last().is_some_and(|chunk| chunk.next() <= hidden) {
            let truncation = self.log.truncate(None);
            let lowered = Watermark { base: None, end: None, committed: self.watermark.committed };
            self.repairs.extend(truncation_ops(lowered, &truncation, self.chunk_bytes));
        }
    }

    /// Returns the newest usable checkpoint: its frame is in the log, and the verdicts before it are in it or in
    /// footers. The previous checkpoint is read only if the newest cannot be used.
    fn checkpoint(&self, accept: &mut AcceptCheckpoint<'_>) -> Result<(Option<SavedCheckpoint>, bool), OpenError> {
        let exists = SavedCheckpoint::exists(self.disk).map_err(OpenError::io("look for a checkpoint"))?;
        for file in SavedCheckpoint::FILES {
            let saved = match SavedCheckpoint::read_from(self.disk, file) {
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
                    "a checkpoint lacks verdicts of frames before it; replaying more of the log"
                );
                continue;
            }
            match (accept(&saved.checkpoint), contradiction) {
                (Err(UnusableCheckpoint::Foreign(why)), _) => {
                    tracing::warn!(
                        file, %index, why,
                        "a checkpoint belongs to another cluster; replaying the log instead"
                    );
                }
                (_, Some(damage)) => return Err(damage.into()),
                (Ok(()), None) => return Ok((Some(saved), exists)),
                (Err(UnusableCheckpoint::Unreadable(why)), None) => {
                    tracing::warn!(%index, %why, "a checkpoint cannot be read; replaying the log instead");
                }
            }
        }
        self.check_replay()?;
        Ok((None, exists))
    }

    /// Returns how a checkpoint of this log contradicts it, if it does.
    fn contradiction(&self, checkpoint: &Checkpoint) -> Option<Damage> {
        let Checkpoint { index, term, .. } = *checkpoint;
        let found = if self.log.last().is_none_or(|(last, _)| index > last) {
            format!("it covers frame {index}, but the log ends before it")
        } else if self.log.term_at(index).is_some_and(|there| there != term) {
            format!("it covers frame {index} of term {term}, but the log has another term there")
        } else {
            return None;
        };
        Some(Damage::new("checkpoint", 0, found).with_frame(index))
    }

    /// Checks that the log has all frames, because without a checkpoint all of them are replayed.
    fn check_replay(&self) -> Result<(), OpenError> {
        match self.log.base() {
            Some(base) if base > LogIndex(0) && self.log.hidden.is_none() => {
                let found = format!("no checkpoint can be read, and the log lacks the frames before {base}");
                Err(Damage::new("checkpoint", 0, found).with_frame(base).into())
            }
            _ => Ok(()),
        }
    }

    fn covers(&self, saved: &SavedCheckpoint) -> bool {
        let index = saved.checkpoint.index;
        let covered_from = saved.open.first().map_or(index.next(), |verdict| verdict.index);
        let mut open = self.log.chunks.iter().filter(|chunk| chunk.first <= index && !chunk.is_sealed());
        open.next().is_none_or(|chunk| chunk.first >= covered_from)
    }

    /// Performs the repairs, and syncs what may be in the page cache only.
    fn sync(&mut self) -> Result<Watermark, OpenError> {
        let mut ops = std::mem::take(&mut self.repairs);
        for chunk in self.log.chunks.iter().filter(|chunk| !chunk.is_sealed()) {
            ops.push(Op::SyncData { file: chunk_file(chunk.first) });
        }
        for dir in ["", CHUNK_DIR] {
            ops.push(Op::SyncDir { dir: dir.into() });
        }
        let watermark = Watermark {
            base: self.log.base(),
            end: self.log.chunks.last().map(|chunk| (chunk.end_location(), chunk.next())),
            committed: self.watermark.committed,
        };
        ops.extend(watermark.write_and_sync());
        self.disk.perform(ops).map_err(OpenError::io(format!("repair and sync the log in {}", self.disk.name())))?;
        if let Some(next) = self.log.chunks.last().map(Chunk::next) {
            self.log.synced(LogIndex(next.0 - 1));
        }
        Ok(watermark)
    }
}
