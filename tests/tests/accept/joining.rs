//! What an operator may believe of a node that says it is ready.

use evener_tests::town::Town;

use super::EVENER;

#[tokio::test(flavor = "multi_thread")]
async fn three_that_are_ready_go_on_without_the_founder() {
    let mut town = Town::new(EVENER);
    town.build("n1", &[]).await;
    town.build("n2", &[]).await;
    town.build("n3", &[]).await;
    town.kill("n1").await;
    town.tell(&["append", "a", "--type", "t.v1"]).await;
    let cluster = town.cluster().await;
    assert_eq!((cluster.voters, cluster.may_lose), (3, 1), "{cluster:?}");
    town.tell(&["wait", "voters", "3"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_node_serves_and_says_that_it_has_no_vote() {
    let mut town = Town::new(EVENER);
    town.build("n1", &[]).await;
    town.build("n2", &[]).await;
    let url = town.url("n2");
    town.tell(&["append", "a", "--type", "t.v1", "--server", &url]).await;
    town.tell(&["wait", "ready", "--server", &url]).await;

    let waits = "learner: it waits for a second learner, as voters stay odd";
    let ready = reqwest::get(format!("{url}/readyz")).await.unwrap().text().await.unwrap();
    assert_eq!(ready, format!("ready; {waits}; only n1 votes, and the cluster stops when it does\n"));
    let shown = town.tell(&["cluster", "status", "--server", &url]).await;
    let why = waits.replace("learner:", "n2 does not vote:");
    assert!(shown.contains("1 of 2 members vote; the cluster stops without") && shown.contains(&why), "{shown}");
    let (status, told) = town.fails(&["wait", "voters", "3", "--timeout", "300ms", "--server", &url]).await;
    assert!(status == 8 && told.contains("1 vote and 3 should; n2: it waits for a second"), "{told}");
    let log = std::fs::read_to_string(town.log("n2")).unwrap();
    assert!(log.contains("only n1 votes"), "{log}");
}
