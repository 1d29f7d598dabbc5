//! Blocks of consecutive events, decoded once per node however many processors read them.
//!
//! Processors that follow the head ask for the same places within moments. The newest blocks they asked for are
//! kept, within a bound of bytes; whoever asks for a place inside a kept block gets the rest of it.

use std::{collections::BTreeMap, fmt, ops::Deref, sync::Arc};

use evener_core::id::{ContextId, Position};
use parking_lot::{Condvar, Mutex};

use crate::events::Stored;

/// Events of a block: a worker takes a batch of them.
pub const BLOCK_EVENTS_MAX: usize = 1_024;
/// Bytes of a block's events.
pub const BLOCK_BYTES_MAX: usize = 256 << 10;
/// Bytes of all kept blocks together: some dozens of full ones, for the head and a few that catch up.
pub const BLOCKS_BYTES_MAX: usize = 32 << 20;

/// Consecutive events, shared with whoever else reads them. A clone is the same block.
#[derive(Clone)]
pub struct Block {
    shared: Arc<Shared>,
    start: usize,
    end: usize,
}

impl Block {
    /// The part of `shared` from `from` on, within these bounds; one event always fits.
    pub(crate) fn new(shared: Arc<Shared>, from: Position, events_max: usize, bytes_max: usize) -> Self {
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

    /// The events, each of which can be taken along without the others.
    #[must_use]
    pub fn events(&self) -> &[Arc<Stored>] {
        &self.shared.events[self.start..self.end]
    }

    /// The position after them: where to read next.
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

/// What is kept of a block.
#[derive(Debug)]
pub(crate) struct Shared {
    first: Position,
    events: Vec<Arc<Stored>>,
    bytes: usize,
}

impl Shared {
    /// The events from `first` on.
    pub fn new(first: Position, events: Vec<Stored>) -> Self {
        let held = |stored: &Stored| size_of::<Stored>() + 24 + stored.event.size() + 24 * stored.event.tags.len();
        let bytes = size_of::<Self>() + events.iter().map(held).sum::<usize>();
        Self { first, events: events.into_iter().map(Arc::new).collect(), bytes }
    }

    fn holds(&self, position: Position) -> bool {
        self.first <= position && position.0 - self.first.0 < self.events.len() as u64
    }
}

type Key = (ContextId, Position);

/// The blocks that are kept.
#[derive(Debug, Default)]
pub(crate) struct Blocks {
    kept: Mutex<Kept>,
    /// Somebody has finished decoding.
    decoded: Condvar,
}

#[derive(Debug, Default)]
struct Kept {
    blocks: BTreeMap<Key, Kind>,
    /// Which block was asked for when: the first one is the one to go.
    uses: BTreeMap<u64, Key>,
    clock: u64,
    bytes: usize,
}

/// A block, or that somebody is at it.
#[derive(Debug)]
enum Kind {
    Here(Arc<Shared>, u64),
    Coming,
}

impl Blocks {
    /// The block that holds `from`; if there is none, the one that `decode` makes of at most so many events. Whoever
    /// asks for the same meanwhile waits for it; others do not. An empty block is not kept.
    pub fn get_or<E>(
        &self,
        context: ContextId,
        from: Position,
        decode: impl FnOnce(usize) -> Result<Shared, E>,
    ) -> Result<Arc<Shared>, E> {
        let key = (context, from);
        let mut kept = self.kept.lock();
        loop {
            if let Some(found) = kept.find(key) {
                return Ok(found);
            }
            if !kept.blocks.contains_key(&key) {
                break;
            }
            self.decoded.wait(&mut kept);
        }
        // What follows is decoded already, maybe: the block ends where the next one begins.
        let following = kept.blocks.range(key..).next().filter(|((other, _), _)| *other == context);
        let room = following.map_or(u64::MAX, |((_, next), _)| next.0 - from.0);
        kept.blocks.insert(key, Kind::Coming);
        drop(kept);
        let promise = Promise { blocks: self, key };
        let max = BLOCK_EVENTS_MAX.min(usize::try_from(room).unwrap_or(usize::MAX));
        let shared = Arc::new(decode(max)?);
        if !shared.events.is_empty() {
            self.kept.lock().keep(key, &shared);
        }
        drop(promise);
        Ok(shared)
    }
}

impl Blocks {
    /// Bytes of all that is kept.
    pub fn bytes(&self) -> usize {
        self.kept.lock().bytes
    }
}

/// Whatever becomes of the decoding, nobody waits for it in vain.
struct Promise<'b> {
    blocks: &'b Blocks,
    key: Key,
}

impl Drop for Promise<'_> {
    fn drop(&mut self) {
        let mut kept = self.blocks.kept.lock();
        if matches!(kept.blocks.get(&self.key), Some(Kind::Coming)) {
            kept.blocks.remove(&self.key);
        }
        self.blocks.decoded.notify_all();
    }
}

impl Kept {
    /// The block that holds the place, which is now the last one that was used.
    fn find(&mut self, (context, from): Key) -> Option<Arc<Shared>> {
        let before = self.blocks.range_mut((context, Position(0))..=(context, from));
        let (key, shared, used) = before.rev().find_map(|(key, kind)| match kind {
            Kind::Here(shared, used) => Some((*key, shared, used)),
            Kind::Coming => None,
        })?;
        if !shared.holds(from) {
            return None;
        }
        self.clock += 1;
        self.uses.remove(used);
        self.uses.insert(self.clock, key);
        *used = self.clock;
        Some(Arc::clone(shared))
    }

    fn keep(&mut self, key: Key, shared: &Arc<Shared>) {
        self.clock += 1;
        self.bytes += shared.bytes;
        self.blocks.insert(key, Kind::Here(Arc::clone(shared), self.clock));
        self.uses.insert(self.clock, key);
        while self.bytes > BLOCKS_BYTES_MAX {
            let Some((_, oldest)) = self.uses.pop_first() else { break };
            if let Some(Kind::Here(gone, _)) = self.blocks.remove(&oldest) {
                self.bytes -= gone.bytes;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread};

    use evener_core::{event::Event, time::Timestamp};

    use super::*;

    fn shared(first: u64, count: u64) -> Shared {
        let stored = |position| Stored {
            position: Position(position),
            revision: None,
            recorded: Timestamp(0),
            event: Event::default(),
        };
        Shared::new(Position(first), (first..first + count).map(stored).collect())
    }

    #[test]
    fn who_asks_while_it_is_decoded_waits_and_others_do_not() {
        let blocks = Blocks::default();
        let get = |from, count| blocks.get_or::<()>(ContextId(0), Position(from), |_| Ok(shared(from, count)));
        let (begun, begins) = mpsc::channel();
        let (go, goes) = mpsc::channel::<()>();
        thread::scope(|scope| {
            let first = scope.spawn(|| {
                blocks.get_or::<()>(ContextId(0), Position(0), move |_| {
                    begun.send(()).unwrap();
                    goes.recv().unwrap();
                    Ok(shared(0, 10))
                })
            });
            begins.recv().unwrap();
            assert_eq!(get(50, 5).unwrap().events.len(), 5, "another place waits for nobody");
            let second = scope.spawn(|| blocks.get_or::<()>(ContextId(0), Position(0), |_| panic!("decoded twice")));
            go.send(()).unwrap();
            let (first, second) = (first.join().unwrap().unwrap(), second.join().unwrap().unwrap());
            assert!(Arc::ptr_eq(&first, &second));
        });
    }

    #[test]
    fn what_fails_or_is_empty_is_asked_for_again() {
        let blocks = Blocks::default();
        let at = |decode: Result<Shared, &'static str>| blocks.get_or(ContextId(0), Position(7), |_| decode);
        assert_eq!(at(Err("no disk")).unwrap_err(), "no disk");
        assert!(at(Ok(shared(7, 0))).unwrap().events.is_empty());
        assert_eq!(at(Ok(shared(7, 2))).unwrap().events.len(), 2);
        assert_eq!(at(Err("not asked")).unwrap().events.len(), 2);
    }
}
