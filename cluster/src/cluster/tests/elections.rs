//! Elections: which nodes vote, and how soon a new leader is elected.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_killed_leader_is_replaced_and_rejoins_after_its_restart() {
    let mut cluster = TestCluster::founded(1, 3).await;
    for id in 0..30 {
        assert_eq!(cluster.append(1 + id as u64 % 3, id).await.unwrap(), Position(id as u64));
    }
    let lost = cluster.leader().unwrap();
    cluster.kill(lost).await;
    let start = Instant::now();
    let other = 1 + lost % 3;
    assert_eq!(cluster.append(other, 30).await.unwrap(), Position(30));
    assert!(start.elapsed() < Duration::from_secs(1), "the closed socket starts an election before the timeout");
    cluster
        .until("the killed node's session has ended", |cluster| cluster.nodes[&other].state().sessions.len() == 2)
        .await;
    cluster.revive(lost).await;
    cluster.settle().await;
    assert_eq!(cluster.append(lost, 30).await.unwrap(), Position(30));
    assert_eq!(cluster.append(lost, 31).await.unwrap(), Position(31));
    cluster.same().await;
}

/// The listener of a killed process accepts one more connection from one voter but not from the other. This must not
/// make both ask for votes at the same time.
#[tokio::test(start_paused = true)]
async fn a_broken_connection_attempt_does_not_delay_an_election() {
    for (seed, broken) in [(4, 1), (5, 2), (8, 1), (9, 2)] {
        let mut cluster = TestCluster::founded(seed, 3).await;
        let lost = cluster.leader().unwrap();
        let voters: Vec<u64> = (1..=3).filter(|nth| *nth != lost).collect();
        cluster.broken_connections.0.lock().insert(voters[0], broken);
        cluster.kill(lost).await;
        let start = Instant::now();
        cluster.append(voters[1], 1).await.unwrap();
        assert!(!cluster.broken_connections.takes(voters[0]), "not all broken connections were used");
        assert!(start.elapsed() < Duration::from_millis(250), "{broken} broken: {:?}", start.elapsed());
    }
}

/// The voter that campaigns first has a shorter log than the other one, and loses a term.
#[tokio::test(start_paused = true)]
async fn a_voter_with_a_shorter_log_does_not_delay_an_election() {
    for seed in 1..=4 {
        let mut cluster = TestCluster::founded(seed, 3).await;
        let lost = cluster.leader().unwrap();
        let voters: Vec<u64> = (1..=3).filter(|nth| *nth != lost).collect();
        cluster.net.partition(&[&format!("n{lost}")], &[&format!("n{}", voters[0])]);
        cluster.append(lost, 1).await.unwrap();
        cluster.net.heal();
        cluster.kill(lost).await;
        let start = Instant::now();
        cluster.append(voters[1], 2).await.unwrap();
        assert!(start.elapsed() < Duration::from_millis(750), "seed {seed}: {:?}", start.elapsed());
    }
}

/// The leader restarts before another node finds its port closed: the others still follow it, and their own elections
/// wait until its lease has ended.
#[tokio::test(start_paused = true)]
async fn a_leader_that_restarts_quickly_campaigns_at_once() {
    let mut cluster = TestCluster::founded(1, 3).await;
    let lost = cluster.leader().unwrap();
    let others: Vec<u64> = (1..=3).filter(|nth| *nth != lost).collect();
    cluster.broken_connections.0.lock().extend(others.iter().map(|nth| (*nth, 1_000)));
    let sessions = |cluster: &TestCluster| {
        let state = cluster.nodes[&others[0]].state();
        others.iter().map(|nth| state.sessions[&NodeId(*nth)].session).collect::<Vec<_>>()
    };
    let before = sessions(&cluster);
    let start = Instant::now();
    cluster.kill(lost).await;
    cluster.revive(lost).await;
    cluster.append(others[0], 1).await.unwrap();
    assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
    cluster.settle().await;
    assert_eq!(sessions(&cluster), before, "the other nodes keep their sessions");
}

/// A frozen process keeps its sockets open and only stops answering; here its packets are lost in both directions.
#[tokio::test(start_paused = true)]
async fn an_unresponsive_leader_is_replaced_before_a_session_is_lost() {
    for seed in 1..=10 {
        let cluster = TestCluster::founded(seed, 3).await;
        // All nodes have exchanged a heartbeat by now.
        pass(Duration::from_secs(1)).await;
        let unresponsive = cluster.leader().unwrap();
        let others: Vec<u64> = (1..=3).filter(|nth| *nth != unresponsive).collect();
        let sessions: Vec<_> = others.iter().map(|nth| cluster.nodes[nth].session()).collect();
        let before: Vec<_> = sessions.iter().map(|session| *session.borrow()).collect();
        cluster
            .net
            .partition(&[&format!("n{unresponsive}")], &[&format!("n{}", others[0]), &format!("n{}", others[1])]);
        let start = Instant::now();
        cluster.append(others[0], 1).await.unwrap();
        let took = start.elapsed();
        assert!(took < Duration::from_millis(2_250), "seed {seed}: {took:?}");
        pass(Duration::from_secs(10)).await;
        for (session, before) in sessions.iter().zip(before) {
            assert!(!session.has_changed().unwrap(), "seed {seed}: {:?} was {before:?}", *session.borrow());
        }
        cluster.net.heal();
        cluster.settle().await;
    }
}

/// A leader that only one voter cannot reach stays the leader.
#[tokio::test(start_paused = true)]
async fn one_broken_link_to_the_leader_starts_no_election() {
    let cluster = TestCluster::founded(1, 3).await;
    let leader = cluster.leader().unwrap();
    let cut_off = 1 + leader % 3;
    let term = cluster.nodes[&leader].status().leadership.term;
    cluster.net.partition(&[&format!("n{leader}")], &[&format!("n{cut_off}")]);
    pass(Duration::from_secs(30)).await;
    assert_eq!((cluster.leader(), cluster.nodes[&leader].status().leadership.term), (Some(leader), term));
}

/// The follower still knows a leader, which does not answer. Requests that cannot be sent are refused at once; the
/// outcome of a request sent before is unknown.
#[tokio::test(start_paused = true)]
async fn an_isolated_follower_refuses_requests_at_once() {
    for seed in 1..=5 {
        let cluster = TestCluster::founded(seed, 3).await;
        let alone = 1 + cluster.leader().unwrap() % 3;
        let others: Vec<u64> = (1..=3).filter(|nth| *nth != alone).collect();
        cluster.net.partition(&[&format!("n{alone}")], &[&format!("n{}", others[0]), &format!("n{}", others[1])]);
        let start = Instant::now();
        let sent = cluster.append(alone, 1).await.unwrap_err();
        assert_eq!(sent.class, Class::Unknown, "{sent}");
        assert!(start.elapsed() < Duration::from_secs(3), "seed {seed}: {:?}", start.elapsed());
        for id in 2..5 {
            let start = Instant::now();
            let kept = cluster.append(alone, id).await.unwrap_err();
            assert_eq!(kept.class, Class::Overloaded, "{kept}");
            assert!(start.elapsed() < Duration::from_millis(300), "seed {seed}: {:?}", start.elapsed());
            let asked = cluster.nodes[&alone].barrier().await.unwrap_err();
            assert_eq!(asked.class, Class::Overloaded, "{asked}");
        }
        let no_decision = cluster.nodes[&alone].status().leadership.no_decision.unwrap();
        assert_eq!((no_decision.answering, no_decision.voters), (1, 3));
        assert_eq!(no_decision.unresponsive, others.iter().map(|nth| NodeId(*nth)).collect::<Vec<_>>());
        cluster.net.heal();
        cluster
            .until("the follower has a leader again", |cluster| {
                cluster.nodes[&alone].status().leadership.no_decision.is_none()
            })
            .await;
        cluster.append(alone, 9).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn of_five_members_five_vote_and_of_four_three() {
    let mut cluster = TestCluster::founded(2, 3).await;
    cluster.join(4).await.unwrap();
    cluster.settle().await;
    assert_eq!(cluster.nodes[&4].status().role, Role::Learner);
    assert_eq!(cluster.nodes[&4].status().non_voters, [(NodeId(4), NonVoterReason::WaitsForPair)].into());
    assert_eq!(cluster.append(4, 1).await.unwrap(), Position(0));
    cluster.join(5).await.unwrap();
    cluster.settle().await;
    let leaving = cluster.nodes.remove(&5).unwrap();
    leaving.leave().await.unwrap();
    cluster.settle().await;
    assert_eq!(cluster.nodes[&1].state().members.len(), 4);
    let leaving = cluster.leader().unwrap();
    cluster.nodes.remove(&leaving).unwrap().leave().await.unwrap();
    cluster.settle().await;
    assert_eq!(cluster.append(4, 2).await.unwrap(), Position(1));
}
