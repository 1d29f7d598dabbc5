//! Tests of the routes over a small log in memory: the paths, statuses and forms of the contract.

use std::{collections::BTreeSet, sync::Arc};

use evener_core::{
    append::{Appended, Refusal},
    event::Event,
    id::{Position, Revision},
    time::Timestamp,
};
use futures::future::BoxFuture;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    client::{Client, Line},
    cloudevent,
    engine::{Change, Operation, OperationState, Page, Read, Reply, Request as Asked, What},
    event::Stored,
    health::Check,
};

/// Answers like a node from a list of events, with two events per page.
#[derive(Default)]
pub(super) struct Small {
    log: Mutex<Vec<Stored>>,
    pub changes: Mutex<Vec<Change>>,
    trouble: Mutex<Vec<ApiError>>,
    /// Whether tails wait for ever.
    quiet: std::sync::atomic::AtomicBool,
}

impl Small {
    fn append(&self, events: &[Event]) -> Result<Appended, ApiError> {
        if let Some(trouble) = self.trouble.lock().pop() {
            return Err(trouble);
        }
        let mut log = self.log.lock();
        let head = Position(log.len() as u64);
        let known = |event: &Event| log.iter().find(|stored| stored.event.id == event.id).map(|s| s.position);
        if let Some(first) = known(&events[0]) {
            return Ok(Appended { first, next: Position(first.0 + events.len() as u64), repeated: true });
        }
        if let Some(position) = events.iter().find_map(known) {
            return Err(Refusal::Duplicate { stored: vec![(events[1].id, position)], other: vec![] }.into());
        }
        for event in events {
            let position = Position(log.len() as u64);
            let revision = event.stream.as_ref().map(|_| Revision(0));
            log.push(Stored { position, revision, recorded: Timestamp(1_000), event: event.clone() });
        }
        Ok(Appended { first: head, next: Position(log.len() as u64), repeated: false })
    }

    fn page(&self, read: &Read) -> Page {
        let log = self.log.lock();
        let to = read.to.unwrap_or(Position(log.len() as u64)).min(Position(log.len() as u64));
        let wanted = log.iter().filter(|stored| (read.from..to).contains(&stored.position));
        let mut wanted: Vec<_> = wanted.filter(|stored| read.criteria.matches_event(&stored.event)).cloned().collect();
        if read.backwards {
            wanted.reverse();
        }
        let limit = read.limit.unwrap_or(u64::MAX).min(2) as usize;
        let end = wanted.len() <= limit;
        wanted.truncate(limit);
        let next = match (end, wanted.last()) {
            (false, Some(last)) if read.backwards => last.position,
            (false, Some(last)) => last.position.next(),
            _ if read.backwards => read.from,
            _ => to.max(read.from),
        };
        Page { events: wanted, next, marker: to, to, end }
    }
}

impl Answers for Small {
    fn call(&self, request: Asked) -> BoxFuture<'_, Result<Reply, ApiError>> {
        Box::pin(async move {
            match request {
                Asked::Append(append) => self.append(&append.events).map(Reply::Appended),
                Asked::AppendMany(appends) => {
                    Ok(Reply::Many(appends.iter().map(|append| self.append(&append.events)).collect()))
                }
                Asked::Read(read) => Ok(Reply::Page(self.page(&read))),
                Asked::Tail(_) if self.quiet.load(std::sync::atomic::Ordering::Relaxed) => std::future::pending().await,
                Asked::Tail(read) => Ok(Reply::Page(Page { end: false, ..self.page(&read) })),
                Asked::Processors => Ok(Reply::Processors(vec![])),
                Asked::DeadLetters(_) => Ok(Reply::DeadLetters(vec![])),
                Asked::Change(change) => {
                    let operation = change.operation;
                    if matches!(change.what, What::Pause(_)) {
                        let error = ApiError::new(&codes::UNKNOWN_PROCESSOR, "there is no processor p");
                        return Err(error.operation(operation));
                    }
                    let dry_run = change.dry_run;
                    self.changes.lock().push(change);
                    let state = OperationState::Done;
                    Ok(Reply::Operation(Operation {
                        operation,
                        state,
                        why: None,
                        changed: Some(1),
                        events: None,
                        dry_run,
                        note: Default::default(),
                    }))
                }
                Asked::Processor(_)
                | Asked::Status
                | Asked::ClusterStatus
                | Asked::Operations(_)
                | Asked::Operation(_) => Err(ApiError::new(&codes::UNKNOWN_OPERATION, "it is not in this test")),
            }
        })
    }
}

/// Serves `small` and returns its address.
pub(super) async fn serve_small(small: Arc<Small>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, router(small), CONNECTIONS_MAX, Metrics::default(), CancellationToken::new()));
    format!("http://{address}")
}

/// All routes over `small`.
pub(super) fn router(small: Arc<Small>) -> Router {
    let trouble = Some("no leader".to_owned());
    let health: Health = Arc::new(move || {
        let storage = Check { name: "storage", vital: true, trouble: None, note: None };
        vec![storage, Check { name: "leader", vital: false, trouble: trouble.clone(), note: None }]
    });
    Api::new(small, Metrics::default(), health, Hosts::default()).router()
}

struct Http(String, reqwest::Client);

impl Http {
    async fn start() -> (Arc<Small>, Self) {
        let small = Arc::new(Small::default());
        let url = serve_small(small.clone()).await;
        (small, Self(url, reqwest::Client::new()))
    }

    async fn ask(&self, method: &str, path: &str, body: impl Into<reqwest::Body>) -> (u16, String) {
        let request = self.1.request(method.parse().unwrap(), format!("{}{path}", self.0));
        let response = request.body(body).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    async fn json(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let (status, text) = self.ask(method, path, body.to_string()).await;
        (status, serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text} is JSON")))
    }
}

fn events(ids: std::ops::Range<u32>) -> Value {
    let event =
        |id: u32| json!({"id": id.to_string(), "source": "/s", "type": format!("t{}", id % 2), "data": {"n": id}});
    json!({"events": ids.map(event).collect::<Vec<_>>()})
}

fn request(ids: std::ops::Range<u32>) -> evener_core::append::Request {
    crate::wire::append::parse(events(ids).to_string().as_bytes()).unwrap()
}

#[tokio::test]
async fn a_repeated_append_is_answered_with_the_same_positions() {
    let (_, http) = Http::start().await;
    assert_eq!(http.json("POST", "/events", &events(0..3)).await, (200, json!({"first": 0, "next": 3})));
    let repeated = json!({"first": 0, "next": 3, "repeated": true});
    assert_eq!(http.json("POST", "/events", &events(0..3)).await, (200, repeated));
}

#[tokio::test]
async fn a_single_cloudevent_is_accepted_in_its_own_content_type() {
    let (small, http) = Http::start().await;
    let event = r#"{"specversion":"1.0","id":"1","source":"/s","type":"t"}"#;
    let request = http.1.post(format!("{}/events", http.0)).header("content-type", "application/cloudevents+json");
    let answer = request.body(event).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.text().await.unwrap().as_str()), (200, r#"{"first":0,"next":1}"#));
    assert_eq!(small.log.lock().len(), 1);
}

#[tokio::test]
async fn a_cloudevent_is_accepted_in_every_mode_of_the_http_binding() {
    let (small, http) = Http::start().await;
    let post = async |headers: &[(&str, &str)], body: &'static str| {
        let request = http.1.post(format!("{}/events", http.0)).body(body);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let common = [("ce-specversion", "1.0"), ("ce-source", "/s"), ("ce-type", "t"), ("ce-subject", "a%20b")];
    let binary = [&common[..], &[("ce-id", "1"), ("content-type", "application/json")]].concat();
    assert_eq!(post(&binary, r#"{"n":1}"#).await, (200, r#"{"first":0,"next":1}"#.to_owned()));
    let one = r#"{"specversion":"1.0","id":"2","source":"/s","type":"t"}"#;
    let kind = [("content-type", "Application/CloudEvents+JSON; charset=UTF-8")];
    assert_eq!(post(&kind, one).await, (200, r#"{"first":1,"next":2}"#.to_owned()));
    let kind = [("content-type", "application/cloudevents-batch+json")];
    let two = r#"[{"id":"3","source":"/s","type":"t"},{"id":"4","source":"/s","type":"t"}]"#;
    assert_eq!(post(&kind, two).await, (200, r#"{"first":2,"next":4}"#.to_owned()));
    let (status, text) = post(&[("content-type", "application/cloudevents+avro")], "x").await;
    assert!(status == 415 && text.contains("EV0109"), "{text}");
    let (status, text) = post(&common, "").await;
    assert!(status == 400 && text.contains("`id` is missing"), "{text}");
    let log = small.log.lock();
    assert_eq!(
        (log.len(), log[0].event.stream.as_deref(), log[0].event.data.as_slice()),
        (4, Some("a b"), &b"{\"n\":1}"[..])
    );
}

#[tokio::test]
async fn a_query_is_decoded_once_on_its_way_to_the_criteria() {
    let (_, http) = Http::start().await;
    let kinds = ["a+b", "a b", "a%2Bb", "a,b", "a", "50%", "a&b=c#d"];
    let events = kinds.iter().enumerate().map(|(n, kind)| {
        let id = n.to_string();
        json!({"id": id, "source": "/s", "type": kind, "tags": "mail=a+b@x.org"})
    });
    let body = json!({"events": events.collect::<Vec<_>>()});
    assert_eq!(http.json("POST", "/events", &body).await.0, 200);
    let found = async |query: &str| {
        let (status, text) = http.ask("GET", &format!("/events?{query}"), "").await;
        assert_eq!(status, 200, "{text}");
        let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).unwrap()["position"].as_u64());
        events.collect::<Vec<_>>()
    };
    for (n, kind) in kinds.iter().enumerate() {
        assert_eq!(found(&format!("types={}", crate::wire::query::encoded(kind))).await, [n as u64], "{kind}");
    }
    assert_eq!(found("types=a%2Bb,50%25").await, [0, 5]);
    assert_eq!(found("types=a+b").await, [1], "a plus is a space, as forms write it");
    assert_eq!(found("tags=mail%3Da%2Bb%40x.org&types=a").await, [4]);
    let (status, text) = http.ask("GET", "/events?stream=", "").await;
    assert!(status == 400 && text.contains("'stream' has an empty value"), "{text}");
}

/// Starts a server that answers each request that has a name in its path with that name.
async fn echo_of_names() -> String {
    let echo = |path: RawPathParams| async move { path.iter().map(|(_, value)| value).collect::<String>() };
    let mut router: Router = Router::new();
    for row in TABLE.iter().filter(|row| row.path.contains("{name}")) {
        router =
            router.route(row.path, on(MethodFilter::try_from(row.method.parse::<Method>().unwrap()).unwrap(), echo));
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, router, CONNECTIONS_MAX, Metrics::default(), CancellationToken::new()));
    format!("http://{address}")
}

#[tokio::test]
async fn every_valid_name_works_with_every_verb() {
    use proptest::{
        strategy::{Strategy, ValueTree},
        test_runner::TestRunner,
    };
    let (url, http) = (echo_of_names().await, reqwest::Client::new());
    let (mut runner, any) = (TestRunner::deterministic(), "\\PC{1,12}|[-.%2eE/?#&=+~a]{1,6}");
    let random = (0..200).map(|_| any.new_tree(&mut runner).unwrap().current());
    let odd =
        ["...", ".p", "p.", "%2e", "%2e%2e", "%2F", "100%", "a?b", "a#b", "a&b=c", "a+b", "a;b", "a:b", "ü", "{name}"];
    let names: Vec<String> = odd.map(str::to_owned).into_iter().chain(random).collect();
    let names = names.iter().filter(|name| evener_core::name::check(name).is_ok());
    let rows = || TABLE.iter().filter(|row| row.path.contains("{name}"));
    assert!(rows().count() > 10 && names.clone().count() > 100);
    for (n, name) in names.enumerate() {
        // All verbs for the odd names; one verb in turn for each random name.
        for row in rows().enumerate().filter(|(nth, _)| n < odd.len() || nth % 16 == n % 16).map(|(_, row)| row) {
            let call = Call { path: vec![name.clone()], ..Call::default() };
            let request = http.request(row.method.parse().unwrap(), format!("{url}{}", call.target(row.verb)));
            let answer = request.send().await.unwrap();
            assert_eq!(
                (answer.status().as_u16(), &answer.text().await.unwrap()),
                (200, name),
                "{} {}",
                row.method,
                row.path
            );
        }
    }
}

#[tokio::test]
async fn a_batch_is_answered_line_by_line() {
    let (_, http) = Http::start().await;
    let body = format!("{}\n{{\"events\":[{{}}]}}\n\n{}", events(0..1), events(1..3));
    let (status, text) = http.ask("POST", "/events/batch", body).await;
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((status, lines.len()), (200, 3));
    assert_eq!((&lines[0], &lines[2]), (&json!({"first": 0, "next": 1}), &json!({"first": 1, "next": 3})));
    assert_eq!(lines[1]["code"], "EV0105");
}

#[tokio::test]
async fn a_read_streams_all_pages_and_ends_with_the_next_position() {
    let (_, http) = Http::start().await;
    http.json("POST", "/events", &events(0..5)).await;
    let read = async |path: &str| {
        let (status, text) = http.ask("GET", path, "").await;
        assert_eq!(status, 200, "{text}");
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let (last, events) = lines.split_last().unwrap();
        let positions: Vec<u64> = events.iter().map(|event| event["position"].as_u64().unwrap()).collect();
        (positions, last.clone())
    };
    assert_eq!(read("/events").await, (vec![0, 1, 2, 3, 4], json!({"next": 5, "marker": 5})));
    assert_eq!(read("/events?from=1&limit=3").await.0, [1, 2, 3]);
    assert_eq!(read("/events?backwards=true&limit=3").await.0, [4, 3, 2]);
    assert_eq!(read("/events?types=t1").await, (vec![1, 3], json!({"next": 5, "marker": 5})));
    assert_eq!(read("/events?types=none").await, (vec![], json!({"next": 5, "marker": 5})));
    let (status, text) = http.ask("POST", "/events/read", r#"{"criteria":[{"types":["t0"]}],"from":1}"#).await;
    assert_eq!((status, text.lines().count()), (200, 3));
}

#[tokio::test]
async fn errors_are_json_with_a_code_and_its_status() {
    let (_, http) = Http::start().await;
    let check = async |method: &str, path: &str, body: &str, status: u16, code: &str| {
        let (got, text) = http.ask(method, path, body.to_owned()).await;
        let error: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{method} {path}: {text}"));
        assert_eq!((got, error["code"].as_str().unwrap()), (status, code), "{method} {path}");
        assert!(!error["hint"].as_str().unwrap().is_empty());
    };
    check("GET", "/nowhere", "", 404, "EV0103").await;
    check("PUT", "/events", "", 405, "EV0104").await;
    check("POST", "/events", "{", 400, "EV0100").await;
    check("GET", "/events?form=1", "", 400, "EV0101").await;
    check("GET", "/status?x=1", "", 400, "EV0101").await;
    check("GET", "/events/tail?backwards=true", "", 400, "EV0101").await;
    check("POST", "/processors/p/promote", "{}", 501, "EV0900").await;
    check("POST", "/backup", "", 501, "EV0900").await;
    check("GET", "/operations/five", "", 400, "EV0101").await;
    check("POST", "/processors/p/pause", "{}", 404, "EV0300").await;
    http.json("POST", "/events", &events(1..2)).await;
    check("POST", "/events", &events(0..2).to_string(), 409, "EV0202").await;
}

#[tokio::test]
async fn an_unknown_path_is_answered_with_the_probable_route() {
    let (_, http) = Http::start().await;
    let check = async |path: &str, meant: &str| {
        let (status, text) = http.ask("GET", path, "").await;
        assert!(status == 404 && text.contains(meant), "{path}: {text}");
    };
    check("/cluster", "did you mean GET /status/cluster?").await;
    check("/append", "did you mean POST /events?").await;
    check("/dead-letters", "did you mean GET /processors/{name}/dead-letters?").await;
    check("/processors/", "after the last / is missing").await;
    check("/nowhere", "see GET /openapi.json").await;
}

#[tokio::test]
async fn a_refused_change_is_an_operation_too() {
    let (small, http) = Http::start().await;
    let id = uuid::Uuid::from_u128(7);
    let (_, refused) = http.json("POST", "/processors/p/pause", &json!({"operation": id})).await;
    assert_eq!((&refused["operation"], &refused["state"]), (&json!(id), &json!("refused")));
    assert_eq!(refused["why"], refused["message"]);
    let body = json!({"operation": id, "dry_run": true, "reason": "why"});
    let done = json!({"operation": id, "state": "done", "why": null, "changed": 1, "dry_run": true});
    assert_eq!(http.json("POST", "/processors/p/resume", &body).await, (200, done));
    assert_eq!(small.changes.lock()[0].reason.as_deref(), Some("why"));
}

#[tokio::test]
async fn a_body_is_refused_by_its_length_before_it_is_read() {
    let (_, http) = Http::start().await;
    let long = vec![b' '; body::OTHER_BYTES_MAX + 1];
    let (status, text) = http.ask("POST", "/events/read", long.clone()).await;
    assert_eq!((status, text.contains("EV0102")), (413, true), "{text}");
    let (status, text) = http.ask("POST", "/events", vec![b' '; 5 << 20]).await;
    assert_eq!((status, text.contains("event_bytes_max")), (413, true), "{text}");
    let unknown_length = futures::stream::iter([Ok::<_, std::io::Error>(long.clone()), Ok(long)]);
    let (status, text) = http.ask("POST", "/events/read", reqwest::Body::wrap_stream(unknown_length)).await;
    assert_eq!((status, text.contains("EV0102")), (413, true), "{text}");
}

#[tokio::test]
async fn a_page_of_another_site_may_not_write() {
    let (small, http) = Http::start().await;
    let post = async |origins: &[&[u8]]| {
        let mut request = http.1.post(format!("{}/events", http.0));
        for origin in origins {
            request = request.header("origin", *origin);
        }
        request.body(events(0..1).to_string()).send().await.unwrap().status().as_u16()
    };
    let own = http.0.as_bytes();
    for foreign in [&[b"http://evil.example".as_slice()] as &[_], &[own, b"http://evil.example"], &[b"http://\xff"]] {
        assert_eq!(post(foreign).await, 403);
    }
    assert_eq!(small.log.lock().len(), 0);
    assert_eq!(post(&[own]).await, 200);
}

#[tokio::test]
async fn every_route_is_served_only_under_the_nodes_own_names() {
    let (small, http) = Http::start().await;
    for row in TABLE {
        let path = row.path.replace("{name}", "p").replace("{id}", "x");
        let method = row.method.parse().unwrap();
        let request = http.1.request(method, format!("{}{path}", http.0)).header("host", "evil.example:4750");
        let response = request.header("origin", "http://evil.example:4750").body("{}").send().await.unwrap();
        assert_eq!(response.status().as_u16(), 403, "{} {path}", row.method);
    }
    for path in ["/", "/livez", "/readyz", "/healthz", "/metrics", "/openapi.json", "/nothing"] {
        let response = http.1.get(format!("{}{path}", http.0)).header("host", "evil.example").send().await.unwrap();
        assert_eq!(response.status().as_u16(), 403, "{path}");
        assert!(response.text().await.unwrap().contains("EV0702"), "{path}");
    }
    assert_eq!((small.log.lock().len(), small.changes.lock().len()), (0, 0));
    let named = http.1.get(format!("{}/livez", http.0)).header("host", "localhost:9").send().await.unwrap();
    assert_eq!(named.status().as_u16(), 200);
}

#[tokio::test]
async fn health_checks_answer_with_one_line() {
    let (_, http) = Http::start().await;
    assert_eq!(http.ask("GET", "/livez", "").await, (200, "alive\n".to_owned()));
    assert_eq!(http.ask("GET", "/readyz", "").await, (503, "leader: no leader\n".to_owned()));
    let verbose = (503, "ok   storage\nFAIL leader: no leader\n".to_owned());
    assert_eq!(http.ask("GET", "/healthz?verbose", "").await, verbose);
}

#[tokio::test]
async fn the_page_may_run_nothing_but_its_own_script() {
    let (_, http) = Http::start().await;
    let response = http.1.get(&http.0).send().await.unwrap();
    let policy = response.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.contains("default-src 'none'; script-src 'self'"), "{policy}");
    let page = response.text().await.unwrap();
    assert!(!page.contains("<script>") && !page.contains("style=") && !page.contains(" onclick"));
    let links = page.split('"').filter(|part| part.starts_with('/'));
    for link in links.filter(|link| !link.starts_with("/status")).collect::<BTreeSet<_>>() {
        assert_eq!(http.ask("GET", link, "").await.0, 200, "{link}");
    }
}

#[tokio::test]
async fn the_page_receives_the_reason_if_the_node_cannot_answer() {
    let (_, http) = Http::start().await;
    let mut response = http.1.get(format!("{}/page/live", http.0)).send().await.unwrap();
    let received = response.chunk().await.unwrap().unwrap();
    assert_eq!(received, "event: trouble\ndata: it is not in this test\n\n");
}

#[tokio::test]
async fn the_document_has_every_route_and_marks_those_not_built() {
    let (_, http) = Http::start().await;
    let (_, document) = http.json("GET", "/openapi.json", &Value::Null).await;
    let mut listed = BTreeSet::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            listed.insert((method.to_ascii_uppercase(), path.clone()));
            assert!(operation["summary"].is_string(), "{method} {path}");
            if path == "/events/tail" {
                continue; // it never ends
            }
            // Invalid ids and bodies: built routes refuse them, others answer 501.
            let target = path.replace(['{', '}'], "");
            let (status, text) = http.ask(&method.to_ascii_uppercase(), &target, "invalid").await;
            assert!(!text.contains("EV0103") && !text.contains("EV0104"), "{method} {path} is not a route: {text}");
            let not_yet = operation["x-not-yet"] == true;
            assert_eq!(
                (status == 501, operation["responses"]["501"].is_object()),
                (not_yet, not_yet),
                "{path}: {text}"
            );
            assert_eq!(operation["responses"]["200"].is_object(), !not_yet, "{path}");
        }
    }
    for row in TABLE {
        assert!(listed.contains(&(row.method.to_owned(), row.path.to_owned())), "{} {}", row.method, row.path);
    }
    let text = document.to_string();
    for name in text.split("#/components/schemas/").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        assert!(document["components"]["schemas"][name].is_object(), "{name}");
    }
}

#[tokio::test]
async fn requests_are_counted_by_route_and_status() {
    let (_, http) = Http::start().await;
    http.ask("GET", "/processors", "").await;
    http.ask("GET", "/processors/a/dead-letters", "").await;
    let (status, text) = http.ask("GET", "/metrics", "").await;
    assert_eq!(status, 200);
    assert!(text.contains(r#"evener_http_requests_total{route="/processors",status="200"} 1"#), "{text}");
    assert!(text.contains(r#"route="/processors/{name}/dead-letters""#), "{text}");
}

#[tokio::test]
async fn metrics_have_the_accepted_form() {
    let (_, http) = Http::start().await;
    let ask = async |accept: &str| {
        let answer = http.1.get(format!("{}/metrics", http.0)).header("accept", accept).send().await.unwrap();
        let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
        (kind, answer.text().await.unwrap())
    };
    let (kind, text) = ask("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3").await;
    assert!(kind.starts_with("application/openmetrics-text; version=1.0.0") && text.ends_with("# EOF\n"), "{kind}");
    let (kind, text) = ask("*/*").await;
    assert!(kind.starts_with("text/plain; version=0.0.4") && !text.contains("# EOF"), "{kind}");
    assert!(text.contains("# TYPE evener_http_requests_total counter"), "{text}");
    assert!(text.contains("\n# TYPE evener_http_connections gauge\n"), "{text}");
}

#[tokio::test]
async fn a_tail_at_the_head_is_answered_at_once_and_kept_alive() {
    let (small, http) = Http::start().await;
    small.quiet.store(true, std::sync::atomic::Ordering::Relaxed);
    let mut response = http.1.get(format!("{}/events/tail", http.0)).send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut received = String::new();
    while !received.contains(": nothing yet\n\n") {
        received += std::str::from_utf8(&response.chunk().await.unwrap().unwrap()).unwrap();
    }
    let begin = ": events follow\n\nid: 0\nevent: progress\ndata: {\"next\":0,\"marker\":0}\n\n";
    assert!(received.starts_with(begin), "{received}");
}

#[tokio::test]
async fn a_tail_continues_with_new_events() {
    let (small, http) = Http::start().await;
    small.append(&request(0..3).events).unwrap();
    let client = Client::connect(&http.0).unwrap();
    let mut tail = client.tail(Read { from: Position(1), ..Read::default() });
    let mut seen = Vec::new();
    while seen.len() < 4 {
        match tail.next().await.unwrap().unwrap() {
            Line::Event(position, json) => {
                assert_eq!(cloudevent::stored_from_json(&json).unwrap().position, position);
                seen.push(position.0);
            }
            Line::Progress { next: Position(3), .. } => {
                small.append(&request(3..5).events).unwrap();
            }
            Line::Progress { .. } => {}
        }
    }
    assert_eq!(seen, [1, 2, 3, 4]);
}

#[tokio::test]
async fn a_client_retries_and_uses_the_next_server() {
    let (small, http) = Http::start().await;
    let unreachable = "127.0.0.1:1";
    let client = Client::connect(&format!("{unreachable},{}", http.0)).unwrap();
    small.trouble.lock().push(ApiError::new(&codes::OUTCOME_UNKNOWN, "lost"));
    small.trouble.lock().push(ApiError::new(&codes::NO_LEADER, "none"));
    assert_eq!(client.append(&request(0..2)).await.unwrap().next, Position(2));
    assert_eq!(client.ask(&Asked::Append(request(0..2))).await.unwrap(), {
        Reply::Appended(Appended { first: Position(0), next: Position(2), repeated: true })
    });
    small.trouble.lock().push(ApiError::new(&codes::INVALID_APPEND, "no"));
    assert_eq!(client.append(&request(2..3)).await.unwrap_err().code, "EV0205");
}

#[tokio::test]
async fn an_append_moves_to_the_next_server_if_its_server_has_no_majority() {
    let ((minority, cut_off), (_, well)) = (Http::start().await, Http::start().await);
    let none = ApiError::new(&codes::NO_LEADER, "no majority");
    minority.trouble.lock().resize(1_000, none);
    let client = Client::connect(&format!("{},{}", cut_off.0, well.0)).unwrap();
    assert_eq!(client.append(&request(0..1)).await.unwrap().next, Position(1));
    assert_eq!(minority.trouble.lock().len(), 999, "it got one request");
}

#[tokio::test]
async fn concurrent_appends_are_sent_in_batches() {
    let (small, http) = Http::start().await;
    let client = Client::connect(&http.0).unwrap();
    let appends: Vec<_> = (0..500).map(|n| request(n..n + 1)).collect();
    let answers = futures::future::join_all(appends.iter().map(|append| client.append(append))).await;
    let firsts: BTreeSet<u64> = answers.into_iter().map(|answer| answer.unwrap().first.0).collect();
    assert_eq!((firsts.len(), small.log.lock().len()), (500, 500));
    let (_, metrics) = http.ask("GET", "/metrics", "").await;
    let line = metrics.lines().find(|line| line.contains(r#"requests_total{route="/events/batch""#)).unwrap();
    let requests: u32 = line.rsplit(' ').next().unwrap().parse().unwrap();
    assert!(requests <= 8, "{requests} requests for 500 appends");
}

#[tokio::test]
async fn the_error_without_an_answer_names_the_server_and_the_flag() {
    let client = Client::connect("127.0.0.1:1").unwrap();
    let error = client.ask(&Asked::Processors).await.unwrap_err();
    assert_eq!((error.code.as_ref(), error.exit_code()), ("EV0601", 7));
    assert!(error.message.contains("http://127.0.0.1:1") && error.hint.contains("--server"), "{error:?}");
}
