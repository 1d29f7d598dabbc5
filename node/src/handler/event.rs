//! The trait of event types, and the encoding of their values in the log.

use std::{borrow::Cow, ops::Deref, sync::Arc};

use evener_core::event::{DataKind, Event as RawEvent};
use serde::{Serialize, de::DeserializeOwned};
use uuid::Uuid;

use super::{error, payload};
use crate::event::Stored;

/// A type whose values a program can append and handle. Implement it with `#[derive(Event, Serialize, Deserialize)]`.
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
    /// The event types of its variants, in order.
    const NAMES: &'static [&'static str];

    /// Returns the event type of this value.
    fn name(&self) -> &'static str;

    /// Returns the key of its sequence, if events are not ordered by stream.
    fn key(&self) -> Option<Cow<'_, str>>;
}

/// Encodes an event. The payload does not contain the name of the enum variant: the event type identifies it, and a
/// struct with the same event type can decode it.
///
/// # Errors
/// If the value cannot be written as JSON, such as a map with keys that are not strings.
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

/// Decodes a stored event.
///
/// # Errors
/// If its type or payload is not one of `E`. A retry will not help, so the error sets the event aside.
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

/// An event of any type with its payload undecoded: the parameter of a handler passed to `.on_any`.
#[derive(Clone, Debug)]
pub struct Raw(pub(super) Arc<Stored>);

impl Raw {
    /// Wraps a stored event.
    #[must_use]
    pub fn new(stored: Arc<Stored>) -> Self {
        Self(stored)
    }

    /// Decodes the payload as JSON.
    ///
    /// # Errors
    /// If the payload is not JSON, or does not match the type.
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
