//! Locks by sequence: a node handles one event of a sequence at a time, even if an earlier handler was cancelled and
//! cannot be stopped (a blocking function, or an `async fn` that computes). The next attempt waits for it to end.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use evener_core::letter::SequenceKey;
use parking_lot::Mutex;
use tokio::{sync::OwnedMutexGuard, time::timeout};

/// A longer wait is logged; most cancelled handlers end immediately.
const LOG_AFTER: Duration = Duration::from_secs(1);

/// Processor and sequence.
type Key = (Arc<str>, SequenceKey);
type Lock = Arc<tokio::sync::Mutex<()>>;

/// The locks of the sequences that are being handled on one node. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct SequenceLocks(Arc<Mutex<BTreeMap<Key, Lock>>>);

/// The right to handle an event of a sequence on this node. It is released with the last clone, so that a handler that
/// cannot be stopped keeps one.
#[derive(Clone, Default)]
pub(crate) struct SequenceGuard {
    _held: Option<Arc<HeldLock>>,
}

/// Fields are dropped in this order: the lock is released before its table entry is removed.
struct HeldLock {
    _guard: OwnedMutexGuard<()>,
    _entry: TableEntry,
}

/// The table entry of a lock, kept while the lock is held or waited for.
struct TableEntry {
    sequence_locks: SequenceLocks,
    key: Key,
    /// None only during drop.
    lock: Option<Lock>,
}

impl SequenceLocks {
    /// Waits until nothing handles an event of this sequence.
    pub(crate) async fn lock(&self, processor: &Arc<str>, sequence: &SequenceKey) -> SequenceGuard {
        let key = (processor.clone(), sequence.clone());
        let lock = self.0.lock().entry(key.clone()).or_default().clone();
        let entry = TableEntry { sequence_locks: self.clone(), key, lock: Some(lock.clone()) };
        let mut waiting = Box::pin(lock.lock_owned());
        let guard = match timeout(LOG_AFTER, &mut waiting).await {
            Ok(guard) => guard,
            Err(_) => {
                tracing::warn!(
                    processor = &**processor,
                    sequence = sequence.name,
                    "an earlier handling of this sequence was given up and has not ended; waiting for it"
                );
                waiting.await
            }
        };
        SequenceGuard { _held: Some(Arc::new(HeldLock { _guard: guard, _entry: entry })) }
    }
}

impl Drop for TableEntry {
    fn drop(&mut self) {
        let mut table = self.sequence_locks.0.lock();
        self.lock = None;
        // Every other user clones the lock while holding the table's lock.
        if table.get(&self.key).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            table.remove(&self.key);
        }
    }
}

impl fmt::Debug for SequenceGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turn").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use evener_core::id::ComponentId;
    use futures::{FutureExt, poll};

    use super::*;

    fn sequence(name: &str) -> SequenceKey {
        SequenceKey { component: ComponentId(0), name: name.into() }
    }

    #[tokio::test]
    async fn one_sequence_of_one_processor_has_one_turn_at_a_time() {
        let (sequence_locks, mail, bill) = (SequenceLocks::default(), Arc::from("mail"), Arc::from("bill"));
        let first = sequence_locks.lock(&mail, &sequence("a")).await;
        let kept = first.clone();
        assert!(sequence_locks.lock(&mail, &sequence("b")).now_or_never().is_some());
        assert!(sequence_locks.lock(&bill, &sequence("a")).now_or_never().is_some());
        assert!(sequence_locks.lock(&mail, &sequence("a")).now_or_never().is_none());
        let mut second = Box::pin({
            let (sequence_locks, mail) = (sequence_locks.clone(), mail.clone());
            async move { sequence_locks.lock(&mail, &sequence("a")).await }
        });
        assert!(poll!(&mut second).is_pending());
        drop(first);
        assert!(poll!(&mut second).is_pending(), "a clone is kept");
        drop(kept);
        drop(second.await);
        assert!(sequence_locks.0.lock().is_empty(), "nothing is remembered");
    }
}
