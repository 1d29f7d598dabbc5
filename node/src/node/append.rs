//! The builder of an append: its events and conditions.

use std::future::IntoFuture;

use evener_core::{
    append::{Appended, Condition, Expect, Expected, Request},
    criteria::Criteria,
    id::{ContextId, Position, Revision},
};
use futures::future::BoxFuture;
use uuid::Uuid;

use super::{Node, unexpected_reply};
use crate::{
    RawEvent, cloudevent, codes,
    engine::{self, Reply},
    error::ApiError,
    handler::{Event, encode},
};

/// Events to append: all or none. Awaiting it appends them.
#[must_use = "nothing is appended until this is awaited"]
pub struct Append {
    node: Node,
    stream: Option<String>,
    request: Request,
    error: Option<ApiError>,
}

/// Expects that a stream does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoStream;

/// Accepts a stream at any revision, which is the default of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Any;

/// An expected state of a stream: [`NoStream`], the [`Revision`] of its last event, or [`Any`].
#[diagnostic::on_unimplemented(
    message = "a stream cannot be expected to stand at `{Self}`",
    note = "expect `NoStream`, `Revision(n)` of its last event, or `Any`"
)]
pub trait Expecting {
    /// Returns the expectation as the request encodes it.
    fn expected(self) -> Expected;
}

impl Expecting for NoStream {
    fn expected(self) -> Expected {
        Expected::NoStream
    }
}

impl Expecting for Any {
    fn expected(self) -> Expected {
        Expected::Any
    }
}

impl Expecting for Revision {
    fn expected(self) -> Expected {
        Expected::At(self)
    }
}

impl Append {
    pub(super) fn of<E: Event>(node: Node, stream: String, events: impl IntoIterator<Item = E>) -> Self {
        let raw = |event: E| {
            encode(&event, Uuid::now_v7(), &node.0.source, Some(&stream)).map_err(|error| {
                let message = format!("failed to write a {} as JSON: {error}", event.name());
                ApiError::new(&codes::BAD_EVENT, message)
            })
        };
        let (events, error) = match events.into_iter().map(raw).collect() {
            Ok(events) => (events, None),
            Err(error) => (Vec::new(), Some(error)),
        };
        Self { error, stream: Some(stream), ..Self::raw(node, events) }
    }

    pub(super) fn raw(node: Node, events: Vec<RawEvent>) -> Self {
        Self { node, stream: None, request: Request { events, ..Request::default() }, error: None }
    }

    /// Fails with `EV0201` unless the stream is at this revision. The default is [`Any`].
    pub fn expecting(mut self, at: impl Expecting) -> Self {
        match &self.stream {
            Some(stream) => self.request.expect.push(Expect { stream: stream.clone(), at: at.expected() }),
            None => {
                let message = "raw events name their streams themselves: expect by `.expecting_stream(…)`";
                self.error = Some(ApiError::new(&codes::INVALID_APPEND, message));
            }
        }
        self
    }

    /// Adds an expectation about another stream; see [`Self::expecting`].
    pub fn expecting_stream(mut self, stream: impl Into<String>, at: impl Expecting) -> Self {
        self.request.expect.push(Expect { stream: stream.into(), at: at.expected() });
        self
    }

    /// Fails if a matching event exists at or after `marker`, which a read returns.
    pub fn unless(mut self, criteria: Criteria, marker: Position) -> Self {
        self.request.conditions.push(Condition { criteria, marker });
        self
    }

    /// Adds tags to all events, `key=value` by convention; they have none by default.
    pub fn tagged<T: Into<String>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        let tags: Vec<String> = tags.into_iter().map(Into::into).collect();
        for event in &mut self.request.events {
            event.tags.extend(tags.iter().cloned());
        }
        self
    }

    /// Names the append. The ids of its events are derived from the name and their index, so that it is stored once
    /// even if several processes repeat it. Without a name every append is a new one.
    pub fn named(mut self, name: &str) -> Self {
        for (number, event) in self.request.events.iter_mut().enumerate() {
            event.given_id = Some(format!("{name}/{number}"));
            event.id = cloudevent::derived_id(&event.source, &format!("{name}/{number}"));
        }
        self
    }

    /// Sets the event store that the events go to: by default [`ContextId::DEFAULT`].
    pub fn context(mut self, context: ContextId) -> Self {
        self.request.context = context;
        self
    }
}

impl IntoFuture for Append {
    type Output = Result<Appended, ApiError>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { node, mut request, error, .. } = self;
        Box::pin(async move {
            if let Some(error) = error {
                return Err(error);
            }
            for (nth, event) in request.events.iter().enumerate() {
                let refused = |error| ApiError::new(&codes::BAD_EVENT, format!("event {nth} of the append: {error}"));
                cloudevent::check(event).map_err(refused)?;
            }
            request.request = cloudevent::request_id(&request.events);
            match node.ask(engine::Request::Append(request)).await? {
                Reply::Appended(appended) => Ok(appended),
                _ => Err(unexpected_reply()),
            }
        })
    }
}
