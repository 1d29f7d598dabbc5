//! Bodies of requests and answers, and the budgets that they share. The length of a request is checked before anything
//! is read, it must arrive without long pauses, and its received bytes count. An answer counts until the client has
//! read it.

use std::{future::Future, sync::Arc, time::Duration};

use axum::{
    body::{Body, HttpBody},
    http::{HeaderMap, header::CONTENT_LENGTH},
    response::Response,
};
use bytes::Bytes;
use evener_core::limits::Limits;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout, timeout_at},
};

use super::answer::failed;
use crate::{codes, engine::Verb, error::ApiError};

/// An append: 1,000,000 bytes of events, which JSON may write several times as long.
pub(super) const APPEND_BYTES_MAX: usize = 4 << 20;
/// A batch of appends.
pub(super) const BATCH_BYTES_MAX: usize = 16 << 20;
/// Anything else.
pub(super) const OTHER_BYTES_MAX: usize = 256 << 10;
/// All bodies that are held at one time.
pub(super) const HELD_BYTES_MAX: usize = 256 << 20;
/// All of the answers that wait for their readers at one time. It suffices for pages of all streams at once, unless
/// their events are large.
pub(super) const ANSWERS_BYTES_MAX: usize = 256 << 20;
/// Bytes of an answer that need not be counted: about what a connection holds anyway.
pub(super) const ANSWER_BYTES_FREE: usize = 64 << 10;
/// An answer waits no longer for room among the others.
pub(super) const ROOM_WAIT: Duration = Duration::from_secs(10);
/// Streams (reads, tails, pages) that are open at one time.
pub(super) const STREAMS_MAX: usize = 1_024;
/// The longest pause within a body: a few retransmissions of a bad network.
pub(super) const BODY_PAUSE_MAX: Duration = Duration::from_secs(10);
/// A body comes at least so fast on the whole, its first pause aside: the pace of a bad mobile network. So a body
/// as large as may be, sent byte by byte, ends within five minutes.
pub(super) const BODY_BYTES_PER_SECOND_MIN: usize = 64 << 10;

const UNIT: usize = 1_024;

/// What all requests together may hold.
#[derive(Clone, Debug)]
pub(super) struct Budget {
    bytes: Arc<Semaphore>,
    answers: Arc<Semaphore>,
    streams: Arc<Semaphore>,
}

/// A body, and its share of the budget until it is dropped.
#[derive(Debug)]
pub(super) struct Held {
    /// The body.
    pub bytes: Vec<u8>,
    _share: OwnedSemaphorePermit,
}

impl Default for Budget {
    fn default() -> Self {
        let bytes = Arc::new(Semaphore::new(HELD_BYTES_MAX / UNIT));
        let answers = Arc::new(Semaphore::new(ANSWERS_BYTES_MAX / UNIT));
        Self { bytes, answers, streams: Arc::new(Semaphore::new(STREAMS_MAX)) }
    }
}

impl Budget {
    /// Reads the body of a request for `verb`. The error of one that is too large names the current limits.
    pub(super) async fn read(
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
        let announced = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        if announced.is_some_and(|length| length > max) {
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

    /// Takes so many units for received bytes: a body that is only announced holds nothing.
    fn share(&self, units: usize) -> Result<OwnedSemaphorePermit, ApiError> {
        let units = u32::try_from(units).expect("a body is at most 16 MiB");
        let share = Arc::clone(&self.bytes).try_acquire_many_owned(units);
        share.map_err(|_| overloaded(format!("requests hold {HELD_BYTES_MAX} bytes together already")))
    }

    /// Returns an answer that counts until the last part of it is dropped; none if there is no room for it.
    pub(super) fn answer(&self, bytes: impl AsRef<[u8]> + Send + 'static) -> Option<Bytes> {
        let share = Arc::clone(&self.answers).try_acquire_many_owned(units(bytes.as_ref().len())).ok()?;
        Some(Bytes::from_owner(Waiting { bytes, _share: share }))
    }

    /// Waits until there is room for an answer of so many bytes. It is not reserved: waiting holds nothing.
    pub(super) async fn room(&self, bytes: usize) -> Result<(), ApiError> {
        let room = timeout(ROOM_WAIT, self.answers.acquire_many(units(bytes))).await;
        room.map(drop).map_err(|_| no_room())
    }

    /// Counts the body of a complete answer.
    pub(super) async fn counted(&self, response: Response) -> Response {
        let size = response.body().size_hint().exact().and_then(|size| usize::try_from(size).ok());
        let Some(size) = size.filter(|size| *size > ANSWER_BYTES_FREE) else { return response };
        let (parts, body) = response.into_parts();
        let Ok(bytes) = axum::body::to_bytes(body, size).await else {
            return failed(&ApiError::new(&codes::BUG, "the body of a complete answer could not be read"));
        };
        match self.answer(bytes) {
            Some(bytes) => Response::from_parts(parts, Body::from(bytes)),
            None => failed(&no_room()),
        }
    }

    /// Takes one of the streams.
    pub(super) fn stream(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        let place = Arc::clone(&self.streams).try_acquire_owned();
        place.map_err(|_| overloaded(format!("{STREAMS_MAX} streams are open already")))
    }
}

fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX)
}

/// An answer, and its share of the budget.
struct Waiting<B> {
    bytes: B,
    _share: OwnedSemaphorePermit,
}

impl<B: AsRef<[u8]>> AsRef<[u8]> for Waiting<B> {
    fn as_ref(&self) -> &[u8] {
        self.bytes.as_ref()
    }
}

/// Waits for the next part of a body, after `bytes` of it, if it arrives in time.
async fn in_time<T>(begun: Instant, bytes: usize, next: impl Future<Output = T>) -> Result<T, ApiError> {
    let pause = Instant::now() + BODY_PAUSE_MAX;
    let pace = begun + BODY_PAUSE_MAX + Duration::from_millis((bytes * 1_000 / BODY_BYTES_PER_SECOND_MIN) as u64);
    timeout_at(pause.min(pace), next).await.map_err(|_| {
        let seconds = begun.elapsed().as_secs();
        let message = format!("{bytes} bytes of the body arrived in {seconds} s, and then no more in time");
        ApiError::new(&codes::BODY_TOO_SLOW, message)
    })
}

fn too_large(verb: Verb, max: usize, limits: Limits) -> ApiError {
    let row = verb.entry();
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

/// Returns the error for an answer that does not fit the budget.
pub(super) fn no_room() -> ApiError {
    overloaded(format!("answers that clients have not read hold {ANSWERS_BYTES_MAX} bytes together already"))
}

/// Returns the error of a reached bound.
pub(super) fn overloaded(message: String) -> ApiError {
    ApiError::new(&codes::OVERLOADED, message).retry_after(Duration::from_millis(200))
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use super::*;

    #[tokio::test]
    async fn the_error_of_a_too_large_body_names_the_current_limits() {
        let headers = HeaderMap::from_iter([(CONTENT_LENGTH, (APPEND_BYTES_MAX + 1).into())]);
        let limits = || Limits { event_bytes_max: 4_321, append_bytes_max: 8_765, ..Limits::DEFAULT };
        let error = Budget::default().read(Verb::Append, &headers, Body::empty(), limits).await.unwrap_err();
        assert!(error.message.contains("at most 4321 (event_bytes_max)"), "{error}");
        assert!(error.message.contains("8765 (append_bytes_max)"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn p10_answers_count_until_their_last_part_is_read() {
        let budget = Budget::default();
        let big = vec![b' '; ANSWERS_BYTES_MAX - 10 * UNIT];
        let mut first = budget.answer(big).expect("nothing waits yet");
        assert!(budget.answer(vec![0; 11 * UNIT]).is_none());
        let part = first.split_to(7);
        drop(first);
        assert_eq!(budget.answers.available_permits(), 10, "a part holds the whole");
        let full = budget.room(11 * UNIT).await.unwrap_err();
        assert!(full.code == "EV0402" && full.message.contains(&ANSWERS_BYTES_MAX.to_string()), "{full}");
        let response = budget.counted(Response::new(Body::from(vec![0; ANSWER_BYTES_FREE + 1]))).await;
        assert_eq!(response.status(), 503);
        let response = budget.counted(Response::new(Body::from(vec![0; ANSWER_BYTES_FREE]))).await;
        assert_eq!(response.status(), 200, "a small answer is not counted");
        drop(part);
        budget.room(11 * UNIT).await.unwrap();
        let response = budget.counted(Response::new(Body::from(vec![0; 11 * UNIT]))).await;
        assert_eq!(response.status(), 200);
        let all = ANSWERS_BYTES_MAX / UNIT;
        drop(budget.answer(vec![0; 100 * UNIT]));
        assert_eq!(budget.answers.available_permits(), all);
    }

    #[tokio::test]
    async fn p10_a_body_that_is_only_announced_holds_nothing() {
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
