use std::sync::Arc;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    net::TcpStream,
    time::{Duration, Instant},
};

use super::*;
use crate::http::{
    body::{BODY_BYTES_PER_SECOND_MIN, BODY_PAUSE_MAX},
    tests::{Small, router},
};

/// The client's end of a connection.
struct Knocker {
    stream: DuplexStream,
    begun: Instant,
}

impl Knocker {
    fn new() -> Self {
        let (stream, ours) = duplex(1 << 16);
        tokio::spawn(connection(ours, router(Arc::new(Small::default())), CancellationToken::new()));
        Self { stream, begun: Instant::now() }
    }

    async fn say(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    /// Returns everything received until the connection is closed, and the time until then.
    async fn hear(&mut self) -> (String, Duration) {
        let mut heard = String::new();
        self.stream.read_to_string(&mut heard).await.unwrap();
        (heard, self.begun.elapsed())
    }

    /// Returns the answer up to and including `end`.
    async fn hear_until(&mut self, end: &str) -> String {
        let mut heard = Vec::new();
        while !String::from_utf8_lossy(&heard).contains(end) {
            let byte = self.stream.read_u8().await;
            heard.push(byte.unwrap_or_else(|_| panic!("{} ended", String::from_utf8_lossy(&heard))));
        }
        String::from_utf8(heard).unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn p10_a_connection_without_a_complete_head_is_closed() {
    for half in ["", "GET /livez HTTP/1.1\r\nhost: localhost\r\nx-more: "] {
        let mut knocker = Knocker::new();
        knocker.say(half).await;
        let (heard, after) = knocker.hear().await;
        assert!(!heard.contains("200") && after >= HEAD_WAIT && after < HEAD_WAIT * 2, "{after:?}: {heard}");
    }
}

#[tokio::test(start_paused = true)]
async fn p10_a_head_that_is_too_long_is_refused() {
    let mut knocker = Knocker::new();
    knocker.say("GET /livez HTTP/1.1\r\nx-long: ").await;
    // The server stops reading before the end.
    let _ = knocker.stream.write_all(&[b'x'; 2 * HEAD_BYTES_MAX]).await;
    let (heard, after) = knocker.hear().await;
    assert!(heard.starts_with("HTTP/1.1 431") && after < HEAD_WAIT, "{after:?}: {heard}");
}

#[tokio::test(start_paused = true)]
async fn p10_a_body_that_pauses_is_refused() {
    let mut knocker = Knocker::new();
    knocker.say("POST /events HTTP/1.1\r\nhost: localhost\r\ncontent-length: 4000000\r\n\r\n{\"events\":[").await;
    let (heard, after) = knocker.hear().await;
    assert!(heard.starts_with("HTTP/1.1 408") && heard.contains("EV0108"), "{heard}");
    assert!(after >= BODY_PAUSE_MAX && after < BODY_PAUSE_MAX * 2, "{after:?}");
}

#[tokio::test(start_paused = true)]
async fn p10_a_body_that_is_too_slow_is_refused() {
    let mut knocker = Knocker::new();
    knocker.say("POST /events HTTP/1.1\r\nhost: localhost\r\ncontent-length: 4000000\r\n\r\n").await;
    let (mut reading, mut writing) = tokio::io::split(knocker.stream);
    let trickle = tokio::spawn(async move {
        while writing.write_all(b" ").await.is_ok() {
            tokio::time::sleep(BODY_PAUSE_MAX / 4).await;
        }
    });
    let mut heard = String::new();
    reading.read_to_string(&mut heard).await.unwrap();
    let after = knocker.begun.elapsed();
    assert!(heard.contains("EV0108") && after < BODY_PAUSE_MAX * 2, "{after:?}: {heard}");
    trickle.abort();
}

#[tokio::test(start_paused = true)]
async fn a_long_body_at_the_minimum_rate_is_accepted() {
    let mut knocker = Knocker::new();
    let chunks = 20;
    let event = r#"{"events":[{"id":"1","source":"s","type":"t"}]}"#;
    let length = chunks * BODY_BYTES_PER_SECOND_MIN + event.len();
    knocker.say(&format!("POST /events HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n")).await;
    for _ in 0..chunks {
        tokio::time::sleep(Duration::from_secs(1)).await;
        knocker.say(&" ".repeat(BODY_BYTES_PER_SECOND_MIN)).await;
    }
    knocker.say(event).await;
    let heard = knocker.hear_until("\"next\":1").await;
    assert!(heard.starts_with("HTTP/1.1 200") && knocker.begun.elapsed() > BODY_PAUSE_MAX, "{heard}");
}

#[tokio::test(start_paused = true)]
async fn a_stream_stays_open_while_the_client_reads() {
    let mut knocker = Knocker::new();
    knocker.say("GET /page/live HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    let mut heard = 0;
    while knocker.begun.elapsed() < HEAD_WAIT * 3 {
        knocker.hear_until("\n\n\r\n").await;
        heard += 1;
    }
    assert!(heard > 30, "{heard}");
}

/// A server with a maximum of two connections.
struct Narrow {
    address: std::net::SocketAddr,
    stop: CancellationToken,
    serving: tokio::task::JoinHandle<()>,
    metrics: Metrics,
}

impl Narrow {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let (router, metrics) = (router(Arc::new(Small::default())), Metrics::default());
        let serving = tokio::spawn(serve(listener, router, 2, metrics.clone(), stop.clone()));
        Self { address, stop, serving, metrics }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }
}

/// Sends a request, and returns the answer up to `end`, or until the connection is closed.
async fn ask(stream: &mut TcpStream, path: &str, end: &str) -> String {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").as_bytes()).await.unwrap();
    let mut heard = Vec::new();
    while !heard.ends_with(end.as_bytes()) && stream.read_buf(&mut heard).await.is_ok_and(|bytes| bytes > 0) {}
    String::from_utf8(heard).unwrap()
}

#[tokio::test]
async fn p10_a_connection_beyond_the_maximum_is_refused_and_served_again_once_another_ends() {
    let server = Narrow::start().await;
    let (mut first, mut second) = (server.connect().await, server.connect().await);
    for stream in [&mut first, &mut second] {
        assert!(ask(stream, "/processors", "[]").await.starts_with("HTTP/1.1 200"));
    }
    let heard = ask(&mut server.connect().await, "/processors", "never").await;
    assert!(heard.starts_with("HTTP/1.1 503") && heard.contains("2 connections are open already"), "{heard}");
    assert!(heard.contains("connection: close"), "{heard}");
    assert_eq!(server.metrics.connections.get(), 2);
    drop(first);
    while !ask(&mut server.connect().await, "/processors", "[]").await.starts_with("HTTP/1.1 200") {}
    server.stop.cancel();
    server.serving.await.unwrap();
    assert_eq!(second.read(&mut [0]).await.unwrap(), 0, "an idle connection is closed at the end");
}

#[tokio::test]
async fn health_checks_are_answered_beyond_the_maximum_of_connections() {
    let server = Narrow::start().await;
    let mut silent = Vec::new();
    for _ in 0..2 + 2 * RESERVED_MAX {
        silent.push(server.connect().await);
    }
    let heard = ask(&mut server.connect().await, "/livez", "never").await;
    assert!(heard.starts_with("HTTP/1.1 200") && heard.ends_with("alive\n"), "{heard}");
    assert!(heard.contains("connection: close"), "{heard}");
    let heard = ask(&mut server.connect().await, "/readyz", "never").await;
    assert!(heard.starts_with("HTTP/1.1 503") && heard.ends_with("leader: no leader\n"), "{heard}");
    let heard = ask(&mut server.connect().await, "/healthz?verbose", "never").await;
    assert!(heard.contains("ok   storage"), "{heard}");
    let heard = ask(&mut server.connect().await, "/metrics", "never").await;
    assert!(heard.contains("2 connections are open already"), "{heard}");
}

#[tokio::test(start_paused = true)]
async fn p10_the_connection_of_a_client_that_reads_nothing_is_closed() {
    let small = Arc::new(Small::default());
    let event = format!(r#"{{"events":[{{"id":"1","source":"s","type":"t","data":"{}"}}]}}"#, "x".repeat(900_000));
    let (stream, ours) = duplex(1 << 10);
    let serving = tokio::spawn(connection(ours, router(small), CancellationToken::new()));
    let (mut reading, mut writing) = tokio::io::split(stream);
    let head = format!("POST /events HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n", event.len());
    writing.write_all((head + &event + "GET /events HTTP/1.1\r\nhost: localhost\r\n\r\n").as_bytes()).await.unwrap();
    let begun = Instant::now();
    serving.await.unwrap();
    assert!((WRITE_WAIT..WRITE_WAIT * 2).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    let mut heard = Vec::new();
    reading.read_to_end(&mut heard).await.unwrap();
    assert!(heard.len() <= 1 << 10, "only what fits the buffer was sent: {}", heard.len());
}

#[test]
fn half_of_the_files_are_left_to_the_log() {
    assert!((1..=CONNECTIONS_MAX).contains(&connections_max()));
}
