//! What makes a Rust type an event, and the way of its values into the log and out of it.

use std::{borrow::Cow, ops::Deref, sync::Arc};

use evener_core::event::{DataKind, Event as RawEvent};
use serde::{Serialize, de::DeserializeOwned};
use uuid::Uuid;

use super::{error, payload};
use crate::event::Stored;

/// A fact that a program can append and handle. Made by `#[derive(Event, Serialize, Deserialize)]`.
///
/// ```
/// use evener::prelude::*;
///
/// #[derive(Event, Serialize, Deserialize)]
/// #[event(key = account)]
/// enum Account {
///     #[event(name = "account.opened.v1")]
///     Opened { account: u64 },
///     #[event(name = "account.credited.v1")]
///     Credited { account: u64, cents: i64 },
/// }
///
/// let event = Account::Credited { account: 7, cents: 100 };
/// assert_eq!(event.name(), "account.credited.v1");
/// assert_eq!(event.key().as_deref(), Some("7"));
/// assert_eq!(Account::NAMES, ["account.opened.v1", "account.credited.v1"]);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an event",
    label = "not an event",
    note = "add `#[derive(Event, Serialize, Deserialize)]` and `#[event(name = \"…\")]` to it",
    note = "the first parameter of a handler is its event; `Meta`, `Position` and the like come after it"
)]
pub trait Event: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The types of event that it can be, in the order of its variants.
    const NAMES: &'static [&'static str];

    /// The type of event that it is.
    fn name(&self) -> &'static str;

    /// What orders it, if not its stream.
    fn key(&self) -> Option<Cow<'_, str>>;
}

/// The payload of an event stands in the log without the name of its variant: the event's type says it already,
/// and a struct of that name can read what an enum wrote.
///
/// # Errors
/// Where the value cannot be written as JSON, as a map whose keys are no strings.
pub fn encode<E: Event>(event: &E, id: Uuid, source: &str, stream: Option<&str>) -> serde_json::Result<RawEvent> {
    Ok(RawEvent {
        id,
        source: source.to_owned(),
        kind: event.name().to_owned(),
        stream: stream.map(str::to_owned),
        key: event.key().map(Cow::into_owned),
        data_kind: DataKind::Json,
        data: payload::write(event)?,
        ..RawEvent::default()
    })
}

/// The value that an event in the log stands for.
///
/// # Errors
/// Where its type or payload is not one of `E`'s: no later try will read it, so it asks to be set aside.
pub fn decode<E: Event>(stored: &Stored) -> Result<E, error::Error> {
    let Stored { event, position, .. } = stored;
    let refuse = |why: &dyn std::fmt::Display| {
        let ty = std::any::type_name::<E>();
        error::Error::set_aside(format!("the event {} at {position} cannot be read as {ty}: {why}", event.kind))
    };
    let variant = E::NAMES.iter().position(|name| *name == event.kind).ok_or_else(|| refuse(&"it has another name"))?;
    let json = match event.data_kind {
        DataKind::None => b"null",
        DataKind::Json => event.data.as_slice(),
        DataKind::Binary => return Err(refuse(&"its payload is bytes; take it by `.on_any`")),
    };
    payload::read(json, variant, E::NAMES.len()).map_err(|error| refuse(&error))
}

/// An event of any type, its payload undecoded: what a handler given to `.on_any` takes.
#[derive(Clone, Debug)]
pub struct Raw(pub(super) Arc<Stored>);

impl Raw {
    /// The event at its place in the log.
    #[must_use]
    pub fn new(stored: Arc<Stored>) -> Self {
        Self(stored)
    }

    /// The payload read as JSON.
    ///
    /// # Errors
    /// Where it is none, or not of this shape.
    pub fn json<T: DeserializeOwned>(&self) -> serde_json::Result<T> {
        serde_json::from_slice(&self.0.event.data)
    }
}

impl Deref for Raw {
    type Target = Stored;

    fn deref(&self) -> &Stored {
        &self.0
    }
}
