//! A node that cannot start reports why and what to do, and leaves nothing half done.

use std::{path::PathBuf, process::Command};

use evener_tests::test_cluster::TestCluster;

use super::{EVENER, RECORDER};

/// An id that no cluster here has.
const OTHER: &str = "00000000-0000-0000-0000-000000000001";

/// Checks that a start fails with an error that contains all these words. The system chooses the ports.
async fn check(cluster: &TestCluster, data: &str, name: &str, more: &[&str], words: &[&str]) {
    let ports = ["--listen", "127.0.0.1:0", "--peer-listen", "127.0.0.1:0"];
    let args = [&["serve", "--data", data, "--name", name][..], &ports, more].concat();
    refused(cluster, &args, words).await;
}

async fn refused(cluster: &TestCluster, args: &[&str], words: &[&str]) {
    let (_, output) = cluster.run_err(args).await;
    for word in words {
        assert!(output.contains(word), "`evener {}` should mention {word}:\n{output}", args.join(" "));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_setting_is_reported_with_a_suggestion() {
    let cluster = TestCluster::new(EVENER);
    let data = cluster.folder().join("fresh").display().to_string();
    refused(&cluster, &["serve", "--data", &data, "--naem", "x"], &["--naem", "--name"]).await;
    let file = cluster.folder().join("evener.toml");
    std::fs::write(&file, "[cluster]\nheartbeet = \"250ms\"\n").unwrap();
    let config = file.display().to_string();
    refused(&cluster, &["serve", "--data", &data, "--config", &config], &["heartbeet", "heartbeat", "evener.toml"])
        .await;
    assert!(!PathBuf::from(data).exists(), "nothing was created");
}

#[test]
fn a_program_with_handlers_rejects_unknown_flags_and_prints_help() {
    let cluster = TestCluster::new(EVENER);
    let run = |flag: &str| {
        let mut program = Command::new(RECORDER);
        program.args([flag, "x"]).current_dir(cluster.folder()).env("RECORDER_FOLDER", cluster.folder());
        program.output().unwrap()
    };
    let refused = run("--naem");
    let output = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{output}");
    assert!(output.contains("no argument \"--naem\"") && output.contains("did you mean --name?"), "{output}");
    let help = run("--help");
    let output = String::from_utf8(help.stdout).unwrap();
    assert!(
        help.status.success() && output.starts_with("Usage: recorder ") && output.contains("\n  --join "),
        "{output}"
    );
    assert!(!cluster.folder().join("data").exists(), "nothing was created");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_reported() {
    let mut cluster = TestCluster::new(EVENER);
    cluster.add_node("n1", &[]).await;
    let fresh = cluster.folder().join("fresh").display().to_string();
    let (http, peer) = (cluster.url("n1")["http://".len()..].to_owned(), cluster.peer("n1"));
    let start = ["serve", "--data", &fresh, "--name", "x", "--bootstrap"];
    let free = "127.0.0.1:0";
    refused(&cluster, &[&start[..], &["--listen", &http, "--peer-listen", free]].concat(), &[&http, "in use"]).await;
    refused(&cluster, &[&start[..], &["--listen", free, "--peer-listen", &peer]].concat(), &[&peer, "in use"]).await;
    let alone = ["serve", "--data", &fresh, "--name", "x", "--listen", free, "--peer-listen", free];
    refused(&cluster, &alone, &[&fresh, "holds no node", "--bootstrap", "--join"]).await;
    assert!(!PathBuf::from(fresh).exists(), "nothing was created");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_does_not_start_in_the_wrong_directory_or_cluster() {
    let mut cluster = TestCluster::new(EVENER);
    cluster.add_node("n1", &[]).await;
    let folder = |name: &str| cluster.folder().join(name).display().to_string();
    let (n1, fresh, peer) = (folder("n1"), folder("fresh"), cluster.peer("n1"));
    let cluster_id = cluster.status().await.cluster.to_string();
    check(&cluster, &n1, "n1", &[], &[&n1, "process"]).await;
    check(&cluster, &fresh, "x", &[], &[&fresh, "--bootstrap", "--join"]).await;
    check(&cluster, &fresh, "x", &["--join", &peer, "--cluster", OTHER], &[&peer, &cluster_id, OTHER]).await;
    check(&cluster, &fresh, "x", &["--bootstrap", "--join", &peer], &["--bootstrap", &peer, &cluster_id]).await;

    assert_eq!(cluster.stop("n1").await, Some(0), "it drains and ends");
    check(&cluster, &n1, "n1", &["--cluster", OTHER], &[&cluster_id, OTHER]).await;
    check(&cluster, &n1, "n7", &[], &["n1", "n7", "EV0507", "--name and --data"]).await;
    cluster.start("n1").await;
    cluster.run_ok(&["append", "a", "--type", "t.v1"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_directory_of_one_cluster_does_not_join_another() {
    let (mut cluster, mut other) = (TestCluster::new(EVENER), TestCluster::new(EVENER));
    cluster.add_node("n1", &[]).await;
    cluster.add_node("n2", &[]).await;
    other.add_node("n1", &[]).await;
    let [own_id, other_id] = [cluster.status().await.cluster, other.status().await.cluster];
    assert_eq!(cluster.stop("n2").await, Some(0));

    let (n2, peer) = (cluster.folder().join("n2").display().to_string(), other.peer("n1"));
    check(&cluster, &n2, "n2", &["--join", &peer], &[&n2, &own_id, &other_id, &peer, "an empty directory", "EV0507"])
        .await;
    cluster.start("n2").await;
    assert_eq!(cluster.status().await.cluster, own_id);
    assert_eq!(other.status().await.members.len(), 1, "no node joined it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_size_that_differs_from_the_clusters_is_reported_and_ignored() {
    let mut cluster = TestCluster::new(EVENER);
    cluster.add_node("n1", &["--chunk-bytes", "64KiB"]).await;
    cluster.add_node("n2", &["--chunk-bytes", "1MiB"]).await;
    let log = |name| std::fs::read_to_string(cluster.log(name)).unwrap();
    let output = "chunks of 1MiB were asked for, and the cluster has chunks of 64KiB";
    assert!(log("n2").contains(output), "{}", log("n2"));
    assert!(!log("n1").contains("--chunk-bytes"), "{}", log("n1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unusable_address_or_directory_is_reported_with_a_hint() {
    let cluster = TestCluster::new(EVENER);
    let fresh = cluster.folder().join("fresh").display().to_string();
    let start = ["serve", "--data", &fresh, "--name", "x", "--bootstrap", "--insecure-listen"];
    let (free, nowhere) = ("127.0.0.1:0", "no-such-host.invalid:4750");
    let unknown = [nowhere, "with a host that is this machine's", "EV0505"];
    refused(&cluster, &[&start[..], &["--listen", nowhere, "--peer-listen", free]].concat(), &unknown).await;
    refused(&cluster, &[&start[..], &["--listen", free, "--peer-listen", nowhere]].concat(), &unknown).await;
    let same = ["--listen", "127.0.0.1:4750", "--peer-listen", "127.0.0.1:4750"];
    refused(&cluster, &[&start[..], &same].concat(), &["both 127.0.0.1:4750", "a port each"]).await;
    assert!(!PathBuf::from(fresh).exists(), "nothing was created");

    let file = cluster.folder().join("file");
    std::fs::write(&file, "").unwrap();
    let file = file.display().to_string();
    check(&cluster, &file, "x", &["--bootstrap"], &[&file, "Not a directory", "is no file"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_directory_under_an_old_name_is_rejected() {
    let mut cluster = TestCluster::three_nodes(EVENER, &[]).await;
    cluster.kill("n3").await;
    let (n3, peer) = (cluster.folder().join("n3"), cluster.peer("n1"));
    std::fs::remove_dir_all(&n3).unwrap();
    check(&cluster, &n3.display().to_string(), "n3", &["--join", &peer], &["n3", "join with another --name"]).await;
}
