//! A client with several servers, some of which accept connections and do not answer, as a stopped process does.

use std::time::Duration;

use axum::{
    Router,
    extract::State,
    routing::{get, post},
};
use evener_core::{append, event::Event, id::Position};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Barrier, Notify},
};

use super::*;
use crate::engine::{Change, Processor, What};

/// The longest time of a request with one unresponsive server: far less than [`ATTEMPT_TIMEOUT`].
const SOON: Duration = Duration::from_secs(10);
/// Time that a busy server takes for an answer: longer than [`CHECK_AFTER`].
const LONG: Duration = Duration::from_secs(4);

async fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    (listener, url)
}

/// Accepts connections and does not answer; only the first gets `first`.
async fn frozen(first: &'static str) -> String {
    let (listener, url) = listener().await;
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        if !first.is_empty() {
            let _ = stream.read(&mut [0; 4_096]).await;
            stream.write_all(first.as_bytes()).await.unwrap();
        }
        let mut taken: Vec<TcpStream> = vec![stream];
        while let Ok((stream, _)) = listener.accept().await {
            taken.push(stream);
        }
    });
    url
}

async fn server(routes: Router) -> String {
    let (listener, url) = listener().await;
    tokio::spawn(async move { axum::serve(listener, routes).await });
    url
}

/// A server without processors and events.
async fn empty() -> String {
    let end = || async { "{\"next\":0,\"marker\":0}\n" };
    server(Router::new().route("/processors", get(|| async { "[]" })).route("/events/read", axum::routing::post(end)))
        .await
}

fn append() -> Request {
    let event = Event { kind: "t.v1".into(), source: "/t".into(), ..Event::default() };
    Request::Append(append::Request { events: vec![event], ..append::Request::default() })
}

#[tokio::test]
async fn requests_move_from_a_frozen_server_to_the_next_and_stay_there() {
    let client = Client::connect(&format!("{},{}", frozen("").await, empty().await)).unwrap();
    let begun = Instant::now();
    assert_eq!(client.ask(&Request::Processors).await.unwrap(), Reply::Processors(Vec::<Processor>::new()));
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    let (begun, hasty) =
        (Instant::now(), Client::connect(&client.servers.all().join(",")).unwrap().within(CHECK_AFTER));
    assert!(hasty.ask(&Request::Processors).await.is_ok(), "a short deadline leaves time for the second server");
    assert!(begun.elapsed() < CHECK_AFTER, "{:?}", begun.elapsed());
    let again = Instant::now();
    assert_eq!(client.head(ContextId::DEFAULT, Consistency::Local).await.unwrap(), Position(0));
    assert!(again.elapsed() < CHECK_AFTER, "{:?}", again.elapsed());
}

#[tokio::test]
async fn a_slow_server_that_is_alive_may_take_its_time() {
    let slow = || async {
        tokio::time::sleep(LONG).await;
        "[]"
    };
    let slow = server(Router::new().route("/processors", get(slow)).route("/livez", get(|| async { "alive" }))).await;
    let client = Client::connect(&format!("{slow},http://127.0.0.1:1")).unwrap();
    assert!(client.ask(&Request::Processors).await.is_ok());
    assert_eq!(client.servers.current(), slow);
}

#[tokio::test]
async fn if_all_servers_are_frozen_only_a_read_certainly_changed_nothing() {
    let (a, b) = (frozen("").await, frozen("").await);
    let client = || Client::connect(&format!("{a},{b}")).unwrap();
    let (looking, hasty) = (client(), client().with_retry_time(Duration::ZERO));
    let (add, pause) = (append(), Change::new(What::Pause("p".into())).into());
    let (looked, added, paused) = tokio::join!(looking.ask(&Request::Processors), hasty.ask(&add), hasty.ask(&pause));
    let error = looked.unwrap_err();
    assert_eq!(error.exit_code(), 7, "{error}");
    assert!(error.message.contains(&a) && error.message.contains(&b) && !error.message.contains('`'), "{error}");
    assert_eq!([added, paused].map(|answer| answer.unwrap_err().exit_code()), [5, 5]);
}

#[tokio::test]
async fn a_read_continues_on_another_server_if_its_server_freezes() {
    let first = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n11\r\n{\"position\": 10}\n\r\n";
    let client = Client::connect(&format!("{},{}", frozen(first).await, empty().await)).unwrap();
    let mut reading = client.read(Read::default());
    let begun = Instant::now();
    assert!(matches!(reading.next().await.unwrap(), Some(Line::Event(Position(10), _))));
    assert!(matches!(reading.next().await.unwrap(), Some(Line::Progress { .. })));
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn an_unknown_outcome_stays_unknown_after_an_unreachable_server() {
    let client = Client::connect(&format!("{},http://127.0.0.1:1", frozen("").await)).unwrap();
    let error = client.with_retry_time(CHECK_AFTER * 2).ask(&append()).await.unwrap_err();
    assert_eq!(error.exit_code(), 5, "{error}");
    assert!(error.message.contains("and then: failed to connect"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_request_to_a_single_frozen_server_fails_after_one_attempt() {
    let client = Client::connect(&frozen("").await).unwrap();
    let begun = Instant::now();
    assert_eq!(client.read(Read::default()).next().await.unwrap_err().exit_code(), 7);
    assert!((ATTEMPT_TIMEOUT..ATTEMPT_TIMEOUT + SOON).contains(&begun.elapsed()), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_exact_time_is_a_deadline() {
    let time = Duration::from_millis(1_500);
    let client = Client::connect(&frozen("").await).unwrap().within(time);
    for request in [append(), Request::Processors] {
        let (begun, error) = (Instant::now(), client.ask(&request).await.unwrap_err());
        assert!(error.message.ends_with("within 1.5 s"), "{error}");
        assert!((time..time * 2).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    }
    let begun = Instant::now();
    assert_eq!(client.read(Read::default()).next().await.unwrap_err().exit_code(), 7);
    assert!((time..time * 2).contains(&begun.elapsed()), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_request_with_a_deadline_reports_why_no_server_answered() {
    let client = Client::connect("127.0.0.1:1").unwrap().within(Duration::from_millis(100));
    let error = client.ask(&Request::Processors).await.unwrap_err();
    assert!(error.message.contains("Connection refused"), "{error}");
}

#[tokio::test]
async fn not_ready_names_the_unresponsive_servers() {
    let servers = format!("127.0.0.1:1,{}", frozen("").await);
    let why = Client::connect(&servers).unwrap().not_ready().await.unwrap();
    for word in ["http://127.0.0.1:1: Connection refused", "; http://", "has not answered"] {
        assert!(why.contains(word), "all are named: {why}");
    }
}

/// Refuses each append of a batch, as a server without a majority does, once so many batches have arrived. Notifies of
/// each arrival.
async fn minority(together: usize) -> (String, Arc<Notify>) {
    let (all_there, came) = (Arc::new(Barrier::new(together)), Arc::new(Notify::new()));
    let state = (all_there, came.clone());
    let refuse = |State((all_there, came)): State<(Arc<Barrier>, Arc<Notify>)>, batch: String| async move {
        came.notify_one();
        all_there.wait().await;
        let error = ApiError::new(&codes::NO_LEADER, "no majority");
        format!("{}\n", serde_json::to_string(&error).unwrap()).repeat(batch.lines().count())
    };
    (server(Router::new().route("/events/batch", post(refuse)).with_state(state)).await, came)
}

/// Accepts one request, and closes.
async fn closes_after_request() -> String {
    let (listener, url) = listener().await;
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        drop(listener);
        let _ = stream.read(&mut [0; 4_096]).await;
    });
    url
}

#[tokio::test]
async fn batches_that_are_refused_together_move_to_the_next_server_once() {
    let ((refuses, came), next) = (minority(2).await, empty().await);
    let client = Client::connect(&format!("{refuses},{next}")).unwrap().with_retry_time(Duration::ZERO);
    let request = append::Request::default();
    let second = async {
        // The first is under way: this one travels in a batch of its own.
        came.notified().await;
        client.append(&request).await
    };
    let (first, second) = tokio::join!(client.append(&request), second);
    assert!(first.is_err() && second.is_err());
    assert_eq!(client.server(), next, "and not back to the server that refused them");
}

#[tokio::test]
async fn an_unknown_outcome_of_a_batch_stays_unknown_after_a_refusal() {
    let client = Client::connect(&format!("{},{}", closes_after_request().await, minority(1).await.0)).unwrap();
    let error = client.with_retry_time(CHECK_AFTER / 4).append(&append::Request::default()).await.unwrap_err();
    assert_eq!(error.exit_code(), 5, "{error}");
}
