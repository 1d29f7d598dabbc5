//! Leadership transfers and removals of members, requested through any node, and their outcomes.

use std::time::{Duration, Instant};

use evener::engine::{Operation, OperationState};
use evener_tests::test_cluster::{TestCluster, pause, shares};

use super::{EVENER, RECORD};

/// Returns the outcome of an operation, as `node` reports it.
async fn outcome(cluster: &TestCluster, node: &str, asked: &Operation) -> Operation {
    let url = format!("{}/operations/{}", cluster.url(node), asked.operation);
    reqwest::get(url).await.unwrap().json().await.unwrap()
}

async fn change(cluster: &TestCluster, args: &[&str]) -> Operation {
    let output = cluster.run_ok(&[args, &["--reason", "a test", "-o", "json"]].concat()).await;
    serde_json::from_str(&output).unwrap_or_else(|error| panic!("{error}: {output}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_and_a_leave_complete_and_each_node_knows_their_outcome() {
    let mut cluster = TestCluster::three_nodes(EVENER, &[]).await;
    let folder = cluster.new_folder("seen");
    cluster.run_ok(&["processor", "create", "p", "--exec", &format!("exec {RECORD} {}", folder.display())]).await;
    cluster.wait_for("p", "shared by all three", |p| shares(p).is_some_and(|shares| shares.len() == 3)).await;
    let leader = cluster.leader().await;
    let next = if leader == "n2" { "n3" } else { "n2" };

    let led = change(&cluster, &["cluster", "transfer", next]).await;
    assert_eq!(cluster.leader().await, next);
    for node in ["n1", "n2", "n3"] {
        assert_eq!(outcome(&cluster, node, &led).await.state, OperationState::Done, "as {node} knows it");
    }

    // The leader is removed by a request to another node.
    let left = change(&cluster, &["cluster", "leave", next, "--yes"]).await;
    let output = left.why.clone().unwrap_or_default();
    assert!(
        output.contains("of 2 members 1 will vote") && output.contains("start another node, and 3 vote again"),
        "{output}"
    );
    assert_eq!(cluster.wait_exit(next).await, Some(0), "it hands over, leaves and ends by itself");
    let stays = if next == "n2" { ["n1", "n3"] } else { ["n1", "n2"] };
    let p = cluster.wait_for("p", "shared by the two that stay", |p| {
        shares(p).is_some_and(|shares| shares.len() == 2 && shares.values().all(|count| *count == 8))
    });
    assert!(p.await.set_aside.sequences == 0);
    for node in stays {
        assert_eq!(outcome(&cluster, node, &left).await.state, OperationState::Done, "as {node} knows it");
    }
    let members: Vec<String> = cluster.status().await.members.into_iter().map(|member| member.name).collect();
    assert_eq!(members, stays);
    let shown = cluster.run_ok(&["cluster", "status"]).await;
    assert!(shown.contains("1 of 2 members vote; the cluster stops without"), "{shown}");
    assert!(shown.contains("does not vote: it waits for a second learner, as voters stay odd"), "{shown}");
    cluster.run_ok(&["append", "a", "--type", "t.v1"]).await;

    let (status, stdout, output) = cluster.run_to_exit(next).await;
    assert!(status != 0 && stdout.is_empty(), "it is never ready: {stdout}");
    for word in [&format!("node {next} was removed from cluster"), "an empty directory", "--join", "EV0514"] {
        assert!(output.contains(word), "the error should contain {word}: {output}");
    }
}

/// Returns the sets of voters that the leaders have logged.
fn votes(cluster: &TestCluster, nodes: &[&str]) -> Vec<String> {
    let log = |node: &&str| std::fs::read_to_string(cluster.log(node)).unwrap();
    let logs: String = nodes.iter().map(log).collect();
    logs.lines()
        .filter_map(|line| line.split_once("setting the voters to "))
        .map(|(_, nodes)| nodes.to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_member_is_removed_after_its_replacement_joined_and_three_members_always_vote() {
    let mut cluster = TestCluster::three_nodes(EVENER, &[]).await;
    cluster.kill("n3").await;
    cluster.add_node("n4", &[]).await;
    let until = Instant::now() + Duration::from_secs(60);
    // As an operator would check before removing the lost one.
    while !cluster.status().await.members.iter().any(|member| member.name == "n4" && member.alive) {
        assert!(Instant::now() < until, "n4 does not become active");
        pause().await;
    }
    let left = change(&cluster, &["cluster", "leave", "n3", "--yes"]).await;
    assert_eq!(left.state, OperationState::Done);
    while !votes(&cluster, &["n1", "n2"]).iter().any(|nodes| nodes == "n1, n2, n4") {
        assert!(Instant::now() < until, "{:?}", votes(&cluster, &["n1", "n2"]));
        pause().await;
    }
    cluster.run_ok(&["wait", "voters", "3"]).await;
    let votes = votes(&cluster, &["n1", "n2"]);
    assert!(votes.iter().all(|nodes| nodes.split(", ").count() == 3), "{votes:?}");
}
