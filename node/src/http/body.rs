//! Bodies of requests: their length is looked at before anything is read, and all that are held at one time
//! count against one budget.

use std::sync::Arc;

use axum::{
    body::Body,
    http::{HeaderMap, header::CONTENT_LENGTH},
};
use http_body_util::{BodyExt, Limited};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{codes, engine::Verb, error::ApiError};

/// An append: 1,000,000 bytes of events, which JSON may write several times as long.
pub const APPEND_BYTES_MAX: usize = 4 << 20;
/// A batch of appends.
pub const BATCH_BYTES_MAX: usize = 16 << 20;
/// Anything else.
pub const OTHER_BYTES_MAX: usize = 256 << 10;
/// All bodies that are held at one time.
pub const HELD_BYTES_MAX: usize = 256 << 20;
/// Streams (reads, tails, pages) that are open at one time.
pub const STREAMS_MAX: usize = 1_024;

const UNIT: usize = 1_024;

/// What all requests together may hold.
#[derive(Clone, Debug)]
pub struct Budget {
    bytes: Arc<Semaphore>,
    streams: Arc<Semaphore>,
}

/// A body, and its share of the budget until it is dropped.
#[derive(Debug)]
pub struct Held {
    /// The body.
    pub bytes: Vec<u8>,
    _share: OwnedSemaphorePermit,
}

impl Default for Budget {
    fn default() -> Self {
        let bytes = Arc::new(Semaphore::new(HELD_BYTES_MAX / UNIT));
        Self { bytes, streams: Arc::new(Semaphore::new(STREAMS_MAX)) }
    }
}

impl Budget {
    /// Reads the body of a request for `verb`.
    pub async fn read(&self, verb: Verb, headers: &HeaderMap, body: Body) -> Result<Held, ApiError> {
        let max = match verb {
            Verb::Append => APPEND_BYTES_MAX,
            Verb::AppendMany => BATCH_BYTES_MAX,
            _ => OTHER_BYTES_MAX,
        };
        let told = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        let has_none = told.is_none() && !headers.contains_key("transfer-encoding");
        let length = if has_none { 0 } else { told.unwrap_or(max) };
        if length > max {
            return Err(too_large(verb, max));
        }
        let share = u32::try_from(length.div_ceil(UNIT)).expect("a body is at most 16 MiB");
        let share = Arc::clone(&self.bytes)
            .try_acquire_many_owned(share)
            .map_err(|_| overloaded(format!("requests hold {HELD_BYTES_MAX} bytes together already")))?;
        let read = Limited::new(body, max).collect().await;
        let bytes = read.map_err(|error| {
            if error.is::<http_body_util::LengthLimitError>() {
                return too_large(verb, max);
            }
            ApiError::new(&codes::BAD_BODY, format!("the body ended early: {error}"))
        })?;
        Ok(Held { bytes: bytes.to_bytes().into(), _share: share })
    }

    /// A place for a stream.
    pub fn stream(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        let place = Arc::clone(&self.streams).try_acquire_owned();
        place.map_err(|_| overloaded(format!("{STREAMS_MAX} streams are open already")))
    }
}

fn too_large(verb: Verb, max: usize) -> ApiError {
    let row = verb.row();
    ApiError::new(&codes::BODY_TOO_LARGE, format!("a body of {} {} has at most {max} bytes", row.method, row.path))
}

fn overloaded(message: String) -> ApiError {
    ApiError::new(&codes::OVERLOADED, message).retry_after(std::time::Duration::from_millis(200))
}
