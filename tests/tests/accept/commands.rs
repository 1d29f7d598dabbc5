//! What commands tell whoever typed them.

use std::process::Stdio;

use evener_tests::town::Town;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::Command,
};

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
    let created = town.tell(&[&["processor", "create", "mail", "--exec", HANDLER][..], &retries].concat()).await;
    assert_eq!(created, "create mail: done\nhow far it is: evener processor show mail\n");
    let (status, _, note) = told(&town, &["wait", "caught-up", "mail"]).await;
    assert_eq!(status, Some(0));
    assert!(note.contains("1 sequence, 1 event set aside (see: evener dead-letter list mail)"), "{note}");
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
async fn a_first_start_tells_the_ports_that_the_system_chose() {
    let town = Town::new(EVENER);
    let (data, log) = (town.folder().join("solo"), town.log("solo"));
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

#[tokio::test(flavor = "multi_thread")]
async fn what_is_set_aside_is_seen_with_its_event_and_can_be_named_without_a_subject() {
    let town = town().await;
    let refuses =
        r#"while read -r line; do n=${line#*\"delivery\":}; echo "{\"delivery\":${n%%,*},\"error\":\"no\"}"; done"#;
    town.tell(&["processor", "create", "mail", "--exec", refuses, "--retry-attempts", "1"]).await;
    let alone = r#"{"events":[{"id":"alone","source":"/t","type":"t.v1","data":{"n":7}}]}"#;
    let file = town.folder().join("alone.json");
    std::fs::write(&file, alone).unwrap();
    town.tell(&["append", "--json", &file.display().to_string()]).await;
    town.tell(&["wait", "caught-up", "mail"]).await;

    let listed = town.tell(&["processor", "list"]).await;
    assert!(listed.contains(" 3 set aside ") && listed.contains("3 sequences, 4 events"), "{listed}");
    assert!(!listed.contains("caught-up"), "what was not handled is not well: {listed}");
    let listed = town.tell(&["dead-letter", "list", "mail"]).await;
    assert!(listed.contains("(no subject)") && listed.contains("--sequence ''"), "{listed}");
    let shown = town.tell(&["dead-letter", "show", "mail", "--sequence", ""]).await;
    assert!(shown.contains("id alone") && shown.contains(r#"data: {"n":7}"#) && shown.contains("cause: no"), "{shown}");
    let json = town.tell(&["dead-letter", "show", "mail", "--sequence", "good", "-o", "json"]).await;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["letters"][1]["event"]["data"], &json["letters"][1]["position"]), (&1.into(), &2.into()));

    let told = town.tell(&["dead-letter", "drop", "mail", "--sequence", "", "--yes"]).await;
    assert!(told.contains("1 event of 1 sequence of mail"), "{told}");
    let told = town.tell(&["dead-letter", "retry", "mail", "--all"]).await;
    assert!(told.contains("2 sequences of mail are tried again now") && !told.contains("done"), "{told}");
}

/// The lines of the nth `sh` block below this heading of the README.
fn readme(heading: &str, nth: usize) -> String {
    let readme = include_str!("../../../README.md");
    let section = readme.split_once(heading).expect("the README has this heading").1;
    let block = section.split("```sh\n").nth(nth + 1).expect("it has so many blocks");
    block.split("```").next().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_readme_has_one_type_works_when_it_is_pasted() {
    let mut town = Town::new(EVENER);
    town.build("n1", &[]).await;
    let folder = town.new_folder("try");
    // The nodes of a town have another working directory than who types.
    let here = folder.display();
    let typed = readme("## Three nodes of your own", 1)
        .replace("python3 totals.py", &format!("python3 {here}/totals.py"))
        .replace("\"totals.txt\"", &format!("\"{here}/totals.txt\""));
    let script = format!("evener() {{ '{EVENER}' \"$@\"; echo \"status $?\"; }}\n{typed}");
    let mut shell = Command::new("sh");
    let output = shell.args(["-c", &script]).current_dir(&folder).env("EVENER_SERVER", town.urls()).output().await;
    let output = output.unwrap();
    let told = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("3 events are stored: 3 by this run"), "{told}");
    assert_eq!((told.matches("status 0").count(), told.matches("status 9").count()), (3, 1), "{told}");
    assert!(told.contains("sequence 'account-7' of totals/") && told.contains("cause: KeyError('data')"), "{told}");
    let mut totals: Vec<_> = told.lines().filter(|line| line.starts_with("account-")).collect();
    totals.sort_unstable();
    assert_eq!(totals, ["account-7 100", "account-8 250"]);
}
