//! Waiting for a processor.

use std::time::Duration;

use evener_core::id::Position;

use super::{Node, odd};
use crate::{
    engine::{Read, Reply, Request},
    error::ApiError,
};

/// How soon a processor is looked at again: at first, and at the latest.
const LOOK_AGAIN: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(100));

/// Waits until `processor` has passed all that is acknowledged now.
pub(super) async fn caught_up(node: &Node, processor: &str) -> Result<(), ApiError> {
    let head = head(node).await?;
    let (mut wait, wait_max) = LOOK_AGAIN;
    loop {
        let seen = node.processor(processor).status().await?;
        if seen.segments.iter().all(|segment| segment.token >= head.0) {
            return Ok(());
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(wait_max);
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
