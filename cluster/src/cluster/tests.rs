//! Tests of complete nodes in one paused runtime: simulated network, in-memory disks, virtual time.

mod checkpoints;
mod clocks;
mod disk_reserve;
mod elections;
mod host;
mod log_contents;
mod member_status;
mod membership;

use std::{collections::BTreeMap, pin::pin, time::Duration};

use evener_core::{
    append::Request,
    command::Command,
    event::Event,
    id::{ContextId, Position},
    time::Timestamp,
};
use evener_store::{
    Disk,
    chunk::CHUNK_BYTES_MIN,
    disk::{DiskImage, FaultyDisk},
};
use tokio::{
    io::AsyncReadExt,
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};
use uuid::Uuid;

use self::host::{BrokenConnections, Host};
use super::*;
use crate::{
    error::{Class, StartError},
    handshake::HANDSHAKE_WAIT,
    link::HANDSHAKES_MAX,
    sim_wire::{Settings, SimClock, SimNet},
    status::NonVoterReason,
    transport::Transport,
};

/// The longest wait of a test, in virtual time; a longer wait would never end.
const TEST_TIMEOUT: Duration = Duration::from_secs(120);

/// A cluster with its simulated network, disks and clocks.
struct TestCluster {
    net: SimNet,
    disks: BTreeMap<u64, FaultyDisk>,
    nodes: BTreeMap<u64, Cluster>,
    starts: u64,
    broken_connections: BrokenConnections,
    clocks: BTreeMap<u64, SimClock>,
    begun: Instant,
}

impl TestCluster {
    fn new(seed: u64) -> Self {
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
        let net = SimNet::new(Settings::seeded(seed));
        let (disks, nodes, clocks) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self {
            net,
            disks,
            nodes,
            starts: 0,
            broken_connections: BrokenConnections::default(),
            clocks,
            begun: Instant::now(),
        }
    }

    /// Founds a cluster of `count` nodes and waits until it has settled.
    async fn founded(seed: u64, count: u64) -> Self {
        let mut cluster = Self::new(seed);
        let config = cluster.config(1);
        cluster.start(Config { bootstrap: true, ..config }).await.unwrap();
        for nth in 2..=count {
            cluster.join(nth).await.unwrap();
        }
        cluster.settle().await;
        cluster
    }

    fn config(&mut self, nth: u64) -> Config {
        self.starts += 1;
        let mut config = Config::new(format!("n{nth}"), format!("n{nth}:7000"));
        config.journal.chunk_bytes = CHUNK_BYTES_MIN;
        config.raft.heartbeat = Duration::from_millis(200);
        config.checkpoint.entries = 20;
        config.disk_reserve = Some(256 << 10);
        config.seed = nth + 100 * self.starts;
        config.random_id = Uuid::from_u128(u128::from(nth + 1000 * self.starts));
        config
    }

    async fn join(&mut self, nth: u64) -> Result<(), StartError> {
        let at = self.nodes.values().next_back().unwrap().peer_addr().to_owned();
        let config = self.config(nth);
        self.start(Config { join: vec![at], ..config }).await
    }

    async fn start(&mut self, config: Config) -> Result<(), StartError> {
        let nth: u64 = config.name[1..].parse().unwrap();
        let disk = self.disks.entry(nth).or_insert_with(disk).clone();
        let host = Arc::new(Host {
            nth,
            wire: self.net.host(&config.name),
            broken_connections: self.broken_connections.clone(),
        });
        let time = self.right_time();
        let clock = self.clocks.entry(nth).or_insert_with(|| SimClock::new(time)).clone();
        let starting = Cluster::start(config, Arc::new(disk), host, Arc::new(clock));
        let node = timeout(TEST_TIMEOUT, starting).await.expect("a node starts")?;
        self.nodes.insert(nth, node);
        Ok(())
    }

    /// Returns the correct wall-clock time.
    fn right_time(&self) -> Timestamp {
        Timestamp(1_700_000_000_000).after(self.begun.elapsed())
    }

    /// Kills a node: all its tasks stop, and its sockets are closed.
    async fn kill(&mut self, nth: u64) {
        let node = self.nodes.remove(&nth).unwrap();
        self.net.kill(&format!("n{nth}"));
        node.kill().await;
    }

    async fn revive(&mut self, nth: u64) {
        let config = self.config(nth);
        self.start(config).await.unwrap();
    }

    fn leader(&self) -> Option<u64> {
        let leads = |node: &Cluster| node.status().role == Role::Leader;
        let leaders = self.nodes.iter().filter(|(_, node)| leads(node));
        leaders.max_by_key(|(_, node)| node.status().leadership.term).map(|(nth, _)| *nth)
    }

    async fn until(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let waiting = async {
            while !holds(self) {
                pass(Duration::from_millis(10)).await;
            }
        };
        timeout(TEST_TIMEOUT, waiting).await.unwrap_or_else(|_| panic!("never: {what}"));
    }

    /// Waits until all nodes have a session, a leader and the right voters and have applied the same log, and asserts
    /// that their states are equal.
    async fn settle(&self) {
        let count = self.nodes.len();
        let voters = if count >= 5 { 5 } else { (count - 1) | 1 };
        self.until("all have a session, a leader and the right voters", |cluster| {
            cluster.nodes.values().all(|node| {
                let status = node.status();
                status.session.is_some() && status.leadership.leader.is_some() && status.voters.len() == voters
            })
        })
        .await;
        self.same().await;
    }

    async fn same(&self) {
        self.until("all have applied the same", |cluster| {
            let ends: Vec<_> = cluster.nodes.values().map(|node| (node.status().last, node.status().applied)).collect();
            ends.windows(2).all(|pair| pair[0] == pair[1] && pair[0].0 == Some(pair[0].1))
        })
        .await;
        let mut nodes = self.nodes.values();
        let first = nodes.next().unwrap();
        for node in nodes {
            assert_eq!(*first.state(), *node.state());
        }
    }

    async fn append(&self, nth: u64, id: u128) -> Result<Position, Error> {
        self.nodes[&nth].append(&event(id)).await.map(|appended| appended.first)
    }
}

/// Advances virtual time.
async fn pass(time: Duration) {
    sleep_until(Instant::now() + time).await;
}

/// Returns a disk whose jobs are run by a task, in virtual time.
fn disk() -> FaultyDisk {
    disk_of(DiskImage::default())
}

fn disk_of(image: DiskImage) -> FaultyDisk {
    let (jobs, mut queue) = mpsc::unbounded_channel::<Box<dyn FnOnce() + Send>>();
    tokio::spawn(async move {
        while let Some(job) = queue.recv().await {
            pass(Duration::from_micros(100)).await;
            job();
        }
    });
    let scheduler = move |job| drop(jobs.send(job));
    FaultyDisk::new(image, Arc::new(scheduler))
}

fn event(id: u128) -> Request {
    let event = Event {
        id: Uuid::from_u128(id),
        source: "test".into(),
        kind: "happened".into(),
        stream: Some(format!("s{}", id % 7)),
        data: vec![7; 100],
        ..Event::default()
    };
    Request { request: Uuid::from_u128(id), events: vec![event], ..Request::default() }
}

#[tokio::test(start_paused = true)]
async fn a_minority_cannot_write_and_loses_its_session() {
    let cluster = TestCluster::founded(3, 3).await;
    pass(Duration::from_secs(1)).await;
    let cut_off = cluster.leader().unwrap();
    let others: Vec<u64> = cluster.nodes.keys().copied().filter(|nth| *nth != cut_off).collect();
    let names: Vec<String> = others.iter().map(|nth| format!("n{nth}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    cluster.net.partition(&[&format!("n{cut_off}")], &names);
    let mut lonely = pin!(cluster.append(cut_off, 1));
    let majority = cluster.append(others[0], 2);
    let (refused, stored) = tokio::join!(&mut lonely, majority);
    assert_eq!(refused.unwrap_err().class, Class::Unknown);
    assert_eq!(stored.unwrap(), Position(0));
    assert!(cluster.nodes[&cut_off].barrier().await.is_err(), "a read on the isolated node cannot be confirmed");
    cluster
        .until("the session of the isolated node is lost", |cluster| {
            cluster.nodes[&cut_off].session().borrow().is_none()
        })
        .await;
    cluster.net.heal();
    cluster.settle().await;
    assert_eq!(cluster.append(cut_off, 1).await.unwrap(), Position(1));
    cluster.same().await;
}

#[tokio::test(start_paused = true)]
async fn a_former_leader_does_not_end_sessions() {
    let cluster = TestCluster::founded(12, 3).await;
    let leader = cluster.leader().unwrap();
    // A former leader proposes the end of a session whose lease it counted while it led.
    let (late, starts) = (1 + leader % 3, NodeId(1 + (leader + 1) % 3));
    let session = cluster.nodes[&late].state().sessions[&starts].session;
    let refused = cluster.nodes[&late].expire(starts, session).await.unwrap_err();
    assert_eq!(refused.class, Class::Refused, "{refused}");
    cluster.nodes[&leader].barrier().await.unwrap();
    assert_eq!(cluster.nodes[&leader].state().sessions[&starts].session, session, "the session is active");
}

#[tokio::test(start_paused = true)]
async fn a_cluster_recovers_after_all_nodes_were_killed() {
    let mut cluster = TestCluster::founded(4, 3).await;
    for id in 0..20 {
        cluster.append(1, id).await.unwrap();
    }
    for nth in 1..=3 {
        cluster.kill(nth).await;
    }
    for nth in 1..=3 {
        cluster.revive(nth).await;
    }
    cluster.settle().await;
    assert_eq!(cluster.nodes[&2].state().head(ContextId::DEFAULT), Position(20));
    assert_eq!(cluster.append(2, 20).await.unwrap(), Position(20));
}

#[tokio::test(start_paused = true)]
async fn an_idle_cluster_writes_nothing() {
    let cluster = TestCluster::founded(5, 3).await;
    cluster.append(1, 1).await.unwrap();
    cluster.same().await;
    pass(Duration::from_secs(10)).await;
    let ends =
        || cluster.nodes.values().map(|node| (node.status().last, node.status().leadership.term)).collect::<Vec<_>>();
    let before = ends();
    pass(Duration::from_secs(60)).await;
    assert_eq!(ends(), before);
}

#[tokio::test(start_paused = true)]
async fn leadership_is_transferred() {
    let cluster = TestCluster::founded(7, 3).await;
    let from = cluster.leader().unwrap();
    let to = 1 + from % 3;
    let asked = 1 + to % 3;
    cluster.nodes[&asked].transfer(NodeId(to)).await.unwrap();
    cluster.until("the successor leads", |cluster| cluster.leader() == Some(to)).await;
    assert_eq!(cluster.append(from, 1).await.unwrap(), Position(0));
}

#[tokio::test(start_paused = true)]
async fn three_nodes_that_stop_at_once_do_not_wait_for_exited_nodes() {
    let cluster = TestCluster::founded(18, 3).await;
    let start = Instant::now();
    let net = &cluster.net;
    let ends = cluster.nodes.iter().map(async |(nth, node)| {
        node.shutdown().await;
        // The process exits after its shutdown.
        net.kill(&format!("n{nth}"));
    });
    futures::future::join_all(ends).await;
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn the_last_of_three_nodes_detects_that_the_quorum_is_lost() {
    let mut cluster = TestCluster::founded(19, 3).await;
    let left = cluster.nodes[&1].clone();
    cluster.kill(2).await;
    cluster
        .until("node 3 learns of the exit", |cluster| cluster.nodes[&3].links.exited().borrow().contains(&NodeId(2)))
        .await;
    assert!(timeout(Duration::from_secs(10), left.quorum_lost()).await.is_err(), "two of three are a majority");
    cluster.kill(3).await;
    timeout(Duration::from_secs(2), left.quorum_lost()).await.unwrap();
    cluster.revive(2).await;
    cluster.until("node 2 is back", |_| !left.links.exited().borrow().contains(&NodeId(2))).await;
    assert!(timeout(Duration::from_secs(2), left.quorum_lost()).await.is_err(), "two of three are a majority again");
    let start = Instant::now();
    cluster.kill(2).await;
    left.shutdown().await;
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn p10_silent_connections_do_not_block_other_connections() {
    let mut cluster = TestCluster::founded(21, 1).await;
    let host = cluster.net.host("silent");
    let start = Instant::now();
    let mut silent = Vec::new();
    for _ in 0..HANDSHAKES_MAX {
        silent.push(host.connect("n1:7000").await.unwrap());
    }
    cluster.join(2).await.unwrap();
    assert!(start.elapsed() < HANDSHAKE_WAIT, "a node could not join meanwhile: {:?}", start.elapsed());
    for mut connection in silent {
        assert_eq!(connection.read(&mut [0]).await.unwrap_or(0), 0, "the connection is closed");
    }
    assert!(
        start.elapsed() < HANDSHAKE_WAIT * 2,
        "not all silent connections were closed in time: {:?}",
        start.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_restart_recovers_from_the_checkpoint_and_sealed_chunks() {
    let mut cluster = TestCluster::founded(8, 3).await;
    let bytes = CHUNK_BYTES_MIN / 4;
    for id in 0..40 {
        let mut request = event(id);
        request.events[0].data = vec![7; bytes as usize];
        cluster.nodes[&2].append(&request).await.unwrap();
    }
    assert!(cluster.nodes[&1].journal.chunks().iter().filter(|chunk| chunk.hash.is_some()).count() > 5);
    for nth in 1..=3 {
        cluster.kill(nth).await;
    }
    for nth in 1..=3 {
        cluster.revive(nth).await;
    }
    cluster.settle().await;
    for id in 0..40 {
        let mut request = event(id);
        request.events[0].data = vec![7; bytes as usize];
        let appended = cluster.nodes[&(1 + id as u64 % 3)].append(&request).await.unwrap();
        assert_eq!((appended.first, appended.repeated), (Position(id as u64), true));
    }
    assert_eq!(cluster.append(3, 99).await.unwrap(), Position(40));
    cluster.same().await;
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_disk_fails_stops_and_reports_why() {
    let cluster = TestCluster::founded(9, 3).await;
    let failing = cluster.leader().unwrap();
    cluster.disks[&failing].fail_after(1);
    let other = 1 + failing % 3;
    for id in 0..10 {
        assert_eq!(cluster.append(other, id).await.unwrap(), Position(id as u64));
    }
    cluster.until("the node has stopped", |cluster| cluster.nodes[&failing].stopped().borrow().is_some()).await;
    let status = cluster.nodes[&failing].status();
    assert_eq!((status.role, status.session), (Role::Stopped, None));
    let error = cluster.append(failing, 20).await.unwrap_err();
    assert_eq!(error.class, Class::Refused);
    assert!(error.message.contains("this node has stopped"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_bootstrap_on_a_failing_disk_fails_at_once() {
    let mut refused = 0;
    for operations in 1..40 {
        let mut cluster = TestCluster::new(22);
        let config = cluster.config(1);
        cluster.disks.insert(1, disk());
        cluster.disks[&1].fail_after(operations);
        let start = Instant::now();
        let Err(error) = cluster.start(Config { bootstrap: true, ..config }).await else { continue };
        refused += 1;
        assert!(start.elapsed() < Duration::from_secs(3), "after {operations}: {:?}: {error}", start.elapsed());
        assert!(!error.to_string().contains("majority"), "after {operations}: {error}");
    }
    assert!(refused > 5, "{refused} disks failed early enough");
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_disk_is_still_full_does_not_start() {
    let mut cluster = TestCluster::founded(23, 1).await;
    for operations in 0..4 {
        cluster.kill(1).await;
        cluster.disks[&1].fail_after(operations);
        let config = cluster.config(1);
        let error = cluster.start(config).await.unwrap_err().to_string();
        assert!(error.starts_with("failed to write") && error.contains("as every start does"), "{error}");
        cluster.revive(1).await;
    }
    assert_eq!(cluster.append(1, 1).await.unwrap(), Position(0), "the node accepts appends once there is space");
}

#[tokio::test(start_paused = true)]
async fn appends_beyond_the_queue_limit_are_refused_at_once() {
    let mut cluster = TestCluster::new(11);
    let mut config = cluster.config(1);
    config.bootstrap = true;
    config.proposer.commands_max = 8;
    cluster.start(config).await.unwrap();
    cluster.settle().await;
    let appends = (0..32).map(|id| cluster.append(1, id));
    let answers = futures::future::join_all(appends).await;
    let (stored, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!(stored.len(), 8);
    for error in refused.into_iter().map(Result::unwrap_err) {
        assert_eq!(error.class, Class::Overloaded);
        assert!(error.retry_after.is_some() && error.message.contains("proposer_commands_max = 8"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn queued_appends_share_entries() {
    let cluster = TestCluster::founded(12, 3).await;
    let before = cluster.nodes[&1].status().last.unwrap();
    let appends = (0..200).map(|id| cluster.append(1 + id as u64 % 3, id));
    for answer in futures::future::join_all(appends).await {
        answer.unwrap();
    }
    let entries = cluster.nodes[&1].status().last.unwrap().0 - before.0;
    assert!(entries <= 20, "200 appends made {entries} entries");
    cluster.same().await;
}
