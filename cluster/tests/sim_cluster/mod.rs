//! Simulated machines on a faulty network, and the nodes that run on them.

use std::{collections::BTreeMap, io, sync::Arc, time::Duration};

use evener_cluster::{
    Class, Cluster, Config, Role, StartError,
    sim_wire::{Settings, SimClock, SimHost, SimNet},
    transport::{BoxFuture, BoxedStream, Listener, Transport},
};
use evener_core::{
    append::{Appended, Request},
    event::Event,
    time::Timestamp,
};
use evener_store::disk::{DiskImage, FaultyDisk, Scheduler};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub(crate) const TEST_TIMEOUT: Duration = Duration::from_secs(120);

/// A transport that ends with its process.
pub(crate) struct KillableTransport(SimHost, CancellationToken);

impl Transport for KillableTransport {
    fn connect<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<BoxedStream>> {
        Box::pin(async move {
            let connected = self.1.run_until_cancelled(self.0.connect(addr)).await;
            connected.unwrap_or(Err(io::ErrorKind::ConnectionAborted.into()))
        })
    }

    fn bind<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        self.0.bind(addr)
    }
}

/// Machines by number, and the nodes that run on them.
pub(crate) struct SimCluster {
    pub net: SimNet,
    pub clock: SimClock,
    pub disks: BTreeMap<u64, FaultyDisk>,
    pub up: BTreeMap<u64, (Cluster, CancellationToken)>,
    pub starts: u128,
}

pub(crate) fn scheduler() -> Scheduler {
    let (sender, mut jobs) = tokio::sync::mpsc::unbounded_channel::<Box<dyn FnOnce() + Send>>();
    tokio::spawn(async move {
        while let Some(job) = jobs.recv().await {
            sleep(Duration::from_millis(1)).await;
            job();
        }
    });
    Arc::new(move |job| drop(sender.send(job)))
}

pub(crate) fn host(nth: u64) -> String {
    format!("n{nth}")
}

pub(crate) fn event(stream: &str, id: u128, bytes: usize) -> Request {
    let event = Event {
        id: Uuid::from_u128(id),
        source: "test".into(),
        kind: "happened".into(),
        stream: Some(stream.into()),
        data: vec![7; bytes],
        ..Event::default()
    };
    Request { request: Uuid::from_u128(id), events: vec![event], ..Request::default() }
}

impl SimCluster {
    pub(crate) fn new(seed: u64) -> Self {
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
        let (net, clock) = (SimNet::new(Settings::seeded(seed)), SimClock::new(Timestamp(1_800_000_000_000)));
        Self { net, clock, disks: BTreeMap::new(), up: BTreeMap::new(), starts: 0 }
    }

    /// Starts three voters.
    pub(crate) async fn three(seed: u64) -> Self {
        let mut cluster = Self::new(seed);
        cluster.start(1, |config| config.bootstrap = true).await.expect("the first founds");
        cluster.join(2).await;
        cluster.join(3).await;
        cluster.settle(3).await;
        cluster
    }

    pub(crate) async fn start(&mut self, nth: u64, change: impl FnOnce(&mut Config)) -> Result<(), StartError> {
        self.starts += 1;
        let mut config = Config::new(host(nth), format!("{}:1", host(nth)));
        config.seed = self.starts as u64;
        config.random_id = Uuid::from_u128(self.starts);
        change(&mut config);
        let disk = self.disks.entry(nth).or_insert_with(|| FaultyDisk::new(DiskImage::default(), scheduler())).clone();
        let dead = CancellationToken::new();
        let wire = Arc::new(KillableTransport(self.net.host(&host(nth)), dead.clone()));
        let starting = Cluster::start(config, Arc::new(disk), wire, Arc::new(self.clock.clone()));
        let node = timeout(TEST_TIMEOUT, starting).await.expect("a node starts, or returns an error")?;
        self.up.insert(nth, (node, dead));
        Ok(())
    }

    pub(crate) async fn join(&mut self, nth: u64) {
        self.start(nth, |config| config.join = vec!["n1:1".into(), "n2:1".into()]).await.expect("it joins");
    }

    /// Kills a node, as `kill -9` does.
    pub(crate) async fn kill(&mut self, nth: u64) {
        let (node, dead) = self.up.remove(&nth).expect("it is up");
        let disk = self.disks[&nth].kill();
        self.disks.insert(nth, disk);
        dead.cancel();
        self.net.kill(&host(nth));
        // The rest of its process runs on for a while, and reaches no other node.
        tokio::spawn(async move { node.kill().await });
    }

    pub(crate) fn node(&self, nth: u64) -> &Cluster {
        &self.up[&nth].0
    }

    pub(crate) fn nodes(&self) -> impl Iterator<Item = &Cluster> {
        self.up.values().map(|(node, _)| node)
    }

    pub(crate) fn leader(&self) -> u64 {
        let leads = |(nth, (node, _)): (&u64, &(Cluster, _))| (node.status().role == Role::Leader).then_some(*nth);
        self.up.iter().find_map(leads).expect("there is a leader")
    }

    pub(crate) fn follower(&self) -> u64 {
        let leader = self.leader();
        *self.up.keys().find(|nth| **nth != leader).expect("there is a follower")
    }

    pub(crate) async fn until(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) -> Duration {
        let start = Instant::now();
        while !holds(self) {
            if start.elapsed() > TEST_TIMEOUT {
                let statuses: Vec<_> = self.nodes().map(|node| format!("\n{:?}", node.status())).collect();
                panic!("never: {what}{}", statuses.concat());
            }
            sleep(Duration::from_millis(10)).await;
        }
        start.elapsed()
    }

    /// Waits until there are this many voters, every running node has a session and has applied the same, and nothing
    /// changes any more; a membership change must not be half done either.
    pub(crate) async fn settle(&self, voters: usize) {
        let ends = |cluster: &Self| -> Vec<_> {
            cluster.nodes().map(|node| (node.status().last, node.status().applied, node.status().committed)).collect()
        };
        let well = |node: &Cluster| {
            let status = node.status();
            let live = node.state().sessions.get(&node.me()).map(|live| live.session);
            let led = status.leadership.leader.is_some() && status.session.is_some();
            led && status.voters.len() == voters && live == status.session
        };
        loop {
            self.until("all is well", |cluster| {
                let ends = ends(cluster);
                cluster.nodes().all(well) && ends.windows(2).all(|pair| pair[0] == pair[1])
            })
            .await;
            let before = ends(self);
            sleep(Duration::from_secs(1)).await;
            if ends(self) == before && self.nodes().all(well) {
                break;
            }
        }
        for pair in self.nodes().collect::<Vec<_>>().windows(2) {
            assert!(*pair[0].state() == *pair[1].state(), "two nodes have applied the same and differ");
        }
    }

    /// Retries an append on `nth` with the same id until it is stored, as a client does.
    pub(crate) async fn store(&self, nth: u64, id: u128, bytes: usize) -> Appended {
        let start = Instant::now();
        loop {
            match self.node(nth).append(&event("s", id, bytes)).await {
                Ok(appended) => return appended,
                Err(error) => {
                    assert!(matches!(error.class, Class::Unknown | Class::Overloaded), "{error:?}");
                    assert!(start.elapsed() < TEST_TIMEOUT, "never stored: {error}");
                    sleep(error.retry_after.unwrap_or_default()).await;
                }
            }
        }
    }
}
