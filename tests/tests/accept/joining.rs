//! What `ready` guarantees about a node that has joined.

use evener_tests::test_cluster::TestCluster;

use super::EVENER;

#[tokio::test(flavor = "multi_thread")]
async fn three_ready_nodes_continue_without_the_first() {
    let mut cluster = TestCluster::new(EVENER);
    cluster.add_node("n1", &[]).await;
    cluster.add_node("n2", &[]).await;
    cluster.add_node("n3", &[]).await;
    cluster.kill("n1").await;
    cluster.run_ok(&["append", "a", "--type", "t.v1"]).await;
    let status = cluster.status().await;
    assert_eq!((status.voters, status.may_lose), (3, 1), "{status:?}");
    cluster.run_ok(&["wait", "voters", "3"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_node_serves_and_reports_that_it_does_not_vote() {
    let mut cluster = TestCluster::new(EVENER);
    cluster.add_node("n1", &[]).await;
    cluster.add_node("n2", &[]).await;
    let url = cluster.url("n2");
    cluster.run_ok(&["append", "a", "--type", "t.v1", "--server", &url]).await;
    cluster.run_ok(&["wait", "ready", "--server", &url]).await;

    let waits = "learner: it waits for a second learner, as voters stay odd";
    let ready = reqwest::get(format!("{url}/readyz")).await.unwrap().text().await.unwrap();
    assert_eq!(ready, format!("ready; {waits}; only n1 votes, and the cluster stops when it does\n"));
    let shown = cluster.run_ok(&["cluster", "status", "--server", &url]).await;
    let why = waits.replace("learner:", "n2 does not vote:");
    assert!(shown.contains("1 of 2 members vote; the cluster stops without") && shown.contains(&why), "{shown}");
    let (status, output) = cluster.run_err(&["wait", "voters", "3", "--timeout", "300ms", "--server", &url]).await;
    assert!(status == 8 && output.contains("1 of 3 voters; n2: it waits for a second"), "{output}");
    let log = std::fs::read_to_string(cluster.log("n2")).unwrap();
    assert!(log.contains("only n1 votes"), "{log}");
}
