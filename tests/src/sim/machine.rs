//! A machine: a host on the simulated network, a disk that outlives its processes, and at most one process at a time.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use evener::{
    actors::{Actors, Embedded, NodeServices, Settings},
    engine::Engine,
    handler::Handlers,
    metrics::Metrics,
    status::StatusBoard,
};
use evener_cluster::{
    Cluster, Config,
    sim_wire::{SimClock, SimHost, SimNet},
    transport::{BoxFuture, BoxedStream, Listener, Transport},
};
use evener_core::time::Timestamp;
use evener_store::disk::{DiskImage, FaultyDisk, Scheduler};
use parking_lot::Mutex;
use tokio::{runtime::Handle, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{handlers::HandlerContext, sim_rng::SimRng, trace::Trace};

/// The port that peers use.
const PEER_PORT: u16 = 4751;

/// The wall clock at the start of every run.
pub const EPOCH: Timestamp = Timestamp(1_800_000_000_000);
/// The time that a leaving process waits for its handlers.
const DRAIN_WAIT: Duration = Duration::from_secs(7);
/// The maximum error of a wall clock. No safety decision may depend on it (P9).
pub const CLOCK_OFFSET_MAX: Duration = Duration::from_secs(5);

/// A machine.
pub struct Machine {
    /// The name of its host.
    pub name: String,
    /// The names of all hosts.
    others: Vec<String>,
    net: SimNet,
    trace: Trace,
    clock: SimClock,
    /// The error of its clock while no fault changes it.
    clock_offset_ms: i64,
    slow: Arc<AtomicU64>,
    inner: Mutex<Inner>,
}

struct Inner {
    disk: FaultyDisk,
    rng: SimRng,
    slot: Slot,
    starts: u64,
    /// The power was cut, so that its peers still hold their connections to it.
    powered_off: bool,
    /// The node is being removed from the cluster: its process may fail to start.
    leaving: bool,
}

/// The state of its process.
#[derive(Clone)]
enum Slot {
    Empty,
    Starting(CancellationToken),
    Up(Process),
}

/// A process that has started.
#[derive(Clone)]
pub struct Process {
    /// The node of the process.
    pub cluster: Cluster,
    /// The engine that answers requests.
    pub engine: Engine,
    actors: Actors,
    /// Cancelled when the process is killed. Its clients notice that, as they would notice a closed socket.
    pub killed: CancellationToken,
}

/// The transport of one process. Once the process is killed it can no longer connect, even if its successor on the same
/// host can.
struct KillableTransport {
    host: SimHost,
    killed: CancellationToken,
}

impl Transport for KillableTransport {
    fn connect<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<BoxedStream>> {
        Box::pin(async move {
            let connected = self.killed.run_until_cancelled(self.host.connect(addr)).await;
            connected.unwrap_or(Err(io::ErrorKind::ConnectionAborted.into()))
        })
    }

    fn bind<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        self.host.bind(addr)
    }
}

impl Machine {
    /// Creates a machine with an empty disk, one of `hosts`.
    pub fn new(name: &str, hosts: &[String], net: &SimNet, trace: &Trace, rng: &SimRng) -> Arc<Self> {
        let mut rng = rng.derive(name);
        let slow = Arc::new(AtomicU64::new(1));
        let disk = FaultyDisk::new(DiskImage::default(), scheduler(rng.derive("disk"), slow.clone()));
        let clock = SimClock::new(EPOCH);
        let most = i64::try_from(CLOCK_OFFSET_MAX.as_millis()).expect("a small number");
        let clock_offset_ms = i64::try_from(rng.between(0, 10_000)).expect("a small number") - most;
        clock.set_offset(clock_offset_ms);
        let inner = Inner { disk, rng, slot: Slot::Empty, starts: 0, powered_off: false, leaving: false };
        Arc::new(Self {
            name: name.into(),
            others: hosts.to_vec(),
            net: net.clone(),
            trace: trace.clone(),
            clock,
            clock_offset_ms,
            slow,
            inner: Mutex::new(inner),
        })
    }

    /// Returns the peer address.
    #[must_use]
    pub fn peer(&self) -> String {
        format!("{}:{PEER_PORT}", self.name)
    }

    /// Returns the process, once it is a member of its cluster.
    #[must_use]
    pub fn process(&self) -> Option<Process> {
        match &self.inner.lock().slot {
            Slot::Up(process) => Some(process.clone()),
            Slot::Empty | Slot::Starting(_) => None,
        }
    }

    /// Returns all files of the disk.
    #[must_use]
    pub fn files(&self) -> Vec<(String, Vec<u8>)> {
        self.inner.lock().disk.image().files()
    }

    /// Makes every disk operation take longer by this factor.
    pub fn slow_disk(&self, factor: u64) {
        self.slow.store(factor, Relaxed);
    }

    /// Makes a disk operation fail, after this many others.
    pub fn break_disk(&self, after: u64) {
        self.inner.lock().disk.fail_after(after);
    }

    /// Makes all further disk operations succeed.
    pub fn repair_disk(&self) {
        self.inner.lock().disk.fail_after(u64::from(u32::MAX));
    }

    /// Sets the wall clock ahead of, or behind, its normal offset.
    pub fn jump_clock(&self, by_ms: i64) {
        self.clock.set_offset(self.clock_offset_ms + by_ms);
    }

    /// Sets whether the node is being removed, so that its process may fail to start.
    pub fn set_leaving(&self, leaving: bool) {
        self.inner.lock().leaving = leaving;
    }

    /// Returns whether the node is being removed.
    pub fn is_leaving(&self) -> bool {
        self.inner.lock().leaving
    }

    /// Kills the process and replaces the disk by an empty one.
    pub fn wipe(&self) {
        self.kill();
        let mut inner = self.inner.lock();
        let disk = scheduler(inner.rng.derive("another disk"), self.slow.clone());
        inner.disk = FaultyDisk::new(DiskImage::default(), disk);
    }

    /// Drains the process and removes its node from the cluster; returns whether that succeeded.
    pub async fn leave(&self) -> bool {
        let Some(process) = self.process() else { return false };
        let leaving = async {
            process.actors.drain(DRAIN_WAIT).await;
            process.cluster.leave().await
        };
        let left = process.killed.run_until_cancelled(leaving).await;
        self.trace.record(format_args!("{} leaves: {left:?}", self.name));
        matches!(left, Some(Ok(())))
    }

    /// Starts a process, unless there is one. Fills in the name, address and seed of `config`. Returns when the process
    /// is a member of the cluster or was killed while it started; the error says why it did not start.
    pub async fn start(&self, mut config: Config, handler_context: &HandlerContext) -> Result<(), String> {
        let killed = CancellationToken::new();
        let (disk, start, powered_off, seed) = {
            let mut inner = self.inner.lock();
            if !matches!(inner.slot, Slot::Empty) {
                return Ok(());
            }
            inner.slot = Slot::Starting(killed.clone());
            inner.starts += 1;
            config.seed = inner.rng.number();
            config.random_id = inner.rng.uuid();
            (inner.disk.clone(), inner.starts, std::mem::take(&mut inner.powered_off), inner.rng.number())
        };
        if powered_off {
            // The restarted machine does not know the connections that its peers still hold.
            self.net.kill(&self.name);
            self.isolate(false);
        }
        config.name.clone_from(&self.name);
        config.listen = self.peer();
        self.trace.record(format_args!("{} starts, life {start}", self.name));
        let transport = KillableTransport { host: self.net.host(&self.name), killed: killed.clone() };
        let starting = Cluster::start(config, Arc::new(disk), Arc::new(transport), Arc::new(self.clock.clone()));
        let starting = async {
            let cluster = starting.await.map_err(|error| error.to_string())?;
            let (engine, actors) = self.actors(&cluster, seed, handler_context.embedded(cluster.me(), &killed)).await?;
            Ok::<_, String>((cluster, engine, actors))
        };
        let started = tokio::select! {
            started = starting => started,
            () = killed.cancelled() => return Ok(()),
        };
        match started {
            Ok((cluster, engine, actors)) => {
                self.trace.record(format_args!("{} is up as node {}", self.name, cluster.me()));
                self.inner.lock().slot = Slot::Up(Process { cluster, engine, actors, killed });
                Ok(())
            }
            Err(error) => {
                self.inner.lock().slot = Slot::Empty;
                Err(format!("{} did not start: {error}", self.name))
            }
        }
    }

    async fn actors(&self, cluster: &Cluster, seed: u64, embedded: Vec<Embedded>) -> Result<(Engine, Actors), String> {
        let clock = Arc::new(self.clock.clone());
        let (board, metrics) = (StatusBoard::default(), Metrics::default());
        let engine = Engine::new(cluster.clone(), board.clone(), metrics.clone(), false);
        engine.answer_members(Handle::current());
        let services = NodeServices::new(cluster.clone(), clock, Handlers::current(), board, metrics, seed);
        Ok((engine, Actors::start(services, embedded, Settings::default()).await?))
    }

    /// Kills the process, if there is one; returns whether one had started.
    pub fn kill(&self) -> bool {
        let killed = self.end_process("is killed", FaultyDisk::kill);
        self.net.kill(&self.name);
        killed
    }

    /// Cuts the power: unsynced writes may be lost. Returns whether a process had started.
    pub fn cut_power(&self) -> bool {
        let seed = self.inner.lock().rng.between(0, u64::from(u32::MAX));
        self.isolate(true);
        self.inner.lock().powered_off = true;
        self.end_process("loses its power", |disk| disk.crash(seed))
    }

    /// Blocks, or unblocks, all messages to and from the machine.
    fn isolate(&self, isolated: bool) {
        for other in self.others.iter().filter(|other| **other != self.name) {
            for (from, to) in [(&self.name, other), (other, &self.name)] {
                match isolated {
                    true => self.net.block(from, to),
                    false => self.net.unblock(from, to),
                }
            }
        }
    }

    fn end_process(&self, how: &str, disk: impl FnOnce(&FaultyDisk) -> FaultyDisk) -> bool {
        let slot = {
            let mut inner = self.inner.lock();
            inner.disk = disk(&inner.disk);
            std::mem::replace(&mut inner.slot, Slot::Empty)
        };
        match slot {
            Slot::Empty => return false,
            Slot::Starting(killed) => {
                self.trace.record(format_args!("{} {how} while it starts", self.name));
                killed.cancel();
                return false;
            }
            Slot::Up(process) => {
                self.trace.record(format_args!("{} {how}", self.name));
                process.killed.cancel();
                // Its tasks have no disk and no network any more; this ends them.
                tokio::spawn(async move {
                    process.actors.stop().await;
                    process.cluster.shutdown().await;
                });
            }
        }
        true
    }
}

/// Creates a scheduler that runs the jobs of a disk one after the other in virtual time.
fn scheduler(mut rng: SimRng, slow: Arc<AtomicU64>) -> Scheduler {
    let (sender, mut jobs) = tokio::sync::mpsc::unbounded_channel::<Box<dyn FnOnce() + Send>>();
    tokio::spawn(async move {
        while let Some(job) = jobs.recv().await {
            // Most jobs are fast. The clock of tokio has a resolution of a millisecond.
            let takes = rng.pick(&[0, 0, 1, 1, 2]) * slow.load(Relaxed);
            sleep(Duration::from_millis(takes)).await;
            job();
        }
    });
    Arc::new(move |job| drop(sender.send(job)))
}
