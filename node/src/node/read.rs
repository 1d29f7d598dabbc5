//! Reading what is there, and following what comes.

use std::{collections::VecDeque, future::IntoFuture, time::Duration};

use evener_core::{
    criteria::Criteria,
    id::{ContextId, Position},
};
use futures::future::BoxFuture;

use super::{Node, odd};
use crate::{
    engine::{Consistency, Page, Read, Reply, Request},
    error::ApiError,
    event::Stored,
};

/// Some servers answer at once where there is nothing to follow yet; they are asked again after this.
const NOTHING_YET: Duration = Duration::from_millis(100);

/// A read in the making. Awaiting it reads all of it; [`Self::next_page`] takes it piece by piece, in one view.
#[must_use = "nothing is read until this is awaited"]
pub struct Reading {
    node: Node,
    read: Read,
    over: bool,
}

impl Reading {
    pub(super) fn new(node: Node, criteria: Criteria) -> Self {
        Self { node, read: Read { criteria, ..Read::default() }, over: false }
    }

    /// Nothing before this position; by default from the first event on.
    pub fn from(mut self, from: Position) -> Self {
        self.read.from = from;
        self
    }

    /// Nothing at or after this position; by default up to the last event that is acknowledged when it begins.
    pub fn to(mut self, to: Position) -> Self {
        self.read.to = Some(to);
        self
    }

    /// No more events than this; by default all.
    pub fn limit(mut self, limit: u64) -> Self {
        self.read.limit = Some(limit);
        self
    }

    /// Only this stream.
    pub fn stream(mut self, stream: impl Into<String>) -> Self {
        self.read.stream = Some(stream.into());
        self
    }

    /// The last first.
    pub fn backwards(mut self) -> Self {
        self.read.backwards = true;
        self
    }

    /// What this node has, without asking the majority: it may lack the newest.
    pub fn local(mut self) -> Self {
        self.read.consistency = Consistency::Local;
        self
    }

    /// Whose events.
    pub fn context(mut self, context: ContextId) -> Self {
        self.read.context = context;
        self
    }

    /// The next events, at most 512; none if there are no more. Its pages together are one view of the log.
    ///
    /// # Errors
    /// If the node cannot answer.
    pub async fn next_page(&mut self) -> Result<Option<Page>, ApiError> {
        if self.over {
            return Ok(None);
        }
        let Reply::Page(page) = self.node.ask(Request::Read(self.read.clone())).await? else { return Err(odd()) };
        let Read { from, to, limit, backwards, consistency, continues, .. } = &mut self.read;
        // The first page saw all that was acknowledged; the others go on within it.
        (*consistency, *continues) = (Consistency::Local, true);
        if *backwards {
            *to = Some(page.next);
        } else {
            (*from, *to) = (page.next, Some(page.to));
        }
        if let Some(left) = limit {
            *left = left.saturating_sub(page.events.len() as u64);
        }
        self.over = page.end || *limit == Some(0);
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

    /// Only events that match.
    pub fn matching(mut self, criteria: Criteria) -> Self {
        self.read.criteria = criteria;
        self
    }

    /// Only this stream.
    pub fn stream(mut self, stream: impl Into<String>) -> Self {
        self.read.stream = Some(stream.into());
        self
    }

    /// Whose events.
    pub fn context(mut self, context: ContextId) -> Self {
        self.read.context = context;
        self
    }

    /// The next event, as soon as it is there.
    ///
    /// # Errors
    /// Where the node cannot answer. Called again it goes on behind the last event it gave.
    pub async fn next(&mut self) -> Result<Stored, ApiError> {
        loop {
            if let Some(stored) = self.ready.pop_front() {
                return Ok(stored);
            }
            let Reply::Page(page) = self.node.ask(Request::Tail(self.read.clone())).await? else { return Err(odd()) };
            if page.events.is_empty() && page.end {
                tokio::time::sleep(NOTHING_YET).await;
            }
            self.read.from = page.next.max(self.read.from);
            self.read.continues = true;
            self.ready.extend(page.events);
        }
    }
}
