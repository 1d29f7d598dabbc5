//! A client among servers of which some take connections and say nothing, as a process does that was stopped.

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

/// The longest wait of a caller that asks a few servers of which one does not answer: far less than [`TRY`].
const SOON: Duration = Duration::from_secs(10);
/// What a server needs that has much to do: longer than a silence.
const LONG: Duration = Duration::from_secs(4);

async fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    (listener, url)
}

/// Takes connections and says nothing; the first is given `first` before that.
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

/// Has no processors and no events.
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
async fn where_a_server_is_frozen_the_next_is_asked_and_asked_first_from_then_on() {
    let client = Client::connect(&format!("{},{}", frozen("").await, empty().await)).unwrap();
    let begun = Instant::now();
    assert_eq!(client.ask(&Request::Processors).await.unwrap(), Reply::Processors(Vec::<Processor>::new()));
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    let (begun, hasty) =
        (Instant::now(), Client::connect(&client.servers.all().join(",")).unwrap().within(CHECK_AFTER));
    assert!(hasty.ask(&Request::Processors).await.is_ok(), "who has little time still hears the second");
    assert!(begun.elapsed() < CHECK_AFTER, "{:?}", begun.elapsed());
    let again = Instant::now();
    assert_eq!(client.head(ContextId::DEFAULT, Consistency::Local).await.unwrap(), Position(0));
    assert!(again.elapsed() < CHECK_AFTER, "{:?}", again.elapsed());
}

#[tokio::test]
async fn a_server_that_lives_is_given_its_time() {
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
async fn where_all_are_frozen_a_look_did_nothing_and_anything_else_may_have_happened() {
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
async fn a_read_goes_on_elsewhere_where_its_server_freezes_half_way() {
    let first = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n11\r\n{\"position\": 10}\n\r\n";
    let client = Client::connect(&format!("{},{}", frozen(first).await, empty().await)).unwrap();
    let mut reading = client.read(Read::default());
    let begun = Instant::now();
    assert!(matches!(reading.next().await.unwrap(), Some(Line::Event(Position(10), _))));
    assert!(matches!(reading.next().await.unwrap(), Some(Line::Progress { .. })));
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn after_a_try_that_may_have_happened_no_dead_server_makes_it_undone() {
    let client = Client::connect(&format!("{},http://127.0.0.1:1", frozen("").await)).unwrap();
    let error = client.with_retry_time(CHECK_AFTER * 2).ask(&append()).await.unwrap_err();
    assert_eq!(error.exit_code(), 5, "{error}");
    assert!(error.message.contains("and then: failed to connect"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_lone_server_that_is_frozen_is_given_up_after_one_long_try() {
    let client = Client::connect(&frozen("").await).unwrap();
    let begun = Instant::now();
    assert_eq!(client.read(Read::default()).next().await.unwrap_err().exit_code(), 7);
    assert!((ATTEMPT_TIMEOUT..ATTEMPT_TIMEOUT + SOON).contains(&begun.elapsed()), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn who_says_how_long_is_answered_in_that_time() {
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
async fn who_says_how_long_is_told_why_nobody_answered() {
    let client = Client::connect("127.0.0.1:1").unwrap().within(Duration::from_millis(100));
    let error = client.ask(&Request::Processors).await.unwrap_err();
    assert!(error.message.contains("Connection refused"), "{error}");
}

#[tokio::test]
async fn who_waits_for_readiness_is_told_who_is_silent() {
    let servers = format!("127.0.0.1:1,{}", frozen("").await);
    let why = Client::connect(&servers).unwrap().not_ready().await.unwrap();
    for word in ["http://127.0.0.1:1: Connection refused", "; http://", "has not answered"] {
        assert!(why.contains(word), "all are named: {why}");
    }
}

/// Refuses each append of a batch, as a server without a majority does, and so many batches together. Tells of each
/// that has come.
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
async fn gone() -> String {
    let (listener, url) = listener().await;
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        drop(listener);
        let _ = stream.read(&mut [0; 4_096]).await;
    });
    url
}

#[tokio::test]
async fn batches_that_are_refused_together_go_on_together() {
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
    assert_eq!(client.server(), next, "and not back to who refused them");
}

#[tokio::test]
async fn an_append_of_a_batch_that_may_have_happened_is_not_undone_by_who_refuses_it_then() {
    let client = Client::connect(&format!("{},{}", gone().await, minority(1).await.0)).unwrap();
    let error = client.with_retry_time(CHECK_AFTER / 4).append(&append::Request::default()).await.unwrap_err();
    assert_eq!(error.exit_code(), 5, "{error}");
}
