//! A read or a tail that survives the failure of its server: the next server continues after the last event seen.

use evener_core::id::Position;
use futures::StreamExt;
use serde::Deserialize;

use super::{
    ATTEMPT_TIMEOUT, Client,
    lines::Lines,
    liveness::{CHECK_AFTER, NoAnswer, TAIL_CHECK_AFTER},
    retries::Retries,
};
use crate::{
    codes,
    engine::{Read, Request, Verb},
    error::ApiError,
    wire::{Call, read},
};

/// A line of a read's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// An event, with its position: the JSON object of the contract.
    Event(Position, String),
    /// How far the read has come; the last line of a read, and now and then in a tail.
    Progress {
        /// Position to continue from.
        next: Position,
        /// Marker for the conditions of an append: the read covers all events before it.
        marker: Position,
    },
}

/// A read in progress.
pub struct Reading {
    client: Client,
    read: Read,
    tail: bool,
    /// The server that is read from.
    server: String,
    stream: Option<OpenStream>,
    retries: Option<Retries>,
    /// The reading has ended: nothing more is wanted, or the last line was returned.
    is_finished: bool,
    /// A line of an SSE event of this name is next.
    event: String,
}

/// An open response.
struct OpenStream {
    bytes: futures::stream::BoxStream<'static, Result<bytes::Bytes, reqwest::Error>>,
    lines: Lines,
}

/// The fields of a line that a client looks at.
#[derive(Deserialize)]
struct LineFields {
    position: Option<u64>,
    next: Option<u64>,
    marker: Option<u64>,
    code: Option<String>,
}

impl Reading {
    pub(super) fn new(client: Client, read: Read, tail: bool) -> Self {
        let (server, event) = (client.servers.current(), String::new());
        Self { client, read, tail, server, stream: None, retries: None, is_finished: false, event }
    }

    /// Returns the next line; none after the last of a read. A tail has no last line.
    pub async fn next(&mut self) -> Result<Option<Line>, ApiError> {
        while !self.is_finished {
            let error = match self.next_line().await {
                Ok(Some(line)) => {
                    self.retries = None;
                    return Ok(Some(line));
                }
                Ok(None) if self.tail && self.read.limit != Some(0) => self.disconnected("the stream of events ended"),
                Ok(None) if self.tail => break,
                Ok(None) => self.disconnected("the answer ended before its last line"),
                Err(error) => error,
            };
            self.stream = None;
            let retry_time = self.client.retry_time;
            let retries = self.retries.get_or_insert_with(|| Retries::new(retry_time));
            retries.next(error, &self.server, &self.client.servers).await?;
        }
        Ok(None)
    }

    /// Returns the next line of the open stream; none if it has ended.
    async fn next_line(&mut self) -> Result<Option<Line>, ApiError> {
        let (verb, check_after) = if self.tail { (Verb::Tail, TAIL_CHECK_AFTER) } else { (Verb::Read, CHECK_AFTER) };
        loop {
            let Some(open) = &mut self.stream else {
                self.open().await?;
                continue;
            };
            if let Some(text) = open.lines.next() {
                match self.parse_line(text)? {
                    Some(line) => return Ok(Some(line)),
                    None => continue,
                }
            }
            match self.client.answer_of(&self.server, check_after, open.bytes.next()).await {
                Ok(Some(Ok(part))) => open.lines.push(&part)?,
                Ok(Some(Err(error))) if error.is_timeout() => {
                    return Err(self.client.no_answer(&self.server, verb, &NoAnswer(ATTEMPT_TIMEOUT)));
                }
                Ok(Some(Err(error))) => return Err(self.disconnected(&super::root_cause(&error))),
                Ok(None) => return Ok(None),
                Err(no_answer) => return Err(self.client.no_answer(&self.server, verb, &no_answer)),
            }
        }
    }

    /// Sends the request to the current server.
    async fn open(&mut self) -> Result<(), ApiError> {
        self.server = self.client.servers.current();
        // The time until an answer begins counts as well.
        let until = self.retries.get_or_insert_with(|| Retries::new(self.client.retry_time)).until();
        let (verb, call) = self.call();
        // A tail without events may begin its answer late.
        let until = until.filter(|_| !self.tail);
        let response = self.client.open(&self.server, until, verb, &call).await?;
        self.stream = Some(OpenStream { bytes: response.bytes_stream().boxed(), lines: Lines::default() });
        Ok(())
    }

    fn disconnected(&self, why: &str) -> ApiError {
        ApiError::new(&codes::NO_SERVER, format!("lost {} while reading: {why}", self.server))
    }

    fn call(&self) -> (Verb, Call) {
        if self.tail {
            (Verb::Tail, Call { query: read::to_query(&self.read), ..Call::default() })
        } else {
            Call::of(&Request::Read(self.read.clone()))
        }
    }

    /// Parses a line of the answer; none if it has no content of its own.
    fn parse_line(&mut self, text: String) -> Result<Option<Line>, ApiError> {
        let json = if !self.tail {
            text
        } else if let Some(name) = text.strip_prefix("event: ") {
            self.event = name.to_owned();
            return Ok(None);
        } else {
            match text.strip_prefix("data: ") {
                Some(data) => data.to_owned(),
                None => return Ok(None),
            }
        };
        self.event.clear();
        if json.trim().is_empty() {
            return Ok(None);
        }
        let unreadable = |error: &dyn std::fmt::Display| {
            ApiError::new(&codes::NOT_EVENER, format!("failed to read a line of the server's answer: {error}"))
        };
        let fields: LineFields = serde_json::from_str(&json).map_err(|error| unreadable(&error))?;
        if let Some(position) = fields.position {
            self.advance_past(position);
            return Ok(Some(Line::Event(Position(position), json)));
        }
        if fields.code.is_some() {
            return Err(serde_json::from_str(&json).map_err(|error| unreadable(&error))?);
        }
        let (Some(next), Some(marker)) = (fields.next, fields.marker) else {
            return Err(unreadable(&"it is neither an event, nor an error, nor the end"));
        };
        if self.tail {
            self.read.from = self.read.from.max(Position(next));
        } else {
            self.is_finished = true;
        }
        Ok(Some(Line::Progress { next: Position(next), marker: Position(marker) }))
    }

    /// Records an event that was seen: another server continues after it.
    fn advance_past(&mut self, position: u64) {
        if self.read.backwards {
            self.read.to = Some(Position(position));
        } else {
            self.read.from = Position(position + 1);
        }
        self.read.limit = self.read.limit.map(|limit| limit.saturating_sub(1));
    }
}
