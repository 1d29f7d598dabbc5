//! Requests and answers as HTTP carries them. The server reads what the client writes, so both stand here,
//! and a test sends every kind of request through.

pub mod append;
pub mod binding;
pub mod change;
mod definition;
mod fields;
mod operations;
pub mod query;
pub mod read;
mod reply;
mod reset;
mod selection;

use serde::de::DeserializeOwned;

use crate::{
    codes,
    engine::{Change, Request, Verb},
    error::ApiError,
};

pub use reply::{appended_line, decode, encode};

/// A request as HTTP carries it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// What varies in the path, in its order, decoded.
    pub path: Vec<String>,
    /// What stands after the `?`, as it came.
    pub query: String,
    /// The body.
    pub body: Vec<u8>,
}

impl Call {
    /// What this asks for, if it came to the route of `verb`.
    pub fn parse(&self, verb: Verb) -> Result<Request, ApiError> {
        let row = verb.entry();
        if row.is_not_yet() {
            return Err(ApiError::not_yet(&format!("`{}` ({} {})", row.words, row.method, row.path)));
        }
        let none = |request| query::Query::parse(&self.query)?.finish().map(|()| request);
        match verb {
            Verb::Append => none(Request::Append(append::parse(&self.body)?)),
            Verb::AppendMany => {
                let lines: Result<Vec<_>, ApiError> = append::lines(&self.body).map(append::parse).collect();
                none(Request::AppendMany(lines?))
            }
            Verb::Read => read::from_query(&self.query).map(Request::Read),
            Verb::ReadBy => none(Request::Read(read::from_body(&self.body)?)),
            Verb::Tail => read::from_query(&self.query).map(Request::Tail),
            Verb::Processors => none(Request::Processors),
            Verb::Processor => none(Request::Processor(self.name()?)),
            Verb::DeadLetters => none(Request::DeadLetters(self.name()?)),
            Verb::Status => none(Request::Status),
            Verb::ClusterStatus => none(Request::ClusterStatus),
            Verb::Operations => operations::parse(&self.query).map(Request::Operations),
            Verb::Operation => none(Request::Operation(change::operation_id(&self.name()?)?)),
            _ => change::parse(verb, self).map(Request::Change),
        }
    }

    /// How `request` is sent: to which verb's route, and with what.
    #[must_use]
    pub fn of(request: &Request) -> (Verb, Self) {
        let body = |body| Self { body, ..Self::default() };
        let path = |name: &str| Self { path: vec![name.to_owned()], ..Self::default() };
        match request {
            Request::Append(request) => (Verb::Append, body(append::write(request).into_bytes())),
            Request::AppendMany(requests) => {
                let lines = requests.iter().map(|request| append::write(request) + "\n");
                (Verb::AppendMany, body(lines.collect::<String>().into_bytes()))
            }
            Request::Read(read) => (Verb::ReadBy, body(read::to_body(read))),
            Request::Tail(read) => (Verb::Tail, Self { query: read::to_query(read), ..Self::default() }),
            Request::Processors => (Verb::Processors, Self::default()),
            Request::Processor(name) => (Verb::Processor, path(name)),
            Request::DeadLetters(name) => (Verb::DeadLetters, path(name)),
            Request::Status => (Verb::Status, Self::default()),
            Request::ClusterStatus => (Verb::ClusterStatus, Self::default()),
            Request::Operations(filter) => {
                (Verb::Operations, Self { query: operations::write(filter), ..Self::default() })
            }
            Request::Operation(id) => (Verb::Operation, path(&id.to_string())),
            Request::Change(change) => (change.what.verb(), change::write(change)),
        }
    }

    /// The path and query to send to `verb`'s route.
    #[must_use]
    pub fn target(&self, verb: Verb) -> String {
        let mut parts = self.path.iter();
        let segments = verb.entry().path.split('/').map(|segment| match segment.strip_prefix('{') {
            Some(_) => query::encoded(parts.next().map_or("", String::as_str)),
            None => segment.to_owned(),
        });
        let path = segments.collect::<Vec<_>>().join("/");
        if self.query.is_empty() { path } else { format!("{path}?{}", self.query) }
    }

    fn name(&self) -> Result<String, ApiError> {
        let name = self.path.first().filter(|name| !name.is_empty());
        name.cloned().ok_or_else(|| ApiError::new(&codes::NO_SUCH_ROUTE, "the path lacks a name"))
    }
}

impl From<Change> for Request {
    fn from(change: Change) -> Self {
        Self::Change(change)
    }
}

/// Returns a text without the byte order mark that some editors and shells put before it.
#[must_use]
pub fn without_bom(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text)
}

/// Reads a JSON body; an empty one is an empty object.
pub(crate) fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    let body = without_bom(body);
    let body = if body.trim_ascii().is_empty() { b"{}".as_slice() } else { body };
    serde_json::from_slice(body)
        .map_err(|error| ApiError::new(&codes::BAD_BODY, format!("failed to read the body: {error}")))
}

#[cfg(test)]
mod tests;
