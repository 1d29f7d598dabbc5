//! Appends that real nodes reject before they enter the log, and ids that round-trip.

use evener_tests::test_cluster::TestCluster;
use serde_json::{Value, json};

use super::EVENER;

async fn post(url: &str, body: &Value) -> (u16, Value) {
    let request = reqwest::Client::new().post(format!("{url}/events")).header("content-type", "application/json");
    let answer = request.body(body.to_string()).send().await.expect("the node answers");
    let status = answer.status().as_u16();
    (status, serde_json::from_str(&answer.text().await.expect("a body")).expect("it is JSON"))
}

fn event(source: &str, id: &str) -> Value {
    json!({"id": id, "source": source, "type": "t", "subject": "s", "data": {"n": 1}})
}

/// Returns the source and id of all events.
async fn named(cluster: &TestCluster) -> Vec<(String, String)> {
    let text = cluster.run_ok(&["export"]).await;
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("an event is JSON"));
    let text = |event: &Value, name: &str| event[name].as_str().unwrap_or_default().to_owned();
    lines.map(|event| (text(&event, "source"), text(&event, "id"))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undecodable_append_is_rejected_and_the_cluster_continues() {
    let cluster = TestCluster::three_nodes(EVENER, &[]).await;
    let item = json!({"types": vec![""; 256]});
    let far = json!([{"criteria": [{"types": ["t"]}], "marker": 9_000_000_000_000_000_u64}]);
    let condition = json!({"criteria": vec![item; 33], "marker": 9_000_000_000_000_000_u64});
    let poisonous = json!({"events": [event("/s", "1")], "conditions": vec![condition; 64]});
    for name in ["n1", "n2", "n3"] {
        let (status, error) = post(&cluster.url(name), &poisonous).await;
        assert_eq!((status, &error["code"]), (413, &json!("EV0106")), "{error}");
        assert!(error["message"].as_str().is_some_and(|text| text.starts_with("conditions_bytes_max")), "{error}");
        let (status, error) = post(&cluster.url(name), &json!({"events": [event("/s", "1")], "conditions": far})).await;
        assert_eq!((status, &error["code"]), (400, &json!("EV0206")), "{error}");
    }
    for (nth, name) in ["n1", "n2", "n3"].iter().enumerate() {
        let (status, answer) = post(&cluster.url(name), &json!({"events": [event("/s", &nth.to_string())]})).await;
        assert_eq!((status, &answer["first"]), (200, &json!(nth)), "{answer}");
    }
    assert_eq!(cluster.running().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_ids_round_trip_and_an_export_is_imported_once() {
    let cluster = TestCluster::three_nodes(EVENER, &[]).await;
    let lower = "0192f0c1-0000-7000-8000-00000000000a";
    let upper = lower.to_uppercase();
    let given = [("/a", lower), ("/b", lower), ("/a", upper.as_str()), ("/a", "7"), ("/b", "7")];
    for (nth, (source, id)) in given.iter().enumerate() {
        for name in ["n1", "n2"] {
            let (status, answer) = post(&cluster.url(name), &json!({"events": [event(source, id)]})).await;
            assert_eq!((status, &answer["first"]), (200, &json!(nth)), "{answer}");
        }
    }
    let expected: Vec<_> = given.iter().map(|(source, id)| ((*source).to_owned(), (*id).to_owned())).collect();
    assert_eq!(named(&cluster).await, expected);
    let other = json!({"id": lower, "source": "/b", "type": "other"});
    let (status, error) = post(&cluster.url("n3"), &json!({"events": [other]})).await;
    let conflict = json!({"position": 1, "other": [{"id": lower, "source": "/b", "position": 1}]});
    assert_eq!((status, &error["code"], &error["conflict"]), (409, &json!("EV0203"), &conflict), "{error}");

    let file = cluster.folder().join("export.ndjson");
    let exported = cluster.run_ok(&["export"]).await;
    std::fs::write(&file, &exported).expect("the folder is there");
    let file = file.to_str().expect("a path of letters").to_owned();
    let another = TestCluster::three_nodes(EVENER, &[]).await;
    for cluster in [&cluster, &another, &another] {
        cluster.run_ok(&["import", &file]).await;
        assert_eq!(named(cluster).await, expected, "nothing is stored twice");
    }
    // Of two events with the same id and different sources one is stored: the other is still sent.
    let (_, answer) = post(&another.url("n1"), &json!({"events": [event("/c", "8")]})).await;
    assert_eq!(answer["first"], json!(5), "{answer}");
    let lines = [event("/c", "8"), event("/d", "8")].map(|event| event.to_string()).join("\n");
    std::fs::write(&file, lines).expect("the folder is there");
    another.run_ok(&["import", &file]).await;
    assert_eq!(named(&another).await.len(), 7);
}
