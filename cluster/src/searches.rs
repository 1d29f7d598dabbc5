//! Searches that may take long: reads of events, and conditions of appends that look far back. They run on threads of
//! their own, a few at a time, so that health, requests and processors never wait for one.

use std::sync::{
    Arc,
    atomic::{
        AtomicBool, AtomicUsize,
        Ordering::{Relaxed, SeqCst},
    },
};

use tokio::sync::Semaphore;

use crate::{config::Searches as Settings, error::Error};

/// Whether a search begins, or goes on with what was answered in part already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SearchPhase {
    /// It begins: refused if too many wait.
    Start,
    /// It goes on: it waits its turn, however many wait. Who asks for it was admitted before.
    Continue,
}

/// Runs searches.
#[derive(Clone)]
pub struct Searches {
    settings: Settings,
    running: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
}

impl Searches {
    /// Nothing runs yet.
    pub fn new(settings: Settings) -> Self {
        Self { running: Arc::new(Semaphore::new(settings.running_max)), settings, waiting: Arc::default() }
    }

    /// Runs `search` on a thread where it may take long. It is told when nobody waits for it any more.
    ///
    /// # Errors
    ///
    /// Too many wait already, or this node stops.
    pub async fn run<T: Send + 'static>(
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
            // It counts as running until it has ended, even if nobody waits for it any more.
            let _permit = permit;
            search(cancelled)
        });
        match thread.await {
            Ok(found) => Ok(found),
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(Error::stopped("it was told to")),
            },
        }
    }
}

/// One that waits, until it is dropped.
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

/// Tells a search, when it is dropped, that nobody waits for it.
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
    async fn p10_searches_beyond_those_that_may_wait_are_refused() {
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
        has_begun.await.expect("it begins at once");
        let second = searches.run(SearchPhase::Start, |_| 2);
        tokio::pin!(second);
        assert!(futures::poll!(&mut second).is_pending(), "it waits");
        let refused = searches.run(SearchPhase::Start, |_| 3).await.unwrap_err();
        assert!(refused.message.contains("searches_waiting_max = 1"), "{refused}");
        assert!(refused.retry_after.is_some());
        let next = searches.run(SearchPhase::Continue, |_| 4);
        tokio::pin!(next);
        assert!(futures::poll!(&mut next).is_pending(), "who was admitted waits");
        go.send(()).expect("it waits for this");
        assert_eq!(first.await.expect("it does not panic").expect("it ran"), Ok(()));
        assert_eq!((second.await.expect("it ran"), next.await.expect("it ran")), (2, 4));
    }

    #[tokio::test]
    async fn a_search_learns_that_nobody_waits_for_it() {
        let searches = Searches::new(Settings::default());
        let (told, has_told) = mpsc::channel();
        let search = move |cancelled: Arc<AtomicBool>| {
            while !cancelled.load(Relaxed) {
                std::thread::yield_now();
            }
            told.send(()).expect("the test waits for it");
        };
        {
            let asking = searches.run(SearchPhase::Start, search);
            tokio::pin!(asking);
            assert!(futures::poll!(&mut asking).is_pending());
        }
        has_told.recv_timeout(WAIT).expect("it has ended");
    }
}
