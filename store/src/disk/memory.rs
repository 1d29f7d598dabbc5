//! A disk in memory without faults. It counts its writes and syncs.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;

use super::{Disk, DiskImage, Done, Op, Scheduler, Space, job_queue::JobQueue};

/// Called before each operation; its error becomes that of the operation.
pub(super) type FaultHook = Box<dyn FnMut(&Op) -> io::Result<()> + Send>;

/// A disk in memory. Clones refer to the same disk.
#[derive(Clone)]
pub struct MemoryDisk {
    shared: Arc<Shared>,
}

struct Shared {
    image: Mutex<DiskImage>,
    queue: Mutex<Queue>,
    scheduler: Scheduler,
    fault_hook: Mutex<Option<FaultHook>>,
    /// The limit of the total bytes, if any.
    capacity: Mutex<Option<u64>>,
    writes: AtomicU64,
    syncs: AtomicU64,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<(VecDeque<Op>, Done)>,
    running: bool,
    /// Whether the first operation waits for space.
    stalled: bool,
    killed: bool,
}

impl Default for MemoryDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryDisk {
    /// Creates an empty disk with its own thread.
    pub fn new() -> Self {
        let job_queue = JobQueue::start("evener-memory-disk").expect("a thread for a test");
        Self::with(DiskImage::default(), Arc::new(move |job| job_queue.run(job)))
    }

    /// Creates a disk with the content `image`; each operation is a job for `scheduler`.
    pub fn with(image: DiskImage, scheduler: Scheduler) -> Self {
        let shared = Shared {
            image: Mutex::new(image),
            queue: Mutex::default(),
            scheduler,
            fault_hook: Mutex::default(),
            capacity: Mutex::default(),
            writes: AtomicU64::new(0),
            syncs: AtomicU64::new(0),
        };
        Self { shared: Arc::new(shared) }
    }

    pub(super) fn set_fault_hook(&self, fault_hook: FaultHook) {
        *self.shared.fault_hook.lock() = Some(fault_hook);
    }

    /// Limits the total bytes of all files. Operations that wait for space continue if there is enough.
    pub fn set_capacity(&self, capacity: Option<u64>) {
        *self.shared.capacity.lock() = capacity;
        if std::mem::take(&mut self.shared.queue.lock().stalled) {
            self.shared.schedule();
        }
    }

    /// Returns the limit of the total bytes of its files.
    pub fn capacity(&self) -> Option<u64> {
        *self.shared.capacity.lock()
    }

    /// Returns its current content.
    pub fn image(&self) -> DiskImage {
        self.shared.image.lock().clone()
    }

    /// Returns the number of writes performed.
    pub fn writes(&self) -> u64 {
        self.shared.writes.load(Ordering::Relaxed)
    }

    /// Returns the number of file syncs performed.
    pub fn syncs(&self) -> u64 {
        self.shared.syncs.load(Ordering::Relaxed)
    }

    /// Performs and reports nothing from now on.
    pub(super) fn kill(&self) {
        let dropped = {
            let mut queue = self.shared.queue.lock();
            queue.killed = true;
            std::mem::take(&mut queue.waiting)
        };
        // Waiting callbacks may own this disk, so they are dropped outside the lock.
        drop(dropped);
    }

    fn check(&self) -> io::Result<()> {
        if self.shared.queue.lock().killed { Err(io::Error::other("the power is cut")) } else { Ok(()) }
    }
}

impl Shared {
    fn perform(&self, op: Op) -> io::Result<()> {
        if let Some(fault_hook) = &mut *self.fault_hook.lock() {
            fault_hook(&op)?;
        }
        if let Some(capacity) = *self.capacity.lock() {
            let image = self.image.lock();
            let growth = image.growth(&op);
            if growth > 0 && image.used() + growth > capacity {
                return Err(io::ErrorKind::StorageFull.into());
            }
        }
        match &op {
            Op::Write { .. } => self.writes.fetch_add(1, Ordering::Relaxed),
            Op::SyncData { .. } => self.syncs.fetch_add(1, Ordering::Relaxed),
            _ => 0,
        };
        self.image.lock().perform(op)
    }

    /// Performs the next operation, and reports the end of a list of them.
    fn step(self: &Arc<Self>) {
        let mut queue = self.queue.lock();
        let Some((ops, _)) = queue.waiting.front_mut() else {
            queue.running = false;
            return;
        };
        let op = ops.pop_front();
        let result = op.clone().map_or(Ok(()), |op| self.perform(op));
        if let (Some(op), Err(error)) = (op, &result)
            && op.waits_for_space(error)
        {
            ops.push_front(op);
            queue.stalled = true;
            return;
        }
        let finished = match ops.is_empty() || result.is_err() {
            true => queue.waiting.pop_front().map(|(_, done)| done),
            false => None,
        };
        drop(queue);
        if let Some(done) = finished {
            done(result);
        }
        self.schedule();
    }

    fn schedule(self: &Arc<Self>) {
        let next = self.clone();
        (self.scheduler)(Box::new(move || next.step()));
    }
}

impl Disk for MemoryDisk {
    fn submit(&self, ops: Vec<Op>, done: Done) {
        let mut queue = self.shared.queue.lock();
        if queue.killed {
            return;
        }
        queue.waiting.push_back((ops.into(), done));
        if !queue.running {
            queue.running = true;
            drop(queue);
            self.shared.schedule();
        }
    }

    fn perform(&self, ops: Vec<Op>) -> io::Result<()> {
        self.check()?;
        ops.into_iter().try_for_each(|op| self.shared.perform(op))
    }

    fn read(&self, file: &str, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        self.check()?;
        self.shared.image.lock().read(file, offset, len)
    }

    fn len(&self, file: &str) -> io::Result<Option<u64>> {
        self.check()?;
        Ok(self.shared.image.lock().len(file))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.check()?;
        Ok(self.shared.image.lock().list(dir))
    }

    fn space(&self) -> io::Result<Space> {
        let total = self.capacity().unwrap_or(u64::MAX);
        Ok(Space { free: total.saturating_sub(self.shared.image.lock().used()), total })
    }

    fn name(&self) -> String {
        "memory".into()
    }
}
