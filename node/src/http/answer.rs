//! Answers and errors as HTTP responses.

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::Response,
};

use crate::{
    engine::{Operation, OperationState, Reply, Verb},
    error::ApiError,
    wire,
};

/// Returns the response with an answer.
pub(super) fn reply(verb: Verb, answer: &Reply) -> Response {
    let body = wire::encode(answer).expect("pages of events are streamed");
    let kind = if verb == Verb::AppendMany { "application/x-ndjson" } else { "application/json" };
    typed(StatusCode::OK, kind, body)
}

/// Returns the response with an error. The error of a change also has the fields of an operation.
pub(super) fn failed(error: &ApiError) -> Response {
    let mut json = serde_json::to_value(error).expect("an error is plain values");
    if let (Some(operation), Some(fields)) = (error.operation, json.as_object_mut()) {
        let state = OperationState::Refused;
        let refused = Operation {
            operation,
            state,
            why: Some(error.message.clone()),
            changed: None,
            events: None,
            dry_run: false,
            note: None,
        };
        if let Ok(serde_json::Value::Object(more)) = serde_json::to_value(refused) {
            fields.extend(more);
        }
    }
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = typed(status, "application/json", json.to_string() + "\n");
    if let Some(ms) = error.retry_after_ms {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(ms.div_ceil(1_000)));
    }
    response
}

/// Returns a response with a body of this content type.
pub(super) fn typed(status: StatusCode, kind: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
