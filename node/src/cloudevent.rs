//! Events as people and other programs see them: CloudEvents 1.0 in JSON, one object an event.
//!
//! | CloudEvents attribute | of the event |
//! |---|---|
//! | `id` | `id` where it is a UUID with hyphens; else `given_id`, and `id` is [`derived_id`] of source and this |
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

use std::borrow::Cow;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use evener_core::{
    event::{DataKind, Event},
    id::{Position, Revision},
    time::Timestamp,
};
use serde::{
    Deserializer,
    de::{self, Deserialize, MapAccess, Visitor},
};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::event::Stored;

/// What ids are derived in: the UUIDv5 of `urn:evener:cloudevents` in the namespace of URLs.
pub const NAMESPACE: Uuid = Uuid::from_u128(0xafce_d9ca_758d_5c41_945d_96fe_aeba_9312);

/// Attributes of one event that are read at most; CloudEvents defines ten, and tracing adds a few.
pub const ATTRIBUTES_MAX: usize = 64;
/// Arrays and objects of an event's data that stand within each other: common parsers refuse more than 128, and a
/// handler's line wraps two around them.
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
/// ```
/// let event = evener::cloudevent::from_json(r#"{"id":"7","source":"/shop","type":"paid","data":{"cents":100}}"#)?;
/// assert_eq!(event.given_id.as_deref(), Some("7"));
/// assert_eq!(event.data, br#"{"cents":100}"#);
/// # Ok::<(), evener::cloudevent::Error>(())
/// ```
///
/// # Errors
/// Names the attribute that is missing or wrong.
pub fn from_json(json: &str) -> Result<Event, Error> {
    read(json).map(|(event, _)| event)
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

/// Writes an event as its producer told it.
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

/// The id of an event whose producer gave one that is no UUID: the UUIDv5 of source, a zero byte, and that id.
#[must_use]
pub fn derived_id(source: &str, given: &str) -> Uuid {
    Uuid::new_v5(&NAMESPACE, &[source.as_bytes(), &[0], given.as_bytes()].concat())
}

/// The request id of an append that names none: the UUIDv5 of its events' ids, one after the other.
#[must_use]
pub fn request_id(events: &[Event]) -> Uuid {
    let ids: Vec<u8> = events.iter().flat_map(|event| *event.id.as_bytes()).collect();
    Uuid::new_v5(&NAMESPACE, &ids)
}

/// Joins tags by commas. In each of them `%`, commas, control characters and the spaces at either end are
/// percent-encoded first.
#[must_use]
pub fn join_tags(tags: &[String]) -> String {
    let mut out = String::new();
    for (i, tag) in tags.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        let inner = tag.trim_matches(' ');
        let lead = tag.len() - tag.trim_start_matches(' ').len();
        for (at, c) in tag.char_indices() {
            let edge = c == ' ' && (at < lead || at >= lead + inner.len());
            if c == '%' || c == ',' || c.is_ascii_control() || edge {
                out.push_str(&format!("%{:02X}", u32::from(c)));
            } else {
                out.push(c);
            }
        }
    }
    out
}

/// Takes joined tags apart: spaces around a tag are not part of it, `%2C` is a comma, a `%` that no two hex
/// digits follow is itself, and a tag given twice counts once.
///
/// # Errors
/// Where a tag is empty, or its bytes are no UTF-8.
pub fn split_tags(joined: &str) -> Result<Vec<String>, Error> {
    let mut tags: Vec<String> = Vec::new();
    if joined.trim_matches(' ').is_empty() {
        return Ok(tags);
    }
    for (i, tag) in joined.split(',').enumerate() {
        let tag = percent_encoding::percent_decode_str(tag.trim_matches(' ')).decode_utf8();
        let tag = tag.map_err(|_| Error::wrong("tags", format!("has a tag that is not UTF-8, number {}", i + 1)))?;
        if tag.is_empty() {
            return Err(Error::wrong("tags", format!("has an empty tag, number {}", i + 1)));
        }
        if !tags.iter().any(|known| *known == tag) {
            tags.push(tag.into_owned());
        }
    }
    Ok(tags)
}

/// What only the log can say of an event.
#[derive(Default)]
struct Place<'a> {
    position: Option<&'a RawValue>,
    revision: Option<&'a RawValue>,
    recorded: Option<&'a RawValue>,
}

fn read(json: &str) -> Result<(Event, Place<'_>), Error> {
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
            "time" => event.time = text("time", raw)?.map(time).transpose()?,
            "datacontenttype" => event.content_type = text("datacontenttype", raw)?,
            "dataschema" => event.schema = text("dataschema", raw)?,
            "tags" => event.tags = tags(raw)?,
            "data" => payload(&mut event, DataKind::Json, one_line(shallow(raw)?).into_owned().into_bytes())?,
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
    (event.id, event.given_id) = identity(&event.source, id.ok_or(Error::Missing("id"))?);
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
fn text(name: &str, raw: &RawValue) -> Result<Option<String>, Error> {
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

fn identity(source: &str, given: String) -> (Uuid, Option<String>) {
    // The other spellings that the parser knows (braces, no hyphens, urn) are somebody's own ids.
    match Uuid::parse_str(&given) {
        Ok(id) if given.len() == 36 => (id, None),
        _ => (derived_id(source, &given), Some(given)),
    }
}

fn time(time: String) -> Result<String, Error> {
    match time.parse::<jiff::Timestamp>() {
        Ok(_) => Ok(time),
        Err(_) => Err(Error::wrong("time", format!("is {time:?}; write it like 2026-11-21T09:04:00Z (RFC 3339)"))),
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

/// An extension with its JSON value; strings are written anew, so that equal ones have equal texts.
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

/// JSON that any parser takes.
fn shallow(raw: &RawValue) -> Result<&str, Error> {
    match depth(raw.get()) {
        deep if deep > DATA_DEPTH_MAX => {
            let why =
                format!("is nested {deep} deep, and data_depth_max is {DATA_DEPTH_MAX}: most parsers refuse more");
            Err(Error::wrong("data", why))
        }
        _ => Ok(raw.get()),
    }
}

/// How many arrays and objects stand within each other, at most. The JSON is good.
fn depth(json: &str) -> usize {
    let (mut now, mut most, mut quoted, mut escaped) = (0_usize, 0, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = quoted,
            b'"' => quoted = !quoted,
            b'[' | b'{' if !quoted => {
                now += 1;
                most = most.max(now);
            }
            b']' | b'}' if !quoted => now = now.saturating_sub(1),
            _ => {}
        }
    }
    most
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

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(json: &str) -> String {
        from_json(json).expect_err("must be refused").to_string()
    }

    #[test]
    fn the_namespace_is_what_its_docs_say() {
        assert_eq!(NAMESPACE, Uuid::new_v5(&Uuid::NAMESPACE_URL, b"urn:evener:cloudevents"));
    }

    #[test]
    fn what_goes_in_comes_out_byte_for_byte() {
        let json = concat!(
            r#"{"specversion":"1.0","id":"receipt-0","source":"/receipt","type":"Confirmation of receipt","#,
            r#""subject":"case-891","time":"2010-10-02T09:20:39.266000+02:00","datacontenttype":"application/json","#,
            r#""dataschema":"urn:x","key":"k","tags":"case=case-891,resource=Resource26","aflag":true,"#,
            r#""numbered":1.50,"traceparent":"00-a","data":{"b":1.10, "a":"\u00e9","big":123456789012345678901}}"#
        );
        let event = from_json(json).unwrap();
        assert_eq!(to_json(&event), json);
        assert_eq!(event.tags, ["case=case-891", "resource=Resource26"]);
        assert_eq!(event.id, derived_id("/receipt", "receipt-0"));
        assert_eq!(event.extensions[1], ("numbered".to_owned(), "1.50".to_owned()));
    }

    #[test]
    fn p10_data_that_other_parsers_refuse_is_refused_by_name() {
        let of = |data: &str| format!(r#"{{"id":"1","source":"s","type":"t","data":{data}}}"#);
        let nested = |deep| of(&format!("{}{}", "[".repeat(deep), "]".repeat(deep)));
        assert!(from_json(&nested(DATA_DEPTH_MAX)).is_ok());
        let told = refused(&nested(DATA_DEPTH_MAX + 1));
        assert!(told.contains("nested 101 deep, and data_depth_max is 100"), "{told}");
        let told = refused(&nested(100_000));
        assert!(told.contains("100000 deep"), "{told}");
        let brackets = format!(r#"{{"a":"{}\"[","b":[{{}}]}}"#, "[{".repeat(200));
        assert_eq!(depth(&brackets), 3, "what stands in a text is text");
        assert!(from_json(&of(&brackets)).is_ok());
    }

    #[test]
    fn a_uuid_is_the_id_itself() {
        let event = from_json(r#"{"id":"0192F0C1-0000-7000-8000-000000000001","source":"s","type":"t"}"#).unwrap();
        assert_eq!(event.given_id, None);
        assert!(to_json(&event).contains("0192f0c1-0000-7000-8000-000000000001"));
        let event = from_json(r#"{"id":"0192f0c1000070008000000000000001","source":"s","type":"t"}"#).unwrap();
        assert_eq!(event.given_id.as_deref(), Some("0192f0c1000070008000000000000001"));
        // Golden: a derived id can never change, or what was stored would be stored again.
        assert_eq!(derived_id("/receipt", "receipt-0").to_string(), "2782f722-e740-5e25-9306-2b6b76a40a15");
        assert_ne!(derived_id("ab", "c"), derived_id("a", "bc"));
    }

    #[test]
    fn what_was_read_back_can_be_imported_again() {
        let event = from_json(r#"{"id":"1","source":"s","type":"t","subject":"order-1","data":null}"#).unwrap();
        let stored = Stored {
            position: Position(7),
            revision: Some(Revision(2)),
            recorded: Timestamp(1_790_000_000_123),
            event: event.clone(),
        };
        let json = stored_to_json(&stored);
        assert!(json.contains(r#""position":7,"recorded":"2026-09-21T"#), "{json}");
        assert!(json.contains(r#""stream":"order-1","revision":2,"data":null}"#), "{json}");
        assert_eq!(from_json(&json).unwrap(), event);
        assert_eq!(stored_from_json(&json).unwrap(), stored);
        let no_place = stored_from_json(&to_json(&event)).unwrap_err();
        assert_eq!(no_place.to_string(), "the attribute `position` is missing");
    }

    #[test]
    fn a_stream_stands_for_the_subject_but_may_not_differ_from_it() {
        let event = from_json(r#"{"id":"1","source":"s","type":"t","stream":"order-1"}"#).unwrap();
        assert_eq!(event.stream.as_deref(), Some("order-1"));
        let why = refused(r#"{"id":"1","source":"s","type":"t","subject":"a","stream":"b"}"#);
        assert_eq!(why, "the attribute `stream` differs from `subject`, which names the stream: leave it out");
    }

    #[test]
    fn bytes_travel_as_base64() {
        let json = r#"{"specversion":"1.0","id":"1","source":"s","type":"t","data_base64":"AAH/"}"#;
        let event = from_json(json).unwrap();
        assert_eq!((event.data.as_slice(), event.data_kind), ([0, 1, 255].as_slice(), DataKind::Binary));
        assert_eq!(to_json(&event), json);
        assert!(
            refused(r#"{"id":"1","source":"s","type":"t","data_base64":"?"}"#).contains("`data_base64` is no base64")
        );
        let both = r#"{"id":"1","source":"s","type":"t","data_base64":"AAH/","data":1}"#;
        assert!(refused(both).contains("an event has one payload"));
    }

    #[test]
    fn an_event_is_one_line_whatever_its_data() {
        let json = "{\"id\":\"1\",\"source\":\"s\",\"type\":\"t\",\"data\":{\r\n\t\"a\": \"x\\ny\"\n}}";
        let event = from_json(json).unwrap();
        let written = to_json(&event);
        assert!(!written.contains(['\n', '\r']));
        assert_eq!(from_json(&written).unwrap(), event);
        assert_eq!(event.data, b"{  \t\"a\": \"x\\ny\" }");
    }

    #[test]
    fn tags_with_commas_come_back_whole() {
        let tags: Vec<String> = ["a=1,5", "50%", "%2C", " x ", "ü=é", "n=\u{1}"].map(str::to_owned).to_vec();
        let joined = join_tags(&tags);
        assert_eq!(joined, "a=1%2C5,50%25,%252C,%20x%20,ü=é,n=%01");
        assert_eq!(split_tags(&joined).unwrap(), tags);
        assert_eq!(split_tags("a=1, b=50% ,a=1").unwrap(), ["a=1", "b=50%"]);
        assert!(split_tags("").unwrap().is_empty());
        assert!(split_tags("a,,b").unwrap_err().to_string().contains("an empty tag, number 2"));
        assert!(split_tags("%ff").unwrap_err().to_string().contains("not UTF-8"));
    }

    #[test]
    fn errors_name_the_attribute() {
        let check = |json: &str, expected: &str| assert_eq!(refused(json), expected, "of {json}");
        check(r#"{"source":"s","type":"t"}"#, "the attribute `id` is missing");
        check(r#"{"id":"1","type":"t"}"#, "the attribute `source` is missing");
        check(r#"{"id":"1","source":"s","type":null}"#, "the attribute `type` is missing");
        check(r#"{"id":1,"source":"s","type":"t"}"#, "the attribute `id` must be a string, not a number");
        check(r#"{"id":"1","id":"1","source":"s","type":"t"}"#, "the attribute `id` is given twice");
        check(
            r#"{"specversion":"0.3","id":"1","source":"s","type":"t"}"#,
            "the attribute `specversion` is \"0.3\"; only \"1.0\" is understood",
        );
        check(
            r#"{"id":"1","source":"s","type":"t","time":"yesterday"}"#,
            "the attribute `time` is \"yesterday\"; write it like 2026-11-21T09:04:00Z (RFC 3339)",
        );
        check(
            r#"{"id":"1","source":"s","type":"t","tags":["a"]}"#,
            "the attribute `tags` must be a string like \"k=v,k=v\", not an array",
        );
        check(
            r#"{"id":"1","source":"s","type":"t","partitionKey":"x"}"#,
            "the attribute `partitionKey` is no CloudEvents attribute name: \
             these have lower-case letters and digits only",
        );
        check(
            r#"{"id":"1","source":"s","type":"t","subject":""}"#,
            "the attribute `subject` is empty: give it a value, or leave it out",
        );
        let many: String = (0..=ATTRIBUTES_MAX).map(|i| format!("\"x{i}\":1,")).collect();
        assert!(refused(&format!("{{{}\"id\":1}}", many)).contains("more than 64 attributes"));
        assert!(refused("[1]").starts_with("not a JSON object: invalid type: sequence"));
        assert!(refused(r#"{"id":"1","#).starts_with("not a JSON object: EOF while parsing"));
    }
}
