//! The HTTP interface that scripts rely on: the routes of real nodes, with the exact format of their answers.
//! Successive requests go to different nodes.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicUsize, Ordering},
};

use evener_tests::test_cluster::TestCluster;
use serde_json::{Value, json};

use super::{EVENER, RECORD};

struct Script {
    urls: Vec<String>,
    asked: AtomicUsize,
}

impl Script {
    fn new(cluster: &TestCluster) -> Self {
        Self { urls: ["n1", "n2", "n3"].map(|name| cluster.url(name)).into(), asked: AtomicUsize::new(0) }
    }

    async fn text(&self, method: &str, path: &str, body: Value) -> (u16, String) {
        let node = self.asked.fetch_add(1, Ordering::Relaxed) % self.urls.len();
        let url = format!("{}{path}", self.urls[node]);
        let mut request = reqwest::Client::new().request(method.parse().unwrap(), url);
        if !body.is_null() {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    async fn ask(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let (status, text) = self.text(method, path, body).await;
        (status, serde_json::from_str(&text).unwrap_or_else(|error| panic!("{method} {path}: {error}: {text}")))
    }

    async fn get(&self, path: &str) -> Value {
        let (status, answer) = self.ask("GET", path, Value::Null).await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    /// Returns the lines of a read.
    async fn read(&self, query: &str) -> Vec<Value> {
        let (status, text) = self.text("GET", &format!("/events{query}"), Value::Null).await;
        assert_eq!(status, 200, "{text}");
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    async fn append(&self, body: Value) -> (u16, Value) {
        self.ask("POST", "/events", body).await
    }
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap_or_else(|| panic!("no object: {value}")).keys().map(String::as_str).collect()
}

fn has(value: &Value, fields: &str) {
    let missing: Vec<&str> = fields.split(' ').filter(|field| value.get(field).is_none()).collect();
    assert!(missing.is_empty(), "{missing:?} is missing in {value}");
}

fn event(id: &str, tags: &str) -> Value {
    let data = json!({"n": 1});
    json!({"specversion": "1.0", "id": id, "source": "/t", "type": "t.v1", "subject": "s", "tags": tags, "data": data})
}

#[tokio::test(flavor = "multi_thread")]
async fn p2_p3_appends_and_reads_answer_in_the_documented_format() {
    let cluster = TestCluster::three_nodes(EVENER, &[]).await;
    let script = Script::new(&cluster);
    let two = json!({"events": [event("a", "k=1"), event("b", "k=2")]});
    assert_eq!(script.append(two.clone()).await, (200, json!({"first": 0, "next": 2})));
    for _ in 0..3 {
        let (status, again) = script.append(two.clone()).await;
        assert_eq!((status, &again["first"], &again["next"]), (200, &json!(0), &json!(2)), "the same on any node");
    }

    let refused = async |body: Value, code: &str| {
        let (status, error) = script.append(body).await;
        assert_eq!((status, &error["code"], &error["class"]), (409, &json!(code), &json!("conflict")), "{error}");
        has(&error, "message hint conflict");
        error
    };
    let partly = refused(json!({"events": [event("b", "k=2"), event("c", "")]}), "EV0202").await;
    assert_eq!(partly["conflict"]["stored"][0]["given"], json!("b"));
    refused(json!({"events": [event("a", "k=other")]}), "EV0203").await;
    let behind = json!({"events": [event("c", "")], "expect": [{"stream": "s", "revision": 0}]});
    assert_eq!(refused(behind, "EV0201").await["conflict"]["revision"], json!(1));
    refused(json!({"events": [event("c", "")], "expect": [{"stream": "s", "revision": "none"}]}), "EV0201").await;
    let seen = |marker| json!([{"criteria": [{"types": ["t.v1"], "tags": ["k=2"]}], "marker": marker}]);
    let late = refused(json!({"events": [event("c", "")], "conditions": seen(0)}), "EV0200").await;
    assert_eq!((&late["conflict"]["position"], &late["conflict"]["type"]), (&json!(1), &json!("t.v1")));
    let fresh = json!({"events": [event("c", "")], "conditions": seen(2), "expect": [{"stream": "s", "revision": 1}]});
    assert_eq!(script.append(fresh).await, (200, json!({"first": 2, "next": 3})));

    let bytes = json!({"id": "d", "source": "/t", "type": "bin", "data_base64": "AP8=", "mine": "x"});
    assert_eq!(script.append(json!({"events": [bytes]})).await.0, 200);
    for _ in 0..3 {
        let lines = script.read("").await;
        assert_eq!(lines.len(), 5, "four events and the trailer");
        has(&lines[0], "specversion id source type subject tags data position recorded stream revision");
        assert_eq!((&lines[0]["id"], &lines[1]["revision"]), (&json!("a"), &json!(1)));
        assert_eq!((&lines[3]["data_base64"], &lines[3]["mine"]), (&json!("AP8="), &json!("x")));
        assert_eq!(lines[4], json!({"next": 4, "marker": 4}));
    }
    let ids = async |query: &str| -> (Vec<String>, Value) {
        let mut lines = script.read(query).await;
        let end = lines.pop().unwrap();
        (lines.iter().map(|line| line["id"].as_str().unwrap().to_owned()).collect(), end)
    };
    assert_eq!(ids("?tags=k%3D2").await, (vec!["b".into()], json!({"next": 4, "marker": 4})));
    assert_eq!(ids("?stream=s&limit=2").await, (vec!["a".into(), "b".into()], json!({"next": 2, "marker": 2})));
    assert_eq!(ids("?types=bin,t.v1&from=1&to=2").await, (vec!["b".into()], json!({"next": 2, "marker": 2})));
    assert_eq!(ids("?stream=s&backwards=true&limit=1&consistency=local").await.0, ["c"]);
    assert_eq!(ids("?types=none").await, (vec![], json!({"next": 4, "marker": 4})));
    let full = json!({"criteria": [{"types": ["bin"]}, {"tags": ["k=1"]}], "from": 0});
    let (status, text) = script.text("POST", "/events/read", full).await;
    assert_eq!((status, text.lines().count()), (200, 3), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn processors_members_and_status_answer_in_the_documented_format() {
    let cluster = TestCluster::three_nodes(EVENER, &[]).await;
    let (script, folder) = (Script::new(&cluster), cluster.new_folder("seen"));
    let definition = json!({
        "name": "p", "exec": format!("exec {RECORD} {}", folder.display()), "segments": 4, "start": "beginning",
        "types": ["t.v1"], "on_error": "set-aside", "retry": {"first": "100ms", "max": "1s", "attempts": 2},
        "reason": "a test",
    });
    let (status, made) = script.ask("POST", "/processors", definition.clone()).await;
    assert_eq!((status, &made["state"]), (200, &json!("done")), "{made}");
    assert_eq!(script.ask("POST", "/processors", definition).await.1["state"], json!("done"), "the same again");
    assert_eq!(script.append(json!({"events": [event("a", "")]})).await.0, 200);
    cluster.wait_passed("p").await;
    let shown = script.get("/processors/p").await;
    has(&shown, "name version state head segments set_aside");
    has(&shown["segments"][0], "id mask owner epoch token lag_events lag_seconds state attempt retry_at reason");
    assert_eq!(shown["set_aside"], json!({"sequences": 0, "letters": 0, "dead": 0}));
    assert_eq!(script.get("/processors").await[0]["name"], json!("p"));
    assert_eq!(script.get("/processors/p/dead-letters").await, json!([]));

    for verb in ["pause", "resume"] {
        let (status, answer) = script.ask("POST", &format!("/processors/p/{verb}"), json!({"reason": "x"})).await;
        assert_eq!((status, &answer["state"]), (200, &json!("done")), "{verb}: {answer}");
        let known = script.get(&format!("/operations/{}", answer["operation"].as_str().unwrap())).await;
        assert_eq!((&known["state"], &known["reason"]), (&json!("done"), &json!("x")));
        assert!(known["recorded"].as_str().is_some_and(|at| at.ends_with('Z')), "{known}");
    }
    let paused = script.get("/operations?processor=p&kind=pause&limit=1").await;
    has(&paused[0], "operation state why changed recorded index principal kind subject reason");
    assert_eq!((&paused[0]["kind"], &paused[0]["reason"]), (&json!("pause"), &json!("x")));
    assert_eq!((&paused[0]["subject"], &paused[0]["principal"]), (&json!({"processor": "p"}), &Value::Null));
    let last = cluster.run_ok(&["operations", "--processor", "p", "--limit", "1"]).await;
    assert!(last.starts_with("ID ") && last.contains("  resume  p        done     x\n"), "{last}");
    let shown = cluster.run_ok(&["operations", "show", &last.lines().nth(1).unwrap()[..8]]).await;
    assert!(shown.starts_with("resume p: done\nreason     x\n"), "{shown}");
    let history = cluster.run_ok(&["processor", "show", "p"]).await;
    assert!(history.contains("\nlast operations (all: evener operations --processor p):\nWHEN "), "{history}");
    let changes = [
        ("split", json!({})),
        ("split", json!({"segment": 1})),
        ("merge", json!({})),
        ("move", json!({"segment": 0, "node": "n1"})),
        ("reset", json!({"to": {"position": 0}, "context": [1]})),
    ];
    for (verb, body) in changes {
        let (status, answer) = script.ask("POST", &format!("/processors/p/{verb}"), body).await;
        assert_eq!((status, &answer["state"]), (200, &json!("done")), "{verb}: {answer}");
    }
    let (status, error) = script.ask("POST", "/processors/p/promote", json!({})).await;
    assert_eq!((status, &error["code"]), (501, &json!("EV0900")), "{error}");
    for path in ["/processors/none", "/processors/none/dead-letters", "/nothing"] {
        let (status, error) = script.ask("GET", path, Value::Null).await;
        assert_eq!(status, 404, "{path}: {error}");
        assert_eq!(keys(&error), BTreeSet::from(["class", "code", "hint", "message"]), "{path}");
    }

    has(&script.get("/status").await, "node version uptime_s role term leader head applied durable state_hash actors");
    let actors = script.get("/status").await;
    has(&actors["actors"][0], "name kind phase parent queue restarts last_error since");
    let cluster = script.get("/status/cluster").await;
    has(&cluster, "cluster leader members unowned");
    has(&cluster["members"][0], "name id role peer http alive applied capabilities");
    for path in ["/livez", "/readyz", "/healthz?verbose", "/metrics", "/openapi.json", "/"] {
        assert_eq!(script.text("GET", path, Value::Null).await.0, 200, "{path}");
    }
    let (status, answer) = script.ask("DELETE", "/processors/p", Value::Null).await;
    assert_eq!((status, &answer["state"]), (200, &json!("done")), "{answer}");
}
