//! Answers that are streamed line by line: batches of appends, reads, and tails. Each holds one page at a time, sends
//! it in pieces, and fetches the next one when the client has read this one. Pages count against a budget
//! ([`ANSWERS_BYTES_MAX`](super::body::ANSWERS_BYTES_MAX)).

use std::{convert::Infallible, time::Duration};

use axum::{
    body::Body,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use bytes::Bytes;
use evener_core::id::Position;
use futures::{FutureExt, Stream, StreamExt, future::BoxFuture, stream};
use tokio::{sync::OwnedSemaphorePermit, time::timeout};

use super::{SharedApi, answer::typed};
use crate::{
    cloudevent, codes,
    engine::{Consistency, Page, Read, Reply, Request},
    error::ApiError,
    wire::{Call, append, appended_line, query},
};

const NDJSON: &str = "application/x-ndjson";

/// Size of a piece that is passed to a connection.
const PIECE_BYTES: usize = 64 << 10;
/// Part of the budget that must become free before a page is fetched again.
const ROOM_BYTES: usize = 2 << 20;
/// A tail without events sends a comment after this time, so that proxies do not close it.
const KEEP_ALIVE: Duration = Duration::from_secs(2);
/// A comment, which readers of server-sent events ignore.
const COMMENT: &str = ": nothing yet\n\n";

/// Answers each line of a batch with a line, in order; an invalid line with its error.
pub(super) async fn append_many(api: &SharedApi, call: &Call) -> Result<Response, ApiError> {
    let count = append::lines(&call.body).count();
    if count > append::BATCH_APPENDS_MAX {
        let message = format!("a batch has at most {} appends, and this has {count}", append::BATCH_APPENDS_MAX);
        return Err(ApiError::new(&codes::BODY_TOO_LARGE, message));
    }
    let parsed: Vec<_> = append::lines(&call.body).map(append::parse).collect();
    let broken: Vec<Option<ApiError>> = parsed.iter().map(|append| append.as_ref().err().cloned()).collect();
    let appends: Vec<_> = parsed.into_iter().filter_map(Result::ok).collect();
    let Reply::Many(answers) = api.answers.call(Request::AppendMany(appends)).await? else { return Err(odd()) };
    let mut answers = answers.into_iter();
    let lines = broken.into_iter().map(|broken| match broken {
        Some(error) => appended_line(&Err(error)),
        None => appended_line(&answers.next().unwrap_or_else(|| Err(odd()))),
    });
    Ok(typed(StatusCode::OK, NDJSON, lines.collect::<String>()))
}

/// Streams the events of a read; the last line has the position to continue from. An error ends the stream as its
/// last line.
pub(super) async fn read(api: &SharedApi, request: Request) -> Result<Response, ApiError> {
    let Request::Read(read) = request else { return Err(odd()) };
    let mut pages = Pages::of_read(api, read)?;
    // The first page is fetched before the answer begins, so that its error has its own status.
    let (text, last) = pages.next(Wait::Not).await?;
    let rest = stream::unfold((!last).then_some(pages), |pages| async move {
        let mut pages = pages?;
        Some(match pages.next(Wait::Not).await {
            Ok((text, last)) => (text, (!last).then_some(pages)),
            Err(error) => (Bytes::from(json(&error) + "\n"), None),
        })
    });
    let body = stream::once(std::future::ready(text)).chain(rest);
    Ok(typed(StatusCode::OK, NDJSON, Body::from_stream(in_pieces(body))))
}

fn read_lines(page: &Page, last: bool) -> String {
    let mut lines = String::with_capacity(page.events.len() * 512 + 64);
    for stored in &page.events {
        lines.push_str(&cloudevent::stored_to_json(stored));
        lines.push('\n');
    }
    if last {
        lines.push_str(&format!("{{\"next\":{},\"marker\":{}}}\n", page.next, page.marker));
    }
    lines
}

/// Streams events as they arrive, as server-sent events: `id` is the position to continue from, `progress` events are
/// sent in between.
pub(super) async fn tail(api: &SharedApi, request: Request, headers: &HeaderMap) -> Result<Response, ApiError> {
    let Request::Tail(mut read) = request else { return Err(odd()) };
    if read.backwards {
        return Err(query::bad("backwards", "has no meaning when following events as they come"));
    }
    read.from = last_event_id(headers)?.unwrap_or(read.from);
    let mut pages = Pages::of_tail(api, read)?;
    // Existing events are sent at once; the answer begins even if there are none.
    let (text, last) = pages.next(Wait::Not).await?;
    let rest = stream::unfold((!last).then(|| step(pages)), |step_under_way| async move {
        let mut under_way = step_under_way?;
        Some(match timeout(KEEP_ALIVE, &mut under_way).await {
            Err(_) => (Bytes::from_static(COMMENT.as_bytes()), Some(under_way)),
            Ok((pages, Ok((text, last)))) => (text, (!last).then(|| step(pages))),
            Ok((_, Err(error))) => (Bytes::from(format!("event: error\ndata: {}\n\n", json(&error))), None),
        })
    });
    let begin = [Bytes::from_static(b": events follow\n\n"), text];
    let body = in_pieces(stream::iter(begin).chain(rest));
    let mut response = typed(StatusCode::OK, "text/event-stream", Body::from_stream(body));
    response.headers_mut().insert("cache-control", axum::http::HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Returns the position that a reader of server-sent events continues from; none if it begins. An invalid one is
/// refused: to begin elsewhere would repeat or omit events.
fn last_event_id(headers: &HeaderMap) -> Result<Option<Position>, ApiError> {
    let Some(id) = headers.get("last-event-id") else { return Ok(None) };
    let position = id.to_str().ok().and_then(|id| id.parse().ok());
    position.map(|position| Some(Position(position))).ok_or_else(|| {
        let id = String::from_utf8_lossy(id.as_bytes());
        let message = format!("the header 'Last-Event-ID' is '{id}': it must be a whole number from 0");
        ApiError::new(&codes::BAD_QUERY, message)
            .hint("send the `id` of the last server-sent event, or leave the header out and set the parameter `from`")
    })
}

/// Fetches the next page of a tail.
fn step(mut pages: Pages) -> BoxFuture<'static, (Pages, Step)> {
    async move {
        let step = pages.next(Wait::ForEvents).await;
        (pages, step)
    }
    .boxed()
}

fn tail_events(page: &Page) -> String {
    let mut text = String::with_capacity(page.events.len() * 512 + 64);
    for stored in &page.events {
        text.push_str(&format!("id: {}\ndata: {}\n\n", stored.position.next(), cloudevent::stored_to_json(stored)));
    }
    let (next, marker) = (page.next, page.marker);
    text.push_str(&format!("id: {next}\nevent: progress\ndata: {{\"next\":{next},\"marker\":{marker}}}\n\n"));
    text
}

fn json(error: &ApiError) -> String {
    serde_json::to_string(error).expect("an error is plain values")
}

/// Splits texts into pieces. The pieces of a text share its memory until the last is read.
fn in_pieces(
    texts: impl Stream<Item = Bytes> + Send + 'static,
) -> impl Stream<Item = Result<Bytes, Infallible>> + Send {
    texts.flat_map(|mut text| {
        let piece = move || (!text.is_empty()).then(|| text.split_to(text.len().min(PIECE_BYTES)));
        stream::iter(std::iter::from_fn(piece).map(Ok))
    })
}

/// The remaining pages of a read.
struct Pages {
    api: SharedApi,
    read: Read,
    left: Option<u64>,
    tail: bool,
    write: fn(&Page, bool) -> String,
    _place: OwnedSemaphorePermit,
}

/// What to wait for if there are no events.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wait {
    Not,
    ForEvents,
}

/// A page as text, and whether it is the last one.
type Step = Result<(Bytes, bool), ApiError>;

impl Pages {
    fn of_read(api: &SharedApi, read: Read) -> Result<Self, ApiError> {
        let place = api.budget.stream()?;
        Ok(Self { api: api.clone(), left: read.limit, read, tail: false, write: read_lines, _place: place })
    }

    /// Returns the pages of a tail: it sends what this node has, so it reads locally.
    fn of_tail(api: &SharedApi, read: Read) -> Result<Self, ApiError> {
        let read = Read { consistency: Consistency::Local, ..read };
        Ok(Self { tail: true, write: |page, _| tail_events(page), ..Self::of_read(api, read)? })
    }

    /// Returns the next page. If the budget has no room for it, it is dropped, and fetched again once there is room.
    async fn next(&mut self, mut wait: Wait) -> Step {
        loop {
            let page = self.fetch(wait).await?;
            let left = self.left.map(|left| left.saturating_sub(page.events.len() as u64));
            let last = page.end || left == Some(0);
            let text = (self.write)(&page, last);
            let Some(text) = self.api.budget.answer(text) else {
                drop(page);
                self.api.budget.room(ROOM_BYTES).await?;
                wait = Wait::Not;
                continue;
            };
            self.left = left;
            self.advance_past(&page);
            return Ok((text, last));
        }
    }

    async fn fetch(&self, wait: Wait) -> Result<Page, ApiError> {
        let read = Read { limit: self.left, ..self.read.clone() };
        let request = if self.tail && wait == Wait::ForEvents { Request::Tail(read) } else { Request::Read(read) };
        let Reply::Page(page) = self.api.answers.call(request).await? else { return Err(odd()) };
        // A tail continues after the existing events.
        let end = if self.tail { self.read.to.is_some_and(|to| page.next >= to) } else { page.end };
        Ok(Page { end, ..page })
    }

    /// Continues after this page.
    fn advance_past(&mut self, page: &Page) {
        let read = &mut self.read;
        (read.consistency, read.continues) = (Consistency::Local, true);
        if read.backwards {
            read.to = Some(page.next);
        } else {
            read.from = page.next;
            read.to = if self.tail { read.to } else { Some(page.to) };
        }
    }
}

fn odd() -> ApiError {
    ApiError::new(&codes::BUG, "the answer does not match the request")
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn a_last_event_id_that_is_not_a_position_is_refused() {
        let read = |id: &[u8]| {
            let id = HeaderValue::from_bytes(id).unwrap();
            last_event_id(&[("last-event-id".parse().unwrap(), id)].into_iter().collect())
        };
        assert_eq!(last_event_id(&HeaderMap::new()).unwrap(), None);
        assert_eq!(read(b"0").unwrap(), Some(Position(0)));
        assert_eq!(read(b"18446744073709551615").unwrap(), Some(Position(u64::MAX)));
        for id in [&b"abc"[..], b"-1", b"1.5", b"7 8", b"0x7", b"", b"18446744073709551616", b"\xff"] {
            let error = read(id).unwrap_err();
            assert_eq!((error.code.as_ref(), error.status()), ("EV0101", 400), "{error}");
            let names_header = error.message.contains("'Last-Event-ID'");
            assert!(names_header && error.message.contains("whole number from 0"), "{error}");
        }
    }
}
