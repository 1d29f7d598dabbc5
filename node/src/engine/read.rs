//! Reads events page by page, and waits for more.

use std::time::Duration;

use evener_cluster::SearchPhase;
use evener_core::{criteria::Criteria, id::Position, limits::Measured};
use evener_store::{
    EventReader,
    events::{self, Query, ReadError},
};
use tokio::time::timeout;

use super::{Consistency, Page, Read, local::Engine};
use crate::{codes, error::ApiError};

/// Events of one page: little enough that the page is made while others wait.
pub(super) const PAGE_EVENTS: u64 = 512;
/// Bytes of the events of one page: it waits in memory until its reader has taken it, and many may read at a time.
const PAGE_BYTES: usize = 128 << 10;
/// A read of no more than this many of the latest events is answered at once: they are in memory, and few.
const NEAR_EVENTS: u64 = 64;
/// Timeout of a majority's answer.
const FRESH_WAIT: Duration = Duration::from_secs(5);
/// A tail without events answers after this time, so that its reader sees that the node is alive.
const TAIL_WAIT: Duration = Duration::from_secs(5);

/// A page of events.
pub(super) async fn read(engine: &Engine, read: &Read) -> Result<Page, ApiError> {
    if read.consistency == Consistency::Linearizable {
        fresh(engine).await?;
    }
    page(engine, read).await
}

/// Waits until everything that was acknowledged before is applied here.
async fn fresh(engine: &Engine) -> Result<(), ApiError> {
    let error = match timeout(FRESH_WAIT, engine.cluster().barrier()).await {
        Ok(Ok(_)) => return Ok(()),
        Ok(Err(error)) => engine.api_error(error),
        Err(_) => ApiError::new(&codes::NO_LEADER, format!("no majority answered within {FRESH_WAIT:?}"))
            .retry_after(Duration::from_secs(1)),
    };
    let hint = "repeat it; `consistency=local` (`--local`) reads what this node has, without asking the others";
    Err(error.doing("failed to get the commit index from a majority").hint(hint))
}

/// Returns a page of events once there are any, and an empty one after a while.
pub(super) async fn tail(engine: &Engine, read: &Read) -> Result<Page, ApiError> {
    let mut applied = engine.cluster().applied();
    let waiting = async {
        loop {
            applied.borrow_and_update();
            let page = page(engine, read).await?;
            if !page.events.is_empty() || page.next > read.from || reached(read, &page) {
                return Ok(page);
            }
            if applied.changed().await.is_err() {
                return Err(ApiError::new(&codes::STOPPING, "this node has stopped"));
            }
        }
    };
    match timeout(TAIL_WAIT, waiting).await {
        Ok(page) => page,
        Err(_) => page(engine, read).await,
    }
    .map(|page| Page { end: reached(read, &page), ..page })
}

/// Returns whether a tail has reached the requested end.
fn reached(read: &Read, page: &Page) -> bool {
    read.to.is_some_and(|to| page.next >= to) || read.limit == Some(0)
}

/// Reads a page of existing events. A few of the latest ones are read at once; anything else may take long.
async fn page(engine: &Engine, read: &Read) -> Result<Page, ApiError> {
    let limits = {
        let state = engine.cluster().state();
        if !state.contexts.contains_key(&read.context) {
            return Err(ApiError::new(&codes::UNKNOWN_CONTEXT, format!("there is no context {}", read.context)));
        }
        state.limits
    };
    read.criteria.within(&limits)?;
    Criteria::together_within([&read.criteria], Measured::ReadCriteria)?;
    let events = engine.cluster().events();
    let head = events.head(read.context);
    let near = read.from.0.saturating_add(NEAR_EVENTS) >= head.0;
    let page = if near && read.to.is_none_or(|to| to >= head) {
        look(events, read)
    } else {
        let turn = if read.continues { SearchPhase::Continue } else { SearchPhase::Start };
        let read = read.clone();
        engine
            .cluster()
            .search(turn, move |events| look(events, &read))
            .await
            .map_err(|error| engine.api_error(error))?
    };
    let page = page.map_err(unread)?;
    let to: Position = read.to.unwrap_or(page.head).min(page.head);
    Ok(Page { events: page.events, next: page.next, marker: page.marker, to, end: !page.more })
}

fn look(events: &EventReader, read: &Read) -> Result<events::Page, ReadError> {
    let limit = read.limit.unwrap_or(PAGE_EVENTS).min(PAGE_EVENTS);
    let query = Query {
        context: read.context,
        from: read.from,
        to: read.to,
        limit: usize::try_from(limit).unwrap_or(usize::MAX),
        criteria: &read.criteria,
        stream: read.stream.as_deref(),
        backwards: read.backwards,
    };
    events.read_within(&query, PAGE_BYTES)
}

/// Returns the error of events that cannot be read from disk.
pub(super) fn unread(error: ReadError) -> ApiError {
    let mut why = error.to_string();
    let mut at: &dyn std::error::Error = &error;
    while let Some(source) = at.source() {
        why = format!("{why}: {source}");
        at = source;
    }
    ApiError::new(&codes::UNREADABLE, why)
}
