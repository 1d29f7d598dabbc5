//! The log in memory: the location of each frame, the recent frames, and which frames are hidden. It changes at once;
//! the disk follows.

use std::collections::VecDeque;

use evener_core::id::{LogIndex, Term};

use crate::{
    chunk::{CHUNK_HEADER_BYTES, is_full},
    frame::{Frame, FrameLocation},
};

/// The table of one chunk: four bytes per frame.
#[derive(Clone, Debug)]
pub(crate) struct Chunk {
    /// The index of its first frame.
    pub first: LogIndex,
    /// The end offset of each frame.
    pub ends: Vec<u32>,
    /// Its phase.
    pub phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It accepts frames, or waits until all of them are applied and synced.
    Open,
    /// Its footer is being written.
    Sealing,
    /// It never changes again.
    Sealed { hash: u128, bytes: u64 },
}

impl Chunk {
    pub(crate) fn new(first: LogIndex) -> Self {
        Self { first, ends: Vec::new(), phase: Phase::Open }
    }

    pub(crate) fn end(&self) -> u64 {
        self.ends.last().map_or(CHUNK_HEADER_BYTES as u64, |end| u64::from(*end))
    }

    /// Returns the index after its last frame.
    pub(crate) fn next(&self) -> LogIndex {
        LogIndex(self.first.0 + self.ends.len() as u64)
    }

    /// Returns the start offset of frame `index`, which must be in the chunk or its next frame.
    pub(crate) fn start_of(&self, index: LogIndex) -> u64 {
        match (index.0 - self.first.0) as usize {
            0 => CHUNK_HEADER_BYTES as u64,
            number => u64::from(self.ends[number - 1]),
        }
    }

    /// Returns the location after its last frame.
    pub(crate) fn end_location(&self) -> FrameLocation {
        FrameLocation { chunk: self.first, offset: self.end() }
    }

    pub(crate) fn is_sealed(&self) -> bool {
        matches!(self.phase, Phase::Sealed { .. })
    }
}

/// The log in memory.
#[derive(Debug)]
pub(crate) struct Log {
    chunk_bytes: u64,
    recent_bytes_max: usize,
    /// The chunks in order, none empty.
    pub chunks: Vec<Chunk>,
    /// The first index of each term.
    terms: Vec<(LogIndex, Term)>,
    /// The newest frames without gaps: all unsynced ones, and as many more as fit.
    recent: VecDeque<Frame>,
    recent_bytes: usize,
    /// The last hidden frame.
    pub hidden: Option<(LogIndex, Term)>,
    /// The last synced frame.
    pub durable: Option<LogIndex>,
    /// The number of truncations: a failed read from the disk is repeated if it has changed.
    pub truncations: u64,
}

/// The effect of a truncation on the disk.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Truncation {
    /// The removed chunks, the last one first.
    pub removed: Vec<LogIndex>,
    /// The new end of the last remaining chunk, if it was shortened.
    pub shortened: Option<FrameLocation>,
}

/// The source of frames to read.
#[derive(Debug)]
pub(crate) enum FrameSource {
    /// The frames, from memory.
    Memory(Vec<Frame>),
    /// Adjacent frames in a chunk.
    Chunk { location: FrameLocation, len: usize, first: LogIndex },
    /// No frames.
    Empty,
}

impl Log {
    pub(crate) fn new(chunk_bytes: u64, recent_bytes_max: usize) -> Self {
        Self {
            chunk_bytes,
            recent_bytes_max,
            chunks: Vec::new(),
            terms: Vec::new(),
            recent: VecDeque::new(),
            recent_bytes: 0,
            hidden: None,
            durable: None,
            truncations: 0,
        }
    }

    /// Returns the index of the next frame, or `None` if the log is empty and accepts any index.
    pub(crate) fn next(&self) -> Option<LogIndex> {
        self.chunks.last().map(Chunk::next).or_else(|| self.hidden.map(|(index, _)| index.next()))
    }

    /// Returns the first index, hidden or not.
    pub(crate) fn base(&self) -> Option<LogIndex> {
        self.chunks.first().map(|chunk| chunk.first)
    }

    /// Returns the first visible frame.
    pub(crate) fn first(&self) -> Option<(LogIndex, Term)> {
        let first = self.base()?.max(self.hidden.map_or(LogIndex(0), |(index, _)| index.next()));
        Some((first, self.term_at(first)?))
    }

    /// Returns the last frame; if there is none, the last hidden frame.
    pub(crate) fn last(&self) -> Option<(LogIndex, Term)> {
        let Some(next) = self.chunks.last().map(Chunk::next) else { return self.hidden };
        let (_, term) = self.terms.last().expect("a frame has a term");
        Some((LogIndex(next.0 - 1), *term))
    }

    /// Returns the term of a frame; also of the last hidden frame.
    pub(crate) fn term_at(&self, index: LogIndex) -> Option<Term> {
        match self.hidden {
            Some((hidden, term)) if index == hidden => return Some(term),
            Some((hidden, _)) if index < hidden => return None,
            _ => {}
        }
        if self.base().is_none_or(|base| index < base) || self.next().is_none_or(|next| index >= next) {
            return None;
        }
        let after = self.terms.partition_point(|(first, _)| *first <= index);
        Some(self.terms[after - 1].1)
    }

    /// Returns the first index of each term within `[from, to)`, starting with the term of `from`.
    pub(crate) fn terms_in(&self, from: LogIndex, to: LogIndex) -> Vec<(LogIndex, Term)> {
        let after = self.terms.partition_point(|(first, _)| *first <= from);
        let mut terms = vec![(from, self.terms[after - 1].1)];
        terms.extend(self.terms[after..].iter().take_while(|(first, _)| *first < to));
        terms
    }

    /// Adds a sealed chunk.
    pub(crate) fn restore(&mut self, chunk: Chunk, terms: &[(LogIndex, Term)]) {
        for (index, term) in terms {
            self.record_term(*index, *term);
        }
        // The recent frames have no gaps, and the frames of this chunk are not among them.
        (self.recent, self.recent_bytes) = (VecDeque::new(), 0);
        self.chunks.push(chunk);
    }

    /// Appends a frame; returns its location and whether it starts a chunk.
    pub(crate) fn push(&mut self, frame: Frame) -> (FrameLocation, bool) {
        debug_assert!(self.next().is_none_or(|next| next == frame.index));
        let is_new = self.chunks.last().is_none_or(|chunk| is_full(chunk.end(), self.chunk_bytes));
        if is_new {
            self.chunks.push(Chunk::new(frame.index));
        }
        let chunk = self.chunks.last_mut().expect("one was pushed if there was none");
        let location = chunk.end_location();
        let end = location.offset + frame.bytes() as u64;
        chunk.ends.push(u32::try_from(end).expect("a chunk is at most 1 GiB and a frame"));
        self.record_term(frame.index, frame.term);
        self.recent_bytes += frame.bytes();
        self.recent.push_back(frame);
        (location, is_new)
    }

    /// Records that frames up to `last` are synced, and evicts old frames.
    pub(crate) fn synced(&mut self, last: LogIndex) {
        debug_assert!(self.next().is_some_and(|next| last < next));
        self.durable = self.durable.max(Some(last));
        self.evict();
    }

    fn evict(&mut self) {
        while self.recent_bytes > self.recent_bytes_max {
            let Some(oldest) = self.recent.front() else { return };
            if self.durable.is_none_or(|durable| oldest.index > durable) {
                return;
            }
            self.recent_bytes -= oldest.bytes();
            self.recent.pop_front();
        }
    }

    /// Removes all frames after `last`.
    pub(crate) fn truncate(&mut self, last: Option<LogIndex>) -> Truncation {
        let next = last.map_or(LogIndex(0), LogIndex::next);
        let mut truncation = Truncation { removed: Vec::new(), shortened: None };
        while let Some(chunk) = self.chunks.last_mut().filter(|chunk| chunk.next() > next) {
            debug_assert!(!chunk.is_sealed(), "applied frames are not removed");
            if chunk.first >= next {
                truncation.removed.push(chunk.first);
                self.chunks.pop();
            } else {
                chunk.ends.truncate((next.0 - chunk.first.0) as usize);
                truncation.shortened = Some(chunk.end_location());
            }
        }
        while self.terms.last().is_some_and(|(first, _)| *first >= next) {
            self.terms.pop();
        }
        while let Some(newest) = self.recent.pop_back_if(|newest| newest.index >= next) {
            self.recent_bytes -= newest.bytes();
        }
        self.durable = if self.chunks.is_empty() { None } else { self.durable.min(last) };
        self.truncations += 1;
        truncation
    }

    /// Returns the source of the first frames of `[from, to)`: at least one, then as many as `bytes_max` allows.
    pub(crate) fn source(&self, from: LogIndex, to: LogIndex, bytes_max: usize) -> FrameSource {
        let Some((first, _)) = self.first() else { return FrameSource::Empty };
        let (from, to) = (from.max(first), to.min(self.next().unwrap_or_default()));
        if from >= to {
            return FrameSource::Empty;
        }
        if let Some(oldest) = self.recent.front().filter(|oldest| from >= oldest.index) {
            let skip = (from.0 - oldest.index.0) as usize;
            let mut left = bytes_max;
            let fits = |(number, frame): &(usize, &Frame)| {
                let fits = *number == 0 || frame.bytes() <= left;
                left = left.saturating_sub(frame.bytes());
                fits
            };
            let frames = self.recent.iter().skip(skip).take((to.0 - from.0) as usize).enumerate();
            return FrameSource::Memory(frames.take_while(fits).map(|(_, frame)| frame.clone()).collect());
        }
        let chunk = self.chunk_of(from).expect("a frame between the first and the last is in a chunk");
        let start = chunk.start_of(from);
        let number = (from.0 - chunk.first.0) as usize;
        // Recent frames may not be on the disk yet, where a truncated frame may still be in their place.
        let to = to.min(chunk.next()).min(self.recent.front().map_or(to, |oldest| oldest.index));
        let most = (to.0 - from.0) as usize;
        let ends = &chunk.ends[number..number + most];
        let taken = ends.partition_point(|end| u64::from(*end) - start <= bytes_max as u64).max(1);
        let len = (u64::from(ends[taken - 1]) - start) as usize;
        FrameSource::Chunk { location: FrameLocation { chunk: chunk.first, offset: start }, len, first: from }
    }

    /// Returns the chunk of a frame.
    pub(crate) fn chunk_of(&self, index: LogIndex) -> Option<&Chunk> {
        let after = self.chunks.partition_point(|chunk| chunk.first <= index);
        self.chunks[..after].last().filter(|chunk| index < chunk.next())
    }

    pub(crate) fn chunk_mut(&mut self, first: LogIndex) -> Option<&mut Chunk> {
        let at = self.chunks.binary_search_by_key(&first, |chunk| chunk.first).ok()?;
        Some(&mut self.chunks[at])
    }

    fn record_term(&mut self, index: LogIndex, term: Term) {
        if self.terms.last().is_none_or(|(_, last)| *last != term) {
            self.terms.push((index, term));
        }
    }
}
