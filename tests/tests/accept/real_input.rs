//! A real event log, imported and handled over three nodes.

use std::path::Path;

use evener_tests::{
    receipt,
    test_cluster::{TestCluster, balanced_over, handled_events},
};

use super::{EVENER, RECORD, RECORDER};

/// Handles the log by a handler program on three nodes.
async fn by_a_program(args: &[&str]) {
    let Some(path) = receipt::path() else { return };
    let cluster = TestCluster::three_nodes(EVENER, args).await;
    let folder = cluster.new_folder("seen");
    let exec = format!("exec {RECORD} {}", folder.display());
    cluster.run_ok(&["processor", "create", "receipts", "--exec", &exec]).await;
    run(&cluster, &folder, &path).await;
}

/// Handles the log by a Rust processor in a program with an embedded node, on three nodes.
async fn in_rust(args: &[&str]) {
    let Some(path) = receipt::path() else { return };
    let mut cluster = TestCluster::new(EVENER);
    let folder = cluster.new_folder("seen");
    let env = [("RECORDER_FOLDER", folder.to_str().unwrap())];
    for name in ["n1", "n2", "n3"] {
        cluster.add_node_with(name, Path::new(RECORDER), args, &env).await;
    }
    run(&cluster, &folder, &path).await;
}

async fn run(cluster: &TestCluster, folder: &Path, path: &Path) {
    let output = cluster.run_ok(&["import", &path.display().to_string()]).await;
    assert!(output.contains("8,577 events are stored: 8,577 by this run"), "{output}");
    let processor = cluster.wait_passed("receipts").await;
    assert!(balanced_over(&processor, &cluster.running()), "{processor:#?}");
    let all = handled_events(folder);
    let handled: Vec<_> = all.iter().map(|seen| (seen.position, seen.stream.clone(), seen.kind.clone())).collect();
    receipt::check(&handled, &receipt::lines(path));
    assert_eq!(handled.len(), receipt::COUNTS.0, "nothing failed, so nothing is redelivered");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_log_is_handled_by_a_program_completely_and_in_order() {
    by_a_program(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_log_in_small_chunks_is_handled_by_a_program_completely_and_in_order() {
    by_a_program(&["--chunk-bytes", "64KiB"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_log_is_handled_in_rust_completely_and_in_order() {
    in_rust(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_log_in_small_chunks_is_handled_in_rust_completely_and_in_order() {
    in_rust(&["--chunk-bytes", "64KiB"]).await;
}
