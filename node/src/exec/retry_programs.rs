//! The programs that try events of sequences that are set aside, beside the programs of their segments. Their number is
//! bounded: those at work together with those that rest.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use evener_core::id::SegmentId;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::program::Program;

pub(super) struct RetryPrograms {
    free: Arc<Semaphore>,
    idle: Mutex<IdlePrograms>,
}

#[derive(Default)]
struct IdlePrograms {
    /// Each was started for a segment; the one that answered last is last.
    programs: Vec<(SegmentId, Program)>,
    /// A task ends those that rest for too long.
    has_ender: bool,
}

impl RetryPrograms {
    pub(super) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { free: Arc::new(Semaphore::new(max)), idle: Mutex::default() })
    }

    /// Waits until one more program may work, and returns one that rests for this segment, if there is any.
    pub(super) async fn take(&self, segment: SegmentId) -> (Option<OwnedSemaphorePermit>, Option<Program>) {
        // It is never closed.
        let permit = self.free.clone().acquire_owned().await.ok();
        let mut idle = self.idle.lock();
        let own = idle.programs.iter().rposition(|(of, _)| *of == segment);
        let own = own.map(|at| idle.programs.remove(at).1);
        // Those of other segments give way.
        let excess = idle.programs.len().saturating_sub(self.free.available_permits());
        for (_, program) in idle.programs.drain(..excess) {
            tokio::spawn(program.end());
        }
        (permit, own)
    }

    /// Takes back a program that has answered, and ends it once it has rested for so long.
    pub(super) fn put_back(self: &Arc<Self>, segment: SegmentId, program: Program, idle_wait: Duration) {
        let mut idle = self.idle.lock();
        if !std::mem::replace(&mut idle.has_ender, true) {
            tokio::spawn(end_when_idle(Arc::downgrade(self), idle_wait));
        }
        idle.programs.push((segment, program));
    }

    /// Gives out the programs that rest for a segment.
    pub(super) fn remove(&self, segment: SegmentId) -> Vec<Program> {
        self.idle.lock().programs.extract_if(.., |(of, _)| *of == segment).map(|(_, program)| program).collect()
    }

    /// Takes out the programs that have rested for so long, and tells when the next one will have; none if none rests.
    fn expired(&self, idle_wait: Duration) -> (Vec<Program>, Option<Duration>) {
        let mut idle = self.idle.lock();
        let expired = idle.programs.extract_if(.., |(_, program)| program.idle_time() >= idle_wait);
        let expired = expired.map(|(_, program)| program).collect();
        let next = idle.programs.iter().map(|(_, program)| idle_wait.saturating_sub(program.idle_time())).min();
        idle.has_ender = next.is_some();
        (expired, next)
    }
}

/// Ends programs that have rested for so long, as long as any rests.
async fn end_when_idle(programs: Weak<RetryPrograms>, idle_wait: Duration) {
    let mut wait = Some(idle_wait);
    while let Some(length) = wait {
        tokio::time::sleep(length).await;
        let Some(programs) = programs.upgrade() else { return };
        let (expired, next) = programs.expired(idle_wait);
        drop(programs);
        futures::future::join_all(expired.into_iter().map(Program::end)).await;
        wait = next;
    }
}
