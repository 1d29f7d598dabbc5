//! Whether the node's threads make progress. A node whose threads do nothing any more (deadlocked, or blocked by
//! something that should not block) looks alive from outside: the cluster's threads renew its session and its
//! leadership. So a watch on the cluster's threads looks at a counter that the node's threads keep moving, and has the
//! node stand aside if it stops.

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

/// How often the threads show progress, and how often that is looked at.
const BEAT: Duration = Duration::from_millis(250);
/// Without progress for so long the threads are stuck: longer than a machine under load makes a thread wait.
pub const STUCK_AFTER: Duration = Duration::from_secs(5);

/// The progress of some threads. Clones are of the same ones.
#[derive(Clone)]
pub struct Pulse(Arc<Inner>);

struct Inner {
    begun: Instant,
    /// Milliseconds after `begun` at which they last made progress.
    last: AtomicU64,
    beating: JoinHandle<()>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.beating.abort();
    }
}

impl Pulse {
    /// Begins to measure the progress of `threads`.
    #[must_use]
    pub fn of(threads: &Threads) -> Self {
        let begun = Instant::now();
        Self(Arc::new_cyclic(|inner: &std::sync::Weak<Inner>| {
            let inner = inner.clone();
            let beating = threads.spawn(async move {
                loop {
                    sleep(BEAT).await;
                    let Some(inner) = inner.upgrade() else { return };
                    inner.last.store(since(begun), Relaxed);
                }
            });
            Inner { begun, last: AtomicU64::new(0), beating }
        }))
    }

    /// Returns how long the threads have made no progress, if that is too long.
    #[must_use]
    pub fn stuck(&self) -> Option<Duration> {
        let silent = Duration::from_millis(since(self.0.begun).saturating_sub(self.0.last.load(Relaxed)));
        (silent >= STUCK_AFTER).then_some(silent)
    }

    /// Adds a check of these threads to others.
    #[must_use]
    pub fn checked(self, others: Health) -> Health {
        Arc::new(move || {
            let trouble = self.stuck().map(|silent| format!("the node's threads have made no progress for {silent:?}"));
            let mut checks = others();
            checks.push(Check { name: "threads", vital: true, trouble, note: None });
            checks
        })
    }

    /// Gives the node's segments and leadership away while its threads are stuck. Runs on other threads than those.
    pub async fn watch(self, cluster: Cluster) {
        let mut stuck = false;
        loop {
            sleep(BEAT).await;
            let silent = self.stuck();
            if stuck != silent.is_some() {
                stuck = silent.is_some();
                match silent {
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
        let pulse = Pulse::of(&Threads::current());
        advance(STUCK_AFTER / 2).await;
        assert_eq!(pulse.stuck(), None);
        // As if no task of theirs were run any more.
        pulse.0.beating.abort();
        advance(STUCK_AFTER * 2).await;
        assert!(pulse.stuck().is_some());
        let checks = pulse.checked(Arc::new(Vec::new))();
        assert!(checks[0].vital && checks[0].trouble.as_ref().is_some_and(|why| why.contains("no progress")));
    }

    #[tokio::test(start_paused = true)]
    async fn threads_that_make_progress_are_not_stuck() {
        let pulse = Pulse::of(&Threads::current());
        sleep(STUCK_AFTER * 3).await;
        assert_eq!(pulse.stuck(), None);
    }
}
