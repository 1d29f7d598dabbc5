//! A corrupt byte on disk: the node that reads it reports it and stops, and the others continue.

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use evener_store::checkpoint::with_image;
use evener_tests::test_cluster::TestCluster;

use super::EVENER;

/// Enough events for several sealed chunks of 64 KiB.
const EVENTS: usize = 2_000;

fn file_of_events(cluster: &TestCluster) -> String {
    let mut text = String::new();
    for nth in 0..EVENTS {
        let data = format!(r#"{{"n":{nth},"more":"{}"}}"#, "x".repeat(100));
        let attributes = r#""specversion":"1.0","source":"t","type":"t.v1""#;
        writeln!(text, r#"{{{attributes},"id":"{nth}","subject":"s{}","data":{data}}}"#, nth % 7).unwrap();
    }
    let path = cluster.folder().join("events.ndjson");
    fs::write(&path, text).unwrap();
    path.display().to_string()
}

/// Changes one bit in the middle of a file.
fn flip_bit(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(file, bytes).unwrap();
}

fn chunks(data: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(data.join("chunks")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn p8_a_corrupt_byte_is_reported_and_its_node_serves_nothing() {
    let mut cluster = TestCluster::three_nodes(EVENER, &["--chunk-bytes", "64KiB"]).await;
    cluster.run_ok(&["import", &file_of_events(&cluster)]).await;
    assert_eq!(cluster.stop("n3").await, Some(0));
    let files = chunks(&cluster.folder().join("n3"));
    assert!(files.len() > 3, "some are sealed: {files:?}");

    let corrupt = &files[1];
    let name = corrupt.file_name().unwrap().to_string_lossy();
    flip_bit(corrupt);
    let (status, ready, output) = cluster.run_to_exit("n3").await;
    assert!(status != 0 && ready.is_empty(), "the node never serves: {ready}");
    for word in [&*name, "checksum", "next:"] {
        assert!(output.contains(word), "the error should contain {word}: {output}");
    }
    cluster.run_ok(&["append", "s1", "--type", "t.v1"]).await;
    assert_eq!(cluster.status().await.head, EVENTS as u64 + 1, "the others continue");

    flip_bit(corrupt);
    cluster.start("n3").await;
    let local = format!("{}/events?consistency=local&stream=s1", cluster.url("n3"));
    let read = reqwest::get(local).await.unwrap().text().await.unwrap();
    assert!(read.lines().count() > EVENTS / 7, "the byte is restored, and the node serves again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_in_another_format_is_skipped_with_one_log_line() {
    let mut cluster = TestCluster::new(EVENER);
    cluster.add_node("n1", &["--chunk-bytes", "64KiB"]).await;
    cluster.run_ok(&["import", &file_of_events(&cluster)]).await;
    cluster.run_ok(&["processor", "create", "p", "--exec", "true", "--start", "head"]).await;
    cluster.run_ok(&["processor", "pause", "p"]).await;
    let tokens = async |cluster: &TestCluster| {
        let processor = cluster.processor("p").await;
        assert_eq!(processor.state, "paused");
        processor.segments.iter().map(|segment| (segment.id, segment.token)).collect::<Vec<_>>()
    };
    let before = tokens(&cluster).await;
    assert_eq!(cluster.stop("n1").await, Some(0));
    let file = cluster.folder().join("n1/checkpoint");
    let whole = fs::read(&file).expect("a node that stops writes a checkpoint");
    let output = |log: &Path| fs::read_to_string(log).unwrap().matches("a checkpoint cannot be read").count();
    for (nth, image) in [&b"the state in another form"[..], b""].into_iter().enumerate() {
        fs::write(&file, with_image(&whole, |_| Bytes::copy_from_slice(image))).unwrap();
        // An older checkpoint would be used instead.
        let _ = fs::remove_file(file.with_extension("previous"));
        cluster.start("n1").await;
        assert_eq!(output(&cluster.log("n1")), nth + 1);
        assert_eq!(cluster.status().await.head, (EVENTS + nth) as u64);
        assert_eq!(tokens(&cluster).await, before);
        cluster.run_ok(&["append", "s1", "--type", "t.v1"]).await;
        assert_eq!(cluster.stop("n1").await, Some(0));
    }
    cluster.start("n1").await;
    assert_eq!(output(&cluster.log("n1")), 2, "the checkpoint that was written since is used");
}
