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

pub(super) struct Tries {
    free: Arc<Semaphore>,
    rested: Mutex<Rested>,
}

#[derive(Default)]
struct Rested {
    /// Each was started for a segment; the one that answered last is last.
    programs: Vec<(SegmentId, Program)>,
    /// A task ends those that rest for too long.
    retires: bool,
}

impl Tries {
    pub(super) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { free: Arc::new(Semaphore::new(max)), rested: Mutex::default() })
    }

    /// Waits until one more program may work, and returns one that rests for this segment, if there is any.
    pub(super) async fn take(&self, segment: SegmentId) -> (Option<OwnedSemaphorePermit>, Option<Program>) {
        // It is never closed.
        let permit = self.free.clone().acquire_owned().await.ok();
        let mut rested = self.rested.lock();
        let own = rested.programs.iter().rposition(|(of, _)| *of == segment);
        let own = own.map(|at| rested.programs.remove(at).1);
        // Those of other segments give way.
        let excess = rested.programs.len().saturating_sub(self.free.available_permits());
        for (_, program) in rested.programs.drain(..excess) {
            tokio::spawn(program.end());
        }
        (permit, own)
    }

    /// Takes back a program that has answered, and ends it once it has rested for so long.
    pub(super) fn put_back(self: &Arc<Self>, segment: SegmentId, program: Program, idle_wait: Duration) {
        let mut rested = self.rested.lock();
        if !std::mem::replace(&mut rested.retires, true) {
            tokio::spawn(retire(Arc::downgrade(self), idle_wait));
        }
        rested.programs.push((segment, program));
    }

    /// Gives out the programs that rest for a segment.
    pub(super) fn remove(&self, segment: SegmentId) -> Vec<Program> {
        self.rested.lock().programs.extract_if(.., |(of, _)| *of == segment).map(|(_, program)| program).collect()
    }

    /// Takes out the programs that have rested for so long, and tells when the next one will have; none if none rests.
    fn retired(&self, idle_wait: Duration) -> (Vec<Program>, Option<Duration>) {
        let mut rested = self.rested.lock();
        let retired = rested.programs.extract_if(.., |(_, program)| program.rested() >= idle_wait);
        let retired = retired.map(|(_, program)| program).collect();
        let next = rested.programs.iter().map(|(_, program)| idle_wait.saturating_sub(program.rested())).min();
        rested.retires = next.is_some();
        (retired, next)
    }
}

/// Ends programs that have rested for so long, as long as any rests.
async fn retire(tries: Weak<Tries>, idle_wait: Duration) {
    let mut wait = Some(idle_wait);
    while let Some(length) = wait {
        tokio::time::sleep(length).await;
        let Some(tries) = tries.upgrade() else { return };
        let (retired, next) = tries.retired(idle_wait);
        drop(tries);
        futures::future::join_all(retired.into_iter().map(Program::end)).await;
        wait = next;
    }
}
