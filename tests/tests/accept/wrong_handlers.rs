//! Faulty handlers: each is reported with its fault, and nothing else is affected.

use std::{path::Path, time::Duration};

use evener_tests::test_cluster::{TIMEOUT, TestCluster, balanced_over, pause};
use tokio::time::{Instant, sleep};

use super::{EVENER, RECORDER};

const RETRY: [&str; 6] = ["--retry-first", "50ms", "--retry-max", "100ms", "--retry-attempts", "2"];

#[tokio::test(flavor = "multi_thread")]
async fn a_faulty_handler_program_is_reported_with_its_fault() {
    let mut cluster = TestCluster::new(EVENER);
    cluster.add_node("n1", &["--answer-wait", "1s"]).await;
    cluster.run_ok(&["append", "a", "--type", "t.v1", "--data", "1"]).await;
    let programs = [
        ("exits", "read line; exit 3", "exit status: 3"),
        ("rubbish", "while read -r line; do echo rubbish; done", "\"rubbish\""),
        ("silent", "read line; exec sleep 100", "did not answer within 1s"),
    ];
    for (name, exec, _) in programs {
        cluster.run_ok(&[&["processor", "create", name, "--exec", exec][..], &RETRY].concat()).await;
    }
    for (name, _, fault) in programs {
        cluster.wait_for(name, "set aside", |processor| processor.set_aside.dead == 1).await;
        let letters = cluster.dead_letters(name).await;
        assert!(letters[0].cause.contains(fault), "{name}: {}", letters[0].cause);
        let output = cluster.run_ok(&["dead-letter", "list", name, "-o", "json"]).await;
        assert!(output.contains("cause"), "{output}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p6_a_handler_program_that_does_not_run_sets_no_event_aside() {
    let mut cluster = TestCluster::new(EVENER);
    let absent = cluster.new_folder("programs").join("absent.sh");
    for name in ["n1", "n2"] {
        cluster.add_node(name, &["--answer-wait", "1s"]).await;
    }
    for stream in ["a", "b", "c"] {
        cluster.run_ok(&["append", stream, "--type", "t.v1", "--data", "1"]).await;
    }
    let exec = format!("exec {}", absent.display());
    let programs = [
        ("absent", &*exec, "absent.sh"),
        ("ends", "echo no such module >&2; exit 3", "exit status: 3"),
        ("hangs", "exec sleep 100", "did not answer within 1s"),
    ];
    for (name, exec, _) in programs {
        cluster.run_ok(&[&["processor", "create", name, "--exec", exec][..], &RETRY].concat()).await;
    }
    for (name, _, fault) in programs {
        // Longer than the attempts that a failing event would have had.
        let output = cluster.wait_for(name, "stalled", |processor| {
            processor.segments.iter().any(|segment| segment.attempt.is_some_and(|attempt| attempt > 4))
        });
        let output = output.await;
        assert_eq!((output.state.as_str(), output.set_aside.sequences), ("stalled", 0), "{name}");
        let reason = output.segments.iter().find_map(|segment| segment.reason.clone()).expect("a segment has a reason");
        assert!(reason.contains(fault) && reason.contains("had not read the event"), "{name}: {reason}");
        assert!(reason.contains("of node n"), "{name}: {reason}");
    }
    // Once the program is in place, it is found without a command.
    let answers =
        "#!/bin/sh\nn=0; while read -r line; do n=$((n+1)); echo \"{\\\"delivery\\\":$n,\\\"ok\\\":true}\"; done\n";
    std::fs::write(absent.with_extension("new"), answers).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(absent.with_extension("new"), mode).unwrap();
    std::fs::rename(absent.with_extension("new"), &absent).unwrap();
    let output = cluster.wait_passed("absent").await;
    assert_eq!((output.set_aside.sequences, output.skipped), (0, 0));
}

/// Writes a program that answers with this error, or ok.
fn program(at: &Path, error: Option<&str>) {
    let verdict = error.map_or_else(|| "\\\"ok\\\":true".into(), |error| format!("\\\"error\\\":\\\"{error}\\\""));
    let answers = format!("n=0; while read -r line; do n=$((n+1)); echo \"{{\\\"delivery\\\":$n,{verdict}}}\"; done");
    let new = at.with_extension("new");
    std::fs::write(&new, answers).unwrap();
    std::fs::rename(new, at).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fixed_program_is_used_after_pause_and_resume() {
    let mut cluster = TestCluster::new(EVENER);
    cluster.add_node("n1", &[]).await;
    let path = cluster.new_folder("programs").join("mail.sh");
    program(&path, Some("old"));
    for stream in ["a", "b", "c"] {
        cluster.run_ok(&["append", stream, "--type", "t.v1", "--data", "1"]).await;
    }
    let exec = format!("sh {}", path.display());
    cluster.run_ok(&[&["processor", "create", "mail", "--exec", &*exec][..], &RETRY].concat()).await;
    cluster.wait_for("mail", "set aside", |processor| processor.set_aside.dead == 3).await;
    program(&path, None);
    cluster.run_ok(&["processor", "pause", "mail"]).await;
    cluster.run_ok(&["processor", "resume", "mail"]).await;
    cluster.run_ok(&["dead-letter", "retry", "mail", "--all"]).await;
    cluster.wait_for("mail", "fixed", |processor| processor.set_aside.sequences == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_blocks_its_thread_is_reported_and_affects_no_other() {
    let mut cluster = TestCluster::new(EVENER);
    let folder = cluster.new_folder("seen");
    let env = [("RECORDER_FOLDER", folder.to_str().unwrap())];
    for name in ["n1", "n2", "n3"] {
        cluster.add_node_with(name, Path::new(RECORDER), &["--handler-threads", "1"], &env).await;
    }
    let even = |processor: &_| balanced_over(processor, &cluster.running());
    let before = cluster.wait_for("receipts", "shared", even).await;
    let (leader, term) = (cluster.leader().await, term(&cluster).await);
    let claims = |processor: &evener::engine::Processor| {
        processor.segments.iter().map(|segment| (segment.id, segment.owner.clone(), segment.epoch)).collect::<Vec<_>>()
    };

    cluster.run_ok(&["append", "slow", "--type", "block.v1"]).await;
    let until = Instant::now() + TIMEOUT;
    let held = loop {
        let mut named = Vec::new();
        for name in cluster.running() {
            named.push(status(&cluster, &name).await);
        }
        if let Some(status) = named.into_iter().find(|status| status.contains("has blocked its thread")) {
            break status;
        }
        assert!(Instant::now() < until, "no node reports the handler that blocks its thread");
        pause().await;
    };
    assert!(held.contains("receipts/") && held.contains("block.v1"), "{held}");
    // Longer than a lease: by now a takeover would have happened. The thread is blocked throughout.
    sleep(Duration::from_secs(6)).await;
    assert_eq!(claims(&cluster.processor("receipts").await), claims(&before), "no take-over");
    assert_eq!((cluster.leader().await, self::term(&cluster).await), (leader, term), "no election");
    cluster.wait_passed("receipts").await;
    let seen = evener_tests::test_cluster::handled_events(&folder);
    assert_eq!(seen.len(), 1, "handled once: {seen:?}");
}

/// The handler ends within the default wait of five seconds, but not within the configured wait.
#[tokio::test(flavor = "multi_thread")]
async fn a_move_is_postponed_after_the_configured_wait() {
    let mut cluster = TestCluster::new(EVENER);
    cluster.add_node("n1", &["--hand-over-wait", "200ms"]).await;
    let path = cluster.folder().join("slow.sh");
    let answer = r#"printf '%s\n' "$line" | sed 's/.*"delivery":\([0-9]*\).*/{"delivery":\1,"ok":true}/'"#;
    std::fs::write(&path, format!("while read -r line; do sleep 4; {answer}; done\n")).unwrap();
    cluster.run_ok(&["processor", "create", "p", "--segments", "2", "--exec", &format!("sh {}", path.display())]).await;
    for stream in ["a", "b", "c", "d"] {
        cluster.run_ok(&["append", stream, "--type", "t.v1"]).await;
    }
    until_status(&cluster, "n1", "handling").await;
    cluster.add_node("n2", &[]).await;
    until_status(&cluster, "n1", "put off").await;
    cluster.wait_for("p", "shared once the handlers have ended", |p| balanced_over(p, &cluster.running())).await;
}

/// Waits until the status of a node contains this text.
async fn until_status(cluster: &TestCluster, name: &str, what: &str) {
    let waiting = async {
        while !status(cluster, name).await.contains(what) {
            pause().await;
        }
    };
    tokio::time::timeout(TIMEOUT, waiting)
        .await
        .unwrap_or_else(|_| panic!("the status of {name} never contains: {what}"));
}

async fn term(cluster: &TestCluster) -> u64 {
    let leader = cluster.leader().await;
    let status: serde_json::Value = serde_json::from_str(&status(cluster, &leader).await).unwrap();
    status["term"].as_u64().expect("the status has the term")
}

/// Returns the status of a node.
async fn status(cluster: &TestCluster, name: &str) -> String {
    let answer = reqwest::get(format!("{}/status", cluster.url(name))).await.expect("it answers");
    answer.text().await.expect("it answers with text")
}
