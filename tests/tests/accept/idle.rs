//! A cluster without work writes nothing, and its processes rest.

use std::{path::Path, time::Duration};

use evener::engine::{Reply, Request};
use evener_tests::test_cluster::{TestCluster, balanced_over};

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
    let cluster = loaded().await;
    stands_still(&cluster, "after load").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_node_and_its_restart_leave_an_idle_cluster_idle() {
    let mut cluster = loaded().await;
    let leader = cluster.leader().await;
    cluster.kill(&leader).await;
    settled(&cluster).await;
    stands_still(&cluster, "with the leader killed").await;
    cluster.start(&leader).await;
    settled(&cluster).await;
    stands_still(&cluster, "after its return").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_node_and_its_removal_leave_an_idle_cluster_idle() {
    let mut cluster = loaded().await;
    assert_eq!(cluster.stop("n3").await, Some(0));
    settled(&cluster).await;
    stands_still(&cluster, "with a node ended").await;
    cluster.run_ok(&["cluster", "leave", "n3", "--yes"]).await;
    settled(&cluster).await;
    stands_still(&cluster, "after it left for ever").await;
}

/// Three nodes that have worked: one processor has handled everything, the other has a sequence that is dead.
async fn loaded() -> TestCluster {
    let cluster = TestCluster::three_nodes(EVENER, &[]).await;
    let (well, ill) = (cluster.new_folder("well"), cluster.new_folder("ill"));
    std::fs::write(ill.join("fail-always"), "s7").unwrap();
    create(&cluster, "well", &well, &[]).await;
    create(&cluster, "ill", &ill, &["--retry-first", "50ms", "--retry-attempts", "4"]).await;
    for nth in 0..20 {
        let (stream, data) = (format!("s{nth}"), format!("{{\"n\":{nth}}}"));
        cluster.run_ok(&["append", &stream, "--type", "t.v1", "--data", &data]).await;
    }
    cluster.wait_for("ill", "waiting for a person", |processor| processor.set_aside.dead == 1).await;
    settled(&cluster).await;
    cluster
}

async fn create(cluster: &TestCluster, name: &str, folder: &Path, args: &[&str]) {
    let exec = format!("exec {RECORD} {}", folder.display());
    cluster.run_ok(&[&["processor", "create", name, "--exec", &exec], args].concat()).await;
}

/// Nothing is left to be done or to be moved.
async fn settled(cluster: &TestCluster) {
    for name in ["well", "ill"] {
        cluster.wait_passed(name).await;
        cluster.wait_for(name, "shared", |processor| balanced_over(processor, &cluster.running())).await;
    }
    tokio::time::sleep(CALM).await;
}

/// On every node the last Raft index is what it was, written or applied; and prints what the processes used.
async fn stands_still(cluster: &TestCluster, when: &str) {
    let (before, worked) = (standing(cluster).await, worked(cluster));
    tokio::time::sleep(watch()).await;
    let after = standing(cluster).await;
    assert_eq!(after, before, "{when}: (node, applied, durable, term) stand still");
    for (name, before, after) in worked.into_iter().zip(self::worked(cluster)).map(|((n, b), (_, a))| (n, b, a)) {
        let busy = (after - before).as_secs_f64() / watch().as_secs_f64();
        eprintln!("{when}: {name} used {:.2} % of a core for {:?}", busy * 100.0, watch());
        assert!(busy < BUSY_MAX, "{when}: {name} is busy with nothing");
    }
}

async fn standing(cluster: &TestCluster) -> Vec<(String, u64, u64, u64)> {
    let mut all = Vec::new();
    for name in cluster.running() {
        let client = evener::client::Client::connect(&cluster.url(&name)).unwrap();
        let Ok(Reply::Status(status)) = client.ask(&Request::Status).await else { panic!("{name} tells its status") };
        all.push((name, status.applied, status.durable, status.term));
    }
    all
}

/// Time that the processes of nodes that live have had of a core; none where the system does not tell.
fn worked(cluster: &TestCluster) -> Vec<(String, Duration)> {
    cluster.running().into_iter().filter_map(|name| Some((name.clone(), cluster.cpu_time(&name)?))).collect()
}
