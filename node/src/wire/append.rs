//! An append in JSON.

use evener_core::{
    append::{Condition, Expect, Expected, Request},
    id::{ContextId, Revision},
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::binding::ONE;
use crate::{cloudevent, codes, context, error::ApiError};

/// Appends of one batch.
pub const BATCH_APPENDS_MAX: usize = 4_096;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body<'a> {
    request_id: Option<Uuid>,
    context: Option<String>,
    #[serde(borrow)]
    events: Vec<&'a RawValue>,
    #[serde(default)]
    conditions: Vec<Condition>,
    #[serde(default)]
    expect: Vec<Expectation>,
}

/// Where a stream must stand, in JSON.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Expectation {
    stream: String,
    revision: At,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(untagged, expecting = "a revision is a number, \"none\" or \"any\"")]
enum At {
    Number(u64),
    Word(Word),
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Word {
    None,
    Any,
}

/// The lines of a batch; empty ones count for nothing.
pub fn lines(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    super::without_bom(body).split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty())
}

/// Reads an append.
pub fn parse(body: &[u8]) -> Result<Request, ApiError> {
    let wrong = |error| {
        let error = ApiError::new(&codes::BAD_BODY, format!("failed to read the append: {error}"));
        error.hint(format!(
            "an append is {{\"events\":[…]}}; one CloudEvent alone has the content type {ONE}, or its attributes in \
             headers ce-…"
        ))
    };
    let body: Body<'_> = serde_json::from_slice(super::without_bom(body)).map_err(wrong)?;
    let mut events = Vec::with_capacity(body.events.len());
    for (n, event) in body.events.iter().enumerate() {
        let wrong = |error| ApiError::new(&codes::BAD_EVENT, format!("event {n} of the append: {error}"));
        events.push(cloudevent::from_json(event.get()).map_err(wrong)?);
    }
    let context = body.context.as_deref().map_or(Ok(ContextId::DEFAULT), context::named)?;
    let request = body.request_id.unwrap_or_else(|| cloudevent::request_id(&events));
    let expect = body.expect.into_iter().map(|expect| Expect { stream: expect.stream, at: expect.revision.into() });
    Ok(Request { context, request, conditions: body.conditions, expect: expect.collect(), events })
}

/// Writes an append; always one line.
#[must_use]
pub fn write(request: &Request) -> String {
    let bytes: usize = request.events.iter().map(|event| event.size() + 160).sum();
    let mut out = String::with_capacity(bytes + 64);
    out.push_str(&format!("{{\"request_id\":\"{}\"", request.request));
    if request.context != ContextId::DEFAULT {
        out.push_str(&format!(",\"context\":\"{}\"", request.context));
    }
    out.push_str(",\"events\":[");
    for (n, event) in request.events.iter().enumerate() {
        if n > 0 {
            out.push(',');
        }
        out.push_str(&cloudevent::to_json(event));
    }
    out.push(']');
    if !request.conditions.is_empty() {
        out.push_str(",\"conditions\":");
        out.push_str(&serde_json::to_string(&request.conditions).expect("conditions are plain values"));
    }
    if !request.expect.is_empty() {
        let expect: Vec<Expectation> = request.expect.iter().map(Expectation::from).collect();
        out.push_str(",\"expect\":");
        out.push_str(&serde_json::to_string(&expect).expect("expectations are plain values"));
    }
    out.push('}');
    out
}

impl From<At> for Expected {
    fn from(at: At) -> Self {
        match at {
            At::Number(revision) => Self::At(Revision(revision)),
            At::Word(Word::None) => Self::NoStream,
            At::Word(Word::Any) => Self::Any,
        }
    }
}

impl From<&Expect> for Expectation {
    fn from(expect: &Expect) -> Self {
        let revision = match expect.at {
            Expected::At(revision) => At::Number(revision.0),
            Expected::NoStream => At::Word(Word::None),
            Expected::Any => At::Word(Word::Any),
        };
        Self { stream: expect.stream.clone(), revision }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_append_without_a_request_id_is_named_by_its_events() {
        let body = br#"{"events":[{"id":"1","source":"s","type":"t"}]}"#;
        let request = parse(body).unwrap();
        assert_eq!(request, parse(body).unwrap());
        assert_eq!(request.request, cloudevent::request_id(&request.events));
        assert_eq!(parse(write(&request).as_bytes()).unwrap(), request);
    }

    #[test]
    fn errors_name_the_event_and_the_field() {
        let check = |body: &str, code: &str, part: &str| {
            let error = parse(body.as_bytes()).unwrap_err();
            assert_eq!(error.code, code, "{body}");
            assert!(error.message.contains(part), "{}", error.message);
        };
        check(r#"{"events":[{"id":"1","source":"s","type":"t"},{"id":"2","type":"t"}]}"#, "EV0105", "event 1 of");
        check(r#"{"event":[]}"#, "EV0100", "unknown field `event`");
        check("{}", "EV0100", "missing field `events`");
        let expect = r#"{"events":[],"expect":[{"stream":"s","revision":"nine"}]}"#;
        check(expect, "EV0100", "a revision is a number");
        check(r#"{"events":[],"context":"blue"}"#, "EV0107", "no context 'blue'");
    }

    #[test]
    fn an_event_that_came_alone_is_told_how() {
        let error = parse(br#"{"id":"1","source":"s","type":"t"}"#).unwrap_err();
        assert!(error.code == "EV0100" && error.hint.contains(ONE) && error.hint.contains("ce-"), "{error:?}");
    }

    #[test]
    fn a_byte_order_mark_before_the_text_is_passed_over() {
        let body = br#"{"events":[{"id":"1","source":"s","type":"t"}]}"#;
        let marked = [b"\xef\xbb\xbf".as_slice(), body].concat();
        assert_eq!(parse(&marked).unwrap(), parse(body).unwrap());
        assert_eq!(lines(&marked).next(), Some(body.as_slice()));
        assert!(parse(&[b"\xef\xbb\xbf".as_slice(), &marked].concat()).is_err(), "one, and not two");
    }

    #[test]
    fn empty_lines_of_a_batch_count_for_nothing() {
        assert_eq!(lines(b"a\n\n  \r\nb\n").count(), 2);
    }
}
