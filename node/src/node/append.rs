//! An append in the making: what is added, and under which conditions.

use std::future::IntoFuture;

use evener_core::{
    append::{Appended, Condition, Expect, Expected, Request},
    criteria::Criteria,
    id::{ContextId, Position, Revision},
};
use futures::future::BoxFuture;
use uuid::Uuid;

use super::{Node, odd};
use crate::{
    RawEvent, cloudevent, codes,
    engine::{self, Reply},
    error::ApiError,
    handler::{Event, encode},
};

/// Events to be added: all or none. Awaiting it adds them.
#[must_use = "nothing is appended until this is awaited"]
pub struct Append {
    node: Node,
    stream: Option<String>,
    request: Request,
    trouble: Option<ApiError>,
}

/// A stream must not exist yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoStream;

/// A stream may stand anywhere; what an append expects unless it says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Any;

/// Where a stream can be expected to stand: [`NoStream`], [`Revision`] of its last event, or [`Any`].
#[diagnostic::on_unimplemented(
    message = "a stream cannot be expected to stand at `{Self}`",
    note = "expect `NoStream`, `Revision(n)` of its last event, or `Any`"
)]
pub trait Expecting {
    /// As a request says it.
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
        let (events, trouble) = match events.into_iter().map(raw).collect() {
            Ok(events) => (events, None),
            Err(error) => (Vec::new(), Some(error)),
        };
        Self { trouble, stream: Some(stream), ..Self::raw(node, events) }
    }

    pub(super) fn raw(node: Node, events: Vec<RawEvent>) -> Self {
        Self { node, stream: None, request: Request { events, ..Request::default() }, trouble: None }
    }

    /// Fails with `EV0201` unless its stream stands there. By default it may stand anywhere: [`Any`].
    pub fn expecting(mut self, at: impl Expecting) -> Self {
        match &self.stream {
            Some(stream) => self.request.expect.push(Expect { stream: stream.clone(), at: at.expected() }),
            None => {
                let message = "raw events name their streams themselves: expect by `.expecting_stream(…)`";
                self.trouble = Some(ApiError::new(&codes::INVALID_APPEND, message));
            }
        }
        self
    }

    /// As [`Self::expecting`], of another stream than its own.
    pub fn expecting_stream(mut self, stream: impl Into<String>, at: impl Expecting) -> Self {
        self.request.expect.push(Expect { stream: stream.into(), at: at.expected() });
        self
    }

    /// Fails if an event that matches stands at or after `marker`: the one that a read ended with.
    pub fn unless(mut self, criteria: Criteria, marker: Position) -> Self {
        self.request.conditions.push(Condition { criteria, marker });
        self
    }

    /// Adds labels to all its events, `key=value` by convention; they have none by default.
    pub fn tagged<T: Into<String>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        let tags: Vec<String> = tags.into_iter().map(Into::into).collect();
        for event in &mut self.request.events {
            event.tags.extend(tags.iter().cloned());
        }
        self
    }

    /// Names the append: its events' ids follow from the name and their number, so that it is stored once however
    /// often it is repeated, by whichever process. Without a name each append is one of its own.
    pub fn named(mut self, name: &str) -> Self {
        for (number, event) in self.request.events.iter_mut().enumerate() {
            event.given_id = Some(format!("{name}/{number}"));
            event.id = cloudevent::derived_id(&event.source, &format!("{name}/{number}"));
        }
        self
    }

    /// The event store that its events go to: by default [`ContextId::DEFAULT`].
    pub fn context(mut self, context: ContextId) -> Self {
        self.request.context = context;
        self
    }
}

impl IntoFuture for Append {
    type Output = Result<Appended, ApiError>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { node, mut request, trouble, .. } = self;
        Box::pin(async move {
            if let Some(trouble) = trouble {
                return Err(trouble);
            }
            for (nth, event) in request.events.iter().enumerate() {
                let refused = |error| ApiError::new(&codes::BAD_EVENT, format!("event {nth} of the append: {error}"));
                cloudevent::check(event).map_err(refused)?;
            }
            request.request = cloudevent::request_id(&request.events);
            match node.ask(engine::Request::Append(request)).await? {
                Reply::Appended(appended) => Ok(appended),
                _ => Err(odd()),
            }
        })
    }
}
