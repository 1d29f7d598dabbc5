//! A real event log, imported and handled over three nodes.

use std::path::Path;

use evener_tests::{
    receipt,
    town::{Town, even_over, seen},
};

use super::{EVENER, RECORD, RECORDER};

/// Three bare nodes, and a handler program.
async fn by_a_program(args: &[&str]) {
    let Some(path) = receipt::path() else { return };
    let town = Town::of_three(EVENER, args).await;
    let folder = town.new_folder("seen");
    let exec = format!("exec {RECORD} {}", folder.display());
    town.tell(&["processor", "create", "receipts", "--exec", &exec]).await;
    run(&town, &folder, &path).await;
}

/// Three nodes in a program of somebody's own, that has a processor in Rust.
async fn in_rust(args: &[&str]) {
    let Some(path) = receipt::path() else { return };
    let mut town = Town::new(EVENER);
    let folder = town.new_folder("seen");
    let env = [("RECORDER_FOLDER", folder.to_str().unwrap())];
    for name in ["n1", "n2", "n3"] {
        town.build_with(name, Path::new(RECORDER), args, &env).await;
    }
    run(&town, &folder, &path).await;
}

async fn run(town: &Town, folder: &Path, path: &Path) {
    let told = town.tell(&["import", &path.display().to_string()]).await;
    assert!(told.contains("8,577 events are stored: 8,577 by this run"), "{told}");
    let processor = town.wait_passed("receipts").await;
    assert!(even_over(&processor, &town.alive()), "{processor:#?}");
    let all = seen(folder);
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
