//! The three modes in which CloudEvents come over HTTP, as version 1.0.2 of the CloudEvents HTTP protocol binding has
//! them, beside the form of our own.
//!
//! | content type | mode | the body is |
//! |---|---|---|
//! | `application/cloudevents+json` | structured | one event as JSON |
//! | `application/cloudevents-batch+json` | batch | an array of them |
//! | any other, with headers `ce-…` | binary | the event's data; its attributes are the headers |
//! | any other | our own | `{"events":[…]}` |
//!
//! Media types have no case, and may have parameters. A header's value is unquoted if it stands in double quotes, and
//! then percent-decoded once. In binary mode the data is a JSON value if the content type is JSON (or if there is none
//! and the body happens to be JSON), a text if it is `text/…` in UTF-8, and bytes otherwise.

use std::borrow::Cow;

use axum::http::{HeaderMap, header::CONTENT_TYPE};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use percent_encoding::percent_decode;
use serde_json::value::RawValue;

use super::without_bom;
use crate::{codes, error::ApiError};

/// The content type of one CloudEvent.
pub const ONE: &str = "application/cloudevents+json";
/// The content type of a JSON array of CloudEvents.
pub const SEVERAL: &str = "application/cloudevents-batch+json";

/// How all media types of CloudEvents begin: in other formats than JSON, too.
const EVENTS: &str = "application/cloudevents";
/// How headers that are attributes of an event begin.
const PREFIX: &str = "ce-";

/// Returns the append, in the form of our own, that a request with these headers and this body is.
///
/// # Errors
///
/// If the events come in a format that is not understood, or not all of the event can be made of the headers.
pub fn append(headers: &HeaderMap, body: Vec<u8>) -> Result<Vec<u8>, ApiError> {
    let content_type = headers.get(CONTENT_TYPE).map(|kind| String::from_utf8_lossy(kind.as_bytes()));
    match content_type.as_deref().map(essence).as_deref() {
        Some(ONE) => Ok(wrapped(b"[", without_bom(&body), b"]")),
        Some(SEVERAL) => Ok(wrapped(b"", without_bom(&body), b"")),
        Some(other) if other.starts_with(EVENTS) => {
            let message = format!("the content type is {other}, and CloudEvents are understood in JSON only");
            Err(ApiError::new(&codes::MEDIA_TYPE, message))
        }
        _ if headers.keys().any(|name| name.as_str().starts_with(PREFIX)) => {
            let event = binary(headers, content_type.as_deref(), &body)?;
            Ok(wrapped(b"[", event.as_bytes(), b"]"))
        }
        _ => Ok(body),
    }
}

fn wrapped(open: &[u8], events: &[u8], close: &[u8]) -> Vec<u8> {
    [b"{\"events\":".as_slice(), open, events, close, b"}"].concat()
}

/// A media type without its parameters, in lower case.
fn essence(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// The event in JSON whose attributes are headers, and whose data is the body.
fn binary(headers: &HeaderMap, content_type: Option<&str>, body: &[u8]) -> Result<String, ApiError> {
    let mut json = Object(String::with_capacity(body.len() + 512));
    for (header, value) in headers {
        let Some(name) = header.as_str().strip_prefix(PREFIX) else { continue };
        if matches!(name, "data" | "data_base64" | "datacontenttype") {
            let message =
                format!("the header {header} has no meaning: the body is the data, and content-type its type");
            return Err(ApiError::new(&codes::BAD_EVENT, message));
        }
        json.add(name, &quoted(&decoded(header.as_str(), value.as_bytes())?));
    }
    if let Some(kind) = content_type {
        json.add("datacontenttype", &quoted(kind));
    }
    if let Some((name, value)) = data(content_type, body)? {
        json.add(name, &value);
    }
    Ok(json.0 + "}")
}

/// The value of a header, as the binding encodes it.
fn decoded(header: &str, value: &[u8]) -> Result<String, ApiError> {
    let bytes: Cow<'_, [u8]> = percent_decode(&unquoted(value)).collect::<Vec<u8>>().into();
    String::from_utf8(bytes.into_owned()).map_err(|_| {
        ApiError::new(&codes::BAD_EVENT, format!("the header {header} is not UTF-8 after percent-decoding"))
    })
}

/// A value without the double quotes around it, and the backslashes that stand for themselves in them.
fn unquoted(value: &[u8]) -> Cow<'_, [u8]> {
    let Some(inner) = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")) else {
        return Cow::Borrowed(value);
    };
    let (mut out, mut escaped) = (Vec::with_capacity(inner.len()), false);
    for &byte in inner {
        escaped = byte == b'\\' && !escaped;
        if !escaped {
            out.push(byte);
        }
    }
    Cow::Owned(out)
}

/// The attribute that the data is, and its JSON value; none if there is no body.
fn data<'b>(content_type: Option<&str>, body: &'b [u8]) -> Result<Option<(&'static str, Cow<'b, str>)>, ApiError> {
    if body.is_empty() {
        return Ok(None);
    }
    let kind = content_type.map(essence);
    let json = serde_json::from_slice::<&RawValue>(without_bom(body));
    match (kind.as_deref(), json) {
        (None, Ok(json)) => Ok(Some(("data", json.get().into()))),
        (Some(kind), json) if kind.ends_with("/json") || kind.ends_with("+json") => {
            let wrong = |error| format!("the content type of the data is {kind}, and the body is no JSON: {error}");
            let json = json.map_err(|error| ApiError::new(&codes::BAD_EVENT, wrong(error)))?;
            Ok(Some(("data", json.get().into())))
        }
        (Some(kind), _) if kind.starts_with("text/") && is_utf8(content_type) => match std::str::from_utf8(body) {
            Ok(text) => Ok(Some(("data", quoted(text).into()))),
            Err(_) => Ok(Some(bytes(body))),
        },
        _ => Ok(Some(bytes(body))),
    }
}

fn bytes(body: &[u8]) -> (&'static str, Cow<'static, str>) {
    ("data_base64", quoted(&BASE64_STANDARD.encode(body)).into())
}

/// Whether no other encoding is named.
fn is_utf8(content_type: Option<&str>) -> bool {
    let parameters = content_type.unwrap_or_default().split(';').skip(1);
    let charset = parameters.filter_map(|parameter| parameter.split_once('=')).find_map(|(name, value)| {
        name.trim().eq_ignore_ascii_case("charset").then(|| value.trim().trim_matches('"').to_ascii_lowercase())
    });
    charset.is_none_or(|charset| matches!(charset.as_str(), "utf-8" | "utf8" | "us-ascii"))
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a string is JSON")
}

/// A JSON object without its end.
struct Object(String);

impl Object {
    fn add(&mut self, name: &str, json: &str) {
        self.0.push(if self.0.is_empty() { '{' } else { ',' });
        self.0.push_str(&quoted(name));
        self.0.push(':');
        self.0.push_str(json);
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};
    use evener_core::event::{DataKind, Event};

    use super::*;
    use crate::wire;

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::try_from(*name).unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers
    }

    fn events(lines: &[(&str, &str)], body: &[u8]) -> Result<Vec<Event>, ApiError> {
        let append = append(&headers(lines), body.to_vec())?;
        wire::append::parse(&append).map(|append| append.events)
    }

    const NEEDED: [(&str, &str); 4] =
        [("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "/s"), ("ce-type", "t")];

    fn binary_of(more: &[(&str, &str)], body: &[u8]) -> Event {
        let mut events = events(&[&NEEDED[..], more].concat(), body).unwrap();
        assert_eq!(events.len(), 1);
        events.remove(0)
    }

    #[test]
    fn all_modes_say_the_same_whatever_the_case_and_parameters_of_the_media_type() {
        let event = concat!(
            r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","#,
            r#""datacontenttype":"application/json","data":{"n":1}}"#
        );
        let whole = events(&[("content-type", "application/json")], format!(r#"{{"events":[{event}]}}"#).as_bytes());
        let whole = whole.unwrap();
        let check = |kind: &str, body: &str| {
            assert_eq!(events(&[("content-type", kind)], body.as_bytes()).unwrap(), whole, "{kind}");
        };
        check(ONE, event);
        check("Application/CloudEvents+JSON ; charset=utf-8", event);
        check(ONE, &format!("\u{feff}{event}"));
        check(SEVERAL, &format!("[{event}]"));
        check("APPLICATION/CLOUDEVENTS-BATCH+JSON;charset=UTF-8", &format!("[{event}]"));
        let binary = [&NEEDED[..], &[("content-type", "application/json")]].concat();
        assert_eq!(events(&binary, br#"{"n":1}"#).unwrap(), whole);
    }

    #[test]
    fn headers_are_attributes_unquoted_and_percent_decoded_once() {
        let event = binary_of(
            &[
                ("ce-subject", "Euro%20%E2%82%AC%20%F0%9F%98%80"),
                ("ce-time", "2026-11-21T09:04:00Z"),
                ("ce-dataschema", "urn:x"),
                ("ce-tags", "a=1,b=50%2525"),
                ("ce-percent", "%2541+"),
                ("ce-quoted", r#""a \"b\" \\ %41""#),
                ("ce-sequence", "007"),
                ("ce-raw", "ü"),
                ("traceparent", "00-a"),
            ],
            b"",
        );
        assert_eq!(event.stream.as_deref(), Some("Euro € 😀"));
        assert_eq!(event.time.as_deref(), Some("2026-11-21T09:04:00Z"));
        assert_eq!(event.schema.as_deref(), Some("urn:x"));
        assert_eq!(event.tags, ["a=1", "b=50%"]);
        assert_eq!(event.data_kind, DataKind::None);
        let extensions: Vec<(&str, &str)> =
            event.extensions.iter().map(|(name, json)| (name.as_str(), json.as_str())).collect();
        let expected =
            [("percent", r#""%41+""#), ("quoted", r#""a \"b\" \\ A""#), ("raw", r#""ü""#), ("sequence", r#""007""#)];
        assert_eq!(extensions, expected);
    }

    #[test]
    fn the_body_is_the_data_in_the_form_of_its_content_type() {
        let data = |kind: &str, body: &[u8]| {
            let event = binary_of(&[("content-type", kind)], body);
            assert_eq!(event.content_type.as_deref(), Some(kind));
            (event.data_kind, event.data)
        };
        assert_eq!(data("application/json", b" {\"a\" : 1.10}\n"), (DataKind::Json, b"{\"a\" : 1.10}".to_vec()));
        assert_eq!(data("Application/Vnd.X+JSON; v=1", b"5"), (DataKind::Json, b"5".to_vec()));
        assert_eq!(data("text/plain", "grün\n".as_bytes()), (DataKind::Json, "\"grün\\n\"".into()));
        assert_eq!(data("text/plain; charset=latin1", b"a"), (DataKind::Binary, b"a".to_vec()));
        assert_eq!(data("text/plain", b"\xff"), (DataKind::Binary, b"\xff".to_vec()));
        assert_eq!(data("application/octet-stream", b"{}"), (DataKind::Binary, b"{}".to_vec()));
        assert_eq!(binary_of(&[], b"{\"a\":1}").data_kind, DataKind::Json);
        assert_eq!(binary_of(&[], b"\x01").data_kind, DataKind::Binary);
    }

    #[test]
    fn what_cannot_be_an_event_is_named() {
        let check = |lines: &[(&str, &str)], body: &[u8], code: &str, part: &str| {
            let error = events(lines, body).unwrap_err();
            assert!(error.code == code && error.message.contains(part), "{error}");
        };
        check(&NEEDED[..3], b"", "EV0105", "`type` is missing");
        check(&[("ce-id", "1")], b"", "EV0105", "`source` is missing");
        let with = |line| [&NEEDED[..], &[line]].concat();
        check(&with(("ce-id", "2")), b"", "EV0105", "`id` is given twice");
        check(&with(("ce-subject", "%FF")), b"", "EV0105", "the header ce-subject is not UTF-8");
        check(&with(("ce-time", "now")), b"", "EV0105", "`time` is \"now\"");
        check(&with(("ce-datacontenttype", "a/b")), b"", "EV0105", "ce-datacontenttype has no meaning");
        check(&with(("ce-my-name", "a")), b"", "EV0105", "no CloudEvents attribute name");
        check(&with(("content-type", "application/json")), b"{", "EV0105", "the body is no JSON");
        check(&with(("content-type", "application/json")), b"1},{\"a\":1", "EV0105", "the body is no JSON");
        check(&[("content-type", "application/cloudevents+avro")], b"", "EV0109", "in JSON only");
    }

    /// What the official Python SDK sends, byte for byte: `to_binary_event` and `to_structured_event` of `cloudevents`
    /// 2.2, and `to_binary` of its `v1`, which leaves the content type out and encodes nothing.
    #[test]
    fn the_requests_of_the_python_sdk_are_understood() {
        let body = br#"{"message": "Hello World!", "n": 1}"#;
        let common = [
            ("ce-type", "com.example.sampletype1"),
            ("ce-source", "https://example.com/event-producer"),
            ("ce-id", "A234-1234-1234"),
            ("ce-specversion", "1.0"),
        ];
        let modern = [
            ("ce-time", "2026-11-21T09:04:00.123456Z"),
            ("ce-subject", "account%207/%E2%82%AC"),
            ("ce-ext", "a%20b%25"),
            ("content-type", "application/json"),
        ];
        let structured = concat!(
            r#"{"type": "com.example.sampletype1", "source": "https://example.com/event-producer", "#,
            r#""id": "A234-1234-1234", "specversion": "1.0", "time": "2026-11-21T09:04:00.123456Z", "#,
            r#""subject": "account 7/\u20ac", "ext": "a b%", "datacontenttype": "application/json", "#,
            r#""data": {"message": "Hello World!", "n": 1}}"#
        );
        let event = events(&[&common[..], &modern].concat(), body).unwrap();
        assert_eq!(event, events(&[("content-type", ONE)], structured.as_bytes()).unwrap());
        assert_eq!(event[0].stream.as_deref(), Some("account 7/€"));
        assert_eq!(event[0].extensions, [("ext".to_owned(), "\"a b%\"".to_owned())]);
        assert_eq!((event[0].data_kind, event[0].data.as_slice()), (DataKind::Json, body.as_slice()));

        let old = [("ce-time", "2026-11-21T09:04:00.123456+00:00"), ("ce-ext", "a b%")];
        let event = events(&[&common[..], &old].concat(), body).unwrap();
        assert_eq!(event[0].extensions, [("ext".to_owned(), "\"a b%\"".to_owned())]);
        assert_eq!((event[0].data_kind, &event[0].content_type), (DataKind::Json, &None));
    }
}
