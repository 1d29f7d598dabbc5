//! Segments of a live processor are split, merged and moved under load: no event is handled twice, or out of order.

use std::{collections::BTreeMap, fmt::Write};

use evener_tests::test_cluster::{TestCluster, balanced_over, handled_events};

use super::{EVENER, RECORD};

const STREAMS: u64 = 25;

/// Appends events in the background, one import of `count` at a time.
async fn import(cluster: &TestCluster, from: u64, count: u64) {
    let mut text = String::new();
    for number in from..from + count {
        let stream = number % STREAMS;
        writeln!(text, r#"{{"id":"e{number}","source":"/t","type":"t","subject":"s{stream}","data":{number}}}"#)
            .unwrap();
    }
    let path = cluster.folder().join(format!("events-{from}.ndjson"));
    std::fs::write(&path, text).unwrap();
    cluster.run_ok(&["import", &path.display().to_string()]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p4_p5_splits_merges_and_moves_under_load_handle_nothing_twice_and_keep_order() {
    let cluster = TestCluster::three_nodes(EVENER, &[]).await;
    let folder = cluster.new_folder("seen");
    std::fs::write(folder.join("delay-us"), "1000").unwrap();
    let exec = format!("exec {RECORD} {}", folder.display());
    cluster.run_ok(&["processor", "create", "totals", "--segments", "3", "--exec", &exec]).await;
    cluster.wait_for("totals", "shared", |processor| balanced_over(processor, &cluster.running())).await;
    let load = async {
        for nth in 0..12 {
            import(&cluster, nth * 250, 250).await;
        }
    };
    let changes = async {
        for _ in 0..3 {
            cluster.run_ok(&["processor", "split", "totals", "--timeout", "20s"]).await;
        }
        cluster.wait_for("totals", "split thrice", |processor| processor.segments.len() == 6).await;
        cluster.run_ok(&["processor", "move", "totals", "--segment", "0", "--node", "n2"]).await;
        cluster
            .wait_for("totals", "moved", |processor| {
                processor.segments[0].owner.as_deref() == Some("n2") && processor.segments[0].pinned.is_some()
            })
            .await;
        cluster.run_ok(&["processor", "merge", "totals", "--timeout", "20s"]).await;
        // The sibling of segment 0 may be one that this merge makes.
        cluster.wait_for("totals", "merged", |processor| processor.segments.len() == 5).await;
        cluster.run_ok(&["processor", "merge", "totals", "--segment", "0", "--timeout", "20s"]).await;
        cluster.wait_for("totals", "merged twice", |processor| processor.segments.len() == 4).await;
    };
    tokio::join!(load, changes);
    cluster.wait_passed("totals").await;

    let all = handled_events(&folder);
    assert_eq!(all.len(), 3_000, "each event is handled, and none twice");
    let mut streams = BTreeMap::<_, Vec<u64>>::new();
    all.iter().for_each(|seen| streams.entry(&seen.stream).or_default().push(seen.position));
    assert!(streams.values().all(|positions| positions.is_sorted()), "each stream is handled in order");
    assert_eq!(streams.len() as u64, STREAMS);
}

#[tokio::test(flavor = "multi_thread")]
async fn p10_a_split_a_merge_or_a_move_that_cannot_be_says_why() {
    let cluster = TestCluster::three_nodes(EVENER, &[]).await;
    cluster.run_ok(&["processor", "create", "totals", "--segments", "3", "--exec", "cat"]).await;
    let cases: &[(&[&str], &str)] = &[
        (&["split", "totals", "--segment", "9"], "there is no segment totals/9"),
        (&["split", "nothing"], "there is no processor nothing"),
        (&["merge", "totals", "--segment", "1"], "totals/1 has no sibling to merge with"),
        (&["merge", "totals", "--segment", "9"], "there is no segment totals/9"),
        (&["move", "totals", "--segment", "0", "--node", "n9"], "there is no member n9"),
        (&["move", "totals", "--segment", "9", "--node", "n1"], "there is no segment totals/9"),
    ];
    for (args, part) in cases {
        let (_, told) = cluster.run_err(&[&["processor"], *args].concat()).await;
        assert!(told.contains(part), "{args:?}: {told}");
    }
    assert_eq!(cluster.processor("totals").await.segments.len(), 3);
    let whole = cluster.run_ok(&["processor", "split", "totals", "--dry-run"]).await;
    assert!(whole.contains("it would touch 1 segment; nothing was changed"), "{whole}");
}
