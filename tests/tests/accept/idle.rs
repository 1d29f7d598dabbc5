//! A cluster without work writes nothing, and its processes stay idle.

use std::{path::Path, time::Duration};

use evener::engine::{Reply, Request};
use evener_tests::test_cluster::{TestCluster, balanced_over};

use super::{EVENER, RECORD};

/// Returns for how long the cluster is observed; `EVENER_IDLE=60` for a whole minute.
fn observation_time() -> Duration {
    let seconds = std::env::var("EVENER_IDLE").ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(seconds.unwrap_or(10))
}

/// Tokens that passed foreign events may be written within a second, and changes of sessions within a lease.
const SETTLE_TIME: Duration = Duration::from_secs(6);

/// The fraction of a core that an idle node may use without optimizations: heartbeats and renewals, and no busy loop.
const BUSY_MAX: f64 = 0.05;

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_cluster_writes_nothing_to_its_log() {
    let cluster = loaded().await;
    assert_idle(&cluster, "after load").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_node_and_its_restart_leave_an_idle_cluster_idle() {
    let mut cluster = loaded().await;
    let leader = cluster.leader().await;
    cluster.kill(&leader).await;
    settled(&cluster).await;
    assert_idle(&cluster, "with the leader killed").await;
    cluster.start(&leader).await;
    settled(&cluster).await;
    assert_idle(&cluster, "after its return").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_node_and_its_removal_leave_an_idle_cluster_idle() {
    let mut cluster = loaded().await;
    assert_eq!(cluster.stop("n3").await, Some(0));
    settled(&cluster).await;
    assert_idle(&cluster, "with a node ended").await;
    cluster.run_ok(&["cluster", "leave", "n3", "--yes"]).await;
    settled(&cluster).await;
    assert_idle(&cluster, "after it left").await;
}

/// Returns three nodes after work: one processor has handled everything, the other has a dead sequence.
async fn loaded() -> TestCluster {
    let cluster = TestCluster::three_nodes(EVENER, &[]).await;
    let (handled, dead) = (cluster.new_folder("well"), cluster.new_folder("ill"));
    std::fs::write(dead.join("fail-always"), "s7").unwrap();
    create(&cluster, "well", &handled, &[]).await;
    create(&cluster, "ill", &dead, &["--retry-first", "50ms", "--retry-attempts", "4"]).await;
    for nth in 0..20 {
        let (stream, data) = (format!("s{nth}"), format!("{{\"n\":{nth}}}"));
        cluster.run_ok(&["append", &stream, "--type", "t.v1", "--data", &data]).await;
    }
    cluster.wait_for("ill", "waiting for an operator", |processor| processor.set_aside.dead == 1).await;
    settled(&cluster).await;
    cluster
}

async fn create(cluster: &TestCluster, name: &str, folder: &Path, args: &[&str]) {
    let exec = format!("exec {RECORD} {}", folder.display());
    cluster.run_ok(&[&["processor", "create", name, "--exec", &exec], args].concat()).await;
}

/// Waits until nothing is left to be handled or moved.
async fn settled(cluster: &TestCluster) {
    for name in ["well", "ill"] {
        cluster.wait_passed(name).await;
        cluster.wait_for(name, "shared", |processor| balanced_over(processor, &cluster.running())).await;
    }
    tokio::time::sleep(SETTLE_TIME).await;
}

/// Checks that the Raft indexes of every node do not change, and prints the processor time used.
async fn assert_idle(cluster: &TestCluster, when: &str) {
    let (before, worked) = (log_positions(cluster).await, worked(cluster));
    tokio::time::sleep(observation_time()).await;
    let after = log_positions(cluster).await;
    assert_eq!(after, before, "{when}: (node, applied, durable, term) do not change");
    for (name, before, after) in worked.into_iter().zip(self::worked(cluster)).map(|((n, b), (_, a))| (n, b, a)) {
        let busy = (after - before).as_secs_f64() / observation_time().as_secs_f64();
        eprintln!("{when}: {name} used {:.2} % of a core for {:?}", busy * 100.0, observation_time());
        assert!(busy < BUSY_MAX, "{when}: {name} is busy without work");
    }
}

async fn log_positions(cluster: &TestCluster) -> Vec<(String, u64, u64, u64)> {
    let mut all = Vec::new();
    for name in cluster.running() {
        let client = evener::client::Client::connect(&cluster.url(&name)).unwrap();
        let Ok(Reply::Status(status)) = client.ask(&Request::Status).await else { panic!("{name} returns its status") };
        all.push((name, status.applied, status.durable, status.term));
    }
    all
}

/// Returns the processor time of the running nodes, if the system reports it.
fn worked(cluster: &TestCluster) -> Vec<(String, Duration)> {
    cluster.running().into_iter().filter_map(|name| Some((name.clone(), cluster.cpu_time(&name)?))).collect()
}
