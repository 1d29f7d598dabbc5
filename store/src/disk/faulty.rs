//! A disk in memory with faults on demand: power cuts and failing writes and syncs. It records its operations, so
//! that a run can be interrupted at each of them.

use std::{io, sync::Arc};

use parking_lot::Mutex;

use super::{Disk, DiskImage, Done, MemoryDisk, Op, Scheduler, Space};

/// A disk with faults on demand. Clones refer to the same disk.
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
    /// Creates a disk with the content `image`. Each operation is a job for `scheduler`, which may delay it.
    pub fn new(image: DiskImage, scheduler: Scheduler) -> Self {
        let disk = MemoryDisk::with(image, scheduler.clone());
        let plan = Arc::new(Mutex::new(FaultPlan::default()));
        let hook_plan = plan.clone();
        disk.set_fault_hook(Box::new(move |op| hook_plan.lock().perform(op)));
        Self { disk, scheduler, plan }
    }

    /// Records every operation from now on, for [`FaultyDisk::recorded`].
    pub fn record(&self) {
        self.plan.lock().recording = true;
    }

    /// Returns the operations performed since [`FaultyDisk::record`].
    pub fn recorded(&self) -> Vec<Op> {
        self.plan.lock().performed.clone()
    }

    /// Returns the number of operations performed.
    pub fn performed(&self) -> u64 {
        self.plan.lock().count
    }

    /// Makes the operation after `more` others fail without any effect. Later operations succeed, which reveals a
    /// journal that continues after a failed sync.
    pub fn fail_after(&self, more: u64) {
        let mut plan = self.plan.lock();
        plan.fails_at = Some(plan.count + more);
    }

    /// Cuts the power: this disk performs and reports nothing more, not even what is waiting. Returns a disk with
    /// what a crash leaves. See [`DiskImage::crash`] for the seed.
    #[must_use]
    pub fn crash(&self, seed: u64) -> Self {
        self.disk.kill();
        self.successor(self.image().crash(seed))
    }

    /// Kills the process but not the machine: no performed operation is lost.
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

    /// Limits the total bytes of all files, see [`MemoryDisk::set_capacity`].
    pub fn set_capacity(&self, capacity: Option<u64>) {
        self.disk.set_capacity(capacity);
    }

    /// Returns its current content.
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
