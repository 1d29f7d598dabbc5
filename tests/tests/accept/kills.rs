//! `kill -9` of the leader during an import, and of a segment's owner during the processing.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use evener::{
    client::Line,
    engine::{Read, Reply, Request},
};
use evener_core::coordinator::Bounds;
use evener_tests::{
    receipt,
    redelivered::{self, Killed},
    test_cluster::{TIMEOUT, TestCluster, balanced_over, handled_events, pause, shares},
};

use super::{EVENER, RECORD};

/// Returns the number of rounds; `EVENER_ROUNDS` for more.
fn rounds() -> u32 {
    std::env::var("EVENER_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(1)
}

/// The handling time of an event, in microseconds, so that the processing is under way when nodes are killed.
const HANDLING_US: &str = "15000";

#[tokio::test(flavor = "multi_thread")]
async fn p1_p3_p5_p7_kills_under_load_lose_nothing_and_store_nothing_twice() {
    let Some(path) = receipt::path() else { return };
    for round in 1..=rounds() {
        eprintln!("round {round} of {}", rounds());
        kill_in_the_middle(&path).await;
    }
}

async fn kill_in_the_middle(path: &Path) {
    let mut cluster = TestCluster::three_nodes(EVENER, &["--chunk-bytes", "64KiB"]).await;
    let folder = cluster.new_folder("seen");
    std::fs::write(folder.join("delay-us"), HANDLING_US).unwrap();
    let exec = format!("exec {RECORD} {}", folder.display());
    cluster.run_ok(&["processor", "create", "receipts", "--exec", &exec]).await;
    cluster.wait_for("receipts", "shared", |processor| balanced_over(processor, &cluster.running())).await;

    let (leader, first) = import_while_the_leader_is_killed(&cluster, path).await;
    cluster.reap(&leader).await;
    cluster.start(&leader).await;
    let owner = owner_half_way(&cluster, &folder).await;
    let second = cluster.kill(&owner).await;
    cluster.start(&owner).await;

    let after = cluster.wait_passed("receipts").await;
    assert_eq!((after.set_aside.sequences, after.set_aside.dead), (0, 0), "nothing failed");
    let handled = handled_events(&folder);
    // A segment is at most this far ahead of the acknowledged progress. That holds for the leader's segments too. A
    // surviving node may have to send its progress again to the next leader, but handles no event again.
    let batch = Bounds::default().batch_events_max;
    let (redelivered, unexplained) = redelivered::check(&handled, &[first, second], batch);
    assert!(unexplained.is_empty(), "{unexplained:#?}");
    let (all, most) = (redelivered.values().sum::<usize>(), redelivered.values().max().copied().unwrap_or(0));
    eprintln!("{leader} and {owner} were killed; {all} redeliveries, of one segment at most {most} (batch {batch})");
    let handled: Vec<_> = handled.into_iter().map(|seen| (seen.position, seen.stream, seen.kind)).collect();
    receipt::check(&handled, &receipt::lines(path));
    stored_once_in_file_order(&cluster, path).await;

    cluster.wait_for("receipts", "shared again", |processor| balanced_over(processor, &cluster.running())).await;
    cluster.add_node("n4", &["--chunk-bytes", "64KiB"]).await;
    let joined = Instant::now();
    cluster.wait_for("receipts", "shared over four", |processor| balanced_over(processor, &cluster.running())).await;
    let even = joined.elapsed();
    assert!(even < Duration::from_secs(5), "even after {even:?}");
    eprintln!("balanced over four nodes {even:?} after the fourth was ready");
}

/// Kills the leader once half of the events are stored; the import must still succeed. Returns the killed node.
async fn import_while_the_leader_is_killed(cluster: &TestCluster, path: &Path) -> (String, Killed) {
    let file = path.display().to_string();
    // Small appends, so that the kill falls between them.
    let import_args = ["import", &file, "--batch", "50"];
    let mut import = std::pin::pin!(cluster.run(&import_args));
    let half_way = async {
        reach(cluster, receipt::COUNTS.0 as u64 / 2).await;
        cluster.leader().await
    };
    let leader = tokio::select! {
        leader = half_way => leader,
        output = &mut import => panic!("the import ended before half of it was stored: {output:?}"),
    };
    let killed = cluster.send_kill(&leader).await;
    let output = import.await;
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "the import succeeds: {stderr}");
    assert!(stdout.contains("8,577 events are stored"), "{stdout}");
    (leader, killed)
}

/// Waits until half of the events are handled, and returns the node with the most segments.
async fn owner_half_way(cluster: &TestCluster, folder: &Path) -> String {
    let until = Instant::now() + TIMEOUT;
    while handled_events(folder).len() < receipt::COUNTS.0 / 2 {
        assert!(Instant::now() < until, "half of the events are handled");
        pause().await;
    }
    let processor = cluster.wait_for("receipts", "owned", |processor| shares(processor).is_some()).await;
    let lag: u64 = processor.segments.iter().map(|segment| segment.lag_events).sum();
    assert!(lag > 0, "the processing is still under way");
    let shares = shares(&processor).expect("it was waited for");
    shares.into_iter().max_by_key(|(_, count)| *count).expect("every segment has an owner").0
}

async fn reach(cluster: &TestCluster, position: u64) {
    loop {
        if let Ok(Reply::Cluster(cluster)) = cluster.client().ask(&Request::ClusterStatus).await
            && cluster.head >= position
        {
            return;
        }
    }
}

async fn stored_once_in_file_order(cluster: &TestCluster, path: &Path) {
    let lines = receipt::lines(path);
    for name in cluster.running() {
        let client = evener::client::Client::connect(&cluster.url(&name)).unwrap();
        // The events of this node, up to all that were acknowledged before.
        let mut reading = client.read(Read::default());
        let mut stored = Vec::new();
        while let Some(line) = reading.next().await.unwrap() {
            let Line::Event(_, json) = line else { continue };
            let event: serde_json::Value = serde_json::from_str(&json).unwrap();
            stored.push((event["subject"].as_str().unwrap().to_owned(), event["type"].as_str().unwrap().to_owned()));
        }
        assert!(stored == lines, "{name} has {} events, {} were imported", stored.len(), lines.len());
    }
}
