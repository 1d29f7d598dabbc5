//! A client over HTTP, with the same requests and answers as an embedded node.
//!
//! It tries the next server when one fails, follows leader hints, and repeats requests whose outcome is
//! *unknown* with the same ids, so that its caller sees an error only when it has to decide something.

mod liveness;
mod not_evener;
mod servers;

mod retries;

mod batch_queue;
pub(crate) mod lines;
mod reading;

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use evener_core::{
    append::{self, Appended},
    id::{ContextId, Position},
};
use futures::future::{BoxFuture, join_all};
use tokio::time::Instant;

use crate::{
    codes,
    engine::{Answers, Consistency, Effect, Page, Read, Reply, Request, Verb},
    error::ApiError,
    unknown_outcome::UnknownOutcome,
    wire::{Call, decode},
};

pub use batch_queue::{BATCH_APPENDS, BATCH_BYTES, BATCHES_IN_FLIGHT};
pub use reading::{Line, Reading};

use batch_queue::BatchQueue;
use liveness::{CHECK_AFTER, NoAnswer};
use retries::{Retries, RetryTime};
use servers::Servers;

/// Timeout of one attempt: a server answers *unknown* by itself before.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(15);
/// A server that does not accept a connection within this time is skipped.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Hint for a server that accepts requests and does not answer.
const NO_ANSWER_HINT: &str = "its process may be stopped, or its machine overloaded: check it there; if --server names \
                           several, the next one is tried";
/// The default time for which a request is retried.
const RETRY_TIME: Duration = Duration::from_secs(15);

/// An answer, its server, and the unknown outcome of earlier attempts.
struct Answer {
    reply: Reply,
    server: String,
    unknown: UnknownOutcome,
}

/// Several servers of one cluster. A clone shares connections and batches.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    servers: Servers,
    retry_time: RetryTime,
    queue: Arc<std::sync::OnceLock<BatchQueue>>,
}

impl Client {
    /// Returns a client of the cluster that these servers belong to: `URL[,URL…]`. Sends nothing yet.
    ///
    /// # Errors
    /// If one is not an `http://` address.
    pub fn connect(urls: &str) -> Result<Self, ApiError> {
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(ATTEMPT_TIMEOUT)
            .tcp_nodelay(true)
            .no_proxy()
            .build()
            .map_err(|error| ApiError::new(&codes::BUG, format!("failed to set up the HTTP client: {error}")))?;
        Ok(Self {
            http,
            servers: Servers::parse(urls)?,
            retry_time: RetryTime::UpTo(RETRY_TIME),
            queue: Arc::default(),
        })
    }

    /// Sets the time for which a request is retried before it fails.
    #[must_use]
    pub fn with_retry_time(self, retry_time: Duration) -> Self {
        Self { retry_time: RetryTime::UpTo(retry_time), queue: Arc::default(), ..self }
    }

    /// Makes a request fail after exactly this time, even during an attempt, and not earlier, as servers may still
    /// start. An answer that has begun may take longer.
    #[must_use]
    pub fn within(self, time: Duration) -> Self {
        Self { retry_time: RetryTime::Exactly(time), queue: Arc::default(), ..self }
    }

    /// Sends a request, and retries it as long as that may help.
    pub async fn ask(&self, request: &Request) -> Result<Reply, ApiError> {
        let (verb, call) = Call::of(request);
        self.send(verb, &call).await
    }

    /// Appends in a batch with the other waiting appends of this client.
    pub async fn append(&self, request: &append::Request) -> Result<Appended, ApiError> {
        let queue = self.queue.get_or_init(|| BatchQueue::start(Self { queue: Arc::default(), ..self.clone() }));
        let (RetryTime::UpTo(retry_time) | RetryTime::Exactly(retry_time)) = self.retry_time;
        queue.append(request, retry_time).await
    }

    /// Reads events line by line, from one consistent view even if servers fail on the way.
    #[must_use]
    pub fn read(&self, read: Read) -> Reading {
        Reading::new(self.clone(), read, false)
    }

    /// Follows events as they arrive, even if servers fail on the way.
    #[must_use]
    pub fn tail(&self, read: Read) -> Reading {
        Reading::new(self.clone(), read, true)
    }

    /// Returns the position of the next event.
    pub async fn head(&self, context: ContextId, consistency: Consistency) -> Result<Position, ApiError> {
        // A read's marker covers what it has seen: only a read that begins at the head covers everything at once.
        let from = Position(u64::MAX >> 1);
        let mut reading = self.read(Read { context, from, limit: Some(0), consistency, ..Read::default() });
        while let Some(line) = reading.next().await? {
            if let Line::Progress { marker, .. } = line {
                return Ok(marker);
            }
        }
        Err(ApiError::new(&codes::NOT_EVENER, "the server answered a read without its last line"))
    }

    /// Returns the server for the next request.
    #[must_use]
    pub fn server(&self) -> String {
        self.servers.current()
    }

    /// Makes the next request use another server: this one has answered, and cannot help.
    pub fn use_next_server(&self) {
        self.servers.advance(&self.servers.current());
    }

    /// Returns which of the servers are not ready, and why; none if all are ready. All are checked concurrently, so
    /// that several unresponsive ones take no longer than one.
    pub async fn not_ready(&self) -> Option<String> {
        let servers = self.servers.all();
        let reasons = join_all(servers.iter().map(|server| self.why_not_ready(server))).await;
        let reasons: Vec<String> = reasons.into_iter().flatten().collect();
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }

    async fn why_not_ready(&self, server: &str) -> Option<String> {
        Some(match self.http.get(format!("{server}/readyz")).timeout(CHECK_AFTER).send().await {
            Ok(answer) if answer.status().is_success() => return None,
            Ok(answer) if answer.status() == reqwest::StatusCode::SERVICE_UNAVAILABLE => {
                format!("{server}: {}", answer.text().await.unwrap_or_default().trim())
            }
            Ok(answer) => not_evener::unexpected_status(server, answer.status()).message,
            Err(error) if error.is_connect() => format!("{server}: {}", root_cause(&error)),
            Err(error) if error.is_timeout() => {
                format!("{server}: it accepts connections and has not answered within {CHECK_AFTER:?}")
            }
            Err(error) => format!("{server}: {}; {}", root_cause(&error), not_evener::port_hint(server)),
        })
    }

    async fn send(&self, verb: Verb, call: &Call) -> Result<Reply, ApiError> {
        self.request(verb, call).await.map(|answer| answer.reply)
    }

    async fn request(&self, verb: Verb, call: &Call) -> Result<Answer, ApiError> {
        let mut retries = Retries::new(self.retry_time);
        loop {
            let server = self.servers.current();
            let until = retries.until();
            let error = match self.open(&server, until, verb, call).await {
                Ok(response) => match self.answer_until(&server, until, response.bytes()).await {
                    Ok(Ok(body)) => {
                        return decode(verb, &body).map(|reply| Answer { reply, server, unknown: retries.unknown() });
                    }
                    // The request arrived; its outcome is not known.
                    Ok(Err(error)) => self.lost_connection(&server, verb, &error),
                    Err(no_answer) => self.no_answer(&server, verb, &no_answer),
                },
                Err(error) => error,
            };
            retries.next(error, &server, &self.servers).await?;
        }
    }

    /// Sends a request to `server`; an answer without a success status is an error.
    async fn open(
        &self,
        server: &str,
        until: Option<Instant>,
        verb: Verb,
        call: &Call,
    ) -> Result<reqwest::Response, ApiError> {
        let row = verb.entry();
        let method = row.method.parse().expect("the table has proper methods");
        let mut request = self.http.request(method, format!("{server}{}", call.target(verb)));
        if row.method != "GET" {
            request = request.header("content-type", "application/json").body(call.body.clone());
        }
        let response = match self.answer_until(server, until, request.send()).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(self.send_error(server, verb, &error).await),
            Err(no_answer) => return Err(self.no_answer(server, verb, &no_answer)),
        };
        self.servers.mark_answered(server);
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let body = response.bytes().await.unwrap_or_default();
        Err(serde_json::from_slice(&body).unwrap_or_else(|_| not_evener::unexpected_status(server, status)))
    }

    async fn send_error(&self, server: &str, verb: Verb, error: &reqwest::Error) -> ApiError {
        if error.is_connect() {
            if error.is_timeout() {
                self.servers.mark_unresponsive(server);
            }
            let message = format!("failed to connect to {server}: {}", root_cause(error));
            return ApiError::new(&codes::NO_SERVER, message);
        }
        let has_answered = error.is_timeout() || self.servers.ever_answered();
        if !has_answered && not_evener::speaks_no_http(&self.http, server).await {
            return not_evener::no_http_error(server);
        }
        self.lost_connection(server, verb, error)
    }

    /// Returns the error of a request that `server` accepted and did not answer.
    fn lost_connection(&self, server: &str, verb: Verb, error: &reqwest::Error) -> ApiError {
        if error.is_timeout() {
            return self.no_answer(server, verb, &NoAnswer(ATTEMPT_TIMEOUT));
        }
        lost_answer(verb, format!("lost {server} before it had answered: {}", root_cause(error)))
    }

    /// Returns the error of a request that timed out, and marks the server as unresponsive.
    fn no_answer(&self, server: &str, verb: Verb, no_answer: &NoAnswer) -> ApiError {
        self.servers.mark_unresponsive(server);
        let seconds = (no_answer.0.as_secs_f64() * 10.0).round() / 10.0;
        let message = format!("{server} accepted the request and has not answered within {seconds} s");
        let error = lost_answer(verb, message);
        if is_read_only(verb) { error.hint(NO_ANSWER_HINT) } else { error }
    }
}

impl Answers for Client {
    fn call(&self, request: Request) -> BoxFuture<'_, Result<Reply, ApiError>> {
        Box::pin(async move {
            match request {
                Request::Read(read) => self.page(read).await.map(Reply::Page),
                Request::Tail(read) => {
                    let local = Consistency::Local;
                    self.page(Read { consistency: local, ..read }).await.map(Reply::Page)
                }
                other => self.ask(&other).await,
            }
        })
    }
}

impl Client {
    /// Reads all events into one page.
    async fn page(&self, read: Read) -> Result<Page, ApiError> {
        let mut reading = self.read(read);
        let mut page = Page { end: true, ..Page::default() };
        while let Some(line) = reading.next().await? {
            match line {
                Line::Event(_, json) => {
                    page.events.push(crate::cloudevent::stored_from_json(&json).map_err(|error| {
                        ApiError::new(&codes::NOT_EVENER, format!("failed to read an event from the server: {error}"))
                    })?)
                }
                Line::Progress { next, marker } => (page.next, page.marker, page.to) = (next, marker, marker),
            }
        }
        Ok(page)
    }
}

/// Returns whether this verb only reads: then its request changed nothing if the answer is lost.
fn is_read_only(verb: Verb) -> bool {
    verb.entry().effect == Effect::Reads
}

/// Returns the error of a request whose answer is lost.
fn lost_answer(verb: Verb, message: String) -> ApiError {
    ApiError::new(if is_read_only(verb) { &codes::NO_SERVER } else { &codes::OUTCOME_UNKNOWN }, message)
}

/// Returns the message of an error's innermost source: the operating system's reason.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut at = error;
    while let Some(source) = at.source() {
        at = source;
    }
    at.to_string()
}
