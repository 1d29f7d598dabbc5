//! A node that cannot start says why and what to do, and leaves nothing half done.

use std::{path::PathBuf, process::Command};

use evener_tests::town::Town;

use super::{EVENER, RECORDER};

/// A cluster's id that no cluster here has.
const OTHER: &str = "00000000-0000-0000-0000-000000000001";

/// A start that must fail, where its message must name all these words. Ports are the system's choice.
async fn check(town: &Town, data: &str, name: &str, more: &[&str], words: &[&str]) {
    let ports = ["--listen", "127.0.0.1:0", "--peer-listen", "127.0.0.1:0"];
    let args = [&["serve", "--data", data, "--name", name][..], &ports, more].concat();
    refused(town, &args, words).await;
}

async fn refused(town: &Town, args: &[&str], words: &[&str]) {
    let (_, told) = town.fails(args).await;
    for word in words {
        assert!(told.contains(word), "`evener {}` should name {word}:\n{told}", args.join(" "));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_setting_that_is_not_known_is_named_with_what_was_meant() {
    let town = Town::new(EVENER);
    let data = town.folder().join("fresh").display().to_string();
    refused(&town, &["serve", "--data", &data, "--naem", "x"], &["--naem", "--name"]).await;
    let file = town.folder().join("evener.toml");
    std::fs::write(&file, "[cluster]\nheartbeet = \"250ms\"\n").unwrap();
    let config = file.display().to_string();
    refused(&town, &["serve", "--data", &data, "--config", &config], &["heartbeet", "heartbeat", "evener.toml"]).await;
    assert!(!PathBuf::from(data).exists(), "nothing was made");
}

#[test]
fn a_program_with_handlers_refuses_what_is_no_flag_of_a_node_and_answers_help() {
    let town = Town::new(EVENER);
    let run = |flag: &str| {
        let mut program = Command::new(RECORDER);
        program.args([flag, "x"]).current_dir(town.folder()).env("RECORDER_FOLDER", town.folder());
        program.output().unwrap()
    };
    let refused = run("--naem");
    let told = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{told}");
    assert!(told.contains("no argument \"--naem\"") && told.contains("did you mean --name?"), "{told}");
    let help = run("--help");
    let told = String::from_utf8(help.stdout).unwrap();
    assert!(help.status.success() && told.starts_with("Usage: recorder ") && told.contains("\n  --join "), "{told}");
    assert!(!town.folder().join("data").exists(), "nothing was made");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_named() {
    let mut town = Town::new(EVENER);
    town.build("n1", &[]).await;
    let fresh = town.folder().join("fresh").display().to_string();
    let (http, peer) = (town.url("n1")["http://".len()..].to_owned(), town.peer("n1"));
    let start = ["serve", "--data", &fresh, "--name", "x", "--bootstrap"];
    let free = "127.0.0.1:0";
    refused(&town, &[&start[..], &["--listen", &http, "--peer-listen", free]].concat(), &[&http, "in use"]).await;
    refused(&town, &[&start[..], &["--listen", free, "--peer-listen", &peer]].concat(), &[&peer, "in use"]).await;
    let alone = ["serve", "--data", &fresh, "--name", "x", "--listen", free, "--peer-listen", free];
    refused(&town, &alone, &[&fresh, "holds no node", "--bootstrap", "--join"]).await;
    assert!(!PathBuf::from(fresh).exists(), "nothing was made");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_does_not_start_in_the_wrong_directory_or_cluster() {
    let mut town = Town::new(EVENER);
    town.build("n1", &[]).await;
    let folder = |name: &str| town.folder().join(name).display().to_string();
    let (n1, fresh, peer) = (folder("n1"), folder("fresh"), town.peer("n1"));
    let cluster = town.cluster().await.cluster.to_string();
    check(&town, &n1, "n1", &[], &[&n1, "process"]).await;
    check(&town, &fresh, "x", &[], &[&fresh, "--bootstrap", "--join"]).await;
    check(&town, &fresh, "x", &["--join", &peer, "--cluster", OTHER], &[&peer, &cluster, OTHER]).await;
    check(&town, &fresh, "x", &["--bootstrap", "--join", &peer], &["--bootstrap", &peer, &cluster]).await;

    assert_eq!(town.end("n1").await, Some(0), "it drains and ends");
    check(&town, &n1, "n1", &["--cluster", OTHER], &[&cluster, OTHER]).await;
    check(&town, &n1, "n7", &[], &["n1", "n7", "EV0507", "--name and --data"]).await;
    town.start("n1").await;
    town.tell(&["append", "a", "--type", "t.v1"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_directory_of_one_cluster_does_not_join_another() {
    let (mut town, mut other) = (Town::new(EVENER), Town::new(EVENER));
    town.build("n1", &[]).await;
    town.build("n2", &[]).await;
    other.build("n1", &[]).await;
    let [mine, theirs] = [town.cluster().await.cluster, other.cluster().await.cluster];
    assert_eq!(town.end("n2").await, Some(0));

    let (n2, peer) = (town.folder().join("n2").display().to_string(), other.peer("n1"));
    check(&town, &n2, "n2", &["--join", &peer], &[&n2, &mine, &theirs, &peer, "an empty directory", "EV0507"]).await;
    town.start("n2").await;
    assert_eq!(town.cluster().await.cluster, mine);
    assert_eq!(other.cluster().await.members.len(), 1, "nobody joined it");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_size_of_chunks_than_the_clusters_is_named_and_not_taken() {
    let mut town = Town::new(EVENER);
    town.build("n1", &["--chunk-bytes", "64KiB"]).await;
    town.build("n2", &["--chunk-bytes", "1MiB"]).await;
    let log = |name| std::fs::read_to_string(town.log(name)).unwrap();
    let told = "chunks of 1MiB were asked for, and the cluster has chunks of 64KiB";
    assert!(log("n2").contains(told), "{}", log("n2"));
    assert!(!log("n1").contains("--chunk-bytes"), "{}", log("n1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_or_a_directory_that_cannot_be_had_says_what_to_do() {
    let town = Town::new(EVENER);
    let fresh = town.folder().join("fresh").display().to_string();
    let start = ["serve", "--data", &fresh, "--name", "x", "--bootstrap", "--insecure-listen"];
    let (free, nowhere) = ("127.0.0.1:0", "no-such-host.invalid:4750");
    let unknown = [nowhere, "with a host that is this machine's", "EV0505"];
    refused(&town, &[&start[..], &["--listen", nowhere, "--peer-listen", free]].concat(), &unknown).await;
    refused(&town, &[&start[..], &["--listen", free, "--peer-listen", nowhere]].concat(), &unknown).await;
    let same = ["--listen", "127.0.0.1:4750", "--peer-listen", "127.0.0.1:4750"];
    refused(&town, &[&start[..], &same].concat(), &["both 127.0.0.1:4750", "a port each"]).await;
    assert!(!PathBuf::from(fresh).exists(), "nothing was made");

    let file = town.folder().join("file");
    std::fs::write(&file, "").unwrap();
    let file = file.display().to_string();
    check(&town, &file, "x", &["--bootstrap"], &[&file, "Not a directory", "is no file"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_directory_under_an_old_name_is_refused() {
    let mut town = Town::of_three(EVENER, &[]).await;
    town.kill("n3").await;
    let (n3, peer) = (town.folder().join("n3"), town.peer("n1"));
    std::fs::remove_dir_all(&n3).unwrap();
    check(&town, &n3.display().to_string(), "n3", &["--join", &peer], &["n3", "join with another --name"]).await;
}
