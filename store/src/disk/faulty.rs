//! A disk in memory that breaks on demand: its power is cut, its writes and syncs fail, and it tells what it was
//! asked, so that a run can be cut again at each of its operations.

use std::{io, sync::Arc};

use parking_lot::Mutex;

use super::{Disk, DiskImage, Done, MemoryDisk, Op, Scheduler, Space};

/// A disk that breaks on demand. Clones are the same disk.
#[derive(Clone)]
pub struct FaultyDisk {
    disk: MemoryDisk,
    scheduler: Scheduler,
    plan: Arc<Mutex<FaultPlan>>,
}

#[derive(Default)]
struct FaultPlan {
    performed: Vec<Op>,
    recording: bool,
    count: u64,
    fails_at: Option<u64>,
}

impl FaultyDisk {
    /// One that holds `image`; each operation is a job for `scheduler`, which may hold it back as long as it likes.
    pub fn new(image: DiskImage, scheduler: Scheduler) -> Self {
        let disk = MemoryDisk::with(image, scheduler.clone());
        let plan = Arc::new(Mutex::new(FaultPlan::default()));
        let hook_plan = plan.clone();
        disk.set_fault_hook(Box::new(move |op| hook_plan.lock().perform(op)));
        Self { disk, scheduler, plan }
    }

    /// Keeps every operation from now on for [`FaultyDisk::recorded`].
    pub fn record(&self) {
        self.plan.lock().recording = true;
    }

    /// The operations performed since [`FaultyDisk::record`].
    pub fn recorded(&self) -> Vec<Op> {
        self.plan.lock().performed.clone()
    }

    /// How many operations were performed.
    pub fn performed(&self) -> u64 {
        self.plan.lock().count
    }

    /// The operation after `more` others fails, without having done anything. Only that one: who goes on after a
    /// failed sync believes a lie.
    pub fn fail_after(&self, more: u64) {
        let mut plan = self.plan.lock();
        plan.fails_at = Some(plan.count + more);
    }

    /// The power is cut: this disk does nothing more and tells nobody, not even those who wait; the disk given back
    /// holds what is left. See [`DiskImage::crash`] for the seed.
    #[must_use]
    pub fn crash(&self, seed: u64) -> Self {
        self.disk.kill();
        self.successor(self.image().crash(seed))
    }

    /// The process is killed, the machine goes on: nothing that was performed is lost.
    #[must_use]
    pub fn kill(&self) -> Self {
        self.disk.kill();
        self.successor(self.image())
    }

    fn successor(&self, image: DiskImage) -> Self {
        let next = Self::new(image, self.scheduler.clone());
        next.disk.set_capacity(self.disk.capacity());
        next
    }

    /// Files have at most so many bytes together from now on, see [`MemoryDisk::set_capacity`].
    pub fn set_capacity(&self, capacity: Option<u64>) {
        self.disk.set_capacity(capacity);
    }

    /// What it holds now.
    pub fn image(&self) -> DiskImage {
        self.disk.image()
    }
}

impl FaultPlan {
    fn perform(&mut self, op: &Op) -> io::Result<()> {
        let number = self.count;
        self.count += 1;
        if self.fails_at == Some(number) {
            return Err(io::Error::other("the disk failed"));
        }
        if self.recording {
            self.performed.push(op.clone());
        }
        Ok(())
    }
}

impl Disk for FaultyDisk {
    fn submit(&self, ops: Vec<Op>, done: Done) {
        self.disk.submit(ops, done);
    }

    fn perform(&self, ops: Vec<Op>) -> io::Result<()> {
        self.disk.perform(ops)
    }

    fn read(&self, file: &str, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        self.disk.read(file, offset, len)
    }

    fn len(&self, file: &str) -> io::Result<Option<u64>> {
        self.disk.len(file)
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }

    fn space(&self) -> io::Result<Space> {
        self.disk.space()
    }

    fn name(&self) -> String {
        "faulty".into()
    }
}
