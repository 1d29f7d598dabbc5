//! Who leads, as far as it can be known here. Where nobody does, what a node tells is only what it has applied: it may
//! be old, and nothing goes on until most of the voters are alive.

use evener_cluster::{Cluster, Status, status::Lack};
use evener_core::{id::NodeId, state::State};

use super::local::name_of;

/// Who leads. One that no majority answers does not, whatever it believes, nor one that does not answer this node.
pub fn of(standing: &Status) -> Option<NodeId> {
    standing.leader.filter(|_| standing.lack.is_none())
}

/// Why nothing can be decided here; none if a leader answers.
pub fn trouble(cluster: &Cluster) -> Option<String> {
    let standing = cluster.status();
    match &standing.lack {
        Some(lack) => Some(missing(&cluster.state(), lack)),
        None => standing.leader.is_none().then(|| "no leader is known".to_owned()),
    }
}

/// Why nothing can be decided, with the names of those that are missing.
pub fn missing(state: &State, lack: &Lack) -> String {
    let silent: Vec<String> = lack.silent.iter().map(|voter| name_of(state, *voter)).collect();
    match &silent[..] {
        [] => lack.told(),
        silent => format!("{}; no answer comes from {}", lack.told(), silent.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tests::alone;
    use evener_cluster::status::Missing;

    #[tokio::test]
    async fn who_has_no_majority_does_not_lead() {
        let engine = alone().await;
        let mut standing = engine.cluster().status();
        let me = standing.node;
        assert_eq!(of(&standing), Some(me), "who votes alone is a majority");
        let since = tokio::time::Instant::now();
        let silent = vec![NodeId(2), NodeId(3)];
        let lack = Lack { missing: Missing::Majority, answer: 1, voters: 3, silent, since };
        standing.lack = Some(lack.clone());
        assert_eq!(of(&standing), None);
        let told = missing(&engine.cluster().state(), &lack);
        assert_eq!(told, "no majority: 1 of 3 voters answers; no answer comes from node 2, node 3");
        (standing.lack, standing.leader) = (None, Some(NodeId(me.0 + 1)));
        assert_eq!(of(&standing), Some(NodeId(me.0 + 1)));
        standing.leader = None;
        assert_eq!(of(&standing), None);
    }
}
