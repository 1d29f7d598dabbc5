//! Whether the node's threads make progress. A node whose threads are deadlocked or blocked looks healthy to other
//! nodes, since the cluster's threads renew its session and its leadership. So a task on the cluster's threads watches
//! a counter that the node's threads update, and suspends the node's ownership and leadership if it stops.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use evener_cluster::Cluster;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

use crate::{
    health::{Check, Health},
    threads::Threads,
};

/// How often the threads report progress, and how often it is checked.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);
/// The threads count as stuck after this time without progress: longer than a thread waits on a loaded machine.
pub(crate) const STUCK_AFTER: Duration = Duration::from_secs(5);

/// The progress of a set of threads. Clones share it.
#[derive(Clone)]
pub(crate) struct ThreadProgress(Arc<Inner>);

struct Inner {
    begun: Instant,
    /// The time of the last progress, in milliseconds after `begun`.
    last: AtomicU64,
    ticker: JoinHandle<()>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.ticker.abort();
    }
}

impl ThreadProgress {
    /// Starts measuring the progress of `threads`.
    #[must_use]
    pub(crate) fn of(threads: &Threads) -> Self {
        let begun = Instant::now();
        Self(Arc::new_cyclic(|inner: &std::sync::Weak<Inner>| {
            let inner = inner.clone();
            let ticker = threads.spawn(async move {
                loop {
                    sleep(CHECK_INTERVAL).await;
                    let Some(inner) = inner.upgrade() else { return };
                    inner.last.store(since(begun), Relaxed);
                }
            });
            Inner { begun, last: AtomicU64::new(0), ticker }
        }))
    }

    /// Returns how long the threads have made no progress, if that is too long.
    #[must_use]
    pub(crate) fn stuck(&self) -> Option<Duration> {
        let stalled = Duration::from_millis(since(self.0.begun).saturating_sub(self.0.last.load(Relaxed)));
        (stalled >= STUCK_AFTER).then_some(stalled)
    }

    /// Adds a health check of these threads to other checks.
    #[must_use]
    pub(crate) fn add_check_to(self, others: Health) -> Health {
        Arc::new(move || {
            let trouble =
                self.stuck().map(|stalled| format!("the node's threads have made no progress for {stalled:?}"));
            let mut checks = others();
            checks.push(Check { name: "threads", vital: true, trouble, note: None });
            checks
        })
    }

    /// Gives up the node's segments and leadership while its threads are stuck. Runs on other threads.
    pub(crate) async fn watch(self, cluster: Cluster) {
        let mut stuck = false;
        loop {
            sleep(CHECK_INTERVAL).await;
            let stalled = self.stuck();
            if stuck != stalled.is_some() {
                stuck = stalled.is_some();
                match stalled {
                    Some(_) => tracing::error!(
                        "the node's threads made no progress for {STUCK_AFTER:?}; giving away segments and leadership"
                    ),
                    None => tracing::warn!("the node's threads make progress again"),
                }
            }
            cluster.set_suspended(stuck).await;
        }
    }
}

fn since(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn threads_that_make_no_progress_are_stuck() {
        let progress = ThreadProgress::of(&Threads::current());
        advance(STUCK_AFTER / 2).await;
        assert_eq!(progress.stuck(), None);
        // As if no task of theirs were run any more.
        progress.0.ticker.abort();
        advance(STUCK_AFTER * 2).await;
        assert!(progress.stuck().is_some());
        let checks = progress.add_check_to(Arc::new(Vec::new))();
        assert!(checks[0].vital && checks[0].trouble.as_ref().is_some_and(|why| why.contains("no progress")));
    }

    #[tokio::test(start_paused = true)]
    async fn threads_that_make_progress_are_not_stuck() {
        let progress = ThreadProgress::of(&Threads::current());
        sleep(STUCK_AFTER * 3).await;
        assert_eq!(progress.stuck(), None);
    }
}
