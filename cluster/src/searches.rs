//! Long searches: reads of events, and conditions of appends that read far back. They run on separate threads, a few at
//! a time, so that health checks, requests and processors never wait for one.

use std::sync::{
    Arc,
    atomic::{
        AtomicBool, AtomicUsize,
        Ordering::{Relaxed, SeqCst},
    },
};

use tokio::sync::Semaphore;

use crate::{config::Searches as Settings, error::Error};

/// Whether a search is new, or continues one that was answered in part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SearchPhase {
    /// A new search, which is refused if the queue is full.
    Start,
    /// The continuation of an admitted search, which is queued even if the queue is full.
    Continue,
}

/// Runs searches on threads for blocking work, with limits.
#[derive(Clone)]
pub(crate) struct Searches {
    settings: Settings,
    running: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
}

impl Searches {
    /// Returns a runner with these limits.
    pub(crate) fn new(settings: Settings) -> Self {
        Self { running: Arc::new(Semaphore::new(settings.running_max)), settings, waiting: Arc::default() }
    }

    /// Runs `search` on a thread for blocking work. Its argument is set to true if the returned future is dropped.
    ///
    /// # Errors
    ///
    /// The queue is full, or this node stops.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        turn: SearchPhase,
        search: impl FnOnce(Arc<AtomicBool>) -> T + Send + 'static,
    ) -> Result<T, Error> {
        let permit = {
            let _waits = WaitingCount::new(&self.waiting);
            if turn == SearchPhase::Start && self.waiting.load(SeqCst) > self.settings.waiting_max {
                return Err(Error::overloaded("searches_waiting_max", self.settings.waiting_max));
            }
            self.running.clone().acquire_owned().await.expect("the semaphore is never closed")
        };
        let unwanted = CancelOnDrop::default();
        let cancelled = unwanted.0.clone();
        let thread = tokio::task::spawn_blocking(move || {
            // The search counts as running until it has ended, even if the caller no longer waits.
            let _permit = permit;
            search(cancelled)
        });
        match thread.await {
            Ok(found) => Ok(found),
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(Error::stopped("the node was shut down")),
            },
        }
    }
}

/// Counts one waiting search until it is dropped.
struct WaitingCount<'c>(&'c AtomicUsize);

impl<'c> WaitingCount<'c> {
    fn new(count: &'c AtomicUsize) -> Self {
        count.fetch_add(1, SeqCst);
        Self(count)
    }
}

impl Drop for WaitingCount<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

/// Cancels a search when it is dropped.
#[derive(Default)]
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Duration};

    use super::*;

    const WAIT: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn p10_searches_beyond_the_queue_limit_are_refused() {
        let searches = Searches::new(Settings { running_max: 1, waiting_max: 1 });
        let (go, gate) = mpsc::channel::<()>();
        let (begun, has_begun) = tokio::sync::oneshot::channel();
        let running = searches.clone();
        let first = tokio::spawn(async move {
            let search = move |_| {
                let _ = begun.send(());
                gate.recv_timeout(WAIT).map_err(|error| error.to_string())
            };
            running.run(SearchPhase::Start, search).await
        });
        has_begun.await.expect("the search starts at once");
        let second = searches.run(SearchPhase::Start, |_| 2);
        tokio::pin!(second);
        assert!(futures::poll!(&mut second).is_pending(), "the second search is queued");
        let refused = searches.run(SearchPhase::Start, |_| 3).await.unwrap_err();
        assert!(refused.message.contains("searches_waiting_max = 1"), "{refused}");
        assert!(refused.retry_after.is_some());
        let next = searches.run(SearchPhase::Continue, |_| 4);
        tokio::pin!(next);
        assert!(futures::poll!(&mut next).is_pending(), "a continuation is queued");
        go.send(()).expect("the search waits for this");
        assert_eq!(first.await.expect("the search does not panic").expect("the search ran"), Ok(()));
        assert_eq!((second.await.expect("the search ran"), next.await.expect("the search ran")), (2, 4));
    }

    #[tokio::test]
    async fn a_dropped_search_is_cancelled() {
        let searches = Searches::new(Settings::default());
        let (cancelled_tx, cancelled_rx) = mpsc::channel();
        let search = move |cancelled: Arc<AtomicBool>| {
            while !cancelled.load(Relaxed) {
                std::thread::yield_now();
            }
            cancelled_tx.send(()).expect("the test waits for it");
        };
        {
            let asking = searches.run(SearchPhase::Start, search);
            tokio::pin!(asking);
            assert!(futures::poll!(&mut asking).is_pending());
        }
        cancelled_rx.recv_timeout(WAIT).expect("the search has ended");
    }
}
