//! The bound on the handler programs of this process, of all processors and segments together. Each holds three pipes,
//! so without a bound they would take the open files that the log and the connections need.

use std::{
    sync::{
        Arc, LazyLock,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use rustix::process::{Resource, getrlimit};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// Handler programs of one process at most, also if it may open any number of files.
pub(super) const PROGRAMS_MAX: usize = 1_024;
/// Open files of this process for each program: three while it runs, six while it starts, the rest for the others.
const FILES_EACH: u64 = 8;
/// How long a program may work while others wait, since to start one takes longer than most events do.
const WORK_TIME_MIN: Duration = Duration::from_secs(1);

/// Of this process.
static SHARED: LazyLock<ProgramLimit> = LazyLock::new(|| {
    let files = getrlimit(Resource::Nofile).current;
    ProgramLimit::new(files.map_or(PROGRAMS_MAX, of_files))
});

fn of_files(files: u64) -> usize {
    usize::try_from(files / FILES_EACH).map_or(PROGRAMS_MAX, |programs| programs.clamp(1, PROGRAMS_MAX))
}

/// A number of programs that may run at once. Clones share it.
#[derive(Clone)]
pub(super) struct ProgramLimit(Arc<Inner>);

struct Inner {
    max: usize,
    free: Arc<Semaphore>,
    /// Starts that wait for a program to end.
    waiting: AtomicUsize,
    wanted: Notify,
}

impl ProgramLimit {
    pub(super) fn new(max: usize) -> Self {
        let free = Arc::new(Semaphore::new(max));
        Self(Arc::new(Inner { max, free, waiting: AtomicUsize::new(0), wanted: Notify::new() }))
    }

    /// Returns the limit that all handler programs of this process share.
    pub(super) fn shared() -> Self {
        SHARED.clone()
    }

    /// Waits until one more program may be started. It counts until the permit is dropped.
    pub(super) async fn acquire(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(permit) = self.0.free.clone().try_acquire_owned() {
            return Some(permit);
        }
        let waiting = WaitingStart::begin(&self.0);
        self.0.wanted.notify_one();
        // It is never closed.
        let permit = self.0.free.clone().acquire_owned().await.ok();
        drop(waiting);
        permit
    }

    /// Waits for this time, but no longer than until a program has to give way.
    pub(super) async fn wait_idle(&self, time: Duration) {
        tokio::select! {
            () = tokio::time::sleep(time) => {}
            () = self.0.wanted.notified() => {}
        }
    }

    /// Calls upon another program to give way if a start still waits.
    pub(super) fn notify_next(&self) {
        if self.0.waiting.load(Relaxed) > 0 {
            self.0.wanted.notify_one();
        }
    }

    /// Returns after how much more time a program of this age has to give way; none if no start waits.
    pub(super) fn yields_after(&self, age: Duration) -> Option<Duration> {
        (self.0.waiting.load(Relaxed) > 0).then(|| WORK_TIME_MIN.saturating_sub(age))
    }
}

struct WaitingStart<'a>(&'a Inner);

impl<'a> WaitingStart<'a> {
    fn begin(inner: &'a Inner) -> Self {
        if inner.waiting.fetch_add(1, Relaxed) == 0 {
            let max = inner.max;
            tracing::debug!(programs_max = max, "all handler programs are at work; segments take turns");
        }
        Self(inner)
    }
}

impl Drop for WaitingStart<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p10_programs_leave_open_files_to_the_log() {
        assert_eq!([0, 8, 400, 1_024, u64::MAX].map(of_files), [1, 1, 50, 128, PROGRAMS_MAX]);
    }
}
