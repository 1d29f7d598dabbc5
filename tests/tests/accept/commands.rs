//! The output of commands.

use std::process::Stdio;

use evener_tests::test_cluster::TestCluster;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::Command,
};

use super::EVENER;

/// A handler program that answers events of stream `bad` with an error, and all others with ok.
const HANDLER: &str = r#"while read -r line; do
    n=${line#*\"delivery\":}; n=${n%%,*}
    case $line in
        *'"subject":"bad"'*) echo "{\"delivery\":$n,\"error\":\"no such address\"}" ;;
        *) echo "{\"delivery\":$n,\"ok\":true}" ;;
    esac
done"#;

async fn cluster() -> TestCluster {
    let mut cluster = TestCluster::new(EVENER);
    cluster.add_node("n1", &[]).await;
    for stream in ["good", "bad", "good"] {
        cluster.run_ok(&["append", stream, "--type", "t.v1", "--data", "1"]).await;
    }
    cluster
}

/// Runs a command; returns its exit status, stdout and stderr.
async fn outcome(cluster: &TestCluster, args: &[&str]) -> (Option<i32>, String, String) {
    let output = cluster.run(args).await;
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn wait_reports_unhandled_events_and_stalled_processors() {
    let cluster = cluster().await;
    let retries = ["--retry-attempts", "1"];
    let created = cluster.run_ok(&[&["processor", "create", "mail", "--exec", HANDLER][..], &retries].concat()).await;
    assert_eq!(created, "create mail: done\nprogress: evener processor show mail\n");
    let (status, _, note) = outcome(&cluster, &["wait", "caught-up", "mail"]).await;
    assert_eq!(status, Some(0));
    assert!(note.contains("1 sequence, 1 event set aside (see: evener dead-letter list mail)"), "{note}");
    let (status, _, note) = outcome(&cluster, &["wait", "caught-up", "mail", "--strict"]).await;
    assert_eq!(status, Some(9), "{note}");
    cluster.run_ok(&["processor", "pause", "mail"]).await;
    cluster.run_ok(&["append", "good", "--type", "t.v1"]).await;
    let (status, _, note) = outcome(&cluster, &["wait", "caught-up", "mail", "--timeout", "300ms"]).await;
    assert_eq!(status, Some(8));
    let at_once = "waiting: mail is paused (resume with: evener processor resume mail)";
    assert!(note.starts_with(at_once) && note.contains("s: mail is paused"), "{note}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_start_reports_the_ports_assigned_by_the_system() {
    let cluster = TestCluster::new(EVENER);
    let (data, log) = (cluster.folder().join("solo"), cluster.log("solo"));
    let mut serve = Command::new(EVENER);
    serve.args(["serve", "--name", "solo", "--bootstrap", "--data"]).arg(data);
    serve.args(["--listen", "127.0.0.1:0", "--peer-listen", "127.0.0.1:0"]);
    serve.stdout(Stdio::piped()).stderr(std::fs::File::create(&log).unwrap()).kill_on_drop(true);
    let mut solo = serve.spawn().unwrap();
    let line = BufReader::new(solo.stdout.take().unwrap()).lines().next_line().await.unwrap().unwrap();
    let ready: serde_json::Value = serde_json::from_str(&line).unwrap();
    let welcome = std::fs::read_to_string(log).unwrap();
    for word in ["http", "peer"].map(|word| ready[word].as_str().unwrap()) {
        assert!(welcome.contains(word) && !word.ends_with(":0"), "{word} in {welcome}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_output_of_read_can_be_imported() {
    let cluster = cluster().await;
    let head = cluster.client().head(Default::default(), evener::engine::Consistency::Linearizable).await.unwrap();
    assert_eq!(head.0, 3);
    let read = cluster.run_ok(&["read"]).await;
    assert_eq!(read.lines().count(), 3, "only events: {read}");
    let read = cluster.run_ok(&["read", "--trailer"]).await;
    assert!(read.ends_with("{\"next\":3,\"marker\":3}\n"), "{read}");
    let mut command = Command::new(EVENER);
    command.args(["import", "-"]).env("EVENER_SERVER", cluster.urls()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut import = command.spawn().unwrap();
    import.stdin.take().unwrap().write_all(read.as_bytes()).await.unwrap();
    let output = import.wait_with_output().await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains("3 events are stored: 0 by this run"), "{text}");
    let (status, out, note) = outcome(&cluster, &["read", "--from", "999"]).await;
    assert_eq!((status, out.as_str()), (Some(0), ""));
    assert!(note.contains("the head is 3"), "{note}");
    let tail = cluster.run_ok(&["tail", "--from", "1", "--to", "3"]).await;
    assert_eq!(tail.lines().count(), 2, "it ends: {tail}");
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_show_their_events_and_can_be_selected_without_a_subject() {
    let cluster = cluster().await;
    let refuses =
        r#"while read -r line; do n=${line#*\"delivery\":}; echo "{\"delivery\":${n%%,*},\"error\":\"no\"}"; done"#;
    cluster.run_ok(&["processor", "create", "mail", "--exec", refuses, "--retry-attempts", "1"]).await;
    let alone = r#"{"events":[{"id":"alone","source":"/t","type":"t.v1","data":{"n":7}}]}"#;
    let file = cluster.folder().join("alone.json");
    std::fs::write(&file, alone).unwrap();
    cluster.run_ok(&["append", "--json", &file.display().to_string()]).await;
    cluster.run_ok(&["wait", "caught-up", "mail"]).await;

    let listed = cluster.run_ok(&["processor", "list"]).await;
    assert!(listed.contains(" 3 set aside ") && listed.contains("3 sequences, 4 events"), "{listed}");
    assert!(!listed.contains("caught-up"), "a processor with unhandled events is not shown as caught up: {listed}");
    let listed = cluster.run_ok(&["dead-letter", "list", "mail"]).await;
    assert!(listed.contains("(no subject)") && listed.contains("--sequence ''"), "{listed}");
    let shown = cluster.run_ok(&["dead-letter", "show", "mail", "--sequence", ""]).await;
    assert!(shown.contains("id alone") && shown.contains(r#"data: {"n":7}"#) && shown.contains("cause: no"), "{shown}");
    let json = cluster.run_ok(&["dead-letter", "show", "mail", "--sequence", "good", "-o", "json"]).await;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["letters"][1]["event"]["data"], &json["letters"][1]["position"]), (&1.into(), &2.into()));

    let output = cluster.run_ok(&["dead-letter", "drop", "mail", "--sequence", "", "--yes"]).await;
    assert!(output.contains("1 event of 1 sequence of mail"), "{output}");
    let output = cluster.run_ok(&["dead-letter", "retry", "mail", "--all"]).await;
    assert!(output.contains("2 sequences of mail are retried now") && !output.contains("done"), "{output}");
}

/// Returns the nth `sh` block below this heading of the README.
fn readme(heading: &str, nth: usize) -> String {
    let readme = include_str!("../../../README.md");
    let section = readme.split_once(heading).expect("the README has this heading").1;
    let block = section.split("```sh\n").nth(nth + 1).expect("it has so many blocks");
    block.split("```").next().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_of_the_readme_work_when_pasted() {
    let mut cluster = TestCluster::new(EVENER);
    cluster.add_node("n1", &[]).await;
    let folder = cluster.new_folder("try");
    // The nodes of the test cluster have another working directory than the shell.
    let here = folder.display();
    let typed = readme("## Three nodes of your own", 1)
        .replace("python3 totals.py", &format!("python3 {here}/totals.py"))
        .replace("\"totals.txt\"", &format!("\"{here}/totals.txt\""));
    let script = format!("evener() {{ '{EVENER}' \"$@\"; echo \"status $?\"; }}\n{typed}");
    let mut shell = Command::new("sh");
    let output = shell.args(["-c", &script]).current_dir(&folder).env("EVENER_SERVER", cluster.urls()).output().await;
    let output = output.unwrap();
    let output = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    assert!(output.contains("3 events are stored: 3 by this run"), "{output}");
    assert_eq!((output.matches("status 0").count(), output.matches("status 9").count()), (3, 1), "{output}");
    assert!(
        output.contains("sequence 'account-7' of totals/") && output.contains("cause: KeyError('data')"),
        "{output}"
    );
    let mut totals: Vec<_> = output.lines().filter(|line| line.starts_with("account-")).collect();
    totals.sort_unstable();
    assert_eq!(totals, ["account-7 100", "account-8 250"]);
}
