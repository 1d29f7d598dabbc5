//! A node handles one event of a sequence at a time, also if an earlier handling was given up and cannot be stopped: a
//! blocking function, or an `async fn` that computes. Its next handling waits for the end of that one.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use evener_core::letter::SequenceKey;
use parking_lot::Mutex;
use tokio::{sync::OwnedMutexGuard, time::timeout};

/// Waiting for longer is logged: most that is given up ends at once.
const TELL_AFTER: Duration = Duration::from_secs(1);

/// Of which processor, and which sequence.
type Key = (Arc<str>, SequenceKey);
type Lock = Arc<tokio::sync::Mutex<()>>;

/// The sequences that are being handled on one node. Clones are of the same node.
#[derive(Clone, Default)]
pub struct Turns(Arc<Mutex<BTreeMap<Key, Lock>>>);

/// The right to handle an event of a sequence on this node. The last clone to be dropped gives it up, so that whatever
/// cannot be stopped keeps one.
#[derive(Clone, Default)]
pub struct Turn {
    _held: Option<Arc<Held>>,
}

/// Fields are dropped in this order: the lock is free before it is forgotten.
struct Held {
    _guard: OwnedMutexGuard<()>,
    _place: Place,
}

/// A lock in the table, kept there while anybody holds it or waits for it.
struct Place {
    turns: Turns,
    key: Key,
    /// None only while it is dropped.
    lock: Option<Lock>,
}

impl Turns {
    /// Waits until nothing handles an event of this sequence.
    pub async fn take(&self, processor: &Arc<str>, sequence: &SequenceKey) -> Turn {
        let key = (processor.clone(), sequence.clone());
        let lock = self.0.lock().entry(key.clone()).or_default().clone();
        let place = Place { turns: self.clone(), key, lock: Some(lock.clone()) };
        let mut waiting = Box::pin(lock.lock_owned());
        let guard = match timeout(TELL_AFTER, &mut waiting).await {
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
        Turn { _held: Some(Arc::new(Held { _guard: guard, _place: place })) }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut table = self.turns.0.lock();
        self.lock = None;
        // Whoever else wants it takes a clone under the lock of the table.
        if table.get(&self.key).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            table.remove(&self.key);
        }
    }
}

impl fmt::Debug for Turn {
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
        let (turns, mail, bill) = (Turns::default(), Arc::from("mail"), Arc::from("bill"));
        let first = turns.take(&mail, &sequence("a")).await;
        let kept = first.clone();
        assert!(turns.take(&mail, &sequence("b")).now_or_never().is_some());
        assert!(turns.take(&bill, &sequence("a")).now_or_never().is_some());
        assert!(turns.take(&mail, &sequence("a")).now_or_never().is_none());
        let mut second = Box::pin({
            let (turns, mail) = (turns.clone(), mail.clone());
            async move { turns.take(&mail, &sequence("a")).await }
        });
        assert!(poll!(&mut second).is_pending());
        drop(first);
        assert!(poll!(&mut second).is_pending(), "a clone is kept");
        drop(kept);
        drop(second.await);
        assert!(turns.0.lock().is_empty(), "nothing is remembered");
    }
}
