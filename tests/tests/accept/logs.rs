//! What a node logs, and that a reader of its log who is stuck holds nothing up.

use std::{
    fs::File,
    io::{ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    process::Command,
    time::{Duration, Instant},
};

use evener_tests::town::{Town, even_over, pause};

use super::{EVENER, RECORD};

/// Elections are quick, so that what an append waits for after a kill is not the election.
const TIMES: [&str; 4] = ["--heartbeat", "100ms", "--election", "300ms"];

/// What an append may take after a leader was killed, on a machine that is busy with other tests.
const SOON: Duration = Duration::from_secs(10);

const O_NONBLOCK: i32 = 0o4000;

/// Starts a node again with a pipe as its stderr that is full and that nobody reads: as behind `less`, or a collector
/// of logs that is stuck. The reader's end is returned.
async fn stick(town: &mut Town, name: &str) -> File {
    town.end(name).await;
    let log = town.log(name);
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
    town.start(name).await;
    pipe
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_reader_of_stderr_freezes_neither_the_node_nor_the_cluster() {
    let mut town = Town::of_three(EVENER, &TIMES).await;
    town.tell(&["wait", "voters", "3"]).await;
    let leader = town.leader().await;
    let stuck = town.alive().into_iter().find(|name| *name != leader).unwrap();
    let _pipe = stick(&mut town, &stuck).await;
    town.tell(&["wait", "voters", "3"]).await;

    // A handler that fills its own stderr many times over, and another one that must not notice.
    let noisy = "n=0; while read -r line; do n=$((n+1)); head -c 300000 /dev/zero | tr '\\0' 'x' | fold -w 99 >&2; \
                 echo \"{\\\"delivery\\\":$n,\\\"ok\\\":true}\"; done";
    let folder = town.new_folder("seen");
    town.tell(&["processor", "create", "noisy", "--exec", noisy]).await;
    town.tell(&["processor", "create", "quiet", "--exec", &format!("exec {RECORD} {}", folder.display())]).await;
    for processor in ["noisy", "quiet"] {
        town.wait_for(processor, "shared", |processor| even_over(processor, &town.alive())).await;
    }
    for stream in 0..30 {
        town.tell(&["append", &format!("case-{stream}"), "--type", "t.v1", "--data", "{\"kind\":\"x\"}"]).await;
    }
    for processor in ["quiet", "noisy"] {
        town.wait_passed(processor).await;
    }
    let metrics =
        || async { reqwest::get(format!("{}/metrics", town.url(&stuck))).await.unwrap().text().await.unwrap() };
    let dropped = |metrics: &str| {
        let value = metrics.lines().find_map(|line| line.strip_prefix("evener_log_lines_dropped_total ")).unwrap();
        value.parse::<u64>().unwrap()
    };
    while dropped(&metrics().await) == 0 {
        pause().await;
    }

    let health = format!("{}/healthz?verbose", town.url(&stuck));
    let says = "ok   log: no log line has been taken for";
    while !reqwest::get(&health).await.unwrap().text().await.unwrap().contains(says) {
        pause().await;
    }

    let leader = town.leader().await;
    if leader != stuck {
        town.kill(&leader).await;
    }
    let begun = Instant::now();
    town.tell(&["append", "after", "--type", "t.v1"]).await;
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    assert_eq!(town.end(&stuck).await, Some(0), "SIGTERM ends it");
}

/// How often a line with all these words was logged.
fn logged(town: &Town, name: &str, words: &[&str]) -> usize {
    let log = std::fs::read_to_string(town.log(name)).unwrap();
    log.lines().filter(|line| words.iter().all(|word| line.contains(word))).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_state_are_logged_once_with_cause_and_reason() {
    let mut town = Town::of_three(EVENER, &TIMES).await;
    town.tell(&["wait", "voters", "3"]).await;
    let all = |town: &Town, words: &[&str]| -> usize {
        ["n1", "n2", "n3"].iter().map(|name| logged(town, name, words)).sum()
    };
    let data = town.folder().join("n1").display().to_string();
    assert_eq!(logged(&town, "n1", &["starting", "version", "node=\"n1\"", "data=", "http=", "peer="]), 1, "{data}");
    assert_eq!(logged(&town, "n1", &["recovered the log", "cluster=", "fresh=true", "frames=0", "took_ms="]), 1);

    let answer = |rest: &str| format!("echo \"{{\\\"delivery\\\":$n,{}}}\"", rest.replace('"', "\\\""));
    let fails = format!(
        "n=0; while read -r line; do n=$((n+1)); case \"$line\" in *poison*) {};; *) {};; esac; done",
        answer(r#""error":"no such address","verdict":"set-aside""#),
        answer(r#""ok":true"#)
    );
    town.tell(&["processor", "create", "mail", "--exec", &fails, "--reason", "for the spring"]).await;
    assert_eq!(all(&town, &["an operator's change is made", "create", "mail", "for the spring"]), 1);
    for position in 0..20 {
        town.tell(&["append", "poison", "--type", "t.v1", "--data", &position.to_string()]).await;
    }
    town.wait_for("mail", "dead", |mail| mail.set_aside.dead == 1 && mail.set_aside.letters == 20).await;
    assert_eq!(all(&town, &["sequences are dead", "mail", "no such address", "sequence=\"poison\""]), 1);

    for (noun, verb, reason) in
        [("dead-letter", "retry", "moved"), ("processor", "pause", "night"), ("processor", "resume", "day")]
    {
        let which: &[&str] = if verb == "retry" { &["--all"] } else { &[] };
        town.tell(&[&[noun, verb, "mail", "--reason", reason], which].concat()).await;
        assert_eq!(all(&town, &["an operator's change is made", verb, "mail", reason]), 1, "{verb}");
    }

    town.end("n1").await;
    town.start("n1").await;
    assert_eq!(logged(&town, "n1", &["recovered the log", "fresh=false", "checkpoint=", "events=20"]), 1);
}
