//! Waiting for a processor.

use std::time::Duration;

use evener_core::id::Position;

use super::{Node, odd};
use crate::{
    engine::{Read, Reply, Request},
    error::ApiError,
};

/// How soon servers far away are asked again.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// Waits until `processor` has passed all that is acknowledged now.
pub(super) async fn caught_up(node: &Node, processor: &str) -> Result<(), ApiError> {
    let head = head(node).await?;
    let mut applied = node.0.house.as_ref().map(|house| house.cluster.applied());
    loop {
        // Seen before it is asked: what is applied meanwhile is not missed.
        if let Some(applied) = &mut applied {
            applied.mark_unchanged();
        }
        let seen = node.processor(processor).status().await?;
        if seen.segments.iter().all(|segment| segment.token >= head.0) {
            return Ok(());
        }
        // Tokens move by what is applied, and nobody needs to ask in between.
        let moved = match &mut applied {
            Some(applied) => applied.changed().await.is_ok(),
            None => false,
        };
        if !moved {
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }
}

/// The position of the next event, every acknowledged one counted.
async fn head(node: &Node) -> Result<Position, ApiError> {
    // Of the last event at most: the answer says where the head stands, whatever it finds.
    let read = Read { limit: Some(1), backwards: true, ..Read::default() };
    match node.ask(Request::Read(read)).await? {
        Reply::Page(page) => Ok(page.to),
        _ => Err(odd()),
    }
}
