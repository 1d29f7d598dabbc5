//! Bodies of requests: their length is looked at before anything is read, they come without long pauses, and all
//! that has come of them at one time counts against one budget.

use std::{future::Future, sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{HeaderMap, header::CONTENT_LENGTH},
};
use evener_core::limits::Limits;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};

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
/// The longest pause within a body: a few retransmissions of a bad network.
pub const BODY_PAUSE_MAX: Duration = Duration::from_secs(10);
/// A body comes at least so fast on the whole, its first pause aside: the pace of a bad mobile network. So a body
/// as large as may be, sent byte by byte, ends within five minutes.
pub const BODY_BYTES_PER_SECOND_MIN: usize = 64 << 10;

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
    /// Reads the body of a request for `verb`. One that is too large is told the limits in force.
    pub async fn read(
        &self,
        verb: Verb,
        headers: &HeaderMap,
        body: Body,
        limits: impl Fn() -> Limits,
    ) -> Result<Held, ApiError> {
        let max = match verb {
            Verb::Append => APPEND_BYTES_MAX,
            Verb::AppendMany => BATCH_BYTES_MAX,
            _ => OTHER_BYTES_MAX,
        };
        let told = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        if told.is_some_and(|length| length > max) {
            return Err(too_large(verb, max, limits()));
        }
        let mut body = Limited::new(body, max);
        let mut held = Held { bytes: Vec::new(), _share: self.share(0)? };
        let begun = Instant::now();
        while let Some(frame) = in_time(begun, held.bytes.len(), body.frame()).await? {
            let frame = frame.map_err(|error| match error.is::<LengthLimitError>() {
                true => too_large(verb, max, limits()),
                false => ApiError::new(&codes::BAD_BODY, format!("the body ended early: {error}")),
            })?;
            let Ok(chunk) = frame.into_data() else { continue };
            let grown = held.bytes.len() + chunk.len();
            held._share.merge(self.share(grown.div_ceil(UNIT) - held.bytes.len().div_ceil(UNIT))?);
            held.bytes.extend_from_slice(&chunk);
        }
        Ok(held)
    }

    /// So many units more, for what has come: who only announces a long body holds nothing.
    fn share(&self, units: usize) -> Result<OwnedSemaphorePermit, ApiError> {
        let units = u32::try_from(units).expect("a body is at most 16 MiB");
        let share = Arc::clone(&self.bytes).try_acquire_many_owned(units);
        share.map_err(|_| overloaded(format!("requests hold {HELD_BYTES_MAX} bytes together already")))
    }

    /// A place for a stream.
    pub fn stream(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        let place = Arc::clone(&self.streams).try_acquire_owned();
        place.map_err(|_| overloaded(format!("{STREAMS_MAX} streams are open already")))
    }
}

/// What comes next of a body of which so much has come, if it comes in time.
async fn in_time<T>(begun: Instant, bytes: usize, next: impl Future<Output = T>) -> Result<T, ApiError> {
    let pause = Instant::now() + BODY_PAUSE_MAX;
    let pace = begun + BODY_PAUSE_MAX + Duration::from_millis((bytes * 1_000 / BODY_BYTES_PER_SECOND_MIN) as u64);
    timeout_at(pause.min(pace), next).await.map_err(|_| {
        let seconds = begun.elapsed().as_secs();
        let message = format!("{bytes} bytes of the body came in {seconds} s, and then no more in time");
        ApiError::new(&codes::BODY_TOO_SLOW, message)
    })
}

fn too_large(verb: Verb, max: usize, limits: Limits) -> ApiError {
    let row = verb.row();
    let mut message = format!("a body of {} {} has at most {max} bytes", row.method, row.path);
    if matches!(verb, Verb::Append | Verb::AppendMany) {
        let Limits { event_bytes_max, append_bytes_max, .. } = limits;
        message += &format!(
            "; an event has at most {event_bytes_max} (event_bytes_max), and all of an append at most \
             {append_bytes_max} (append_bytes_max)"
        );
    }
    ApiError::new(&codes::BODY_TOO_LARGE, message)
}

/// The refusal of what would be one too many.
pub fn overloaded(message: String) -> ApiError {
    ApiError::new(&codes::OVERLOADED, message).retry_after(Duration::from_millis(200))
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use super::*;

    #[tokio::test]
    async fn a_body_that_is_too_large_is_told_the_limits_in_force() {
        let headers = HeaderMap::from_iter([(CONTENT_LENGTH, (APPEND_BYTES_MAX + 1).into())]);
        let limits = || Limits { event_bytes_max: 4_321, append_bytes_max: 8_765, ..Limits::DEFAULT };
        let error = Budget::default().read(Verb::Append, &headers, Body::empty(), limits).await.unwrap_err();
        assert!(error.message.contains("at most 4321 (event_bytes_max)"), "{error}");
        assert!(error.message.contains("8765 (append_bytes_max)"), "{error}");
    }

    #[tokio::test]
    async fn p10_who_only_announces_a_body_holds_nothing() {
        let budget = Budget::default();
        let all = budget.bytes.available_permits();
        let headers = HeaderMap::from_iter([(CONTENT_LENGTH, BATCH_BYTES_MAX.into())]);
        let begun = bytes::Bytes::from_static(&[b' '; 3 * UNIT]);
        let chunks = futures::stream::iter([Ok::<_, std::io::Error>(begun)]).chain(futures::stream::pending());
        let mut reading =
            Box::pin(budget.read(Verb::AppendMany, &headers, Body::from_stream(chunks), || Limits::DEFAULT));
        assert!(futures::poll!(&mut reading).is_pending());
        assert_eq!(all - budget.bytes.available_permits(), 3);
        drop(reading);
        assert_eq!(budget.bytes.available_permits(), all);
    }
}
