//! One timer per actor: the earliest moment it asked for.

use evener_core::time::Moment;
use tokio::task::JoinHandle;

/// The moment an actor wants to be woken at, and the task that will do it.
#[derive(Debug, Default)]
pub struct Timer(Option<(Moment, JoinHandle<()>)>);

impl Timer {
    /// Wakes with `wake` at `at`, unless an earlier wake-up is on its way.
    pub fn wake_at(&mut self, now: Moment, at: Moment, wake: impl FnOnce() + Send + 'static) {
        if let Some((earlier, task)) = &self.0
            && !task.is_finished()
        {
            if *earlier <= at {
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
