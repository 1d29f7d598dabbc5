//! Whole nodes over loopback, with disks in memory.

use std::{sync::Arc, time::Duration};

use evener_cluster::{
    Class, Cluster, Config, Role,
    transport::{SystemClock, TcpTransport},
};
use evener_core::{
    append::{Expect, Expected, Request},
    event::Event,
    id::{ContextId, NodeId, Position, Revision},
};
use evener_store::disk::MemoryDisk;
use tokio::time::timeout;
use uuid::Uuid;

/// Nothing here takes this long; a longer wait would never end.
const TEST_TIMEOUT: Duration = Duration::from_secs(30);

fn config(nth: u64) -> Config {
    let mut config = Config::new(format!("n{nth}"), "127.0.0.1:0");
    config.seed = nth;
    config.random_id = Uuid::from_u128(u128::from(nth));
    config
}

/// Enables logs: `RUST_LOG=evener_cluster=debug` shows the logs of the nodes.
fn logged() {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
}

async fn start(config: Config, disk: &MemoryDisk) -> Cluster {
    logged();
    let starting = Cluster::start(config, Arc::new(disk.clone()), Arc::new(TcpTransport), Arc::new(SystemClock));
    timeout(TEST_TIMEOUT, starting).await.expect("a node starts").expect("it starts without an error")
}

fn founder() -> Config {
    Config { bootstrap: true, ..config(1) }
}

fn joiner(nth: u64, member: &Cluster) -> Config {
    Config { join: vec![member.peer_addr().to_owned()], ..config(nth) }
}

/// Returns an append of one event to a stream.
fn event(stream: &str, id: u128) -> Request {
    let event = Event {
        id: Uuid::from_u128(id),
        source: "test".into(),
        kind: "happened".into(),
        stream: Some(stream.into()),
        data: vec![7; 100],
        ..Event::default()
    };
    Request { request: Uuid::from_u128(id), events: vec![event], ..Request::default() }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        let mut look = tokio::time::interval(Duration::from_millis(5));
        while !holds() {
            look.tick().await;
        }
    };
    timeout(TEST_TIMEOUT, waiting).await.unwrap_or_else(|_| panic!("never: {what}"));
}

#[tokio::test]
async fn one_node_appends_and_reads_its_events_after_a_restart() {
    let disk = MemoryDisk::new();
    let node = start(founder(), &disk).await;
    assert_eq!(node.me(), NodeId(1));
    for id in 1..=10 {
        let appended = node.append(&event("s", id)).await.unwrap();
        assert_eq!((appended.first, appended.repeated), (Position(id as u64 - 1), false));
    }
    let again = node.append(&event("s", 4)).await.unwrap();
    assert_eq!((again.first, again.repeated), (Position(3), true));
    let chain = node.state().chain;
    node.shutdown().await;

    let node = start(config(1), &disk).await;
    until("a new session starts", || node.session().borrow().is_some()).await;
    assert_eq!(node.state().head(ContextId::DEFAULT), Position(10));
    assert_ne!(node.state().chain, chain, "a session has started since");
    assert_eq!(node.append(&event("s", 10)).await.unwrap().first, Position(9));
    let mut wrong = event("s", 11);
    wrong.expect = vec![Expect { stream: "s".into(), at: Expected::At(Revision(3)) }];
    assert_eq!(node.append(&wrong).await.unwrap_err().class, Class::Conflict);
    assert_eq!(node.append(&event("s", 11)).await.unwrap().first, Position(10));
    assert_eq!(node.status().role, Role::Leader);
    node.shutdown().await;
}

/// Starts three voters, each with a session.
async fn three() -> (Vec<Cluster>, Vec<MemoryDisk>) {
    let disks: Vec<_> = (0..3).map(|_| MemoryDisk::new()).collect();
    let first = start(founder(), &disks[0]).await;
    let second = start(joiner(2, &first), &disks[1]).await;
    let third = start(joiner(3, &second), &disks[2]).await;
    let nodes = vec![first, second, third];
    vote(&nodes, 3).await;
    (nodes, disks)
}

async fn vote(nodes: &[Cluster], voters: usize) {
    until("all vote and have a session", || {
        nodes.iter().all(|node| {
            let status = node.status();
            status.voters.len() == voters && status.leadership.leader.is_some() && status.session.is_some()
        })
    })
    .await;
}

fn leader(nodes: &[Cluster]) -> Option<usize> {
    nodes.iter().position(|node| node.status().role == Role::Leader)
}

async fn same(nodes: &[Cluster]) {
    until("all nodes have applied the same", || {
        let ends: Vec<_> = nodes.iter().map(|node| (node.status().last, node.status().applied)).collect();
        ends.windows(2).all(|pair| pair[0] == pair[1])
    })
    .await;
    for pair in nodes.windows(2) {
        assert_eq!(*pair[0].state(), *pair[1].state());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_append_lose_their_leader_and_continue() {
    let (mut nodes, disks) = three().await;
    for (id, node) in (1..).zip(&nodes) {
        assert_eq!(node.append(&event("s", id)).await.unwrap().first, Position(id as u64 - 1));
    }
    for node in &nodes {
        node.barrier().await.unwrap();
        assert_eq!(node.state().head(ContextId::DEFAULT), Position(3));
    }
    same(&nodes).await;

    let lost = leader(&nodes).unwrap();
    nodes.remove(lost).kill().await;
    for id in 4..=6 {
        let node = &nodes[id as usize % 2];
        assert_eq!(node.append(&event("s", id)).await.unwrap().first, Position(id as u64 - 1));
    }
    until("the lost node's session has ended", || nodes[0].state().sessions.len() == 2).await;

    nodes.push(start(config(lost as u64 + 1), &disks[lost]).await);
    vote(&nodes, 3).await;
    let last = nodes.last().unwrap();
    assert_eq!(last.append(&event("s", 2)).await.unwrap().first, Position(1));
    assert_eq!(last.append(&event("s", 7)).await.unwrap().first, Position(6));
    for node in &nodes {
        node.barrier().await.unwrap();
    }
    same(&nodes).await;
    for node in nodes {
        node.shutdown().await;
    }
}
