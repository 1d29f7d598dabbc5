//! Whole nodes over loopback, on disks in memory.

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

/// Nothing here takes so long; who waits longer waits for ever.
const PATIENCE: Duration = Duration::from_secs(30);

fn config(nth: u64) -> Config {
    let mut config = Config::new(format!("n{nth}"), "127.0.0.1:0");
    config.seed = nth;
    config.draw = Uuid::from_u128(u128::from(nth));
    config
}

async fn start(config: Config, disk: &MemoryDisk) -> Cluster {
    let starting =
        Cluster::start(config, Arc::new(disk.clone()), Arc::new(TcpTransport::default()), Arc::new(SystemClock));
    timeout(PATIENCE, starting).await.expect("a node starts").expect("it starts well")
}

fn founder() -> Config {
    Config { bootstrap: true, ..config(1) }
}

fn joiner(nth: u64, member: &Cluster) -> Config {
    Config { join: vec![member.peer_addr().to_owned()], ..config(nth) }
}

/// An append of one event to a stream.
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
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("never: {what}"));
}

#[tokio::test]
async fn one_node_appends_and_finds_it_again_after_a_restart() {
    let disk = MemoryDisk::new();
    let node = start(founder(), &disk).await;
    assert_eq!(node.me(), NodeId(1));
    for id in 1..=10 {
        let appended = node.append(event("s", id)).await.unwrap();
        assert_eq!((appended.first, appended.repeated), (Position(id as u64 - 1), false));
    }
    let again = node.append(event("s", 4)).await.unwrap();
    assert_eq!((again.first, again.repeated), (Position(3), true));
    let chain = node.state().chain;
    node.shutdown().await;

    let node = start(config(1), &disk).await;
    until("the session begins anew", || node.session().borrow().is_some()).await;
    assert_eq!(node.state().head(ContextId::DEFAULT), Position(10));
    assert_ne!(node.state().chain, chain, "a session has begun since");
    assert_eq!(node.append(event("s", 10)).await.unwrap().first, Position(9));
    let mut wrong = event("s", 11);
    wrong.expect = vec![Expect { stream: "s".into(), at: Expected::At(Revision(3)) }];
    assert_eq!(node.append(wrong).await.unwrap_err().class, Class::Conflict);
    assert_eq!(node.append(event("s", 11)).await.unwrap().first, Position(10));
    assert_eq!(node.status().role, Role::Leader);
    node.shutdown().await;
}
