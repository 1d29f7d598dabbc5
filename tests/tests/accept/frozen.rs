//! SIGSTOP for longer than a lease, as during a VM migration or heavy swapping: a node that resumes changes nothing for
//! the others.

use std::time::{Duration, Instant};

use evener::engine::Processor;
use evener_tests::test_cluster::{TestCluster, balanced_over};

use super::{EVENER, RECORD};

/// Elections are much shorter than a lease, so that the other nodes keep their sessions.
const TIMES: [&str; 6] = ["--heartbeat", "100ms", "--election", "300ms", "--lease", "4s"];

const LEASE: Duration = Duration::from_secs(4);

/// Longer than a lease.
const FREEZE: Duration = Duration::from_secs(7);

#[tokio::test(flavor = "multi_thread")]
async fn p4_p7_a_thawed_leader_takes_no_segments_from_the_other_nodes() {
    let mut cluster = TestCluster::three_nodes(EVENER, &TIMES).await;
    cluster.run_ok(&["wait", "voters", "3"]).await;
    let folder = cluster.new_folder("seen");
    cluster.run_ok(&["processor", "create", "p", "--exec", &format!("exec {RECORD} {}", folder.display())]).await;
    let all = cluster.running();
    cluster.wait_for("p", "distributed over all nodes", |p| balanced_over(p, &all)).await;

    let leader = cluster.leader().await;
    let awake: Vec<String> = all.iter().filter(|name| **name != leader).cloned().collect();
    cluster.freeze(&leader).await;
    cluster.wait_for("p", "distributed over the other nodes", |p| balanced_over(p, &awake)).await;
    tokio::time::sleep(FREEZE).await;
    let before = cluster.processor("p").await;
    cluster.thaw(&leader).await;
    let after = cluster.wait_for("p", "distributed over all nodes again", |p| balanced_over(p, &all)).await;

    let kept: Vec<_> = awake.iter().map(|name| kept(&before, &after, name)).collect();
    assert!(
        kept.iter().all(|kept| *kept >= 5),
        "each keeps its 8 segments, except for those that the third node gets: {kept:?}"
    );
    let mut took = (0.0, 0.0);
    for name in &awake {
        let metrics = reqwest::get(format!("{}/metrics", cluster.url(name))).await.unwrap().text().await.unwrap();
        let (sum, count) =
            (value(&metrics, "evener_takeover_seconds_sum"), value(&metrics, "evener_takeover_seconds_count"));
        took = (took.0 + sum, took.1 + count);
    }
    assert!(took.1 >= 5.0, "its segments were taken over: {took:?}");
    assert!(
        took.0 / took.1 >= LEASE.as_secs_f64(),
        "its socket never closed, so the takeover waited for a lease: {took:?}"
    );
}

fn value(metrics: &str, name: &str) -> f64 {
    let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    value.unwrap_or_else(|| panic!("{name} is not in {metrics}"))
}

/// Returns the number of segments that a node owned throughout, under one epoch.
fn kept(before: &Processor, after: &Processor, name: &str) -> usize {
    let segments = before.segments.iter().zip(&after.segments);
    let same = |(then, now): &(&evener::engine::Segment, &evener::engine::Segment)| {
        (&then.owner, then.epoch) == (&now.owner, now.epoch)
    };
    segments.filter(same).filter(|(then, _)| then.owner.as_deref() == Some(name)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_majority_is_frozen_logs_it_once_and_answers_soon() {
    let mut cluster = TestCluster::three_nodes(EVENER, &TIMES).await;
    cluster.run_ok(&["wait", "voters", "3"]).await;
    let leader = cluster.leader().await;
    let others: Vec<String> = cluster.running().into_iter().filter(|name| *name != leader).collect();
    for name in &others {
        cluster.freeze(name).await;
    }
    // Longer than a session lasts: without a majority no session can expire.
    tokio::time::sleep(FREEZE * 2).await;

    let url = cluster.url(&leader);
    let asked = Instant::now();
    for command in [&["append", "--type", "t.v1"][..], &["read"], &["cluster", "leave", &others[0], "--yes"]] {
        let (code, output) = cluster.run_err(&[command, &["--server", &url]].concat()).await;
        assert!(code == 6 && output.contains("no majority for"), "{command:?} exits with {code}: {output}");
        assert!(output.contains("1 of 3 voters answers") && output.contains("cluster status"), "{output}");
    }
    assert!(asked.elapsed() < Duration::from_secs(20), "three answers took {:?}", asked.elapsed());
    let log = std::fs::read_to_string(cluster.log(&leader)).unwrap();
    assert_eq!((log.matches("no majority").count(), log.matches("no renewal from").count()), (1, 0), "{log}");

    for name in &others {
        cluster.thaw(name).await;
    }
    cluster.run_ok(&["append", "--type", "t.v1"]).await;
    assert_eq!(cluster.status().await.members.len(), 3, "a refused change had no effect");
}

/// The time that a command may take if its first server is frozen: much less than its timeout with a single server.
const SOON: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_first_server_delays_each_command_only_briefly() {
    let mut cluster = TestCluster::three_nodes(EVENER, &TIMES).await;
    cluster.run_ok(&["wait", "voters", "3"]).await;
    cluster.run_ok(&["processor", "create", "p", "--exec", "cat"]).await;
    let servers = ["n1", "n2", "n3"].map(|name| cluster.url(name)).join(",");
    let line = cluster.folder().join("line");
    std::fs::write(&line, r#"{"specversion":"1.0","id":"1","source":"/t","type":"t.v1"}"#).unwrap();
    cluster.freeze("n1").await;
    for command in [
        "append s --type t.v1",
        "import",
        "read",
        "tail --from 0 --limit 1",
        "processor list",
        "processor pause p",
        "dead-letter list p",
        "cluster status",
        "status",
        "wait voters 3",
        "wait balanced",
    ] {
        let mut words: Vec<&str> = command.split(' ').collect();
        if command == "import" {
            words.push(line.to_str().unwrap());
        }
        words.extend(["--server", &servers]);
        let begun = Instant::now();
        cluster.run_ok(&words).await;
        assert!(begun.elapsed() < SOON, "{command} took {:?}", begun.elapsed());
    }
    cluster.thaw("n1").await;
    cluster.run_ok(&["wait", "ready", "--server", &servers]).await;
    assert_eq!(cluster.run_ok(&["read"]).await.lines().count(), 2, "each append was stored once");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_majority_no_condition_is_reported_as_met() {
    let mut cluster = TestCluster::three_nodes(EVENER, &TIMES).await;
    cluster.run_ok(&["wait", "voters", "3"]).await;
    cluster.run_ok(&["processor", "create", "p", "--exec", "cat"]).await;
    cluster.run_ok(&["wait", "balanced"]).await;
    for name in ["n2", "n3"] {
        cluster.freeze(name).await;
    }
    for what in ["voters 3", "balanced", "caught-up p"] {
        let words: Vec<&str> = ["wait"].into_iter().chain(what.split(' ')).chain(["--timeout", "8s"]).collect();
        let (status, output) = cluster.run_err(&words).await;
        assert_eq!(status, 8, "{what}: {output}");
        assert!(output.contains("knows no leader") || output.contains("no majority"), "{what}: {output}");
    }
    for command in ["processor list", "processor show p", "dead-letter list p"] {
        let shown = cluster.run(&command.split(' ').collect::<Vec<_>>()).await;
        let output = String::from_utf8_lossy(&shown.stderr).into_owned();
        assert!(shown.status.success() && output.contains("knows no leader"), "{command}: {output}");
    }
    assert_eq!(cluster.processor("p").await.state, "leaderless");
    for name in ["n2", "n3"] {
        cluster.thaw(name).await;
    }
    cluster.run_ok(&["wait", "balanced"]).await;
    cluster.wait_for("p", "caught up again", |p| p.state == "caught-up").await;
}
