//! The timer of an actor: it fires at the earliest requested moment.

use evener_core::time::Moment;
use tokio::task::JoinHandle;

/// The requested wake-up moment, and the task that wakes the actor.
#[derive(Debug, Default)]
pub(super) struct Timer(Option<(Moment, JoinHandle<()>)>);

impl Timer {
    /// Calls `wake` at `at`, unless an earlier wake-up is scheduled.
    pub(super) fn wake_at(&mut self, now: Moment, at: Moment, wake: impl FnOnce() + Send + 'static) {
        if let Some((earlier, task)) = &self.0
            && !task.is_finished()
        {
            // A wake-up that is due has happened or is about to, even if its task has not ended yet.
            if now < *earlier && *earlier <= at {
                return;
            }
            task.abort();
        }
        let wait = at.since(now);
        let task = tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            wake();
        });
        self.0 = Some((at, task));
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        if let Some((_, task)) = &self.0 {
            task.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering::Relaxed},
        },
        time::Duration,
    };

    use parking_lot::Mutex;

    use super::*;

    /// Virtual time passes, and every task has its turn.
    async fn pass(ms: u64) {
        for _ in 0..ms {
            tokio::task::yield_now().await;
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        tokio::task::yield_now().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_wake_up_that_is_happening_does_not_swallow_the_next() {
        let (woken, timer) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Timer::default())));
        let (count, inside) = (woken.clone(), timer.clone());
        // What is woken asks for the next time at once, while the task that woke it has not ended.
        timer.lock().wake_at(Moment(0), Moment(5), move || {
            inside.lock().wake_at(Moment(5), Moment(9), move || {
                count.fetch_add(1, Relaxed);
            });
        });
        pass(20).await;
        assert_eq!(woken.load(Relaxed), 1);
    }
}
