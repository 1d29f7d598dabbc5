//! Whole nodes in one paused runtime: on the simulated wire, on disks in memory, in virtual time.

mod checkpoints;
mod clocks;
mod disk_reserve;
mod elections;
mod host;
mod log_contents;
mod member_status;

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

use self::host::{Breaking, Host};
use super::*;
use crate::{
    error::{Class, StartError},
    handshake::HANDSHAKE_WAIT,
    join,
    link::HANDSHAKES_MAX,
    sim_wire::{Settings, SimClock, SimNet},
    status::Voteless,
    transport::Transport,
};

/// In virtual time. Whoever waits longer waits for ever.
const PATIENCE: Duration = Duration::from_secs(120);

/// A cluster, and the world around it.
struct World {
    net: SimNet,
    disks: BTreeMap<u64, FaultyDisk>,
    nodes: BTreeMap<u64, Cluster>,
    lives: u64,
    breaking: Breaking,
    clocks: BTreeMap<u64, SimClock>,
    begun: Instant,
}

impl World {
    fn new(seed: u64) -> Self {
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
        let net = SimNet::new(Settings::seeded(seed));
        let (disks, nodes, clocks) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { net, disks, nodes, lives: 0, breaking: Breaking::default(), clocks, begun: Instant::now() }
    }

    /// Node 1, and so many others that joined it, voting as far as they may.
    async fn founded(seed: u64, count: u64) -> Self {
        let mut world = Self::new(seed);
        let config = world.config(1);
        world.start(Config { bootstrap: true, ..config }).await.unwrap();
        for nth in 2..=count {
            world.join(nth).await.unwrap();
        }
        world.settle().await;
        world
    }

    fn config(&mut self, nth: u64) -> Config {
        self.lives += 1;
        let mut config = Config::new(format!("n{nth}"), format!("n{nth}:7000"));
        config.journal.chunk_bytes = CHUNK_BYTES_MIN;
        config.raft.heartbeat = Duration::from_millis(200);
        config.checkpoint.entries = 20;
        config.disk_reserve = Some(256 << 10);
        config.seed = nth + 100 * self.lives;
        config.draw = Uuid::from_u128(u128::from(nth + 1000 * self.lives));
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
        let host = Arc::new(Host { nth, wire: self.net.host(&config.name), breaking: self.breaking.clone() });
        let time = self.right_time();
        let clock = self.clocks.entry(nth).or_insert_with(|| SimClock::new(time)).clone();
        let starting = Cluster::start(config, Arc::new(disk), host, Arc::new(clock));
        let node = timeout(PATIENCE, starting).await.expect("a node starts")?;
        self.nodes.insert(nth, node);
        Ok(())
    }

    /// What a right clock shows.
    fn right_time(&self) -> Timestamp {
        Timestamp(1_700_000_000_000).after(self.begun.elapsed())
    }

    /// The process is gone: nothing of it runs, and its sockets are closed.
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
        timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("never: {what}"));
    }

    /// Waits until everybody has a session and a leader, the voters are as they should be, and all have applied
    /// the same; and holds them to it.
    async fn settle(&self) {
        let count = self.nodes.len();
        let voters = if count >= 5 { 5 } else { (count - 1) | 1 };
        self.until("all have a session, a leader and the right voters", |world| {
            world.nodes.values().all(|node| {
                let status = node.status();
                status.session.is_some() && status.leadership.leader.is_some() && status.voters.len() == voters
            })
        })
        .await;
        self.same().await;
    }

    async fn same(&self) {
        self.until("all have applied the same", |world| {
            let ends: Vec<_> = world.nodes.values().map(|node| (node.status().last, node.status().applied)).collect();
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

/// Virtual time passes, at once.
async fn pass(time: Duration) {
    sleep_until(Instant::now() + time).await;
}

/// A disk whose work is done by a task, in virtual time.
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
    let world = World::founded(3, 3).await;
    pass(Duration::from_secs(1)).await;
    let cut_off = world.leader().unwrap();
    let others: Vec<u64> = world.nodes.keys().copied().filter(|nth| *nth != cut_off).collect();
    let names: Vec<String> = others.iter().map(|nth| format!("n{nth}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    world.net.partition(&[&format!("n{cut_off}")], &names);
    let mut lonely = pin!(world.append(cut_off, 1));
    let majority = world.append(others[0], 2);
    let (refused, stored) = tokio::join!(&mut lonely, majority);
    assert_eq!(refused.unwrap_err().class, Class::Unknown);
    assert_eq!(stored.unwrap(), Position(0));
    assert!(world.nodes[&cut_off].barrier().await.is_err(), "nothing that is read there is known to be true");
    world
        .until("the session of who is cut off is lost", |world| world.nodes[&cut_off].session().borrow().is_none())
        .await;
    world.net.heal();
    world.settle().await;
    assert_eq!(world.append(cut_off, 1).await.unwrap(), Position(1));
    world.same().await;
}

#[tokio::test(start_paused = true)]
async fn who_does_not_lead_any_more_ends_nobodys_session() {
    let world = World::founded(12, 3).await;
    let leader = world.leader().unwrap();
    // It counted a lease while it led, and is late to say so.
    let (late, lives) = (1 + leader % 3, NodeId(1 + (leader + 1) % 3));
    let session = world.nodes[&late].state().sessions[&lives].session;
    let refused = world.nodes[&late].expire(lives, session).await.unwrap_err();
    assert_eq!(refused.class, Class::Refused, "{refused}");
    world.nodes[&leader].barrier().await.unwrap();
    assert_eq!(world.nodes[&leader].state().sessions[&lives].session, session, "it lives");
}

#[tokio::test(start_paused = true)]
async fn all_die_and_come_back() {
    let mut world = World::founded(4, 3).await;
    for id in 0..20 {
        world.append(1, id).await.unwrap();
    }
    for nth in 1..=3 {
        world.kill(nth).await;
    }
    for nth in 1..=3 {
        world.revive(nth).await;
    }
    world.settle().await;
    assert_eq!(world.nodes[&2].state().head(ContextId::DEFAULT), Position(20));
    assert_eq!(world.append(2, 20).await.unwrap(), Position(20));
}

#[tokio::test(start_paused = true)]
async fn an_idle_cluster_writes_nothing() {
    let world = World::founded(5, 3).await;
    world.append(1, 1).await.unwrap();
    world.same().await;
    pass(Duration::from_secs(10)).await;
    let ends =
        || world.nodes.values().map(|node| (node.status().last, node.status().leadership.term)).collect::<Vec<_>>();
    let before = ends();
    pass(Duration::from_secs(60)).await;
    assert_eq!(ends(), before);
}

#[tokio::test(start_paused = true)]
async fn who_may_not_join_is_told_why() {
    let mut world = World::founded(6, 1).await;
    world.join(2).await.unwrap();
    world.kill(2).await;
    world.disks.remove(&2);
    let error = world.join(2).await.unwrap_err().to_string();
    assert!(error.contains("Exists(MemberName(\"n2\"))"), "{error}");
    let at = world.nodes[&1].peer_addr().to_owned();
    let config = world.config(3);
    let foreign = Config { cluster: Some(ClusterId(Uuid::from_u128(9))), join: vec![at.clone()], ..config.clone() };
    let error = world.start(foreign).await.unwrap_err().to_string();
    assert!(error.contains("is wanted"), "{error}");
    let error =
        world.start(Config { bootstrap: true, join: vec![at], ..config.clone() }).await.unwrap_err().to_string();
    assert!(error.contains("refused to found a cluster"), "{error}");
    let own = Config { join: vec!["n3:7000".into()], ..config.clone() };
    let error = world.start(own).await.unwrap_err().to_string();
    assert!(error.contains("this node's own, n3:7000") && error.contains("--bootstrap"), "{error}");
    let error = world.start(config).await.unwrap_err().to_string();
    assert!(error.contains("found a cluster with --bootstrap"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn the_directory_of_one_cluster_does_not_join_another() {
    let mut world = World::founded(16, 3).await;
    let mine = world.nodes[&1].id();
    let config = world.config(8);
    world.start(Config { bootstrap: true, ..config }).await.unwrap();
    let theirs = world.nodes[&8].id();
    world.kill(3).await;

    let config = world.config(3);
    let foreign = Config { join: vec!["n7:7000".into(), "n8:7000".into()], ..config.clone() };
    let error = world.start(foreign).await.unwrap_err().to_string();
    for word in [mine.to_string(), theirs.to_string(), "n8:7000".into(), "an empty directory".into()] {
        assert!(error.contains(&word), "it should name {word}: {error}");
    }
    // One address of its own cluster is enough.
    world.start(Config { join: vec!["n8:7000".into(), "n1:7000".into()], ..config }).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn all_members_start_again_by_the_command_that_joined_them() {
    let mut world = World::founded(17, 3).await;
    for nth in 1..=3 {
        world.kill(nth).await;
    }
    for nth in [3, 2, 1] {
        let config = world.config(nth);
        world.start(Config { join: vec!["n1:7000".into(), "n2:7000".into()], ..config }).await.unwrap();
    }
    world.settle().await;
    assert_eq!(world.append(3, 1).await.unwrap(), Position(0));
}

#[tokio::test(start_paused = true)]
async fn leadership_is_passed_on() {
    let world = World::founded(7, 3).await;
    let from = world.leader().unwrap();
    let to = 1 + from % 3;
    let asked = 1 + to % 3;
    world.nodes[&asked].transfer(NodeId(to)).await.unwrap();
    world.until("it leads", |world| world.leader() == Some(to)).await;
    assert_eq!(world.append(from, 1).await.unwrap(), Position(0));
}

#[tokio::test(start_paused = true)]
async fn three_that_end_at_once_wait_for_nobody_who_is_gone() {
    let world = World::founded(18, 3).await;
    let start = Instant::now();
    let net = &world.net;
    let ends = world.nodes.iter().map(async |(nth, node)| {
        node.shutdown().await;
        // As the process ends with it.
        net.kill(&format!("n{nth}"));
    });
    futures::future::join_all(ends).await;
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn the_last_of_three_knows_that_the_quorum_is_lost() {
    let mut world = World::founded(19, 3).await;
    let left = world.nodes[&1].clone();
    world.kill(2).await;
    world.until("the other is told", |world| world.nodes[&3].links.gone().borrow().contains(&NodeId(2))).await;
    assert!(timeout(Duration::from_secs(10), left.quorum_lost()).await.is_err(), "two of three decide");
    world.kill(3).await;
    timeout(Duration::from_secs(2), left.quorum_lost()).await.unwrap();
    world.revive(2).await;
    world.until("it is back", |_| !left.links.gone().borrow().contains(&NodeId(2))).await;
    assert!(timeout(Duration::from_secs(2), left.quorum_lost()).await.is_err(), "two of three decide again");
    let start = Instant::now();
    world.kill(2).await;
    left.shutdown().await;
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn p10_who_knocks_and_says_nothing_keeps_nobody_out() {
    let mut world = World::founded(21, 1).await;
    let host = world.net.host("silent");
    let start = Instant::now();
    let mut silent = Vec::new();
    for _ in 0..HANDSHAKES_MAX {
        silent.push(host.connect("n1:7000").await.unwrap());
    }
    world.join(2).await.unwrap();
    assert!(start.elapsed() < HANDSHAKE_WAIT, "another one comes in meanwhile: {:?}", start.elapsed());
    for mut connection in silent {
        assert_eq!(connection.read(&mut [0]).await.unwrap_or(0), 0, "it is closed");
    }
    assert!(start.elapsed() < HANDSHAKE_WAIT * 2, "all of them have had their turn: {:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_restart_begins_with_the_checkpoint_and_chunks_that_are_sealed() {
    let mut world = World::founded(8, 3).await;
    let bytes = CHUNK_BYTES_MIN / 4;
    for id in 0..40 {
        let mut request = event(id);
        request.events[0].data = vec![7; bytes as usize];
        world.nodes[&2].append(&request).await.unwrap();
    }
    assert!(world.nodes[&1].journal.chunks().iter().filter(|chunk| chunk.hash.is_some()).count() > 5);
    for nth in 1..=3 {
        world.kill(nth).await;
    }
    for nth in 1..=3 {
        world.revive(nth).await;
    }
    world.settle().await;
    for id in 0..40 {
        let mut request = event(id);
        request.events[0].data = vec![7; bytes as usize];
        let appended = world.nodes[&(1 + id as u64 % 3)].append(&request).await.unwrap();
        assert_eq!((appended.first, appended.repeated), (Position(id as u64), true));
    }
    assert_eq!(world.append(3, 99).await.unwrap(), Position(40));
    world.same().await;
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_disk_fails_stops_and_says_why() {
    let world = World::founded(9, 3).await;
    let failing = world.leader().unwrap();
    world.disks[&failing].fail_after(1);
    let other = 1 + failing % 3;
    for id in 0..10 {
        assert_eq!(world.append(other, id).await.unwrap(), Position(id as u64));
    }
    world.until("it says so", |world| world.nodes[&failing].stopped().borrow().is_some()).await;
    let status = world.nodes[&failing].status();
    assert_eq!((status.role, status.session), (Role::Stopped, None));
    let error = world.append(failing, 20).await.unwrap_err();
    assert_eq!(error.class, Class::Refused);
    assert!(error.message.contains("this node has stopped"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_founder_whose_disk_fails_says_so_at_once() {
    let mut refused = 0;
    for operations in 1..40 {
        let mut world = World::new(22);
        let config = world.config(1);
        world.disks.insert(1, disk());
        world.disks[&1].fail_after(operations);
        let start = Instant::now();
        let Err(error) = world.start(Config { bootstrap: true, ..config }).await else { continue };
        refused += 1;
        assert!(start.elapsed() < Duration::from_secs(3), "after {operations}: {:?}: {error}", start.elapsed());
        assert!(!error.to_string().contains("majority"), "after {operations}: {error}");
    }
    assert!(refused > 5, "{refused} disks failed early enough");
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_disk_is_still_full_does_not_start() {
    let mut world = World::founded(23, 1).await;
    for operations in 0..4 {
        world.kill(1).await;
        world.disks[&1].fail_after(operations);
        let config = world.config(1);
        let error = world.start(config).await.unwrap_err().to_string();
        assert!(error.starts_with("failed to write") && error.contains("as every start does"), "{error}");
        world.revive(1).await;
    }
    assert_eq!(world.append(1, 1).await.unwrap(), Position(0), "once there is room it goes on");
}

#[tokio::test(start_paused = true)]
async fn more_than_the_queue_holds_is_refused_early() {
    let mut world = World::new(11);
    let mut config = world.config(1);
    config.bootstrap = true;
    config.proposer.commands_max = 8;
    world.start(config).await.unwrap();
    world.settle().await;
    let appends = (0..32).map(|id| world.append(1, id));
    let answers = futures::future::join_all(appends).await;
    let (stored, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!(stored.len(), 8);
    for error in refused.into_iter().map(Result::unwrap_err) {
        assert_eq!(error.class, Class::Overloaded);
        assert!(error.retry_after.is_some() && error.message.contains("proposer_commands_max = 8"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_waits_joins_into_one_entry() {
    let world = World::founded(12, 3).await;
    let before = world.nodes[&1].status().last.unwrap();
    let appends = (0..200).map(|id| world.append(1 + id as u64 % 3, id));
    for answer in futures::future::join_all(appends).await {
        answer.unwrap();
    }
    let entries = world.nodes[&1].status().last.unwrap().0 - before.0;
    assert!(entries <= 20, "200 appends made {entries} entries");
    world.same().await;
}

#[tokio::test(start_paused = true)]
async fn who_was_removed_stops_and_is_told() {
    let mut world = World::founded(13, 4).await;
    world.kill(4).await;
    world.nodes[&2].remove(NodeId(4)).await.unwrap();
    world.until("it has no seat", |world| world.nodes[&1].status().learners.is_empty()).await;
    let config = world.config(4);
    let error = world.start(config).await.unwrap_err();
    let told = format!("node n4 was removed from cluster {}", world.nodes[&1].id());
    assert!(matches!(&error, StartError::Removed(why) if why.contains(&told)), "{error}");
    assert!(error.to_string().contains(" at 2023-11-14T"), "as the others' log has it: {error}");

    // Where nobody answers it starts, and is told as soon as somebody does.
    for nth in 1..=3 {
        world.kill(nth).await;
    }
    world.revive(4).await;
    assert!(!world.nodes[&4].was_removed());
    for nth in 1..=3 {
        world.revive(nth).await;
    }
    world.until("it is told", |world| world.nodes[&4].stopped().borrow().is_some()).await;
    let why = world.nodes[&4].stopped().borrow().clone().unwrap();
    assert!(world.nodes[&4].was_removed() && why.contains(&told), "{why}");
}

#[tokio::test(start_paused = true)]
async fn who_left_by_itself_knows_it_at_its_next_start() {
    let mut world = World::founded(20, 4).await;
    world.nodes.remove(&4).unwrap().leave().await.unwrap();
    for nth in 1..=3 {
        world.kill(nth).await;
    }
    let config = world.config(4);
    let error = world.start(config).await.unwrap_err();
    assert!(matches!(error, StartError::Removed(_)), "{error}");
    assert!(error.to_string().contains(" at 2023-11-14T"), "as its own log has it: {error}");
}

#[tokio::test(start_paused = true)]
async fn a_directory_that_lost_its_log_does_not_vote() {
    let mut world = World::founded(14, 3).await;
    world.kill(2).await;
    let identity = evener_store::Identity::read(&world.disks[&2]).unwrap().unwrap();
    let emptied = disk();
    identity.write(&emptied).unwrap();
    world.disks.insert(2, emptied);
    let config = world.config(2);
    let error = world.start(config).await.unwrap_err().to_string();
    assert!(error.contains("holds no log"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn who_comes_back_with_an_older_copy_of_its_directory_stops_and_the_leader_does_not() {
    let mut world = World::founded(16, 3).await;
    let leader = world.leader().unwrap();
    let lapsed = 1 + leader % 3;
    world.kill(lapsed).await;
    let older = world.disks[&lapsed].image();
    world.revive(lapsed).await;
    for id in 0..30 {
        world.append(leader, id).await.unwrap();
    }
    world.settle().await;
    world.kill(lapsed).await;
    let newest = world.disks.insert(lapsed, disk_of(older)).unwrap().image();
    world.revive(lapsed).await;
    world.until("it has stopped", |world| world.nodes[&lapsed].stopped().borrow().is_some()).await;
    let why = world.nodes[&lapsed].stopped().borrow().clone().unwrap();
    assert!(why.contains("older copy") && why.contains("leave and join anew"), "{why}");
    assert_eq!(world.leader(), Some(leader));
    assert_eq!(world.append(leader, 30).await.unwrap(), Position(30));

    // Nothing is held against who brings the newest one back.
    world.kill(lapsed).await;
    world.disks.insert(lapsed, disk_of(newest));
    world.revive(lapsed).await;
    world.settle().await;
    pass(Duration::from_secs(20)).await;
    assert!(world.nodes[&lapsed].stopped().borrow().is_none());
    assert_eq!(world.append(lapsed, 31).await.unwrap(), Position(31));
}

#[tokio::test(start_paused = true)]
async fn who_is_cut_off_while_joining_is_known_again() {
    let mut world = World::founded(15, 1).await;
    let at = world.nodes[&1].peer_addr().to_owned();
    let joining = Config { join: vec![at], ..world.config(2) };
    let disk = disk();
    // Admitted, and gone before it could write down as whom.
    let life = join::incarnation(&joining, &disk).unwrap();
    let admit = evener_core::command::Admit {
        name: "n2".into(),
        incarnation: life,
        peer: "n2:7000".into(),
        http: String::new(),
        level: joining.level,
    };
    world.nodes[&1].propose(Command::Admit(admit)).await.unwrap();
    world.disks.insert(2, disk);
    world.join(2).await.unwrap();
    assert_eq!(world.nodes[&2].me(), NodeId(2));
    world.settle().await;
}
