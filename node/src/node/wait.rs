//! Waiting for a processor.

use std::time::Duration;

use evener_core::id::Position;

use super::{Node, unexpected_reply};
use crate::{
    engine::{Read, Reply, Request},
    error::ApiError,
};

/// The delay between requests to remote servers.
const POLL_DELAY: Duration = Duration::from_millis(50);

/// Waits until `processor` has passed every event that is acknowledged now.
pub(super) async fn caught_up(node: &Node, processor: &str) -> Result<(), ApiError> {
    let head = head(node).await?;
    let mut applied = node.0.running.as_ref().map(|running| running.cluster.applied());
    loop {
        // Marked before the request, so that no later change is missed.
        if let Some(applied) = &mut applied {
            applied.mark_unchanged();
        }
        let seen = node.processor(processor).status().await?;
        if seen.segments.iter().all(|segment| segment.token >= head.0) {
            return Ok(());
        }
        // Tokens move only when entries are applied, so there is no need to poll in between.
        let moved = match &mut applied {
            Some(applied) => applied.changed().await.is_ok(),
            None => false,
        };
        if !moved {
            tokio::time::sleep(POLL_DELAY).await;
        }
    }
}

/// Returns the head of the log: the position after every acknowledged event.
async fn head(node: &Node) -> Result<Position, ApiError> {
    // At most one event: the answer contains the head in any case.
    let read = Read { limit: Some(1), backwards: true, ..Read::default() };
    match node.ask(Request::Read(read)).await? {
        Reply::Page(page) => Ok(page.to),
        _ => Err(unexpected_reply()),
    }
}
