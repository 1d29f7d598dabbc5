//! A client over HTTP: the same requests and answers as a node's own, from far away.
//!
//! It tries the next server when one fails, goes where a leader is said to be, and repeats what ended
//! *unknown* with the same ids, so that its caller sees an error only when it has to decide something.

mod lane;
mod lines;
mod reading;
mod servers;
mod stranger;

use std::{sync::Arc, time::Duration};

use evener_core::{
    append::{self, Appended},
    id::{ContextId, Position},
};
use futures::future::BoxFuture;
use tokio::time::Instant;

use crate::{
    codes,
    doubt::Doubt,
    engine::{Answers, Consistency, Page, Read, Reply, Request, Verb},
    error::ApiError,
    wire::{Call, decode},
};

pub use lane::{BATCH_APPENDS, BATCH_BYTES, BATCHES_IN_FLIGHT};
pub use reading::{Line, Reading};

use lane::Lane;
use servers::Servers;

/// One try may take this long: a server answers *unknown* by itself before.
const TRY: Duration = Duration::from_secs(15);
/// A server that does not take a connection in this time is passed over.
const CONNECT: Duration = Duration::from_secs(2);
/// Where no server ever answered, giving up is quick: usually the address is wrong.
const FIRST_ANSWER: Duration = Duration::from_secs(1);
/// The longest pause between two rounds over all servers.
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// Several servers of one cluster. A clone shares connections and batches.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    servers: Servers,
    patience: Duration,
    lane: Arc<std::sync::OnceLock<Lane>>,
}

impl Client {
    /// A client of the cluster that these servers belong to: `URL[,URL…]`. Nothing is sent yet.
    ///
    /// # Errors
    /// Where one is no `http://` address.
    pub fn connect(urls: &str) -> Result<Self, ApiError> {
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .read_timeout(TRY)
            .tcp_nodelay(true)
            .no_proxy()
            .build()
            .map_err(|error| ApiError::new(&codes::BUG, format!("failed to set up the HTTP client: {error}")))?;
        let patience = Duration::from_secs(15);
        Ok(Self { http, servers: Servers::parse(urls)?, patience, lane: Arc::default() })
    }

    /// How long a request is repeated before its error is given back.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self.lane = Arc::default();
        self
    }

    /// Asks, and repeats as long as that helps.
    pub async fn ask(&self, request: &Request) -> Result<Reply, ApiError> {
        let (verb, call) = Call::of(request);
        self.send(verb, &call).await
    }

    /// Appends, together with whatever else of this client waits to be appended.
    pub async fn append(&self, request: &append::Request) -> Result<Appended, ApiError> {
        let lane = self.lane.get_or_init(|| Lane::start(Self { lane: Arc::default(), ..self.clone() }));
        lane.append(request, self.patience).await
    }

    /// Reads events line by line, in one view, however often a server fails on the way.
    #[must_use]
    pub fn read(&self, read: Read) -> Reading {
        Reading::new(self.clone(), read, false)
    }

    /// Follows events as they come, however often a server fails on the way.
    #[must_use]
    pub fn tail(&self, read: Read) -> Reading {
        Reading::new(self.clone(), read, true)
    }

    /// The position of the next event there will be.
    pub async fn head(&self, context: ContextId, consistency: Consistency) -> Result<Position, ApiError> {
        // A read's marker tells what was seen: only one that begins behind everything sees all of it at once.
        let from = Position(u64::MAX >> 1);
        let mut reading = self.read(Read { context, from, limit: Some(0), consistency, ..Read::default() });
        while let Some(line) = reading.next().await? {
            if let Line::Progress { marker, .. } = line {
                return Ok(marker);
            }
        }
        Err(ApiError::new(&codes::NOT_EVENER, "the server answered a read without its last line"))
    }

    /// Which of the servers is not ready, and why; none if all are.
    pub async fn not_ready(&self) -> Option<String> {
        for server in self.servers.all() {
            match self.http.get(format!("{server}/readyz")).send().await {
                Ok(answer) if answer.status().is_success() => {}
                Ok(answer) if answer.status() == reqwest::StatusCode::SERVICE_UNAVAILABLE => {
                    return Some(format!("{server}: {}", answer.text().await.unwrap_or_default().trim()));
                }
                Ok(answer) => return Some(stranger::odd(&server, answer.status()).message),
                Err(error) if error.is_connect() || error.is_timeout() => {
                    return Some(format!("{server}: {}", root(&error)));
                }
                Err(error) => return Some(format!("{server}: {}; {}", root(&error), stranger::tip(&server))),
            }
        }
        None
    }

    async fn send(&self, verb: Verb, call: &Call) -> Result<Reply, ApiError> {
        let mut tries = Tries::new(self.patience);
        loop {
            let error = match self.open(verb, call).await {
                Ok(response) => match response.bytes().await {
                    Ok(body) => return decode(verb, &body),
                    // The request arrived; what came of it is not known.
                    Err(error) => self.lost(verb, &error),
                },
                Err(error) => error,
            };
            tries.next(error, &self.servers).await?;
        }
    }

    /// Sends to the server whose turn it is; an answer that is no success is an error.
    async fn open(&self, verb: Verb, call: &Call) -> Result<reqwest::Response, ApiError> {
        let row = verb.row();
        let url = format!("{}{}", self.servers.current(), call.target(verb));
        let method = row.method.parse().expect("the table has proper methods");
        let mut request = self.http.request(method, url);
        if row.method != "GET" {
            request = request.header("content-type", "application/json").body(call.body.clone());
        }
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => return Err(self.unsent(verb, &error).await),
        };
        self.servers.answered();
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let body = response.bytes().await.unwrap_or_default();
        Err(serde_json::from_slice(&body).unwrap_or_else(|_| stranger::odd(&self.servers.current(), status)))
    }

    async fn unsent(&self, verb: Verb, error: &reqwest::Error) -> ApiError {
        let server = self.servers.current();
        if error.is_connect() {
            let message = format!("failed to connect to {server}: {}", root(error));
            return ApiError::new(&codes::NO_SERVER, message);
        }
        if !self.servers.ever_answered() && stranger::is_one(&self.http, &server).await {
            return stranger::taken_for_a_server(&server);
        }
        self.lost(verb, error)
    }

    fn lost(&self, verb: Verb, error: &reqwest::Error) -> ApiError {
        let (words, server) = (verb.row().words, self.servers.current());
        let message = format!("lost {server} while waiting for its answer to `{words}`: {}", root(error));
        ApiError::new(&codes::OUTCOME_UNKNOWN, message)
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
    /// All of a read at once.
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

/// The tries of one request: goes on to the next server, and pauses between rounds.
struct Tries {
    begun: Instant,
    patience: Duration,
    pause: Duration,
    in_round: usize,
    /// So many servers in a row have said that it will take longer than anybody waits here.
    in_vain: usize,
    doubt: Doubt,
}

impl Tries {
    fn new(patience: Duration) -> Self {
        let (begun, pause) = (Instant::now(), Duration::from_millis(25));
        Self { begun, patience, pause, in_round: 0, in_vain: 0, doubt: Doubt::default() }
    }

    /// Prepares the next try, or gives `error` back.
    async fn next(&mut self, error: ApiError, servers: &Servers) -> Result<(), ApiError> {
        if !error.may_repeat() {
            return Err(error);
        }
        self.doubt.note(&error);
        // Also where this request is given up: whoever asks again begins with another server.
        servers.failed(&error);
        let patience = if servers.ever_answered() { self.patience } else { self.patience.min(FIRST_ANSWER) };
        let told = error.retry_after_ms.map(|ms| Duration::from_millis(u64::from(ms)));
        let too_late = told.is_some_and(|told| self.begun.elapsed() + told > patience);
        self.in_vain = if too_late { self.in_vain + 1 } else { 0 };
        if self.begun.elapsed() >= patience || self.in_vain >= servers.len() {
            return Err(std::mem::take(&mut self.doubt).told(error));
        }
        self.in_round += 1;
        if self.in_round >= servers.len() || told.is_some() {
            tokio::time::sleep(told.unwrap_or(self.pause).min(PAUSE_MAX)).await;
            self.pause = (self.pause * 2).min(PAUSE_MAX);
            self.in_round = 0;
        }
        Ok(())
    }
}

/// What lies at the bottom of an error: the system's own words.
fn root(error: &dyn std::error::Error) -> String {
    let mut at = error;
    while let Some(source) = at.source() {
        at = source;
    }
    at.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_has_no_patience_begins_elsewhere_the_next_time() {
        let servers = Servers::parse("http://a:1,http://b:2").unwrap();
        let gone = ApiError::new(&codes::OUTCOME_UNKNOWN, "it is gone");
        assert!(Tries::new(Duration::ZERO).next(gone, &servers).await.is_err());
        assert_eq!(servers.current(), "http://b:2");
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_told_by_all_servers_that_it_takes_longer_than_it_waits_waits_no_more() {
        let servers = Servers::parse("http://a:1,http://b:2").unwrap();
        servers.answered();
        let long = || ApiError::new(&codes::NO_LEADER, "no majority").retry_after(Duration::from_secs(20));
        let mut tries = Tries::new(Duration::from_secs(15));
        assert!(tries.next(long(), &servers).await.is_ok(), "the other one may have a majority");
        assert!(tries.next(long(), &servers).await.unwrap_err().is(&codes::NO_LEADER));

        let mut tries = Tries::new(Duration::from_secs(15));
        let unknown = ApiError::new(&codes::OUTCOME_UNKNOWN, "it was sent");
        assert!(tries.next(unknown, &servers).await.is_ok());
        assert!(tries.next(long(), &servers).await.is_ok());
        assert!(tries.next(long(), &servers).await.unwrap_err().is(&codes::OUTCOME_UNKNOWN), "it may have happened");
    }
}
