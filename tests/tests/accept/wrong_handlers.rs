//! Handlers that do what none should: each is named with its fault, and nobody else suffers.

use std::{path::Path, time::Duration};

use evener_tests::town::{PATIENCE, Town, even_over, pause};
use tokio::time::{Instant, sleep};

use super::{EVENER, RECORDER};

const RETRY: [&str; 6] = ["--retry-first", "50ms", "--retry-max", "100ms", "--retry-attempts", "2"];

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_program_that_is_wrong_is_named_with_its_fault() {
    let mut town = Town::new(EVENER);
    town.build("n1", &["--answer-wait", "1s"]).await;
    town.tell(&["append", "a", "--type", "t.v1", "--data", "1"]).await;
    let programs = [
        ("exits", "read line; exit 3", "exit status: 3"),
        ("rubbish", "while read -r line; do echo rubbish; done", "\"rubbish\""),
        ("silent", "read line; exec sleep 100", "did not answer within 1s"),
    ];
    for (name, exec, _) in programs {
        town.tell(&[&["processor", "create", name, "--exec", exec][..], &RETRY].concat()).await;
    }
    for (name, _, fault) in programs {
        town.wait_for(name, "set aside", |processor| processor.set_aside.dead == 1).await;
        let letters = town.dead_letters(name).await;
        assert!(letters[0].cause.contains(fault), "{name}: {}", letters[0].cause);
        let told = town.tell(&["dead-letter", "list", name, "-o", "json"]).await;
        assert!(told.contains("cause"), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p6_a_handler_program_that_does_not_run_makes_no_letter_of_an_event() {
    let mut town = Town::new(EVENER);
    let absent = town.new_folder("programs").join("absent.sh");
    for name in ["n1", "n2"] {
        town.build(name, &["--answer-wait", "1s"]).await;
    }
    for stream in ["a", "b", "c"] {
        town.tell(&["append", stream, "--type", "t.v1", "--data", "1"]).await;
    }
    let exec = format!("exec {}", absent.display());
    let programs = [
        ("absent", &*exec, "absent.sh"),
        ("ends", "echo no such module >&2; exit 3", "exit status: 3"),
        ("hangs", "exec sleep 100", "did not answer within 1s"),
    ];
    for (name, exec, _) in programs {
        town.tell(&[&["processor", "create", name, "--exec", exec][..], &RETRY].concat()).await;
    }
    for (name, _, fault) in programs {
        // Longer than the attempts that a failing event would have had.
        let told = town.wait_for(name, "stalled", |processor| {
            processor.segments.iter().any(|segment| segment.attempt.is_some_and(|attempt| attempt > 4))
        });
        let told = told.await;
        assert_eq!((told.state.as_str(), told.set_aside.sequences), ("stalled", 0), "{name}");
        let reason = told.segments.iter().find_map(|segment| segment.reason.clone()).expect("it says why");
        assert!(reason.contains(fault) && reason.contains("had not read the event"), "{name}: {reason}");
        assert!(reason.contains("of node n"), "{name}: {reason}");
    }
    // Put where it should have been, it is found, and nobody has to tell.
    let answers =
        "#!/bin/sh\nn=0; while read -r line; do n=$((n+1)); echo \"{\\\"delivery\\\":$n,\\\"ok\\\":true}\"; done\n";
    std::fs::write(absent.with_extension("new"), answers).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(absent.with_extension("new"), mode).unwrap();
    std::fs::rename(absent.with_extension("new"), &absent).unwrap();
    let told = town.wait_passed("absent").await;
    assert_eq!((told.set_aside.sequences, told.skipped), (0, 0));
}

/// Answers with this error, or ok.
fn program(at: &Path, error: Option<&str>) {
    let verdict = error.map_or_else(|| "\\\"ok\\\":true".into(), |error| format!("\\\"error\\\":\\\"{error}\\\""));
    let answers = format!("n=0; while read -r line; do n=$((n+1)); echo \"{{\\\"delivery\\\":$n,{verdict}}}\"; done");
    let new = at.with_extension("new");
    std::fs::write(&new, answers).unwrap();
    std::fs::rename(new, at).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_was_mended_is_taken_up_after_a_pause() {
    let mut town = Town::new(EVENER);
    town.build("n1", &[]).await;
    let path = town.new_folder("programs").join("mail.sh");
    program(&path, Some("old"));
    for stream in ["a", "b", "c"] {
        town.tell(&["append", stream, "--type", "t.v1", "--data", "1"]).await;
    }
    let exec = format!("sh {}", path.display());
    town.tell(&[&["processor", "create", "mail", "--exec", &*exec][..], &RETRY].concat()).await;
    town.wait_for("mail", "set aside", |processor| processor.set_aside.dead == 3).await;
    program(&path, None);
    town.tell(&["processor", "pause", "mail"]).await;
    town.tell(&["processor", "resume", "mail"]).await;
    town.tell(&["dead-letter", "retry", "mail", "--all"]).await;
    town.wait_for("mail", "mended", |processor| processor.set_aside.sequences == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_holds_its_thread_is_named_and_harms_nobody() {
    let mut town = Town::new(EVENER);
    let folder = town.new_folder("seen");
    let env = [("RECORDER_FOLDER", folder.to_str().unwrap())];
    for name in ["n1", "n2", "n3"] {
        town.build_with(name, Path::new(RECORDER), &["--handler-threads", "1"], &env).await;
    }
    let even = |processor: &_| even_over(processor, &town.alive());
    let before = town.wait_for("receipts", "shared", even).await;
    let (leader, term) = (town.leader().await, term(&town).await);
    let claims = |processor: &evener::engine::Processor| {
        processor.segments.iter().map(|segment| (segment.id, segment.owner.clone(), segment.epoch)).collect::<Vec<_>>()
    };

    town.tell(&["append", "slow", "--type", "block.v1"]).await;
    let until = Instant::now() + PATIENCE;
    let held = loop {
        let mut named = Vec::new();
        for name in town.alive() {
            named.push(status(&town, &name).await);
        }
        if let Some(status) = named.into_iter().find(|status| status.contains("holds its thread")) {
            break status;
        }
        assert!(Instant::now() < until, "no node names the handler that holds its thread");
        pause().await;
    };
    assert!(held.contains("receipts/") && held.contains("block.v1"), "{held}");
    // Longer than a lease: it would have been taken over by now. The thread is held all the while.
    sleep(Duration::from_secs(6)).await;
    assert_eq!(claims(&town.processor("receipts").await), claims(&before), "no take-over");
    assert_eq!((town.leader().await, self::term(&town).await), (leader, term), "no election");
    town.wait_passed("receipts").await;
    let seen = evener_tests::town::seen(&folder);
    assert_eq!(seen.len(), 1, "handled once: {seen:?}");
}

/// The handler ends within the five seconds that are usual, and not within the wait that was set.
#[tokio::test(flavor = "multi_thread")]
async fn a_move_is_put_off_after_the_wait_that_was_set() {
    let mut town = Town::new(EVENER);
    town.build("n1", &["--hand-over-wait", "200ms"]).await;
    let path = town.folder().join("slow.sh");
    let answer = r#"printf '%s\n' "$line" | sed 's/.*"delivery":\([0-9]*\).*/{"delivery":\1,"ok":true}/'"#;
    std::fs::write(&path, format!("while read -r line; do sleep 4; {answer}; done\n")).unwrap();
    town.tell(&["processor", "create", "p", "--segments", "2", "--exec", &format!("sh {}", path.display())]).await;
    for stream in ["a", "b", "c", "d"] {
        town.tell(&["append", stream, "--type", "t.v1"]).await;
    }
    until_status(&town, "n1", "handling").await;
    town.build("n2", &[]).await;
    until_status(&town, "n1", "put off").await;
    town.wait_for("p", "shared once the handlers have ended", |p| even_over(p, &town.alive())).await;
}

/// Waits until a node says this of itself.
async fn until_status(town: &Town, name: &str, what: &str) {
    let waiting = async {
        while !status(town, name).await.contains(what) {
            pause().await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("{name} never says: {what}"));
}

async fn term(town: &Town) -> u64 {
    let leader = town.leader().await;
    let status: serde_json::Value = serde_json::from_str(&status(town, &leader).await).unwrap();
    status["term"].as_u64().expect("a node tells its term")
}

/// What a node says of itself.
async fn status(town: &Town, name: &str) -> String {
    let answer = reqwest::get(format!("{}/status", town.url(name))).await.expect("it answers");
    answer.text().await.expect("it answers with text")
}
