//! What commands tell whoever typed them.

use std::process::Stdio;

use evener_tests::town::Town;
use tokio::{io::AsyncWriteExt, process::Command};

use super::EVENER;

/// Answers every event, those of stream `bad` with an error.
const HANDLER: &str = r#"while read -r line; do
    n=${line#*\"delivery\":}; n=${n%%,*}
    case $line in
        *'"subject":"bad"'*) echo "{\"delivery\":$n,\"error\":\"no such address\"}" ;;
        *) echo "{\"delivery\":$n,\"ok\":true}" ;;
    esac
done"#;

async fn town() -> Town {
    let mut town = Town::new(EVENER);
    town.build("n1", &[]).await;
    for stream in ["good", "bad", "good"] {
        town.tell(&["append", stream, "--type", "t.v1", "--data", "1"]).await;
    }
    town
}

/// Exit status, standard output and standard error.
async fn told(town: &Town, args: &[&str]) -> (Option<i32>, String, String) {
    let output = town.run(args).await;
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_is_told_what_was_not_handled_and_what_stands_still() {
    let town = town().await;
    let retries = ["--retry-attempts", "1"];
    town.tell(&[&["processor", "create", "mail", "--exec", HANDLER][..], &retries].concat()).await;
    let (status, _, note) = told(&town, &["wait", "caught-up", "mail"]).await;
    assert_eq!(status, Some(0));
    assert!(note.contains("1 sequence set aside (see: evener dead-letter list mail)"), "{note}");
    let (status, _, note) = told(&town, &["wait", "caught-up", "mail", "--strict"]).await;
    assert_eq!(status, Some(9), "{note}");
    town.tell(&["processor", "pause", "mail"]).await;
    town.tell(&["append", "good", "--type", "t.v1"]).await;
    let (status, _, note) = told(&town, &["wait", "caught-up", "mail", "--timeout", "300ms"]).await;
    assert_eq!(status, Some(8));
    let at_once = "waiting: mail is paused (go on: evener processor resume mail)";
    assert!(note.starts_with(at_once) && note.contains("in vain: mail is paused"), "{note}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_can_be_imported() {
    let town = town().await;
    let head = town.client().head(Default::default(), evener::engine::Consistency::Linearizable).await.unwrap();
    assert_eq!(head.0, 3);
    let read = town.tell(&["read"]).await;
    assert_eq!(read.lines().count(), 3, "events and nothing else: {read}");
    let read = town.tell(&["read", "--trailer"]).await;
    assert!(read.ends_with("{\"next\":3,\"marker\":3}\n"), "{read}");
    let mut command = Command::new(EVENER);
    command.args(["import", "-"]).env("EVENER_SERVER", town.urls()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut import = command.spawn().unwrap();
    import.stdin.take().unwrap().write_all(read.as_bytes()).await.unwrap();
    let output = import.wait_with_output().await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains("3 events are stored: 0 by this run"), "{text}");
    let (status, out, note) = told(&town, &["read", "--from", "999"]).await;
    assert_eq!((status, out.as_str()), (Some(0), ""));
    assert!(note.contains("the head is 3"), "{note}");
    let tail = town.tell(&["tail", "--from", "1", "--to", "3"]).await;
    assert_eq!(tail.lines().count(), 2, "it ends: {tail}");
}
