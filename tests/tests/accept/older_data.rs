//! A data directory of the previous version is opened: its log gives the same state, both with its checkpoint, which
//! has an older format, and without.
//!
//! `tests/data/version-1` is the directory of a stopped node, with the answers of that version: events with and without
//! streams, tags, keys and given ids, refused and repeated appends, processors with letters, a stalled segment and
//! operations. All processors are paused, so that nothing changes.

use std::{fs, path::Path};

use evener_tests::test_cluster::TestCluster;
use serde_json::{Value, json};

use super::EVENER;

const OLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/version-1");

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// Returns the answers of that version.
fn answered(file: &str) -> String {
    fs::read_to_string(Path::new(OLDER).join(file)).unwrap()
}

/// Checks that all fields of the old answer are unchanged; new fields are allowed.
fn check_contains(what: &str, now: &Value, before: &Value) {
    match (now, before) {
        (Value::Object(now), Value::Object(before)) => {
            for (name, value) in before {
                let output = now.get(name).unwrap_or_else(|| panic!("{what} has no {name}: {now:?}"));
                check_contains(&format!("{what}.{name}"), output, value);
            }
        }
        (Value::Array(now), Value::Array(before)) => {
            assert_eq!(now.len(), before.len(), "{what}");
            now.iter().zip(before).for_each(|(now, before)| check_contains(what, now, before));
        }
        _ => assert_eq!(now, before, "{what}"),
    }
}

async fn events(cluster: &TestCluster) -> Vec<Value> {
    let answer = reqwest::get(format!("{}/events", cluster.url("n1"))).await.unwrap();
    assert!(answer.status().is_success(), "{answer:?}");
    lines(&answer.text().await.unwrap())
}

/// Returns the letters of a processor without times.
fn letters_of(letters: &Value) -> Vec<Value> {
    let letters = letters.as_array().unwrap().iter();
    letters.map(|one| json!([one["sequence"], one["state"], one["cause"], one["letters"]])).collect()
}

async fn check_opened(cluster: &TestCluster) {
    let before = lines(&answered("events.ndjson"));
    let now = events(cluster).await;
    assert_eq!(now.len(), before.len());
    now.iter().zip(&before).for_each(|(now, before)| check_contains("an event", now, before));
    let letters: Value = serde_json::from_str(&answered("letters.json")).unwrap();
    for before in lines(&answered("processors.ndjson")) {
        let name = before["name"].as_str().unwrap();
        check_contains(name, &serde_json::to_value(cluster.processor(name).await).unwrap(), &before);
        let now = serde_json::to_value(cluster.dead_letters(name).await).unwrap();
        assert_eq!(letters_of(&now), letters_of(&letters[name]), "{name}");
    }
    for before in lines(&answered("operations.ndjson")) {
        let id = before["operation"].as_str().unwrap();
        let answer = reqwest::get(format!("{}/operations/{id}", cluster.url("n1"))).await.unwrap();
        let now: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        for field in ["state", "changed", "recorded", "reason"] {
            assert_eq!(now[field], before[field], "{field} of {id}");
        }
    }
}

/// Returns the imported file, byte for byte.
fn imported() -> String {
    let line = |n: u32| {
        let id = if n == 40 { "0192f0c1-0000-7000-8000-00000000000a".to_owned() } else { n.to_string() };
        let kind = if n == 30 { "order.refused.v1" } else { "order.placed.v1" };
        let (subject, customer, country) = (n % 9, n % 5, if n.is_multiple_of(7) { "at" } else { "de" });
        let verdict = match n {
            11 | 22 => r#", "verdict": "set-aside""#,
            13 => r#", "verdict": "skip""#,
            30 => r#", "verdict": "retry""#,
            _ => "",
        };
        let data = match n {
            41 => r#""data_base64": "AAECAw==""#.to_owned(),
            _ => format!(r#""data": {{"n": {n}, "more": "{}"{verdict}}}"#, "x".repeat(760)),
        };
        let attributes = format!(r#""specversion": "1.0", "id": "{id}", "source": "/shop", "type": "{kind}""#);
        let tags = format!("customer={customer},country={country}");
        format!(r#"{{{attributes}, "subject": "order-{subject}", "tags": "{tags}", {data}}}"#) + "\n"
    };
    (0..80).map(line).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn p1_a_data_directory_of_the_previous_version_gives_the_same_state() {
    for with_checkpoint in [true, false] {
        let mut cluster = TestCluster::new(EVENER);
        let data = cluster.folder().join("n1");
        copy(&Path::new(OLDER).join("n1"), &data);
        let mut checkpoints = 0;
        for file in
            ["checkpoint", "checkpoint.previous"].map(|file| data.join(file)).iter().filter(|file| file.exists())
        {
            checkpoints += 1;
            if !with_checkpoint {
                fs::remove_file(file).unwrap();
            }
        }
        assert!(checkpoints > 0, "that version wrote at least one");
        cluster.add_node("n1", &["--chunk-bytes", "64KiB"]).await;
        let output = fs::read_to_string(cluster.log("n1")).unwrap();
        let passed_over = output.matches("a checkpoint cannot be read; replaying the log instead").count();
        assert_eq!(passed_over, if with_checkpoint { checkpoints } else { 0 }, "{output}");
        check_opened(&cluster).await;

        // The stored events are recognized, and the log continues after them.
        let head = cluster.status().await.head;
        let file = cluster.folder().join("imported.ndjson");
        fs::write(&file, imported()).unwrap();
        cluster.run_ok(&["import", &file.display().to_string(), "--batch", "7"]).await;
        assert_eq!(cluster.status().await.head, head);
        cluster.run_ok(&["append", "order-1", "--type", "order.paid.v1"]).await;
        assert_eq!(cluster.status().await.head, head + 1);
        assert_eq!(cluster.stop("n1").await, Some(0));

        // This version reads its own continuation of the log.
        cluster.start("n1").await;
        assert_eq!(cluster.status().await.head, head + 1);
        let output = fs::read_to_string(cluster.log("n1")).unwrap();
        assert_eq!(output.matches("a checkpoint cannot be read").count(), passed_over);
    }
}
