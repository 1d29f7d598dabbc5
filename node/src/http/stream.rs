//! Answers that come line by line: batches of appends, reads, and tails. Each holds one page at a time.

use axum::{
    body::Body,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use bytes::Bytes;
use evener_core::id::Position;
use futures::{Stream, StreamExt, stream};
use tokio::sync::OwnedSemaphorePermit;

use super::{Api, answer::typed};
use crate::{
    cloudevent, codes,
    engine::{Consistency, Page, Read, Reply, Request},
    error::ApiError,
    wire::{Call, append, appended_line, query},
};

const NDJSON: &str = "application/x-ndjson";

/// Answers each line of a batch with a line, in order: a broken one with its error.
pub async fn append_many(api: &Api, call: &Call) -> Result<Response, ApiError> {
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

/// Streams the events of a read; the last line says where to go on. An error on the way is the last line.
pub async fn read(api: &Api, request: Request) -> Result<Response, ApiError> {
    let Request::Read(read) = request else { return Err(odd()) };
    let pages = Pages { api: api.clone(), left: read.limit, read, tail: false, _place: api.budget.stream()? };
    let lines = pages.start().await?.map(|page| {
        Ok::<_, std::convert::Infallible>(match page {
            Ok((page, last)) => read_lines(&page, last),
            Err(error) => Bytes::from(serde_json::to_string(&error).expect("an error is plain values") + "\n"),
        })
    });
    Ok(typed(StatusCode::OK, NDJSON, Body::from_stream(lines)))
}

fn read_lines(page: &Page, last: bool) -> Bytes {
    let mut lines = String::with_capacity(page.events.len() * 512 + 64);
    for stored in &page.events {
        lines.push_str(&cloudevent::stored_to_json(stored));
        lines.push('\n');
    }
    if last {
        lines.push_str(&format!("{{\"next\":{},\"marker\":{}}}\n", page.next, page.marker));
    }
    lines.into()
}

/// Streams events as they come, as server-sent events: `id` is where to go on, `progress` comes in between.
pub async fn tail(api: &Api, request: Request, headers: &HeaderMap) -> Result<Response, ApiError> {
    let Request::Tail(mut read) = request else { return Err(odd()) };
    if read.backwards {
        return Err(query::bad("backwards", "has no meaning when following events as they come"));
    }
    if let Some(seen) = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok()) {
        read.from = Position(seen);
    }
    let pages = Pages { api: api.clone(), left: read.limit, read, tail: true, _place: api.budget.stream()? };
    let events = pages.start().await?.map(|page| {
        Ok::<_, std::convert::Infallible>(match page {
            Ok((page, _)) => tail_events(&page),
            Err(error) => {
                let json = serde_json::to_string(&error).expect("an error is plain values");
                Bytes::from(format!("event: error\ndata: {json}\n\n"))
            }
        })
    });
    let mut response = typed(StatusCode::OK, "text/event-stream", Body::from_stream(events));
    response.headers_mut().insert("cache-control", axum::http::HeaderValue::from_static("no-store"));
    Ok(response)
}

fn tail_events(page: &Page) -> Bytes {
    let mut text = String::with_capacity(page.events.len() * 512 + 64);
    for stored in &page.events {
        text.push_str(&format!("id: {}\ndata: {}\n\n", stored.position.next(), cloudevent::stored_to_json(stored)));
    }
    let (next, marker) = (page.next, page.marker);
    text.push_str(&format!("id: {next}\nevent: progress\ndata: {{\"next\":{next},\"marker\":{marker}}}\n\n"));
    text.into()
}

/// The pages of a read that are still to come.
struct Pages {
    api: Api,
    read: Read,
    left: Option<u64>,
    tail: bool,
    _place: OwnedSemaphorePermit,
}

type Step = Result<(Page, bool), ApiError>;

impl Pages {
    /// The first page is fetched before anything is answered, so that an error there has its own status.
    async fn start(mut self) -> Result<impl Stream<Item = Step> + Send + use<>, ApiError> {
        let (page, last) = self.next().await?;
        let rest = stream::unfold((!last).then_some(self), |pages| async move {
            let mut pages = pages?;
            let step = pages.next().await;
            let goes_on = matches!(step, Ok((_, false)));
            Some((step, goes_on.then_some(pages)))
        });
        Ok(stream::once(async move { Ok((page, last)) }).chain(rest))
    }

    async fn next(&mut self) -> Step {
        let request = Read { limit: self.left, ..self.read.clone() };
        let request = if self.tail { Request::Tail(request) } else { Request::Read(request) };
        let Reply::Page(page) = self.api.answers.call(request).await? else { return Err(odd()) };
        let read = &mut self.read;
        (read.consistency, read.continues) = (Consistency::Local, true);
        if read.backwards {
            read.to = Some(page.next);
        } else {
            read.from = page.next;
            read.to = if self.tail { read.to } else { Some(page.to) };
        }
        self.left = self.left.map(|left| left.saturating_sub(page.events.len() as u64));
        let last = page.end || self.left == Some(0);
        Ok((page, last))
    }
}

fn odd() -> ApiError {
    ApiError::new(&codes::BUG, "the answer is not of the kind that was asked for")
}
