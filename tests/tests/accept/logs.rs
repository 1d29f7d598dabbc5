//! What a node logs, and that a stuck reader of its log blocks nothing.

use std::{
    fs::File,
    io::{ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    process::Command,
    time::{Duration, Instant},
};

use evener_tests::test_cluster::{TestCluster, balanced_over, pause};

use super::{EVENER, RECORD};

/// Short elections, so that an append after a kill does not wait for the election.
const TIMES: [&str; 4] = ["--heartbeat", "100ms", "--election", "300ms"];

/// The time that an append may take after the leader was killed, on a machine that is busy with other tests.
const SOON: Duration = Duration::from_secs(10);

const O_NONBLOCK: i32 = 0o4000;

/// Restarts a node whose stderr is a full pipe that is not read, as behind `less` or a stuck log collector. Returns the
/// reader's end.
async fn restart_with_stuck_stderr(cluster: &mut TestCluster, name: &str) -> File {
    cluster.stop(name).await;
    let log = cluster.log(name);
    std::fs::remove_file(&log).unwrap();
    assert!(Command::new("mkfifo").arg(&log).status().unwrap().success());
    let mut pipe = File::options().read(true).write(true).custom_flags(O_NONBLOCK).open(&log).unwrap();
    loop {
        match pipe.write(b"\n") {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("the pipe cannot be filled: {error}"),
        }
    }
    cluster.start(name).await;
    pipe
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_reader_of_stderr_blocks_neither_the_node_nor_the_cluster() {
    let mut cluster = TestCluster::three_nodes(EVENER, &TIMES).await;
    cluster.run_ok(&["wait", "voters", "3"]).await;
    let leader = cluster.leader().await;
    let stuck = cluster.running().into_iter().find(|name| *name != leader).unwrap();
    let _pipe = restart_with_stuck_stderr(&mut cluster, &stuck).await;
    cluster.run_ok(&["wait", "voters", "3"]).await;

    // A handler that fills its own stderr many times over, and another that must not be affected.
    let noisy = "n=0; while read -r line; do n=$((n+1)); head -c 300000 /dev/zero | tr '\\0' 'x' | fold -w 99 >&2; \
                 echo \"{\\\"delivery\\\":$n,\\\"ok\\\":true}\"; done";
    let folder = cluster.new_folder("seen");
    cluster.run_ok(&["processor", "create", "noisy", "--exec", noisy]).await;
    cluster.run_ok(&["processor", "create", "quiet", "--exec", &format!("exec {RECORD} {}", folder.display())]).await;
    for processor in ["noisy", "quiet"] {
        cluster.wait_for(processor, "shared", |processor| balanced_over(processor, &cluster.running())).await;
    }
    for stream in 0..30 {
        cluster.run_ok(&["append", &format!("case-{stream}"), "--type", "t.v1", "--data", "{\"kind\":\"x\"}"]).await;
    }
    for processor in ["quiet", "noisy"] {
        cluster.wait_passed(processor).await;
    }
    let metrics =
        || async { reqwest::get(format!("{}/metrics", cluster.url(&stuck))).await.unwrap().text().await.unwrap() };
    let dropped = |metrics: &str| {
        let value = metrics.lines().find_map(|line| line.strip_prefix("evener_log_lines_dropped_total ")).unwrap();
        value.parse::<u64>().unwrap()
    };
    while dropped(&metrics().await) == 0 {
        pause().await;
    }

    let health = format!("{}/healthz?verbose", cluster.url(&stuck));
    let expected = "ok   log: no log line has been taken for";
    while !reqwest::get(&health).await.unwrap().text().await.unwrap().contains(expected) {
        pause().await;
    }

    let leader = cluster.leader().await;
    if leader != stuck {
        cluster.kill(&leader).await;
    }
    let begun = Instant::now();
    cluster.run_ok(&["append", "after", "--type", "t.v1"]).await;
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    assert_eq!(cluster.stop(&stuck).await, Some(0), "SIGTERM stops it");
}

/// Returns the number of log lines that contain all these words.
fn logged(cluster: &TestCluster, name: &str, words: &[&str]) -> usize {
    let log = std::fs::read_to_string(cluster.log(name)).unwrap();
    log.lines().filter(|line| words.iter().all(|word| line.contains(word))).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn state_changes_are_logged_once_with_cause_and_reason() {
    let mut cluster = TestCluster::three_nodes(EVENER, &TIMES).await;
    cluster.run_ok(&["wait", "voters", "3"]).await;
    let all = |cluster: &TestCluster, words: &[&str]| -> usize {
        ["n1", "n2", "n3"].iter().map(|name| logged(cluster, name, words)).sum()
    };
    let data = cluster.folder().join("n1").display().to_string();
    assert_eq!(logged(&cluster, "n1", &["starting", "version", "node=\"n1\"", "data=", "http=", "peer="]), 1, "{data}");
    assert_eq!(logged(&cluster, "n1", &["recovered the log", "cluster=", "fresh=true", "frames=0", "took_ms="]), 1);

    let answer = |rest: &str| format!("echo \"{{\\\"delivery\\\":$n,{}}}\"", rest.replace('"', "\\\""));
    let fails = format!(
        "n=0; while read -r line; do n=$((n+1)); case \"$line\" in *poison*) {};; *) {};; esac; done",
        answer(r#""error":"no such address","verdict":"set-aside""#),
        answer(r#""ok":true"#)
    );
    cluster.run_ok(&["processor", "create", "mail", "--exec", &fails, "--reason", "for the spring"]).await;
    assert_eq!(all(&cluster, &["an operator's change is made", "create", "mail", "for the spring"]), 1);
    for position in 0..20 {
        cluster.run_ok(&["append", "poison", "--type", "t.v1", "--data", &position.to_string()]).await;
    }
    cluster.wait_for("mail", "dead", |mail| mail.set_aside.dead == 1 && mail.set_aside.letters == 20).await;
    assert_eq!(all(&cluster, &["sequences are dead", "mail", "no such address", "sequence=\"poison\""]), 1);

    for (noun, verb, reason) in
        [("dead-letter", "retry", "moved"), ("processor", "pause", "night"), ("processor", "resume", "day")]
    {
        let which: &[&str] = if verb == "retry" { &["--all"] } else { &[] };
        cluster.run_ok(&[&[noun, verb, "mail", "--reason", reason], which].concat()).await;
        assert_eq!(all(&cluster, &["an operator's change is made", verb, "mail", reason]), 1, "{verb}");
    }

    cluster.stop("n1").await;
    cluster.start("n1").await;
    assert_eq!(logged(&cluster, "n1", &["recovered the log", "fresh=false", "checkpoint=", "events=20"]), 1);
}
