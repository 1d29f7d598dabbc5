//! Reads an event, attribute by attribute.

use std::borrow::Cow;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use evener_core::event::{DataKind, Event};
use serde::{
    Deserializer,
    de::{self, Deserialize, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{ATTRIBUTES_MAX, Error, derived_id, one_line, quoted, split_tags};

/// What only the log can say of an event.
#[derive(Default)]
pub(super) struct Place<'a> {
    pub(super) position: Option<&'a RawValue>,
    pub(super) revision: Option<&'a RawValue>,
    pub(super) recorded: Option<&'a RawValue>,
}

pub(super) fn read(json: &str) -> Result<(Event, Place<'_>), Error> {
    let Attributes(attributes) = serde_json::from_str(json)?;
    let (mut event, mut place) = (Event::default(), Place::default());
    let (mut id, mut source, mut kind, mut stream) = (None, None, None, None);
    let mut seen: Vec<&str> = Vec::with_capacity(attributes.len());
    for (name, raw) in &attributes {
        if seen.contains(&name.as_str()) {
            return Err(Error::Twice(name.clone()));
        }
        seen.push(name);
        match name.as_str() {
            "specversion" => spec_version(raw)?,
            "id" => id = text("id", raw)?,
            "source" => source = text("source", raw)?,
            "type" => kind = text("type", raw)?,
            "subject" => event.stream = text("subject", raw)?,
            "stream" => stream = text("stream", raw)?,
            "key" => event.key = text("key", raw)?,
            "time" => event.time = text("time", raw)?,
            "datacontenttype" => event.content_type = text("datacontenttype", raw)?,
            "dataschema" => event.schema = text("dataschema", raw)?,
            "tags" => event.tags = tags(raw)?,
            "data" => payload(&mut event, DataKind::Json, one_line(raw.get()).into_owned().into_bytes())?,
            "data_base64" => {
                if let Some(bytes) = base64(raw)? {
                    payload(&mut event, DataKind::Binary, bytes)?;
                }
            }
            "position" => place.position = Some(raw),
            "revision" => place.revision = Some(raw),
            "recorded" => place.recorded = Some(raw),
            _ => event.extensions.extend(extension(name, raw)?),
        }
    }
    event.source = source.ok_or(Error::Missing("source"))?;
    event.kind = kind.ok_or(Error::Missing("type"))?;
    let id = id.ok_or(Error::Missing("id"))?;
    (event.id, event.given_id) = (derived_id(&event.source, &id), Some(id));
    if let Some(stream) = stream {
        match &event.stream {
            Some(subject) if *subject != stream => {
                return Err(Error::wrong("stream", "differs from `subject`, which names the stream: leave it out"));
            }
            _ => event.stream = Some(stream),
        }
    }
    event.extensions.sort();
    Ok((event, place))
}

/// The attributes of a JSON object, in its order, their values untouched.
struct Attributes<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Attributes<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Attributes<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an event as a CloudEvents JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut attributes = Vec::with_capacity(16);
                while let Some(name) = map.next_key::<String>()? {
                    if attributes.len() == ATTRIBUTES_MAX {
                        return Err(de::Error::custom(format_args!("more than {ATTRIBUTES_MAX} attributes")));
                    }
                    attributes.push((name, map.next_value()?));
                }
                Ok(Attributes(attributes))
            }
        }
        deserializer.deserialize_map(Read)
    }
}

/// A text attribute; none where it is `null`.
pub(super) fn text(name: &str, raw: &RawValue) -> Result<Option<String>, Error> {
    let text: Option<String> = serde_json::from_str(raw.get())
        .map_err(|_| Error::wrong(name, format!("must be a string, not {}", shape(raw.get()))))?;
    match text.as_deref() {
        Some("") => Err(Error::wrong(name, "is empty: give it a value, or leave it out")),
        Some(text) if text.contains(|c: char| c.is_ascii_control()) => {
            Err(Error::wrong(name, "has a control character in it, which CloudEvents forbids"))
        }
        _ => Ok(text),
    }
}

fn shape(json: &str) -> &'static str {
    match json.as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b't' | b'f') => "true or false",
        Some(b'"') => "this one (its escapes are broken)",
        _ => "a number",
    }
}

fn spec_version(raw: &RawValue) -> Result<(), Error> {
    match text("specversion", raw)?.as_deref() {
        None | Some("1.0") => Ok(()),
        Some(other) => Err(Error::wrong("specversion", format!("is {other:?}; only \"1.0\" is understood"))),
    }
}

fn tags(raw: &RawValue) -> Result<Vec<String>, Error> {
    let joined: Option<Cow<'_, str>> = serde_json::from_str(raw.get())
        .map_err(|_| Error::wrong("tags", format!("must be a string like \"k=v,k=v\", not {}", shape(raw.get()))))?;
    split_tags(joined.as_deref().unwrap_or_default())
}

fn base64(raw: &RawValue) -> Result<Option<Vec<u8>>, Error> {
    let encoded: Option<Cow<'_, str>> = serde_json::from_str(raw.get())
        .map_err(|_| Error::wrong("data_base64", format!("must be a string, not {}", shape(raw.get()))))?;
    let decode = |encoded: Cow<'_, str>| BASE64_STANDARD.decode(encoded.as_bytes());
    encoded.map(decode).transpose().map_err(|error| Error::wrong("data_base64", format!("is no base64: {error}")))
}

fn payload(event: &mut Event, kind: DataKind, data: Vec<u8>) -> Result<(), Error> {
    if event.data_kind != DataKind::None {
        return Err(Error::wrong("data_base64", "and `data` are both given: an event has one payload"));
    }
    (event.data_kind, event.data) = (kind, data);
    Ok(())
}

/// An extension with its JSON value; strings are written again, so that equal ones have equal texts.
fn extension(name: &str, raw: &RawValue) -> Result<Option<(String, String)>, Error> {
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()) {
        let why = "is no CloudEvents attribute name: these have lower-case letters and digits only";
        return Err(Error::wrong(name, why));
    }
    let value = match raw.get() {
        "null" => return Ok(None),
        json if json.starts_with('"') => quoted(&text(name, raw)?.expect("it starts with a quote")),
        json => one_line(json).into_owned(),
    };
    Ok(Some((name.to_owned(), value)))
}
