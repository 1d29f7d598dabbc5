//! Compares this node's wall clock with those of the other voters, and transfers leadership while it is off.

use std::time::Duration;

use evener_core::clocks;
use tokio::time::{Instant, sleep};

use crate::cluster::Cluster;

/// The age limit of clock offsets, in heartbeats.
const HEARTBEATS: u32 = 40;

/// Runs the comparison until the node stops.
pub(crate) async fn watch(node: Cluster) {
    let mut transferred = None::<Instant>;
    loop {
        compare(&node);
        let off = node.ahead.lock().is_some_and(clocks::is_off);
        let may_transfer = transferred.is_none_or(|at| at.elapsed() >= node.config.raft.election_max);
        if off && may_transfer && node.leads() && transfer_away(&node).await {
            transferred = Some(Instant::now());
        }
        sleep(node.config.raft.heartbeat / 2).await;
    }
}

/// Measures by how much this node's clock is off, and logs when it becomes wrong or correct.
fn compare(node: &Cluster) {
    let voters = node.consensus.status().voters;
    let others: Vec<_> = voters.iter().copied().filter(|voter| *voter != node.me()).collect();
    let now = Instant::now();
    let lately = now.checked_sub(node.config.raft.heartbeat * HEARTBEATS).unwrap_or(now);
    let since = node.clock.jumped().map_or(lately, |jumped| jumped.max(lately));
    let offsets: Vec<i64> = node.heartbeats.offsets(&others, since).into_values().collect();
    let ahead = clocks::ahead(&offsets, voters.len());
    let agree = !offsets.is_empty() && !offsets.iter().any(|offset| clocks::is_off(*offset));
    // There is no other voter, or all that answer agree with this node's clock.
    if let Some(ahead) = ahead.or((others.is_empty() || agree).then_some(0)) {
        node.clock.judge(ahead);
    }
    let before = std::mem::replace(&mut *node.ahead.lock(), ahead);
    match (before.filter(|ahead| clocks::is_off(*ahead)), ahead.filter(|ahead| clocks::is_off(*ahead))) {
        (None, Some(ahead)) => {
            let (by, side) =
                (Duration::from_millis(ahead.unsigned_abs()), if ahead > 0 { "ahead of" } else { "behind" });
            tracing::warn!(
                "the clock of this node is {by:?} {side} the majority's; this node does not lead and uses the \
                 majority's time until the clock is corrected"
            );
        }
        (Some(_), None) if ahead.is_some() => tracing::info!("the clock of this node agrees with the majority's again"),
        _ => {}
    }
}

/// Transfers leadership to a voter whose clock is correct. Returns whether there is one.
async fn transfer_away(node: &Cluster) -> bool {
    let Some(ahead) = *node.ahead.lock() else { return false };
    let lately = Instant::now().checked_sub(node.config.raft.heartbeat * HEARTBEATS);
    let offsets =
        lately.map(|lately| node.heartbeats.offsets(&node.consensus.status().voters, lately)).unwrap_or_default();
    // A voter's offset to the majority is its offset to this node plus this node's offset to the majority.
    let right = |voter| offsets.get(&voter).is_some_and(|offset| !clocks::is_off(offset.saturating_add(ahead)));
    let Some(successor) = node.successor(right) else { return false };
    tracing::info!("the clock of this node is off; transferring leadership to {}", node.name_of(successor));
    node.consensus.transfer(successor).await;
    true
}
