//! The demo as a user runs it: killed, interrupted, and with an injected fault.

use std::{path::PathBuf, process::Stdio};

use evener_tests::test_cluster::{TIMEOUT, pause, signal};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStderr, Command},
    time::timeout,
};

use super::EVENER;

fn demo(args: &[&str]) -> Child {
    let mut command = Command::new(EVENER);
    command.arg("demo").args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.kill_on_drop(true).spawn().unwrap()
}

/// Returns the folder that the demo prints.
async fn folder(output: &mut Lines<BufReader<ChildStderr>>) -> String {
    loop {
        let line = output.next_line().await.unwrap().expect("the demo prints its folder");
        if let Some((_, folder)) = line.split_once("starting three nodes in ") {
            return folder.to_owned();
        }
    }
}

/// Returns the processes that have this folder in their command line.
fn processes_in(folder: &str) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let lines = processes.filter_map(|process| std::fs::read(process.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines.filter(|line| line.contains(folder)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_nodes_of_a_killed_demo_exit() {
    let mut demo = demo(&["--for", "10m"]);
    let mut output = BufReader::new(demo.stderr.take().unwrap()).lines();
    let folder = folder(&mut output).await;
    let count = async |wanted: fn(usize) -> bool, what: &str| {
        let so = async {
            while !wanted(processes_in(&folder).len()) {
                pause().await;
            }
        };
        timeout(TIMEOUT, so).await.unwrap_or_else(|_| panic!("{what}: {:?}", processes_in(&folder)));
    };
    count(|nodes| nodes >= 3, "its nodes start").await;
    demo.kill().await.unwrap();
    count(|nodes| nodes == 0, "no process is left").await;
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_demo_reports_its_results_and_leaves_no_processes_or_files() {
    let mut demo = demo(&["--for", "10m"]);
    let mut output = BufReader::new(demo.stderr.take().unwrap()).lines();
    let folder = folder(&mut output).await;
    let handled = PathBuf::from(&folder).join("handled");
    let begun = || {
        std::fs::read_dir(&handled).is_ok_and(|files| files.flatten().any(|file| file.metadata().unwrap().len() > 0))
    };
    timeout(TIMEOUT, async {
        while !begun() {
            pause().await;
        }
    })
    .await
    .expect("events are handled");
    assert!(processes_in(&folder).len() >= 3, "its nodes run");
    signal(&demo, "-INT").await;
    let ended = timeout(TIMEOUT, demo.wait_with_output()).await.expect("it ends").unwrap();
    assert!(ended.status.success(), "{ended:?}");
    let report: serde_json::Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert!(report["acked"].as_u64() > Some(0) && report["lost"] == 0, "{report}");
    assert_eq!(processes_in(&folder), [""; 0], "no process is left");
    assert!(!PathBuf::from(folder).exists(), "nothing is kept if every promise held");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_injected_fault_is_reported_and_the_records_are_kept() {
    let demo = demo(&["--for", "1s", "--headless", "--break", "lose-one"]);
    let ended = timeout(TIMEOUT, demo.wait_with_output()).await.expect("it ends").unwrap();
    let output = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{output}");
    let kept = output.split_whitespace().find(|word| word.ends_with("/records")).unwrap_or_else(|| panic!("{output}"));
    let named = output.split_whitespace().nth(2).unwrap();
    let acked = std::fs::read_to_string(PathBuf::from(kept).join("acknowledged.ndjson")).unwrap();
    assert!(output.contains("was acknowledged at") && acked.contains(named), "{output}");
    std::fs::remove_dir_all(PathBuf::from(kept).parent().unwrap()).unwrap();
}
