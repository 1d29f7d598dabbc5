//! Members that lead and leave, asked from any node, and what became of it.

use std::time::{Duration, Instant};

use evener::engine::{Operation, OperationState};
use evener_tests::town::{Town, pause, shares};

use super::{EVENER, RECORD};

/// What the cluster says, through `node`, of an operation.
async fn outcome(town: &Town, node: &str, asked: &Operation) -> Operation {
    let url = format!("{}/operations/{}", town.url(node), asked.operation);
    reqwest::get(url).await.unwrap().json().await.unwrap()
}

async fn change(town: &Town, args: &[&str]) -> Operation {
    let told = town.tell(&[args, &["--reason", "a test", "-o", "json"]].concat()).await;
    serde_json::from_str(&told).unwrap_or_else(|error| panic!("{error}: {told}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_leads_and_leaves_when_asked_and_each_node_knows_what_came_of_it() {
    let mut town = Town::of_three(EVENER, &[]).await;
    let folder = town.new_folder("seen");
    town.tell(&["processor", "create", "p", "--exec", &format!("exec {RECORD} {}", folder.display())]).await;
    town.wait_for("p", "shared by all three", |p| shares(p).is_some_and(|shares| shares.len() == 3)).await;
    let leader = town.leader().await;
    let next = if leader == "n2" { "n3" } else { "n2" };

    let led = change(&town, &["cluster", "transfer", next]).await;
    assert_eq!(town.leader().await, next);
    for node in ["n1", "n2", "n3"] {
        assert_eq!(outcome(&town, node, &led).await.state, OperationState::Done, "as {node} knows it");
    }

    // The one that leads is asked to leave, through another.
    let left = change(&town, &["cluster", "leave", next, "--yes"]).await;
    let told = left.why.clone().unwrap_or_default();
    assert!(
        told.contains("of 2 members 1 will vote") && told.contains("start another node, and 3 vote again"),
        "{told}"
    );
    assert_eq!(town.ended(next).await, Some(0), "it hands over, leaves and ends by itself");
    let stays = if next == "n2" { ["n1", "n3"] } else { ["n1", "n2"] };
    let p = town.wait_for("p", "shared by the two that stay", |p| {
        shares(p).is_some_and(|shares| shares.len() == 2 && shares.values().all(|count| *count == 8))
    });
    assert!(p.await.set_aside.sequences == 0);
    for node in stays {
        assert_eq!(outcome(&town, node, &left).await.state, OperationState::Done, "as {node} knows it");
    }
    let members: Vec<String> = town.cluster().await.members.into_iter().map(|member| member.name).collect();
    assert_eq!(members, stays);
    let shown = town.tell(&["cluster", "status"]).await;
    assert!(shown.contains("1 of 2 members vote; the cluster stops without"), "{shown}");
    assert!(shown.contains("does not vote: it waits for a second learner, as voters stay odd"), "{shown}");
    town.tell(&["append", "a", "--type", "t.v1"]).await;

    let (status, stdout, told) = town.try_again(next).await;
    assert!(status != 0 && stdout.is_empty(), "it is never ready: {stdout}");
    for word in [&format!("node {next} was removed from cluster"), "an empty directory", "--join", "EV0514"] {
        assert!(told.contains(word), "it should say {word}: {told}");
    }
}

/// Who ever votes, as the nodes that led have written it down.
fn votes(town: &Town, nodes: &[&str]) -> Vec<String> {
    let log = |node: &&str| std::fs::read_to_string(town.log(node)).unwrap();
    let logs: String = nodes.iter().map(log).collect();
    logs.lines().filter_map(|line| line.split_once("these vote: ")).map(|(_, who)| who.to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_member_leaves_after_its_replacement_has_joined_and_three_vote_all_the_time() {
    let mut town = Town::of_three(EVENER, &[]).await;
    town.kill("n3").await;
    town.build("n4", &[]).await;
    let until = Instant::now() + Duration::from_secs(60);
    // As somebody looks before letting the lost one go.
    while !town.cluster().await.members.iter().any(|member| member.name == "n4" && member.alive) {
        assert!(Instant::now() < until, "n4 does not come to be alive");
        pause().await;
    }
    let left = change(&town, &["cluster", "leave", "n3", "--yes"]).await;
    assert_eq!(left.state, OperationState::Done);
    while !votes(&town, &["n1", "n2"]).iter().any(|who| who == "n1, n2, n4") {
        assert!(Instant::now() < until, "{:?}", votes(&town, &["n1", "n2"]));
        pause().await;
    }
    town.tell(&["wait", "voters", "3"]).await;
    let votes = votes(&town, &["n1", "n2"]);
    assert!(votes.iter().all(|who| who.split(", ").count() == 3), "{votes:?}");
}
