//! The log of a node is short: few lines, and no warnings without a cause.

use evener_tests::test_cluster::{TestCluster, pause};

use super::EVENER;

/// Warnings that are expected when a node is killed.
const EXPECTED: &[&str] = &["does not answer", "it waits for a second learner"];

/// The maximum number of lines for a start, the loss and return of a peer, and a shutdown.
const LINES_MAX: usize = 20;

fn count_lines(cluster: &TestCluster, node: &str, what: &str) -> usize {
    let log = std::fs::read_to_string(cluster.log(node)).unwrap();
    log.lines().filter(|line| line.contains(what)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_loss_and_the_return_of_a_peer_are_logged_once_and_shutdown_logs_little() {
    let mut cluster = TestCluster::three_nodes(EVENER, &[]).await;
    let leader = cluster.leader().await;
    let lost = if leader == "n2" { "n3" } else { "n2" };
    let others: Vec<&str> = ["n1", "n2", "n3"].into_iter().filter(|name| *name != lost).collect();
    cluster.kill(lost).await;
    let (silent, back) = (format!("{lost} does not answer"), format!("{lost} answers again"));
    for node in &others {
        while count_lines(&cluster, node, &silent) == 0 {
            pause().await;
        }
    }
    cluster.start(lost).await;
    for node in &others {
        while count_lines(&cluster, node, &back) == 0 {
            pause().await;
        }
        assert_eq!((count_lines(&cluster, node, &silent), count_lines(&cluster, node, &back)), (1, 1), "by {node}");
    }
    for node in ["n1", "n2", "n3"] {
        cluster.signal(node, "-TERM").await;
    }
    for node in ["n1", "n2", "n3"] {
        assert_eq!(cluster.wait_exit(node).await, Some(0));
        let log = std::fs::read_to_string(cluster.log(node)).unwrap();
        let lines: Vec<&str> = log.lines().filter(|line| line.starts_with("20")).collect();
        assert!(lines.len() <= LINES_MAX, "{node} logs too much:\n{log}");
        let is_warning = |line: &&&str| line.contains(" WARN ") || line.contains(" ERROR ");
        let unexpected = |line: &&&str| !EXPECTED.iter().any(|what| line.contains(what));
        assert_eq!(lines.iter().filter(is_warning).find(unexpected), None, "{node}");
    }
}
