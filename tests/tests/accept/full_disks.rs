//! Three nodes on equal small file systems: appends stop before the space runs out, everything else continues, and
//! nothing is lost.

use std::{fs, path::PathBuf, process::Command};

use evener_tests::test_cluster::{TestCluster, pause};
use serde_json::{Value, json};

use super::{EVENER, RECORD};

const NODES: [&str; 3] = ["n1", "n2", "n3"];
/// The size of a file beside the log that the operator can remove.
const BALLAST_BYTES: usize = 24 << 20;

/// Mounted file systems, unmounted at the end.
struct Mounts(Vec<PathBuf>);

impl Mounts {
    /// Returns none if this user may not mount.
    fn new(cluster: &TestCluster) -> Option<Self> {
        let mut mounts = Self(Vec::new());
        for name in NODES {
            let path = cluster.new_folder(name);
            let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=64m", "tmpfs"]).arg(&path).output();
            if !mount.is_ok_and(|mount| mount.status.success()) {
                return None;
            }
            fs::write(path.join("ballast"), vec![1; BALLAST_BYTES]).unwrap();
            mounts.0.push(path);
        }
        Some(mounts)
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        for path in &self.0 {
            let _ = Command::new("umount").arg("-l").arg(path).status();
        }
    }
}

async fn append(cluster: &TestCluster, node: &str, nth: usize) -> (u16, Value) {
    let event = json!({"id": nth.to_string(), "source": "/t", "type": "t.v1", "subject": format!("s{}", nth % 7),
                       "data": {"text": "x".repeat(200_000)}});
    let request = reqwest::Client::new().post(format!("{}/events", cluster.url(node)));
    let request = request.header("content-type", "application/json").body(json!({"events": [event]}).to_string());
    let answer = request.send().await.expect("the node answers");
    let status = answer.status().as_u16();
    (status, serde_json::from_str(&answer.text().await.expect("a body")).expect("it is JSON"))
}

async fn text(cluster: &TestCluster, node: &str, path: &str) -> String {
    reqwest::get(format!("{}{path}", cluster.url(node))).await.unwrap().text().await.unwrap()
}

/// Returns whether each node reports that appends are refused, in its health report and its metrics.
async fn all_refuse(cluster: &TestCluster) -> bool {
    for name in NODES {
        let health = text(cluster, name, "/healthz?verbose").await;
        let metrics = text(cluster, name, "/metrics").await;
        let refused = health.contains("ok   disk: appends are refused");
        if !refused || !metrics.contains("evener_disk_appends_refused 1") {
            return false;
        }
    }
    true
}

#[tokio::test(flavor = "multi_thread")]
async fn three_equal_file_systems_fill_up_and_the_cluster_continues() {
    let mut cluster = TestCluster::new(EVENER);
    let Some(_mounts) = Mounts::new(&cluster) else {
        eprintln!("skipped: this user may not mount a tmpfs");
        return;
    };
    for name in NODES {
        cluster.add_node(name, &["--chunk-bytes", "1MiB"]).await;
    }
    let mut stored = 0;
    // The disks differ by some pages, so the nodes reach their reserves one after the other: an answer may concern the
    // disk of another node.
    while !all_refuse(&cluster).await {
        for name in NODES {
            match append(&cluster, name, stored).await {
                (200, _) => stored += 1,
                (503, answer) if answer["code"] == "EV0409" => {}
                // Leadership is being transferred to a node with free space.
                _ => pause().await,
            }
        }
    }
    assert!(stored > 100, "{stored} appends");
    for name in NODES {
        let (status, answer) = append(&cluster, name, stored).await;
        assert_eq!((status, &answer["code"]), (503, &json!("EV0409")), "{name}: {answer}");
    }

    // Operations, claims and progress continue from the reserve, and nodes can restart.
    for name in NODES {
        cluster.kill(name).await;
        cluster.start(name).await;
    }
    let folder = cluster.new_folder("seen");
    cluster.run_ok(&["processor", "create", "p", "--exec", &format!("exec {RECORD} {}", folder.display())]).await;
    cluster.run_ok(&["wait", "caught-up", "p"]).await;
    let (status, answer) = append(&cluster, "n2", stored).await;
    assert_eq!((status, &answer["code"]), (503, &json!("EV0409")), "{answer}");

    for name in NODES {
        fs::remove_file(cluster.folder().join(name).join("ballast")).unwrap();
    }
    while append(&cluster, "n3", stored).await.0 != 200 {
        pause().await;
    }
    assert_eq!(cluster.status().await.head, stored as u64 + 1, "nothing is lost");
    cluster.run_ok(&["wait", "caught-up", "p"]).await;
}
