//! Clocks that stop or are wrong.

use evener_core::id::SessionId;

use super::*;

fn sessions(cluster: &TestCluster) -> BTreeMap<u64, Option<SessionId>> {
    cluster.nodes.iter().map(|(nth, node)| (*nth, *node.session().borrow())).collect()
}

/// The suspended node's own clocks did not advance; the other nodes may have ended its session meanwhile.
#[tokio::test(start_paused = true)]
async fn a_node_that_was_suspended_begins_a_new_session() {
    for leads in [true, false] {
        let cluster = TestCluster::founded(1, 3).await;
        let leader = cluster.leader().unwrap();
        let sleeper = if leads { leader } else { 1 + leader % 3 };
        let before = sessions(&cluster);
        let session = before[&sleeper].unwrap();
        assert!(cluster.nodes[&sleeper].holds(session));
        cluster.clocks[&sleeper].suspend(Duration::from_secs(2));
        pass(Duration::from_secs(1)).await;
        assert_eq!(sessions(&cluster), before, "the suspend was shorter than a lease");

        cluster.clocks[&sleeper].suspend(Duration::from_secs(10));
        assert!(!cluster.nodes[&sleeper].holds(session), "the node must handle no events from now on");
        cluster
            .until("the suspended node has another session", |cluster| {
                let now = *cluster.nodes[&sleeper].session().borrow();
                now.is_some() && now != Some(session)
            })
            .await;
        let others = |sessions: BTreeMap<u64, _>| sessions.into_iter().filter(|(nth, _)| *nth != sleeper).collect();
        let (before, after): (Vec<_>, Vec<_>) = (others(before), others(sessions(&cluster)));
        assert_eq!(before, after, "the other nodes keep their sessions");
    }
}

/// Returns the time that the log recorded last, and the correct time.
fn recorded_and_right(cluster: &TestCluster) -> (Timestamp, Timestamp) {
    let leader = cluster.leader().unwrap();
    let recorded = cluster.nodes[&leader].state().recorded;
    (recorded, cluster.right_time())
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_clock_jumps_transfers_leadership_and_stamps_correct_times() {
    for (seed, off_ms) in [(1, 3_600_000), (2, -3_600_000), (3, 3_600_000_000_000), (4, 2_500)] {
        let cluster = TestCluster::founded(seed, 3).await;
        pass(Duration::from_secs(1)).await;
        let off = cluster.leader().unwrap();
        cluster.clocks[&off].set_offset(off_ms);
        cluster.append(off, 1).await.unwrap();
        cluster.until("another leads", |cluster| cluster.leader().is_some_and(|leader| leader != off)).await;
        let ahead = cluster.nodes[&off].status().clock_ahead_ms.unwrap();
        assert!((ahead - off_ms).abs() < 100, "{ahead} of {off_ms}");
        cluster.append(off, 2).await.unwrap();
        let (recorded, right) = recorded_and_right(&cluster);
        let differ = recorded.since(right).max(right.since(recorded));
        assert!(differ < Duration::from_secs(2), "recorded {recorded:?} at {right:?}");
        let leads = cluster.leader();
        pass(Duration::from_secs(20)).await;
        assert_eq!(cluster.leader(), leads, "leadership stays at a node with a correct clock");
        cluster.clocks[&off].set_offset(0);
        let right = |ahead: i64| ahead.abs() < 100;
        cluster
            .until("the clock is correct", |cluster| cluster.nodes[&off].status().clock_ahead_ms.is_some_and(right))
            .await;
    }
}

/// A single node has no other clock to compare with. The log's time never goes back; the status reports how far it is
/// ahead.
#[tokio::test(start_paused = true)]
async fn the_status_reports_how_far_the_log_is_ahead() {
    let cluster = TestCluster::founded(1, 1).await;
    let hour = Duration::from_secs(3_600);
    cluster.clocks[&1].set_offset(3_600_000);
    pass(Duration::from_secs(1)).await;
    cluster.append(1, 1).await.unwrap();
    assert_eq!(cluster.nodes[&1].status().log_ahead, Duration::ZERO);
    cluster.clocks[&1].set_offset(0);
    pass(Duration::from_secs(1)).await;
    cluster.append(1, 2).await.unwrap();
    let ahead = cluster.nodes[&1].status().log_ahead;
    assert!(ahead > hour - Duration::from_secs(2) && ahead <= hour, "{ahead:?}");
}
