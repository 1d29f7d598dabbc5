//! What an operator reads: a few lines, each of which says something.

use evener_tests::town::{Town, pause};

use super::EVENER;

/// Warnings there may be where nothing is wrong but that a node is killed.
const EXPECTED: &[&str] = &["does not answer", "it waits for a second learner"];

/// More than a node has to say of its start, of a peer's loss and return, and of its end.
const LINES_MAX: usize = 20;

fn said(town: &Town, node: &str, what: &str) -> usize {
    let log = std::fs::read_to_string(town.log(node)).unwrap();
    log.lines().filter(|line| line.contains(what)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_peer_is_told_once_and_its_return_once_and_all_end_without_a_word_too_many() {
    let mut town = Town::of_three(EVENER, &[]).await;
    let leader = town.leader().await;
    let lost = if leader == "n2" { "n3" } else { "n2" };
    let others: Vec<&str> = ["n1", "n2", "n3"].into_iter().filter(|name| *name != lost).collect();
    town.kill(lost).await;
    let (silent, back) = (format!("{lost} does not answer"), format!("{lost} answers again"));
    for node in &others {
        while said(&town, node, &silent) == 0 {
            pause().await;
        }
    }
    town.start(lost).await;
    for node in &others {
        while said(&town, node, &back) == 0 {
            pause().await;
        }
        assert_eq!((said(&town, node, &silent), said(&town, node, &back)), (1, 1), "by {node}");
    }
    for node in ["n1", "n2", "n3"] {
        town.signal(node, "-TERM").await;
    }
    for node in ["n1", "n2", "n3"] {
        assert_eq!(town.ended(node).await, Some(0));
        let log = std::fs::read_to_string(town.log(node)).unwrap();
        let lines: Vec<&str> = log.lines().filter(|line| line.starts_with("20")).collect();
        assert!(lines.len() <= LINES_MAX, "{node} says too much:\n{log}");
        let loud = |line: &&&str| line.contains(" WARN ") || line.contains(" ERROR ");
        let unexpected = |line: &&&str| !EXPECTED.iter().any(|what| line.contains(what));
        assert_eq!(lines.iter().filter(loud).find(unexpected), None, "{node}");
    }
}
