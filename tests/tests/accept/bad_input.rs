//! Bad input gives a clear error with its place and a hint, and leaves nothing half done.

use std::fmt::Write;

use evener_tests::test_cluster::{TIMEOUT, TestCluster, pause};

use super::EVENER;

fn event(nth: usize) -> String {
    format!(
        r#"{{"specversion":"1.0","id":"e{nth}","source":"test","type":"t.v1","subject":"s{}","data":{{"n":{nth}}}}}"#,
        nth % 7
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_line_is_reported_with_its_number_and_what_was_stored() {
    let mut cluster = TestCluster::new(EVENER);
    cluster.add_node("n1", &[]).await;
    let file = cluster.folder().join("events.ndjson");
    let broken = "{\"id\": \"e4000\", oops";
    let mut text = String::new();
    for nth in 1..=5_000 {
        let line = if nth == 4_000 { broken.into() } else { event(nth) };
        writeln!(text, "{line}").unwrap();
    }
    std::fs::write(&file, &text).unwrap();
    let path = file.display().to_string();
    let (_, output) = cluster.run_err(&["import", &path]).await;
    assert!(output.contains("line 4000 of") && output.contains(&path), "{output}");
    assert!(output.contains("3,999 events are stored: 3,999 by this run"), "{output}");
    assert_eq!(cluster.status().await.head, 3_999, "the lines before it are stored");
    assert!(
        output.contains("at column 17") && !output.contains("line 1 column"),
        "only the file's line is named: {output}"
    );
    std::fs::write(&file, text.replace(broken, &event(4_000))).unwrap();
    let output = cluster.run_ok(&["import", &path]).await;
    assert!(output.contains("5,000 events are stored: 1,001 by this run"), "{output}");
    assert_eq!(cluster.status().await.head, 5_000, "nothing is stored twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn json_in_another_layout_is_reported_with_a_conversion_command() {
    let mut cluster = TestCluster::new(EVENER);
    cluster.add_node("n1", &[]).await;
    for (name, text, convert) in [
        ("array.json", format!("[\n  {},\n  {}\n]\n", event(1), event(2)), "jq -c '.[]'"),
        ("line.json", format!("[{},{}]", event(1), event(2)), "jq -c '.[]'"),
        ("pretty.json", event(1).replace(',', ",\n  "), "jq -c ."),
    ] {
        let file = cluster.folder().join(name).display().to_string();
        std::fs::write(&file, text).unwrap();
        let (_, output) = cluster.run_err(&["import", &file]).await;
        assert!(
            output.contains("line 1 of") && output.contains(&format!("{convert} {file} | evener import -")),
            "{output}"
        );
    }
    assert_eq!(cluster.status().await.head, 0, "nothing is half done");
}

#[tokio::test(flavor = "multi_thread")]
async fn p10_oversized_appends_are_rejected_with_the_name_of_the_limit() {
    let mut cluster = TestCluster::new(EVENER);
    cluster.add_node("n1", &[]).await;
    cluster.run_ok(&["append", "a", "--type", "t.v1", "--data", "1"]).await;
    let large = "x".repeat(1_100_000);
    let file = cluster.folder().join("large.ndjson");
    let line = format!(r#"{{"specversion":"1.0","id":"b","source":"t","type":"t.v1","data":"{large}"}}"#);
    std::fs::write(&file, event(1) + "\n" + &line + "\n").unwrap();
    let (_, output) = cluster.run_err(&["import", &file.display().to_string()]).await;
    assert!(output.contains("event_bytes_max") && output.contains("line 2 of"), "{output}");
    let data = cluster.folder().join("large.json");
    std::fs::write(&data, format!("\"{large}\"")).unwrap();
    let (_, output) =
        cluster.run_err(&["append", "a", "--type", "t.v1", "--data-file", &data.display().to_string()]).await;
    assert!(output.contains("event_bytes_max"), "{output}");
    let (_, output) = cluster.run_err(&["append", "a", "--type", "t.v1", "--data", "2", "--expect", "7"]).await;
    for word in ["EV", "'a'", "7", "0"] {
        assert!(output.contains(word), "it should name {word}: {output}");
    }
    assert_eq!(cluster.status().await.head, 2, "nothing is half done");
}

/// Waits until the status of the cluster contains this text, and returns the status.
async fn status_says(cluster: &TestCluster, words: &str) -> String {
    let looking = async {
        loop {
            let shown = cluster.run_ok(&["cluster", "status"]).await;
            if shown.contains(words) {
                return shown;
            }
            pause().await;
        }
    };
    tokio::time::timeout(TIMEOUT, looking).await.unwrap_or_else(|_| panic!("the status never contains: {words}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn p1_a_minority_cannot_write() {
    let mut cluster = TestCluster::three_nodes(EVENER, &[]).await;
    cluster.run_ok(&["append", "a", "--type", "t.v1", "--data", "1"]).await;
    // A joined node is a learner until there are two: until then the first node alone is the majority.
    let votes = |role: &str| role == "leader" || role == "follower";
    while !cluster.status().await.members.iter().all(|member| votes(&member.role)) {
        pause().await;
    }
    cluster.kill("n2").await;
    status_says(&cluster, "the cluster stops if another of them is lost").await;
    cluster.kill("n3").await;
    let shown = status_says(&cluster, "1 of 3 voters answer").await;
    assert_eq!(shown.matches(" down ").count(), 2, "a node that does not answer is down: {shown}");
    let (_, output) = cluster.run_err(&["append", "a", "--type", "t.v1", "--data", "2", "--id", "two"]).await;
    assert!(["majority", "leader", "quorum"].iter().any(|word| output.contains(word)), "{output}");
    cluster.start("n2").await;
    let output = cluster.run_ok(&["append", "a", "--type", "t.v1", "--data", "2", "--id", "two"]).await;
    assert!(output.contains("at position 1"), "stored once, whether or not the first attempt succeeded: {output}");
}
