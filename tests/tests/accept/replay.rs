//! Resets of a running processor: the replay is complete, in order and marked exactly, even if an owner is killed.

use std::{collections::BTreeMap, fmt::Write, path::Path};

use evener_core::id::Position;
use evener_tests::test_cluster::{Handled, TestCluster, balanced_over, handled_events};

use super::{EVENER, RECORD};

const EVENTS: u64 = 2_000;
const STREAMS: u64 = 25;

async fn import(cluster: &TestCluster, folder: &Path, from: u64, count: u64) {
    let mut text = String::new();
    for number in from..from + count {
        let stream = number % STREAMS;
        writeln!(text, r#"{{"id":"e{number}","source":"/t","type":"t","subject":"s{stream}","data":{number}}}"#)
            .unwrap();
    }
    let path = folder.join("events.ndjson");
    std::fs::write(&path, text).unwrap();
    cluster.run_ok(&["import", &path.display().to_string()]).await;
}

/// Returns three nodes and a processor that has handled all events.
async fn handled(delay_us: &str) -> (TestCluster, std::path::PathBuf) {
    let cluster = TestCluster::three_nodes(EVENER, &[]).await;
    let folder = cluster.new_folder("seen");
    import(&cluster, &folder, 0, EVENTS).await;
    let exec = format!("exec {RECORD} {}", folder.display());
    cluster.run_ok(&["processor", "create", "totals", "--exec", &exec]).await;
    cluster.wait_for("totals", "shared", |processor| balanced_over(processor, &cluster.running())).await;
    cluster.wait_passed("totals").await;
    std::fs::write(folder.join("delay-us"), delay_us).unwrap();
    (cluster, folder)
}

fn assert_complete_in_order(all: &[Handled], last_epoch: u64, positions: std::ops::Range<u64>) {
    let mut first = BTreeMap::new();
    for (nth, seen) in all.iter().enumerate().filter(|(_, seen)| seen.ok && seen.epoch > last_epoch) {
        first.entry(seen.position).or_insert((nth, &seen.stream));
    }
    assert!(first.keys().copied().eq(positions.clone()), "{} of {positions:?}", first.len());
    let mut streams = BTreeMap::<_, Vec<usize>>::new();
    first.values().for_each(|(nth, stream)| streams.entry(*stream).or_default().push(*nth));
    assert!(streams.values().all(|order| order.is_sorted()), "each stream is replayed in order");
}

#[tokio::test(flavor = "multi_thread")]
async fn p5_a_replay_is_complete_in_order_and_marked_exactly_even_if_an_owner_is_killed() {
    let (mut cluster, folder) = handled("3000").await;
    let before = cluster.processor("totals").await;
    let last_epoch = before.segments.iter().map(|segment| segment.epoch).max().unwrap();
    let trial = cluster.run_ok(&["processor", "reset", "totals", "--to", "beginning", "--dry-run"]).await;
    assert!(trial.contains("it would handle 2000 events again"), "{trial}");
    // A reset restarts the handler programs, which then read the delay.
    let args = ["processor", "reset", "totals", "--to", "beginning", "--context", r#"{"why":"schema"}"#, "--yes"];
    let done = cluster.run_ok(&args).await;
    assert!(done.contains("reset totals: done") && done.contains("progress: evener processor show totals"), "{done}");

    let running = cluster
        .wait_for("totals", "replaying", |processor| {
            processor.replay.as_ref().is_some_and(|replay| replay.phase == "running" && replay.position > 0)
        })
        .await;
    let replay = running.replay.unwrap();
    assert_eq!((replay.from, replay.until), (0, EVENTS));
    assert_eq!(replay.context, Some(serde_json::json!({"why": "schema"})));
    assert!(running.segments.iter().any(|segment| segment.state == "replaying"), "{:?}", running.segments);
    let shown = cluster.run_ok(&["processor", "show", "totals"]).await;
    assert!(shown.contains("replay of 0 to 2,000") && shown.contains("context {\"why\":\"schema\"}"), "{shown}");

    let killed = cluster.running().pop().unwrap();
    cluster.kill(&killed).await;
    import(&cluster, &folder, EVENTS, 500).await;
    std::fs::write(folder.join("delay-us"), "0").unwrap();
    let ended = cluster.wait_passed("totals").await;
    assert_eq!(ended.replay.map(|replay| replay.phase), Some("ended".into()));
    let all = handled_events(&folder);
    for seen in &all {
        let replayed = seen.epoch > last_epoch && seen.position < EVENTS;
        assert_eq!(seen.replaying, replayed, "{seen:?}");
        assert_eq!(seen.context == r#"{"why":"schema"}"#, replayed, "{seen:?}");
    }
    assert_complete_in_order(&all, last_epoch, 0..EVENTS + 500);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_can_be_ended_and_a_reset_can_skip_or_begin_at_a_time() {
    let (cluster, folder) = handled("20000").await;
    cluster.run_ok(&["processor", "reset", "totals", "--to", "beginning", "--yes"]).await;
    cluster.wait_for("totals", "replaying", |processor| processor.state == "replaying").await;
    cluster.run_ok(&["processor", "reset", "totals", "--to", "replay-end", "--yes"]).await;
    let ended = cluster.processor("totals").await;
    assert!(ended.segments.iter().all(|segment| segment.token >= EVENTS), "{:?}", ended.segments);
    assert_eq!(ended.replay.map(|replay| replay.phase), Some("ended".into()));
    assert!(handled_events(&folder).len() < 2 * EVENTS as usize);

    std::fs::write(folder.join("delay-us"), "0").unwrap();
    import(&cluster, &folder, EVENTS, 100).await;
    cluster.wait_passed("totals").await;
    // All others were recorded before the replay began.
    let from = EVENTS.to_string();
    let first = cluster.run_ok(&["read", "--from", &from, "--limit", "1", "-o", "ndjson"]).await;
    let first: serde_json::Value = serde_json::from_str(&first).unwrap();
    let time = first["recorded"].as_str().expect("an event has the time of its record").to_owned();
    let trial = cluster.run_ok(&["processor", "reset", "totals", "--to", &time, "--dry-run"]).await;
    assert!(trial.contains("it would handle 100 events again"), "{trial}");
    cluster.run_ok(&["processor", "reset", "totals", "--to", &time, "--yes"]).await;
    let replayed = cluster.wait_passed("totals").await.replay.unwrap();
    assert_eq!((replayed.from, replayed.until), (EVENTS, EVENTS + 100));

    cluster.run_ok(&["processor", "pause", "totals"]).await;
    import(&cluster, &folder, EVENTS + 100, 100).await;
    let trial = cluster.run_ok(&["processor", "reset", "totals", "--to", "head", "--dry-run"]).await;
    assert!(trial.contains("it would skip 100 events"), "{trial}");
    cluster.run_ok(&["processor", "reset", "totals", "--to", "head", "--yes"]).await;
    cluster.run_ok(&["processor", "resume", "totals"]).await;
    cluster.wait_passed("totals").await;
    let last = handled_events(&folder).into_iter().map(|seen| Position(seen.position)).max();
    assert_eq!(last, Some(Position(EVENTS + 99)), "skipped events are not handled");
}

#[tokio::test(flavor = "multi_thread")]
async fn p10_a_refused_reset_gives_its_reason_and_changes_nothing() {
    let cluster = TestCluster::three_nodes(EVENER, &[]).await;
    let folder = cluster.new_folder("seen");
    import(&cluster, &folder, 0, 10).await;
    let exec = format!("exec {RECORD} {}", folder.display());
    cluster.run_ok(&["processor", "create", "totals", "--exec", &exec]).await;
    cluster.wait_passed("totals").await;
    let long = format!("\"{}\"", "x".repeat(5_000));
    let cases: &[(&[&str], i32, &str)] = &[
        (&["totals", "--to", "11"], 2, "it cannot be reset to 11: the head is 10"),
        (&["totals", "--to", "2999-01-01T00:00:00Z"], 2, "a time in the future"),
        (&["totals", "--to", "2026-02-30T00:00:00Z"], 2, "must be beginning, head, replay-end, a position, or a time"),
        (&["totals", "--to", "begining"], 2, "did you mean --to beginning?"),
        (&["totals", "--to", "replay-end"], 2, "there is no replay to end"),
        (&["totals", "--to", "beginning", "--context", "{"], 2, "--context is not JSON"),
        (&["totals", "--to", "beginning", "--context", &long], 2, "reset_context_bytes_max allows 4096"),
        (&["nothing", "--to", "beginning"], 2, "there is no processor nothing"),
    ];
    for (args, code, part) in cases {
        let (exited, stderr) = cluster.run_err(&[&["processor", "reset"], *args, &["--yes"]].concat()).await;
        assert!(stderr.contains(part), "{args:?}: {stderr}");
        assert_eq!(exited, *code, "{args:?}: {stderr}");
    }
    let after = cluster.processor("totals").await;
    assert!(after.replay.is_none() && after.segments.iter().all(|segment| segment.token == 10), "{after:?}");
    let (_, stderr) = cluster.run_err(&["processor", "reset", "totals", "--to", "beginning"]).await;
    assert!(stderr.contains("it would handle 10 events again, and there is no terminal to ask at"), "{stderr}");
}
