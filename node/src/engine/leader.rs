//! The leader, as far as this node knows it. Without a leader a node can only report what it has applied: that may
//! be old, and nothing makes progress until a majority of the voters is alive.

use evener_cluster::{Cluster, Leadership, status::NoDecision};
use evener_core::{clocks, state::State};

use crate::health::Check;

/// Returns why nothing can be decided here; none if a leader answers.
pub(super) fn trouble(cluster: &Cluster) -> Option<String> {
    // Taken before the state is locked.
    let leadership = cluster.leadership().borrow().clone();
    trouble_of(&leadership, &cluster.state())
}

/// As [`trouble`], for a node with this view of the leadership.
pub(super) fn trouble_of(leadership: &Leadership, state: &State) -> Option<String> {
    match &leadership.no_decision {
        Some(lack) => Some(missing(state, lack)),
        None => leadership.leader.is_none().then(|| "no leader is known".to_owned()),
    }
}

/// Checks that this node's clock, and the log's time, agree with the majority's.
pub(super) fn clock_check(cluster: &Cluster) -> Check {
    let standing = cluster.status();
    let ahead_ms = u64::try_from(standing.log_ahead.as_millis()).unwrap_or(u64::MAX);
    let note = clock_words(standing.clock_ahead_ms, ahead_ms);
    Check { name: "clock", vital: false, trouble: None, note }
}

/// Returns the note on a clock, and on a log, that is so many milliseconds ahead; none if both are right.
pub fn clock_words(clock_ahead_ms: Option<i64>, log_ahead_ms: u64) -> Option<String> {
    let clock = clock_ahead_ms.filter(|ahead| clocks::is_off(*ahead)).map(|ahead| {
        let side = if ahead > 0 { "ahead of" } else { "behind" };
        let by = ahead.unsigned_abs() as f64 / 1_000.0;
        format!("the clock of this node is {by:.1} s {side} the majority's, so it does not lead; set it right")
    });
    let log = clocks::is_off(i64::try_from(log_ahead_ms).unwrap_or(i64::MAX)).then(|| {
        let by = log_ahead_ms as f64 / 1_000.0;
        format!("the log's time is {by:.1} s ahead of the majority's clock, as a clock once was; it never goes back")
    });
    match (clock, log) {
        (Some(clock), Some(log)) => Some(format!("{clock}; {log}")),
        (clock, log) => clock.or(log),
    }
}

/// Describes why nothing can be decided, with the names of the members without an answer.
pub(super) fn missing(state: &State, lack: &NoDecision) -> String {
    let silent: Vec<String> = lack.unresponsive.iter().map(|voter| state.name_of(*voter)).collect();
    match &silent[..] {
        [] => lack.describe(),
        silent => format!("{}; no answer from {}", lack.describe(), silent.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tests::alone;
    use evener_cluster::status::NoDecisionReason;
    use evener_core::id::NodeId;

    #[tokio::test]
    async fn a_node_without_a_majority_is_not_shown_as_the_leader() {
        let engine = alone().await;
        let mut leadership = engine.cluster().leadership().borrow().clone();
        let me = engine.cluster().me();
        assert_eq!(leadership.deciding_leader(), Some(me), "a single voter is a majority");
        let since = tokio::time::Instant::now();
        let silent = vec![NodeId(2), NodeId(3)];
        let lack = NoDecision {
            reason: NoDecisionReason::NoMajority,
            answering: 1,
            voters: 3,
            unresponsive: silent,
            since,
            lasting: false,
        };
        leadership.no_decision = Some(lack.clone());
        assert_eq!(leadership.deciding_leader(), None);
        let reported = missing(&engine.cluster().state(), &lack);
        assert_eq!(reported, "no majority: 1 of 3 voters answers; no answer from node 2, node 3");
        assert_eq!(trouble_of(&leadership, &engine.cluster().state()), Some(reported));
        (leadership.no_decision, leadership.leader) = (None, Some(NodeId(me.0 + 1)));
        assert_eq!(leadership.deciding_leader(), Some(NodeId(me.0 + 1)));
        leadership.leader = None;
        assert_eq!(leadership.deciding_leader(), None);
    }
}
