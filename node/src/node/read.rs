//! Reading stored events and following new ones.

use std::{collections::VecDeque, future::IntoFuture, time::Duration};

use evener_core::{
    criteria::Criteria,
    id::{ContextId, Position},
};
use futures::future::BoxFuture;

use super::{Node, unexpected_reply};
use crate::{
    engine::{Consistency, Page, Read, Reply, Request},
    error::ApiError,
    event::Stored,
};

/// The delay before the next request if a server answers immediately without events.
const POLL_DELAY: Duration = Duration::from_millis(100);

/// The builder of a read. Awaiting it reads everything; [`Self::next_page`] reads page by page, in one consistent view.
#[must_use = "nothing is read until this is awaited"]
pub struct Reading {
    node: Node,
    read: Read,
    is_finished: bool,
}

impl Reading {
    pub(super) fn new(node: Node, criteria: Criteria) -> Self {
        Self { node, read: Read { criteria, ..Read::default() }, is_finished: false }
    }

    /// Starts at this position; by default at the first event.
    pub fn from(mut self, from: Position) -> Self {
        self.read.from = from;
        self
    }

    /// Ends before this position; by default after the last event that is acknowledged when the read begins.
    pub fn to(mut self, to: Position) -> Self {
        self.read.to = Some(to);
        self
    }

    /// Limits the number of events; by default there is no limit.
    pub fn limit(mut self, limit: u64) -> Self {
        self.read.limit = Some(limit);
        self
    }

    /// Restricts it to this stream.
    pub fn stream(mut self, stream: impl Into<String>) -> Self {
        self.read.stream = Some(stream.into());
        self
    }

    /// Reads the newest events first.
    pub fn backwards(mut self) -> Self {
        self.read.backwards = true;
        self
    }

    /// Reads this node's state without asking the majority; the newest events may be missing.
    pub fn local(mut self) -> Self {
        self.read.consistency = Consistency::Local;
        self
    }

    /// Sets the event store to read.
    pub fn context(mut self, context: ContextId) -> Self {
        self.read.context = context;
        self
    }

    /// Returns the next events, at most 512; none at the end. All pages together are one consistent view of the log.
    ///
    /// # Errors
    /// If the node cannot answer.
    pub async fn next_page(&mut self) -> Result<Option<Page>, ApiError> {
        if self.is_finished {
            return Ok(None);
        }
        let Reply::Page(page) = self.node.ask(Request::Read(self.read.clone())).await? else {
            return Err(unexpected_reply());
        };
        let Read { from, to, limit, backwards, consistency, continues, .. } = &mut self.read;
        // The first page is linearizable; the others continue in its view.
        (*consistency, *continues) = (Consistency::Local, true);
        if *backwards {
            *to = Some(page.next);
        } else {
            (*from, *to) = (page.next, Some(page.to));
        }
        if let Some(left) = limit {
            *left = left.saturating_sub(page.events.len() as u64);
        }
        self.is_finished = page.end || *limit == Some(0);
        Ok(Some(page))
    }
}

impl IntoFuture for Reading {
    type Output = Result<Page, ApiError>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(mut self) -> Self::IntoFuture {
        Box::pin(async move {
            let mut all = Page::default();
            while let Some(mut page) = self.next_page().await? {
                page.events.splice(..0, all.events);
                all = page;
            }
            Ok(all)
        })
    }
}

/// Follows events as they come.
#[must_use = "nothing is followed until `next` is called"]
pub struct Tail {
    node: Node,
    read: Read,
    ready: VecDeque<Stored>,
}

impl Tail {
    pub(super) fn new(node: Node, from: Position) -> Self {
        Self { node, read: Read { from, ..Read::default() }, ready: VecDeque::new() }
    }

    /// Restricts it to matching events.
    pub fn matching(mut self, criteria: Criteria) -> Self {
        self.read.criteria = criteria;
        self
    }

    /// Restricts it to this stream.
    pub fn stream(mut self, stream: impl Into<String>) -> Self {
        self.read.stream = Some(stream.into());
        self
    }

    /// Sets the event store to read.
    pub fn context(mut self, context: ContextId) -> Self {
        self.read.context = context;
        self
    }

    /// Waits for the next event and returns it.
    ///
    /// # Errors
    /// If the node cannot answer. The next call continues after the last returned event.
    pub async fn next(&mut self) -> Result<Stored, ApiError> {
        loop {
            if let Some(stored) = self.ready.pop_front() {
                return Ok(stored);
            }
            let Reply::Page(page) = self.node.ask(Request::Tail(self.read.clone())).await? else {
                return Err(unexpected_reply());
            };
            if page.events.is_empty() && page.end {
                tokio::time::sleep(POLL_DELAY).await;
            }
            self.read.from = page.next.max(self.read.from);
            self.read.continues = true;
            self.ready.extend(page.events);
        }
    }
}
