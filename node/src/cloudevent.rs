//! Events as people and other programs see them: CloudEvents 1.0 in JSON, one object an event.
//!
//! | CloudEvents attribute | of the event |
//! |---|---|
//! | `id` | `given_id`, as it is; the event's own `id`, a UUID, is [`derived_id`] of `source` and this |
//! | `source`, `type`, `time`, `dataschema`, `datacontenttype` | as they are; `time` must be RFC 3339, and stays |
//! | `subject` | the stream |
//! | `key` (extension) | what orders the event, if not its stream |
//! | `tags` (extension) | the tags, joined by commas; see [`join_tags`] |
//! | any other | an extension, with its JSON value; kept in the order of their names |
//! | `data`, `data_base64` | the payload: the JSON text byte for byte, or bytes |
//!
//! What is read back carries its place as well: `position`, `recorded`, `stream` and `revision`. On the way in
//! these are passed over, so that what was exported can be imported; only a `stream` that differs from
//! `subject` is refused, and one without a `subject` is taken for it. An attribute that is `null` is not there.
//! JSON ignores line ends between its tokens and so do we: they become spaces, so that an event is always one line.

mod read;
mod rules;
mod strings;
mod tags;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use evener_core::{
    event::{DataKind, Event},
    id::{Position, Revision},
    time::Timestamp,
};
use serde_json::value::RawValue;
use sha1::{Digest as _, Sha1};
use uuid::{Builder, Uuid};

use self::read::{read, text};
pub use self::{
    rules::check,
    tags::{join_tags, split_tags},
};
use crate::event::Stored;

/// What ids are derived in: the UUIDv5 of `urn:evener:cloudevents` in the namespace of URLs.
pub const NAMESPACE: Uuid = Uuid::from_u128(0xafce_d9ca_758d_5c41_945d_96fe_aeba_9312);

/// Attributes of one event that are read at most; CloudEvents defines ten, and tracing adds a few.
pub const ATTRIBUTES_MAX: usize = 64;
/// The maximum nesting of arrays and objects in an event's data, and in each of its extensions: common parsers
/// refuse more than 128, and a handler's line wraps two around them.
pub const DATA_DEPTH_MAX: usize = 100;

/// Why a JSON text is no event. Each names the attribute to mend.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is no JSON, or no object.
    #[error("not a JSON object: {0}")]
    Json(#[from] serde_json::Error),
    /// It lacks what every event has.
    #[error("the attribute `{0}` is missing")]
    Missing(&'static str),
    /// An attribute is there more than once.
    #[error("the attribute `{0}` is given twice")]
    Twice(String),
    /// An attribute is not what it must be.
    #[error("the attribute `{name}` {why}")]
    Wrong {
        /// Its name.
        name: String,
        /// What is wrong with it.
        why: String,
    },
}

impl Error {
    fn wrong(name: &str, why: impl Into<String>) -> Self {
        Self::Wrong { name: name.to_owned(), why: why.into() }
    }
}

/// Reads an event, passing over what only the log can say.
///
/// # Errors
/// Names the attribute that is missing or wrong.
pub fn from_json(json: &str) -> Result<Event, Error> {
    let (event, _) = read(json)?;
    check(&event)?;
    Ok(event)
}

/// Reads an event together with its place: what Evener answers to a read.
///
/// # Errors
/// Names the attribute that is missing or wrong; `position` and `recorded` must be there.
pub fn stored_from_json(json: &str) -> Result<Stored, Error> {
    let (event, place) = read(json)?;
    let number = |name: &str, raw: &RawValue| -> Result<u64, Error> {
        serde_json::from_str(raw.get()).map_err(|_| Error::wrong(name, "must be a number from 0 on"))
    };
    let position = place.position.ok_or(Error::Missing("position")).and_then(|raw| number("position", raw))?;
    let revision = place.revision.map(|raw| number("revision", raw)).transpose()?;
    let recorded = text("recorded", place.recorded.ok_or(Error::Missing("recorded"))?)?;
    let recorded = recorded.as_deref().ok_or(Error::Missing("recorded"))?;
    let recorded: jiff::Timestamp = recorded.parse().map_err(|_| Error::wrong("recorded", "must be RFC 3339"))?;
    let recorded = Timestamp(u64::try_from(recorded.as_millisecond()).unwrap_or(0));
    Ok(Stored { position: Position(position), revision: revision.map(Revision), recorded, event })
}

/// Writes an event as its producer sent it.
#[must_use]
pub fn to_json(event: &Event) -> String {
    let mut out = String::with_capacity(event.size() + 256);
    write(&mut out, event, None);
    out
}

/// Writes an event with its place in the log.
#[must_use]
pub fn stored_to_json(stored: &Stored) -> String {
    let mut out = String::with_capacity(stored.event.size() + 384);
    write(&mut out, &stored.event, Some(stored));
    out
}

/// Returns the UUID of the event with this source and this id, byte for byte as its producer gave them: the UUIDv5 of
/// source, a zero byte, and the id. As CloudEvents has it, the two together identify an event: one id from two sources
/// is two events, as are two ids that differ in case.
#[must_use]
pub fn derived_id(source: &str, given: &str) -> Uuid {
    uuid_v5([source.as_bytes(), &[0], given.as_bytes()])
}

/// Returns the UUIDv5 of these bytes, one after the other, in the namespace of Evener. `sha1` takes the instructions of
/// the processor, which is three times as fast as what `uuid` brings for it.
fn uuid_v5<'b>(parts: impl IntoIterator<Item = &'b [u8]>) -> Uuid {
    let mut sha1 = Sha1::new_with_prefix(NAMESPACE);
    parts.into_iter().for_each(|part| sha1.update(part));
    let hash: [u8; 20] = sha1.finalize().into();
    let [first @ .., _, _, _, _] = hash;
    Builder::from_sha1_bytes(first).into_uuid()
}

/// Makes the event what it is once it has been written and read again: one that has only a UUID has this UUID as the id
/// that its producer gave it.
pub fn identify(event: &mut Event) {
    if event.given_id.is_none() {
        let given = event.id.to_string();
        event.id = derived_id(&event.source, &given);
        event.given_id = Some(given);
    }
}

/// The request id of an append that names none: the UUIDv5 of its events' ids, one after the other.
#[must_use]
pub fn request_id(events: &[Event]) -> Uuid {
    uuid_v5(events.iter().map(|event| &event.id.as_bytes()[..]))
}

/// JSON has raw line ends only between its tokens.
fn one_line(json: &str) -> Cow<'_, str> {
    if json.contains(['\n', '\r']) { Cow::Owned(json.replace(['\n', '\r'], " ")) } else { Cow::Borrowed(json) }
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a string is JSON")
}

fn write(out: &mut String, event: &Event, place: Option<&Stored>) {
    let mut attribute = |name: &str, json: &str| {
        out.push(if out.is_empty() { '{' } else { ',' });
        out.push('"');
        out.push_str(name);
        out.push_str("\":");
        out.push_str(json);
    };
    attribute("specversion", "\"1.0\"");
    let id = event.given_id.as_deref().map_or_else(|| Cow::Owned(event.id.to_string()), Cow::Borrowed);
    attribute("id", &quoted(&id));
    attribute("source", &quoted(&event.source));
    attribute("type", &quoted(&event.kind));
    let texts = [
        ("subject", &event.stream),
        ("time", &event.time),
        ("datacontenttype", &event.content_type),
        ("dataschema", &event.schema),
        ("key", &event.key),
    ];
    for (name, text) in texts {
        if let Some(text) = text {
            attribute(name, &quoted(text));
        }
    }
    if !event.tags.is_empty() {
        attribute("tags", &quoted(&join_tags(&event.tags)));
    }
    for (name, json) in &event.extensions {
        attribute(name, &one_line(json));
    }
    if let Some(stored) = place {
        attribute("position", &stored.position.to_string());
        attribute("recorded", &quoted(&rfc3339(stored.recorded)));
        if let Some(stream) = &event.stream {
            attribute("stream", &quoted(stream));
        }
        if let Some(revision) = stored.revision {
            attribute("revision", &revision.to_string());
        }
    }
    match event.data_kind {
        DataKind::None => {}
        DataKind::Json => attribute("data", &one_line(&String::from_utf8_lossy(&event.data))),
        DataKind::Binary => attribute("data_base64", &quoted(&BASE64_STANDARD.encode(&event.data))),
    }
    out.push('}');
}

/// A moment of the log's clock as people write it.
#[must_use]
pub fn rfc3339(at: Timestamp) -> String {
    let millis = i64::try_from(at.0).unwrap_or(i64::MAX);
    let at = jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::MAX);
    format!("{at:.3}")
}
