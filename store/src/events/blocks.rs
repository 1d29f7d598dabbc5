//! Blocks of consecutive events, decoded once per node however many processors read them.
//!
//! Processors that follow the head read the same positions within moments. The most recently used blocks are cached,
//! within a bound of bytes. A read that starts inside a cached block returns the rest of that block.

use std::{collections::BTreeMap, fmt, ops::Deref, sync::Arc};

use evener_core::id::{ContextId, Position};
use parking_lot::{Condvar, Mutex};

use super::Stored;

/// Events in a block: one batch of a worker.
pub const BLOCK_EVENTS_MAX: usize = 1_024;
/// Bytes of the events in a block.
pub const BLOCK_BYTES_MAX: usize = 256 << 10;
/// Bytes of all cached blocks: some dozens of full blocks, for the head and a few processors that catch up.
pub const BLOCKS_BYTES_MAX: usize = 32 << 20;

/// Consecutive events, shared between readers. A clone refers to the same block.
#[derive(Clone)]
pub struct Block {
    shared: Arc<BlockEvents>,
    start: usize,
    end: usize,
}

impl Block {
    /// Returns the part of `shared` that starts at `from`, within these bounds; one event always fits.
    pub(crate) fn new(shared: Arc<BlockEvents>, from: Position, events_max: usize, bytes_max: usize) -> Self {
        let skip = usize::try_from(from.0 - shared.first.0).unwrap_or(usize::MAX);
        let start = skip.min(shared.events.len());
        let mut bytes = 0;
        let fitting = shared.events[start..].iter().enumerate().take_while(|(nth, stored)| {
            bytes += stored.event.size();
            *nth == 0 || (*nth < events_max && bytes <= bytes_max)
        });
        let end = start + fitting.count();
        Self { shared, start, end }
    }

    /// Returns the events; each can be kept without the others.
    #[must_use]
    pub fn events(&self) -> &[Arc<Stored>] {
        &self.shared.events[self.start..self.end]
    }

    /// Returns the position after the last event: where to read next.
    #[must_use]
    pub fn next(&self) -> Position {
        Position(self.shared.first.0 + self.end as u64)
    }
}

impl Deref for Block {
    type Target = [Arc<Stored>];

    fn deref(&self) -> &[Arc<Stored>] {
        self.events()
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.events()).finish()
    }
}

/// The events of a cached block.
#[derive(Debug)]
pub(crate) struct BlockEvents {
    first: Position,
    events: Vec<Arc<Stored>>,
    bytes: usize,
}

impl BlockEvents {
    /// Creates a block of consecutive events, the first at position `first`.
    pub(crate) fn new(first: Position, events: Vec<Stored>) -> Self {
        let held = |stored: &Stored| size_of::<Stored>() + 24 + stored.event.size() + 24 * stored.event.tags.len();
        let bytes = size_of::<Self>() + events.iter().map(held).sum::<usize>();
        Self { first, events: events.into_iter().map(Arc::new).collect(), bytes }
    }

    fn contains(&self, position: Position) -> bool {
        self.first <= position && position.0 - self.first.0 < self.events.len() as u64
    }
}

type Key = (ContextId, Position);

/// The cached blocks.
#[derive(Debug, Default)]
pub(crate) struct BlockCache {
    state: Mutex<CacheState>,
    /// Notified when a block was decoded, or decoding it failed.
    decoded: Condvar,
}

#[derive(Debug, Default)]
struct CacheState {
    blocks: BTreeMap<Key, Slot>,
    /// The blocks by the time of their last use; the first is evicted first.
    uses: BTreeMap<u64, Key>,
    clock: u64,
    bytes: usize,
}

/// A block, or a mark that a reader is decoding it.
#[derive(Debug)]
enum Slot {
    Decoded(Arc<BlockEvents>, u64),
    Decoding,
}

impl BlockCache {
    /// Returns the block that contains `from`. If there is none, calls `decode` with the maximum number of events and
    /// caches the result, unless it is empty. Other readers of the same position wait meanwhile; readers of other
    /// positions do not.
    pub(crate) fn get_or_decode<E>(
        &self,
        context: ContextId,
        from: Position,
        decode: impl FnOnce(usize) -> Result<BlockEvents, E>,
    ) -> Result<Arc<BlockEvents>, E> {
        let key = (context, from);
        let mut state = self.state.lock();
        loop {
            if let Some(found) = state.find(key) {
                return Ok(found);
            }
            if !state.blocks.contains_key(&key) {
                break;
            }
            self.decoded.wait(&mut state);
        }
        // The events after this block may be cached already: end it where the next block begins.
        let following = state.blocks.range(key..).next().filter(|((other, _), _)| *other == context);
        let room = following.map_or(u64::MAX, |((_, next), _)| next.0 - from.0);
        state.blocks.insert(key, Slot::Decoding);
        drop(state);
        let guard = DecodeGuard { blocks: self, key };
        let max = BLOCK_EVENTS_MAX.min(usize::try_from(room).unwrap_or(usize::MAX));
        let shared = Arc::new(decode(max)?);
        if !shared.events.is_empty() {
            self.state.lock().insert(key, &shared);
        }
        drop(guard);
        Ok(shared)
    }
}

#[cfg(test)]
impl BlockCache {
    /// Returns the bytes of all cached blocks.
    pub(crate) fn bytes(&self) -> usize {
        self.state.lock().bytes
    }
}

/// Wakes waiting readers when decoding ends, even if it fails or panics.
struct DecodeGuard<'b> {
    blocks: &'b BlockCache,
    key: Key,
}

impl Drop for DecodeGuard<'_> {
    fn drop(&mut self) {
        let mut state = self.blocks.state.lock();
        if matches!(state.blocks.get(&self.key), Some(Slot::Decoding)) {
            state.blocks.remove(&self.key);
        }
        self.blocks.decoded.notify_all();
    }
}

impl CacheState {
    /// Returns the block that contains a position, and marks it as the most recently used.
    fn find(&mut self, (context, from): Key) -> Option<Arc<BlockEvents>> {
        let before = self.blocks.range_mut((context, Position(0))..=(context, from));
        let (key, shared, used) = before.rev().find_map(|(key, kind)| match kind {
            Slot::Decoded(shared, used) => Some((*key, shared, used)),
            Slot::Decoding => None,
        })?;
        if !shared.contains(from) {
            return None;
        }
        self.clock += 1;
        self.uses.remove(used);
        self.uses.insert(self.clock, key);
        *used = self.clock;
        Some(Arc::clone(shared))
    }

    fn insert(&mut self, key: Key, shared: &Arc<BlockEvents>) {
        self.clock += 1;
        self.bytes += shared.bytes;
        self.blocks.insert(key, Slot::Decoded(Arc::clone(shared), self.clock));
        self.uses.insert(self.clock, key);
        while self.bytes > BLOCKS_BYTES_MAX {
            let Some((_, oldest)) = self.uses.pop_first() else { break };
            if let Some(Slot::Decoded(evicted, _)) = self.blocks.remove(&oldest) {
                self.bytes -= evicted.bytes;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread};

    use evener_core::{event::Event, time::Timestamp};

    use super::*;

    fn shared(first: u64, count: u64) -> BlockEvents {
        let stored = |position| Stored {
            position: Position(position),
            revision: None,
            recorded: Timestamp(0),
            event: Event::default(),
        };
        BlockEvents::new(Position(first), (first..first + count).map(stored).collect())
    }

    #[test]
    fn a_reader_of_a_block_being_decoded_waits_and_others_do_not() {
        let blocks = BlockCache::default();
        let get = |from, count| blocks.get_or_decode::<()>(ContextId(0), Position(from), |_| Ok(shared(from, count)));
        let (started, wait_started) = mpsc::channel();
        let (release, wait_released) = mpsc::channel::<()>();
        thread::scope(|scope| {
            let first = scope.spawn(|| {
                blocks.get_or_decode::<()>(ContextId(0), Position(0), move |_| {
                    started.send(()).unwrap();
                    wait_released.recv().unwrap();
                    Ok(shared(0, 10))
                })
            });
            wait_started.recv().unwrap();
            assert_eq!(get(50, 5).unwrap().events.len(), 5, "a read of another position does not wait");
            let second =
                scope.spawn(|| blocks.get_or_decode::<()>(ContextId(0), Position(0), |_| panic!("decoded twice")));
            release.send(()).unwrap();
            let (first, second) = (first.join().unwrap().unwrap(), second.join().unwrap().unwrap());
            assert!(Arc::ptr_eq(&first, &second));
        });
    }

    #[test]
    fn failed_and_empty_blocks_are_not_cached() {
        let blocks = BlockCache::default();
        let at =
            |decode: Result<BlockEvents, &'static str>| blocks.get_or_decode(ContextId(0), Position(7), |_| decode);
        assert_eq!(at(Err("no disk")).unwrap_err(), "no disk");
        assert!(at(Ok(shared(7, 0))).unwrap().events.is_empty());
        assert_eq!(at(Ok(shared(7, 2))).unwrap().events.len(), 2);
        assert_eq!(at(Err("not called")).unwrap().events.len(), 2);
    }
}
