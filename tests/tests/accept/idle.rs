//! A cluster without work writes nothing, and its processes rest.

use std::{path::Path, time::Duration};

use evener::engine::{Reply, Request};
use evener_tests::town::{Town, even_over};

use super::{EVENER, RECORD};

/// For how long a cluster is watched, in seconds: `EVENER_IDLE=60` for a whole minute.
fn watch() -> Duration {
    let seconds = std::env::var("EVENER_IDLE").ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(seconds.unwrap_or(10))
}

/// Tokens that passed foreign events may follow within a second, and a map of who lives within a lease.
const CALM: Duration = Duration::from_secs(6);

/// Of one core, by a node without optimizations: heartbeats and renewals, and nothing that turns round and round.
const BUSY_MAX: f64 = 0.05;

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_cluster_writes_nothing_to_its_log() {
    let town = loaded().await;
    stands_still(&town, "after load").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_one_with_a_node_that_was_killed_nor_after_its_return() {
    let mut town = loaded().await;
    let leader = town.leader().await;
    town.kill(&leader).await;
    settled(&town).await;
    stands_still(&town, "with the leader killed").await;
    town.start(&leader).await;
    settled(&town).await;
    stands_still(&town, "after its return").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_one_with_a_node_that_was_ended_nor_after_it_left_for_ever() {
    let mut town = loaded().await;
    assert_eq!(town.end("n3").await, Some(0));
    settled(&town).await;
    stands_still(&town, "with a node ended").await;
    town.tell(&["cluster", "leave", "n3", "--yes"]).await;
    settled(&town).await;
    stands_still(&town, "after it left for ever").await;
}

/// Three nodes that have worked: one processor has handled everything, the other has a sequence that is dead.
async fn loaded() -> Town {
    let town = Town::of_three(EVENER, &[]).await;
    let (well, ill) = (town.new_folder("well"), town.new_folder("ill"));
    std::fs::write(ill.join("fail-always"), "s7").unwrap();
    create(&town, "well", &well, &[]).await;
    create(&town, "ill", &ill, &["--retry-first", "50ms", "--retry-attempts", "4"]).await;
    for nth in 0..20 {
        let (stream, data) = (format!("s{nth}"), format!("{{\"n\":{nth}}}"));
        town.tell(&["append", &stream, "--type", "t.v1", "--data", &data]).await;
    }
    town.wait_for("ill", "waiting for a person", |processor| processor.set_aside.dead == 1).await;
    settled(&town).await;
    town
}

async fn create(town: &Town, name: &str, folder: &Path, args: &[&str]) {
    let exec = format!("exec {RECORD} {}", folder.display());
    town.tell(&[&["processor", "create", name, "--exec", &exec], args].concat()).await;
}

/// Nothing is left to be done or to be moved.
async fn settled(town: &Town) {
    for name in ["well", "ill"] {
        town.wait_passed(name).await;
        town.wait_for(name, "shared", |processor| even_over(processor, &town.alive())).await;
    }
    tokio::time::sleep(CALM).await;
}

/// On every node the last Raft index is what it was, written or applied; and prints what the processes used.
async fn stands_still(town: &Town, when: &str) {
    let (before, worked) = (standing(town).await, worked(town));
    tokio::time::sleep(watch()).await;
    let after = standing(town).await;
    assert_eq!(after, before, "{when}: (node, applied, durable, term) stand still");
    for (name, before, after) in worked.into_iter().zip(self::worked(town)).map(|((n, b), (_, a))| (n, b, a)) {
        let busy = (after - before).as_secs_f64() / watch().as_secs_f64();
        eprintln!("{when}: {name} used {:.2} % of a core for {:?}", busy * 100.0, watch());
        assert!(busy < BUSY_MAX, "{when}: {name} is busy with nothing");
    }
}

async fn standing(town: &Town) -> Vec<(String, u64, u64, u64)> {
    let mut all = Vec::new();
    for name in town.alive() {
        let client = evener::client::Client::connect(&town.url(&name)).unwrap();
        let Ok(Reply::Status(status)) = client.ask(&Request::Status).await else { panic!("{name} tells its status") };
        all.push((name, status.applied, status.durable, status.term));
    }
    all
}

/// Time that the processes of nodes that live have had of a core; none where the system does not tell.
fn worked(town: &Town) -> Vec<(String, Duration)> {
    town.alive().into_iter().filter_map(|name| Some((name.clone(), town.worked(&name)?))).collect()
}
