//! Commands as scripts use them: in pipes, without a terminal, with output that cannot be written.

use std::{fs::OpenOptions, process::Stdio};

use evener_tests::town::{Town, pause};
use tokio::{io::AsyncWriteExt, process::Command};

use super::EVENER;

/// Answers every event with an error.
const REFUSES: &str =
    r#"while read -r line; do n=${line#*\"delivery\":}; echo "{\"delivery\":${n%%,*},\"error\":\"no\"}"; done"#;

fn event(nth: usize) -> String {
    format!("{{\"id\":\"e{nth}\",\"source\":\"/t\",\"type\":\"t.v1\",\"subject\":\"s\"}}\n")
}

/// A command of this cluster whose output cannot be written: its exit status, and what it says.
async fn into_a_full_disk(town: &Town, args: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(EVENER);
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    command.args(args).env("EVENER_SERVER", town.urls()).stdin(Stdio::null()).stdout(full);
    let output = command.stderr(Stdio::piped()).spawn().unwrap().wait_with_output().await.unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_sends_what_is_pending_when_its_input_pauses() {
    let mut town = Town::new(EVENER);
    town.build("n1", &[]).await;
    let mut import = Command::new(EVENER);
    import.args(["import", "-"]).env("EVENER_SERVER", town.urls()).kill_on_drop(true);
    let mut import = import.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = import.stdin.take().unwrap();
    for (last, head) in [(3, 3), (4, 4), (9, 9)] {
        let first = town.cluster().await.head as usize + 1;
        let lines: String = (first..=last).map(event).collect();
        input.write_all(lines.as_bytes()).await.unwrap();
        while town.cluster().await.head < head {
            pause().await;
        }
    }
    drop(input);
    let output = import.wait_with_output().await.unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(told.starts_with("9 events are stored: 9 by this run, at positions 0 to 8"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_done_is_told_also_if_the_answer_cannot_be_written() {
    let mut town = Town::new(EVENER);
    town.build("n1", &[]).await;
    let (status, told) = into_a_full_disk(&town, &["append", "s", "--type", "t.v1"]).await;
    assert_eq!(status, Some(10), "{told}");
    assert!(told.contains("EV0609") && told.contains("stored at position 0; the answer to it is lost"), "{told}");
    let file = town.folder().join("events.ndjson");
    std::fs::write(&file, event(1) + &event(2)).unwrap();
    let (status, told) = into_a_full_disk(&town, &["import", &file.display().to_string()]).await;
    assert!(status == Some(10) && told.contains("2 events are stored: 2 by this run"), "{told}");
    let create = ["processor", "create", "p", "--exec", "cat"];
    let (status, told) = into_a_full_disk(&town, &create).await;
    assert!(status == Some(10) && told.contains("create p: done"), "{told}");
    for change in ["processor pause p", "processor resume p", "processor delete p --yes"] {
        let (status, told) = into_a_full_disk(&town, &change.split(' ').collect::<Vec<_>>()).await;
        assert!(status == Some(10) && told.contains(": done; the answer"), "{change}: {told}");
    }
    let (status, told) = into_a_full_disk(&town, &["read"]).await;
    assert!(status == Some(2) && told.contains("EV0604"), "nothing was done: {told}");
    let (status, told) = into_a_full_disk(&town, &[&create[..], &["--dry-run"]].concat()).await;
    assert!(status == Some(2) && told.contains("EV0604"), "nothing was done: {told}");
    assert_eq!(town.cluster().await.head, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_that_gives_something_up_says_yes() {
    let mut town = Town::new(EVENER);
    town.build("n1", &[]).await;
    for stream in ["a", "b", "a"] {
        town.tell(&["append", stream, "--type", "t.v1"]).await;
    }
    town.tell(&["processor", "create", "mail", "--exec", REFUSES, "--retry-attempts", "1"]).await;
    town.tell(&["wait", "caught-up", "mail"]).await;
    for (change, stake) in [
        ("dead-letter drop mail --all", "gives up 3 events of 2 sequences"),
        ("dead-letter drop mail --sequence a", "gives up 2 events of 1 sequence"),
        ("dead-letter skip mail --all", "gives up 2 events, the first of each of 2 sequences"),
        ("processor delete mail", "gives up its progress and 3 events set aside"),
    ] {
        let words: Vec<&str> = change.split(' ').collect();
        let (status, told) = town.fails(&words).await;
        assert!(status == 4 && told.contains(stake), "{change}: {told}");
        assert!(told.contains("EV0610") && told.contains("--yes"), "{change}: {told}");
    }
    let trial = town.tell(&["dead-letter", "drop", "mail", "--all", "--dry-run"]).await;
    assert_eq!(trial, "it would drop 3 events, of 2 sequences of mail; nothing was changed\n");
    assert_eq!(town.dead_letters("mail").await.len(), 2, "nothing was given up");
    let told = town.tell(&["dead-letter", "drop", "mail", "--all", "--yes"]).await;
    assert_eq!(told, "3 events of 2 sequences of mail are given up: they count as skipped\n");
    town.tell(&["dead-letter", "drop", "mail", "--all"]).await;
    town.tell(&["processor", "delete", "mail", "--yes"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_variable_is_one_that_is_not_set() {
    let mut town = Town::new(EVENER);
    town.build_with("n1", EVENER.as_ref(), &[], &[("EVENER_LOG", ""), ("EVENER_CLUSTER__LEASE", "")]).await;
    let mut config = Command::new(EVENER);
    config.arg("config").env("EVENER_LOG", "").env("EVENER_CONFIG", "");
    assert!(config.output().await.unwrap().status.success());
}
