//! Handlers that do what none should: each is named with its fault, and nobody else suffers.

use std::{path::Path, time::Duration};

use evener_tests::town::{PATIENCE, Town, pause};
use tokio::time::{Instant, sleep};

use super::{EVENER, RECORDER};

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_program_that_is_wrong_is_named_with_its_fault() {
    let mut town = Town::new(EVENER);
    town.build("n1", &["--answer-wait", "1s"]).await;
    town.tell(&["append", "a", "--type", "t.v1", "--data", "1"]).await;
    let programs = [
        ("absent", "exec /does/not/exist", "/does/not/exist"),
        ("exits", "exit 3", "exit status: 3"),
        ("rubbish", "while read -r line; do echo rubbish; done", "\"rubbish\""),
        ("silent", "exec sleep 100", "did not answer within 1s"),
    ];
    let retry = ["--retry-first", "50ms", "--retry-max", "100ms", "--retry-attempts", "2"];
    for (name, exec, _) in programs {
        town.tell(&[&["processor", "create", name, "--exec", exec][..], &retry].concat()).await;
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
async fn a_handler_that_holds_its_thread_is_named_and_harms_nobody() {
    let mut town = Town::new(EVENER);
    let folder = town.new_folder("seen");
    let env = [("RECORDER_FOLDER", folder.to_str().unwrap())];
    for name in ["n1", "n2", "n3"] {
        town.build_with(name, Path::new(RECORDER), &["--handler-threads", "1"], &env).await;
    }
    let even = |processor: &_| evener_tests::town::even_over(processor, &town.alive());
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
