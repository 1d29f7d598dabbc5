//! A machine: a host on the simulated wire, a disk that outlives its processes, and at most one process at a time.

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

/// When all runs begin, in milliseconds since the Unix epoch.
pub const EPOCH: Timestamp = Timestamp(1_800_000_000_000);
/// A process that leaves waits for its handlers so long.
const DRAIN_WAIT: Duration = Duration::from_secs(7);
/// No safety decision may notice how wrong a wall clock is (P9).
pub const CLOCK_OFFSET_MAX: Duration = Duration::from_secs(5);

/// A machine.
pub struct Machine {
    /// Its host's name.
    pub name: String,
    /// All hosts.
    others: Vec<String>,
    net: SimNet,
    trace: Trace,
    clock: SimClock,
    /// How far its clock is off in good times.
    clock_offset_ms: i64,
    slow: Arc<AtomicU64>,
    inner: Mutex<Inner>,
}

struct Inner {
    disk: FaultyDisk,
    rng: SimRng,
    slot: Slot,
    starts: u64,
    /// Its power is off: its peers are not told.
    powered_off: bool,
    /// It is on its way out of the cluster: a start of it may fail.
    leaving: bool,
}

/// What runs on it.
#[derive(Clone)]
enum Slot {
    Empty,
    Starting(CancellationToken),
    Up(Process),
}

/// A process that is up.
#[derive(Clone)]
pub struct Process {
    /// Its node.
    pub cluster: Cluster,
    /// What answers requests there.
    pub engine: Engine,
    actors: Actors,
    /// Cancelled when it is killed: whoever talks to it notices, as by a closed socket.
    pub killed: CancellationToken,
}

/// What a process has of its host's wire. Once it is killed it reaches nobody, whoever lives there after it.
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
    /// A machine with an empty disk, one of `hosts`.
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

    /// The address that peers use.
    #[must_use]
    pub fn peer(&self) -> String {
        format!("{}:{PEER_PORT}", self.name)
    }

    /// What runs there, once it is a member of its cluster.
    #[must_use]
    pub fn process(&self) -> Option<Process> {
        match &self.inner.lock().slot {
            Slot::Up(process) => Some(process.clone()),
            Slot::Empty | Slot::Starting(_) => None,
        }
    }

    /// Every file of its disk.
    #[must_use]
    pub fn files(&self) -> Vec<(String, Vec<u8>)> {
        self.inner.lock().disk.image().files()
    }

    /// The disk takes so many times as long.
    pub fn slow_disk(&self, factor: u64) {
        self.slow.store(factor, Relaxed);
    }

    /// One of its disk's next operations fails.
    pub fn break_disk(&self, after: u64) {
        self.inner.lock().disk.fail_after(after);
    }

    /// None will.
    pub fn repair_disk(&self) {
        self.inner.lock().disk.fail_after(u64::from(u32::MAX));
    }

    /// Its wall clock is so much further ahead, or behind, than in good times.
    pub fn jump_clock(&self, by_ms: i64) {
        self.clock.set_offset(self.clock_offset_ms + by_ms);
    }

    /// From now on a start of it may fail, or not again.
    pub fn set_leaving(&self, leaving: bool) {
        self.inner.lock().leaving = leaving;
    }

    /// Whether a start of it may fail.
    pub fn is_leaving(&self) -> bool {
        self.inner.lock().leaving
    }

    /// Its process ends, and its disk is an empty one.
    pub fn wipe(&self) {
        self.kill();
        let mut inner = self.inner.lock();
        let disk = scheduler(inner.rng.derive("another disk"), self.slow.clone());
        inner.disk = FaultyDisk::new(DiskImage::default(), disk);
    }

    /// Its process leaves the cluster for ever, in good order. False where there is none, or it could not.
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

    /// Starts a process, unless there is one. `config` is asked for its name, address and disk to be filled in.
    /// Ends when the process is a member, or is killed on its way; the error is why it did not start.
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
            // The machine is back, and knows none of the connections that its peers still hold.
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

    /// Kills the process, if there is one; false if there is none that is up.
    pub fn kill(&self) -> bool {
        let killed = self.end_process("is killed", FaultyDisk::kill);
        self.net.kill(&self.name);
        killed
    }

    /// Cuts the power. What was not synced may be gone.
    pub fn cut_power(&self) -> bool {
        let seed = self.inner.lock().rng.between(0, u64::from(u32::MAX));
        self.isolate(true);
        self.inner.lock().powered_off = true;
        self.end_process("loses its power", |disk| disk.crash(seed))
    }

    /// Nothing reaches it, and nothing comes from it.
    fn isolate(&self, hidden: bool) {
        for other in self.others.iter().filter(|other| **other != self.name) {
            for (from, to) in [(&self.name, other), (other, &self.name)] {
                match hidden {
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
                // Cut off from disk and wire its tasks can do nothing any more; this lets them end.
                tokio::spawn(async move {
                    process.actors.stop().await;
                    process.cluster.shutdown().await;
                });
            }
        }
        true
    }
}

/// Runs a disk's jobs one after the other in virtual time.
fn scheduler(mut rng: SimRng, slow: Arc<AtomicU64>) -> Scheduler {
    let (sender, mut jobs) = tokio::sync::mpsc::unbounded_channel::<Box<dyn FnOnce() + Send>>();
    tokio::spawn(async move {
        while let Some(job) = jobs.recv().await {
            // Most are quick; tokio's clock has steps of a millisecond.
            let takes = rng.pick(&[0, 0, 1, 1, 2]) * slow.load(Relaxed);
            sleep(Duration::from_millis(takes)).await;
            job();
        }
    });
    Arc::new(move |job| drop(sender.send(job)))
}
