//! Commands as scripts use them: in pipes, without a terminal, with output that cannot be written.

use std::{fs::OpenOptions, process::Stdio};

use evener_tests::test_cluster::{TestCluster, pause};
use tokio::{io::AsyncWriteExt, process::Command};

use super::EVENER;

/// Answers every event with an error.
const REFUSES: &str =
    r#"while read -r line; do n=${line#*\"delivery\":}; echo "{\"delivery\":${n%%,*},\"error\":\"no\"}"; done"#;

fn event(nth: usize) -> String {
    format!("{{\"id\":\"e{nth}\",\"source\":\"/t\",\"type\":\"t.v1\",\"subject\":\"s\"}}\n")
}

/// Runs a command whose output cannot be written; returns its exit status and stderr.
async fn into_a_full_disk(cluster: &TestCluster, args: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(EVENER);
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    command.args(args).env("EVENER_SERVER", cluster.urls()).stdin(Stdio::null()).stdout(full);
    let output = command.stderr(Stdio::piped()).spawn().unwrap().wait_with_output().await.unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_sends_what_is_pending_when_its_input_pauses() {
    let mut cluster = TestCluster::new(EVENER);
    cluster.add_node("n1", &[]).await;
    let mut import = Command::new(EVENER);
    import.args(["import", "-"]).env("EVENER_SERVER", cluster.urls()).kill_on_drop(true);
    let mut import = import.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = import.stdin.take().unwrap();
    for (last, head) in [(3, 3), (4, 4), (9, 9)] {
        let first = cluster.status().await.head as usize + 1;
        let lines: String = (first..=last).map(event).collect();
        input.write_all(lines.as_bytes()).await.unwrap();
        while cluster.status().await.head < head {
            pause().await;
        }
    }
    drop(input);
    let output = import.wait_with_output().await.unwrap();
    let output = String::from_utf8(output.stdout).unwrap();
    assert!(output.starts_with("9 events are stored: 9 by this run, at positions 0 to 8"), "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_completed_change_is_reported_even_if_its_answer_cannot_be_written() {
    let mut cluster = TestCluster::new(EVENER);
    cluster.add_node("n1", &[]).await;
    let (status, output) = into_a_full_disk(&cluster, &["append", "s", "--type", "t.v1"]).await;
    assert_eq!(status, Some(10), "{output}");
    assert!(output.contains("EV0609") && output.contains("stored at position 0; the answer to it is lost"), "{output}");
    let file = cluster.folder().join("events.ndjson");
    std::fs::write(&file, event(1) + &event(2)).unwrap();
    let (status, output) = into_a_full_disk(&cluster, &["import", &file.display().to_string()]).await;
    assert!(status == Some(10) && output.contains("2 events are stored: 2 by this run"), "{output}");
    let create = ["processor", "create", "p", "--exec", "cat"];
    let (status, output) = into_a_full_disk(&cluster, &create).await;
    assert!(status == Some(10) && output.contains("create p: done"), "{output}");
    for change in ["processor pause p", "processor resume p", "processor delete p --yes"] {
        let (status, output) = into_a_full_disk(&cluster, &change.split(' ').collect::<Vec<_>>()).await;
        assert!(status == Some(10) && output.contains(": done; the answer"), "{change}: {output}");
    }
    let (status, output) = into_a_full_disk(&cluster, &["read"]).await;
    assert!(status == Some(2) && output.contains("EV0604"), "nothing was done: {output}");
    let (status, output) = into_a_full_disk(&cluster, &[&create[..], &["--dry-run"]].concat()).await;
    assert!(status == Some(2) && output.contains("EV0604"), "nothing was done: {output}");
    assert_eq!(cluster.status().await.head, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destructive_command_in_a_script_needs_yes() {
    let mut cluster = TestCluster::new(EVENER);
    cluster.add_node("n1", &[]).await;
    for stream in ["a", "b", "a"] {
        cluster.run_ok(&["append", stream, "--type", "t.v1"]).await;
    }
    cluster.run_ok(&["processor", "create", "mail", "--exec", REFUSES, "--retry-attempts", "1"]).await;
    cluster.run_ok(&["wait", "caught-up", "mail"]).await;
    for (change, stake) in [
        ("dead-letter drop mail --all", "discards 3 events of 2 sequences"),
        ("dead-letter drop mail --sequence a", "discards 2 events of 1 sequence"),
        ("dead-letter skip mail --all", "discards 2 events, the first of each of 2 sequences"),
        ("processor delete mail", "discards its progress and 3 events set aside"),
    ] {
        let words: Vec<&str> = change.split(' ').collect();
        let (status, output) = cluster.run_err(&words).await;
        assert!(status == 4 && output.contains(stake), "{change}: {output}");
        assert!(output.contains("EV0610") && output.contains("--yes"), "{change}: {output}");
    }
    let trial = cluster.run_ok(&["dead-letter", "drop", "mail", "--all", "--dry-run"]).await;
    assert_eq!(trial, "it would drop 3 events, of 2 sequences of mail; nothing was changed\n");
    assert_eq!(cluster.dead_letters("mail").await.len(), 2, "nothing was discarded");
    let output = cluster.run_ok(&["dead-letter", "drop", "mail", "--all", "--yes"]).await;
    assert_eq!(output, "3 events of 2 sequences of mail are dropped: they count as skipped\n");
    cluster.run_ok(&["dead-letter", "drop", "mail", "--all"]).await;
    cluster.run_ok(&["processor", "delete", "mail", "--yes"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_variable_counts_as_unset() {
    let mut cluster = TestCluster::new(EVENER);
    cluster.add_node_with("n1", EVENER.as_ref(), &[], &[("EVENER_LOG", ""), ("EVENER_CLUSTER__LEASE", "")]).await;
    let mut config = Command::new(EVENER);
    config.arg("config").env("EVENER_LOG", "").env("EVENER_CONFIG", "");
    assert!(config.output().await.unwrap().status.success());
}
