//! A read or a tail that outlives its server: where one fails, the next goes on behind the last event seen.

use evener_core::id::Position;
use futures::StreamExt;
use serde::Deserialize;

use super::{
    Client, TRY,
    lines::Lines,
    silence::{SILENCE, Silent, TAIL_SILENCE},
    tries::Tries,
};
use crate::{
    codes,
    engine::{Read, Request, Verb},
    error::ApiError,
    wire::{Call, read},
};

/// What a read gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// An event, with its position: the JSON object of the contract.
    Event(Position, String),
    /// How far the read has come; the last line of a read, and now and then in a tail.
    Progress {
        /// Where to go on.
        next: Position,
        /// What was seen: for the conditions of an append.
        marker: Position,
    },
}

/// A read under way.
pub struct Reading {
    client: Client,
    read: Read,
    tail: bool,
    /// Who is asked.
    server: String,
    stream: Option<Open>,
    tries: Option<Tries>,
    /// Asked for nothing more, or told the last line.
    over: bool,
    /// A line of an SSE event of this name is next.
    event: String,
}

/// An answer that comes.
struct Open {
    bytes: futures::stream::BoxStream<'static, Result<bytes::Bytes, reqwest::Error>>,
    lines: Lines,
}

/// The fields of a line that a client looks at.
#[derive(Deserialize)]
struct Seen {
    position: Option<u64>,
    next: Option<u64>,
    marker: Option<u64>,
    code: Option<String>,
}

impl Reading {
    pub(super) fn new(client: Client, read: Read, tail: bool) -> Self {
        let (server, event) = (client.servers.current(), String::new());
        Self { client, read, tail, server, stream: None, tries: None, over: false, event }
    }

    /// The next line; none after the last of a read. A tail has no last.
    pub async fn next(&mut self) -> Result<Option<Line>, ApiError> {
        while !self.over {
            let error = match self.take().await {
                Ok(Some(line)) => {
                    self.tries = None;
                    return Ok(Some(line));
                }
                Ok(None) if self.tail && self.read.limit != Some(0) => self.cut_off("the stream of events ended"),
                Ok(None) if self.tail => break,
                Ok(None) => self.cut_off("the answer ended before its last line"),
                Err(error) => error,
            };
            self.stream = None;
            let patience = self.client.patience;
            let tries = self.tries.get_or_insert_with(|| Tries::new(patience));
            tries.next(error, &self.server, &self.client.servers).await?;
        }
        Ok(None)
    }

    /// The next line of the stream that is open; none where it ended.
    async fn take(&mut self) -> Result<Option<Line>, ApiError> {
        let (verb, silence) = if self.tail { (Verb::Tail, TAIL_SILENCE) } else { (Verb::Read, SILENCE) };
        loop {
            let Some(open) = &mut self.stream else {
                self.open().await?;
                continue;
            };
            if let Some(text) = open.lines.next() {
                match self.understand(text)? {
                    Some(line) => return Ok(Some(line)),
                    None => continue,
                }
            }
            match self.client.hear(&self.server, silence, open.bytes.next()).await {
                Ok(Some(Ok(part))) => open.lines.push(&part)?,
                Ok(Some(Err(error))) if error.is_timeout() => {
                    return Err(self.client.silent(&self.server, verb, &Silent(TRY)));
                }
                Ok(Some(Err(error))) => return Err(self.cut_off(&super::root(&error))),
                Ok(None) => return Ok(None),
                Err(silent) => return Err(self.client.silent(&self.server, verb, &silent)),
            }
        }
    }

    /// Asks the server whose turn it is.
    async fn open(&mut self) -> Result<(), ApiError> {
        self.server = self.client.servers.current();
        // What an answer that does not even begin has cost counts as well.
        let until = self.tries.get_or_insert_with(|| Tries::new(self.client.patience)).until();
        let (verb, call) = self.call();
        // A tail where nothing comes may begin its answer late.
        let until = until.filter(|_| !self.tail);
        let response = self.client.open(&self.server, until, verb, &call).await?;
        self.stream = Some(Open { bytes: response.bytes_stream().boxed(), lines: Lines::default() });
        Ok(())
    }

    fn cut_off(&self, why: &str) -> ApiError {
        ApiError::new(&codes::NO_SERVER, format!("lost {} while reading: {why}", self.server))
    }

    fn call(&self) -> (Verb, Call) {
        if self.tail {
            (Verb::Tail, Call { query: read::to_query(&self.read), ..Call::default() })
        } else {
            Call::of(&Request::Read(self.read.clone()))
        }
    }

    /// What a line of the answer says; none where it is only of the form.
    fn understand(&mut self, text: String) -> Result<Option<Line>, ApiError> {
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
        let odd = |error: &dyn std::fmt::Display| {
            ApiError::new(&codes::NOT_EVENER, format!("failed to read a line of the server's answer: {error}"))
        };
        let seen: Seen = serde_json::from_str(&json).map_err(|error| odd(&error))?;
        if let Some(position) = seen.position {
            self.passed(position);
            return Ok(Some(Line::Event(Position(position), json)));
        }
        if seen.code.is_some() {
            return Err(serde_json::from_str(&json).map_err(|error| odd(&error))?);
        }
        let (Some(next), Some(marker)) = (seen.next, seen.marker) else {
            return Err(odd(&"it is neither an event, nor an error, nor the end"));
        };
        if self.tail {
            self.read.from = self.read.from.max(Position(next));
        } else {
            self.over = true;
        }
        Ok(Some(Line::Progress { next: Position(next), marker: Position(marker) }))
    }

    /// An event was seen: another server would go on behind it.
    fn passed(&mut self, position: u64) {
        if self.read.backwards {
            self.read.to = Some(Position(position));
        } else {
            self.read.from = Position(position + 1);
        }
        self.read.limit = self.read.limit.map(|limit| limit.saturating_sub(1));
    }
}
