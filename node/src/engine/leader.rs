//! Who leads, as far as it can be known here. Where nobody does, what a node tells is only what it has applied: it may
//! be old, and nothing goes on until most of the voters are alive.

use std::time::Duration;

use evener_cluster::Status;
use evener_core::id::NodeId;

/// A leader that no majority has heard for longer does not count as one: several elections' time.
const QUORUM_AGE_MAX: Duration = Duration::from_secs(5);

/// Who leads. One that no majority has heard for so long does not, whatever it believes; one that votes alone is its
/// own majority.
pub fn of(standing: &Status) -> Option<NodeId> {
    let alone = standing.voters == [standing.node];
    let heard = alone || standing.quorum_age.is_none_or(|age| age < QUORUM_AGE_MAX);
    standing.leader.filter(|_| heard)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tests::alone;

    #[tokio::test]
    async fn who_has_no_majority_does_not_lead() {
        let engine = alone().await;
        let mut standing = engine.cluster().status();
        let me = standing.node;
        standing.quorum_age = Some(QUORUM_AGE_MAX);
        assert_eq!(of(&standing), Some(me), "who votes alone is a majority");
        standing.voters.push(NodeId(me.0 + 1));
        assert_eq!(of(&standing), None);
        standing.quorum_age = Some(QUORUM_AGE_MAX / 2);
        assert_eq!(of(&standing), Some(me));
        (standing.quorum_age, standing.leader) = (None, Some(NodeId(me.0 + 1)));
        assert_eq!(of(&standing), Some(NodeId(me.0 + 1)), "who follows does not know of it");
        standing.leader = None;
        assert_eq!(of(&standing), None);
    }
}
