//! Whole nodes in virtual time on a faulty network, one scenario per test. The simulator finds such cases at random;
//! here each has a name.

mod sim_cluster;

use std::time::Duration;

use evener_cluster::{Class, Cluster, Config, ErrorReason, StartError};
use evener_core::{
    command::{Command, Outcome},
    id::{ClusterId, ContextId, NodeId, Position},
};
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use sim_cluster::{SimCluster, event, host};

#[tokio::test(start_paused = true)]
async fn a_killed_leader_is_replaced_within_a_second() {
    for seed in 0..6 {
        let mut cluster = SimCluster::three(seed).await;
        let asks = cluster.follower();
        cluster.store(asks, 1, 100).await;
        let (lost, start) = (cluster.leader(), Instant::now());
        cluster.kill(lost).await;
        cluster.store(asks, 2, 100).await;
        let took = start.elapsed();
        assert!(took < Duration::from_millis(1_500), "seed {seed}: {took:?}");
        let ended =
            cluster.until("its session has ended", |cluster| cluster.node(asks).state().sessions.len() == 2).await;
        assert!(ended < Duration::from_secs(1), "seed {seed}: {ended:?}");
        cluster.start(lost, |_| {}).await.unwrap();
        cluster.settle(3).await;
        assert_eq!(cluster.node(lost).state().head(ContextId::DEFAULT), Position(2));
    }
}

#[tokio::test(start_paused = true)]
async fn a_killed_follower_loses_its_session_at_once_and_nothing_else_happens() {
    let mut cluster = SimCluster::three(1).await;
    let (lost, leader) = (cluster.follower(), cluster.leader());
    let term = cluster.node(leader).status().leadership.term;
    cluster.kill(lost).await;
    let took = cluster.until("its session has ended", |cluster| cluster.node(leader).state().sessions.len() == 2).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
    let missed = cluster.node(leader).unreachable_since(NodeId(lost)).elapsed();
    assert!(missed <= took, "since its socket closed: {missed:?} of {took:?}");
    sleep(Duration::from_secs(20)).await;
    assert_eq!((cluster.leader(), cluster.node(leader).status().leadership.term), (leader, term));
}

/// A process whose own threads are blocked looks active to its peers.
#[tokio::test(start_paused = true)]
async fn a_suspended_node_loses_leadership_and_session_and_comes_back() {
    let cluster = SimCluster::three(9).await;
    let leader = cluster.leader();
    let stuck = cluster.node(leader);
    let (session, sessions) = (stuck.status().session, stuck.state().sessions.clone());
    assert!(session.is_some());
    let suspended = async {
        loop {
            stuck.set_suspended(true).await;
            sleep(Duration::from_millis(250)).await;
        }
    };
    let elsewhere = cluster.until("another one leads, and the session is over", |cluster| {
        let others = || cluster.nodes().filter(|node| node.me() != stuck.me());
        let session_ended = |node: &Cluster| !node.state().sessions.contains_key(&stuck.me());
        others().any(|node| node.leads()) && others().all(session_ended) && stuck.status().session.is_none()
    });
    let took = tokio::select! {
        took = elsewhere => took,
        () = suspended => unreachable!("it never ends"),
    };
    // A lease, and the time in which the leader notices its end.
    assert!(took <= Config::new("", "").lease * 2, "{took:?}");
    for node in cluster.nodes().filter(|node| node.me() != stuck.me()) {
        assert_eq!(node.status().session, sessions.get(&node.me()).map(|live| live.session), "others keep theirs");
    }
    stuck.set_suspended(false).await;
    cluster.settle(3).await;
    assert_ne!(stuck.status().session, session, "a new one began");
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_cut_off_acknowledges_nothing_and_reads_nothing_stale() {
    for seed in 0..4 {
        let cluster = SimCluster::three(seed).await;
        let (cut, asks) = (cluster.leader(), cluster.follower());
        cluster.store(cut, 1, 100).await;
        let others: Vec<String> = cluster.up.keys().filter(|nth| **nth != cut).map(|nth| host(*nth)).collect();
        cluster.net.partition(&[&host(cut)], &others.iter().map(String::as_str).collect::<Vec<_>>());
        let request = event("s", 2, 100);
        let lost = cluster.node(cut).append(&request);
        let read = cluster.node(cut).barrier();
        let (lost, read, stored) = tokio::join!(lost, read, cluster.store(asks, 3, 100));
        assert_eq!(lost.unwrap_err().class, Class::Unknown);
        assert!(read.is_err());
        assert_eq!(stored.first, Position(1));
        let idle = cluster
            .until("the node that is cut off has no session", |cluster| cluster.node(cut).session().borrow().is_none())
            .await;
        assert!(idle < Duration::from_secs(5), "{idle:?}");
        cluster.net.heal();
        cluster.settle(3).await;
        cluster.node(cut).barrier().await.unwrap();
        assert_eq!(cluster.store(cut, 2, 100).await.first, Position(2));
        assert_eq!(cluster.store(cut, 3, 100).await.first, Position(1));
    }
}

/// No other node is elected, as no two can reach each other.
#[tokio::test(start_paused = true)]
async fn a_leader_without_a_majority_proposes_nothing_and_reports_it_soon() {
    let cluster = SimCluster::three(10).await;
    let leads = cluster.leader();
    cluster.store(leads, 1, 100).await;
    for (one, other) in [(1, 2), (2, 3), (3, 1)] {
        cluster.net.partition(&[&host(one)], &[&host(other)]);
    }
    sleep(Duration::from_secs(4)).await;
    let node = cluster.node(leads);
    let last = node.status().last;
    for round in 0..5 {
        let start = Instant::now();
        let stored = async { node.append(&event("s", 2, 100)).await.unwrap_err() };
        let read = async { node.barrier().await.unwrap_err() };
        let changed = async { node.propose(Command::Remove(NodeId(leads % 3 + 1))).await.unwrap_err() };
        let (stored, read, changed) = tokio::join!(stored, read, changed);
        assert!(start.elapsed() <= Duration::from_secs(1), "round {round}: {:?}", start.elapsed());
        for error in [stored, read, changed] {
            assert_eq!((error.class, error.reason), (Class::Overloaded, Some(ErrorReason::NoLeader)), "{error}");
            assert!(error.message.starts_with("no majority for") && error.message.contains("1 of 3 voters answers"));
            let again = error.retry_after.unwrap();
            assert!((Duration::from_secs(1)..=Duration::from_secs(30)).contains(&again), "{again:?}");
        }
        sleep(Duration::from_secs(15)).await;
    }
    assert_eq!((cluster.leader(), node.status().last), (leads, last), "nothing is proposed that cannot be decided");
    cluster.net.heal();
    cluster.settle(3).await;
    assert_eq!(cluster.store(leads, 2, 100).await.first, Position(1));
}

/// Their sockets are closed, so the leader knows at once; callers still wait a while, as the voters may soon be back.
#[tokio::test(start_paused = true)]
async fn a_leader_whose_majority_is_killed_ends_no_session_and_continues_when_one_is_back() {
    let mut cluster = SimCluster::three(11).await;
    let leads = cluster.leader();
    let others: Vec<u64> = cluster.up.keys().copied().filter(|nth| *nth != leads).collect();
    for nth in &others {
        cluster.kill(*nth).await;
    }
    sleep(Duration::from_millis(500)).await;
    let start = Instant::now();
    let error = cluster.node(leads).append(&event("s", 1, 100)).await.unwrap_err();
    assert_eq!(error.class, Class::Overloaded, "{error}");
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    sleep(Duration::from_secs(30)).await;
    assert_eq!(cluster.node(leads).state().sessions.len(), 3);
    cluster.start(others[0], |_| {}).await.unwrap();
    cluster
        .until("the node that stays down has no session", |cluster| {
            let state = cluster.node(leads).state();
            !state.sessions.contains_key(&NodeId(others[1])) && state.sessions.len() == 2
        })
        .await;
    assert_eq!(cluster.store(leads, 1, 100).await.first, Position(0));
}

#[tokio::test(start_paused = true)]
async fn a_leader_cut_off_in_either_direction_is_replaced() {
    for (seed, inward) in [(1, true), (2, false), (3, true), (4, false)] {
        let cluster = SimCluster::three(seed).await;
        let (deaf, asks) = (cluster.leader(), cluster.follower());
        for other in cluster.up.keys().filter(|nth| **nth != deaf) {
            let (from, to) = if inward { (host(*other), host(deaf)) } else { (host(deaf), host(*other)) };
            cluster.net.block(&from, &to);
        }
        let start = Instant::now();
        cluster.store(asks, 1, 100).await;
        assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
        cluster.net.heal();
        cluster.settle(3).await;
    }
}

#[tokio::test(start_paused = true)]
async fn connections_that_break_all_the_time_lose_and_duplicate_nothing() {
    let cluster = SimCluster::three(5).await;
    let storm = async {
        for round in 0..60u64 {
            sleep(Duration::from_millis(130)).await;
            let (a, b) = [("n1", "n2"), ("n2", "n3"), ("n3", "n1")][round as usize % 3];
            cluster.net.cut(a, b);
        }
    };
    let client = |nth: u64| {
        let cluster = &cluster;
        async move {
            for id in 0..40u128 {
                cluster.store(nth, u128::from(nth) * 1_000 + id, 60_000).await;
            }
        }
    };
    tokio::join!(storm, client(1), client(2), client(3));
    cluster.settle(3).await;
    assert_eq!(cluster.node(1).state().head(ContextId::DEFAULT), Position(120));
}

#[tokio::test(start_paused = true)]
async fn every_node_appends_the_largest_events_at_once() {
    let cluster = SimCluster::three(6).await;
    let client = |nth: u64| {
        let cluster = &cluster;
        async move {
            for id in 0..4u128 {
                cluster.store(nth, u128::from(nth) * 1_000 + id, 900_000).await;
            }
        }
    };
    tokio::join!(client(1), client(2), client(3));
    cluster.settle(3).await;
    assert_eq!(cluster.node(1).state().head(ContextId::DEFAULT), Position(12));
}

#[tokio::test(start_paused = true)]
async fn an_idle_cluster_writes_nothing() {
    let cluster = SimCluster::three(7).await;
    cluster.store(1, 1, 100).await;
    cluster.settle(3).await;
    let last: Vec<_> = cluster.nodes().map(|node| node.status().last).collect();
    sleep(Duration::from_secs(60)).await;
    assert_eq!(last, cluster.nodes().map(|node| node.status().last).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_member_removed_while_it_was_down_does_not_come_back() {
    let mut cluster = SimCluster::three(8).await;
    let lost = cluster.follower();
    cluster.kill(lost).await;
    let leader = cluster.leader();
    assert_eq!(cluster.node(leader).propose(Command::Remove(NodeId(lost))).await.unwrap(), Outcome::Done);
    cluster.until("it is not a member of the group", |cluster| cluster.node(leader).status().voters.len() == 1).await;
    let _ = cluster.start(lost, |config| config.listen = format!("{}:2", host(lost))).await;
    sleep(Duration::from_secs(30)).await;
    let members: Vec<u64> = cluster.node(leader).state().members.keys().map(|node| node.0).collect();
    assert_eq!(members.len(), 2, "{members:?}");
    assert!(!members.contains(&lost));
    cluster.store(leader, 1, 100).await;
}

#[tokio::test(start_paused = true)]
async fn a_member_removed_while_it_runs_stops_and_sends_no_requests() {
    for seed in 0..3 {
        let cluster = SimCluster::three(seed).await;
        let (removed, leader) = (cluster.follower(), cluster.leader());
        assert_eq!(cluster.node(leader).propose(Command::Remove(NodeId(removed))).await.unwrap(), Outcome::Done);
        cluster.until("it has stopped", |cluster| cluster.node(removed).stopped().borrow().is_some()).await;
        let why = cluster.node(removed).stopped().borrow().clone().unwrap();
        assert!(why.contains("removed"), "{why}");
        sleep(Duration::from_secs(5)).await;
        let last = cluster.node(leader).status().last;
        sleep(Duration::from_secs(30)).await;
        assert_eq!(cluster.node(leader).status().last, last);
    }
}

/// A member that does not know of the removal yet receives the new address from the removed one.
#[tokio::test(start_paused = true)]
async fn a_member_removed_does_not_come_back_through_one_that_lags() {
    let mut cluster = SimCluster::three(8).await;
    let (leader, lost) = (cluster.leader(), cluster.follower());
    let lags = 6 - leader - lost;
    cluster.kill(lost).await;
    cluster.net.block(&host(leader), &host(lags));
    let removing = cluster.node(leader).clone();
    tokio::spawn(async move { removing.propose(Command::Remove(NodeId(lost))).await });
    let _ = cluster
        .start(lost, |config| {
            (config.listen, config.join) = (format!("{}:2", host(lost)), vec![format!("{}:1", host(lags))]);
        })
        .await;
    sleep(Duration::from_secs(2)).await;
    cluster.net.unblock(&host(leader), &host(lags));
    sleep(Duration::from_secs(30)).await;
    let members: Vec<u64> = cluster.node(leader).state().members.keys().map(|node| node.0).collect();
    assert_eq!(members.len(), 2, "{members:?}");
}

#[tokio::test(start_paused = true)]
async fn a_node_killed_while_it_joins_joins_again_by_the_same_command() {
    for seed in 0..4 {
        let mut cluster = SimCluster::three(seed).await;
        let joining = cluster.start(4, |config| config.join = vec!["n1:1".into()]);
        // Killed as soon as the cluster has admitted it, whatever it is doing itself.
        let killed = timeout(Duration::from_millis(20 + 10 * seed), joining).await;
        if killed.is_ok() {
            cluster.kill(4).await;
        } else {
            let disk = cluster.disks[&4].kill();
            cluster.disks.insert(4, disk);
            cluster.net.kill("n4");
        }
        cluster.join(4).await;
        cluster.settle(3).await;
        assert_eq!(cluster.node(1).state().members.len(), 4, "seed {seed}");
        assert_eq!(cluster.node(4).me(), NodeId(4));
    }
}

/// It has no log yet and so knows of no context: that is not the caller's fault.
#[tokio::test(start_paused = true)]
async fn a_node_that_has_just_joined_takes_an_append() {
    for seed in 0..4 {
        let mut cluster = SimCluster::three(seed).await;
        cluster.join(4).await;
        cluster.store(4, 1, 100).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_follower_and_a_whole_cluster_are_found_at_new_addresses() {
    let mut cluster = SimCluster::three(9).await;
    let moved = cluster.follower();
    cluster.kill(moved).await;
    cluster.start(moved, |config| config.listen = format!("{}:2", host(moved))).await.unwrap();
    cluster.settle(3).await;
    for nth in [1, 2, 3] {
        cluster.kill(nth).await;
    }
    for nth in [1, 2, 3] {
        cluster.start(nth, |config| config.listen = format!("{}:3", host(nth))).await.unwrap();
    }
    // No node is at an address that another one knows: only --join names the new ones.
    sleep(Duration::from_secs(10)).await;
    for nth in [1, 2, 3] {
        cluster.kill(nth).await;
        cluster
            .start(nth, |config| {
                config.listen = format!("{}:3", host(nth));
                config.join = (1..=3).map(|nth| format!("n{nth}:3")).collect();
            })
            .await
            .unwrap();
    }
    cluster.settle(3).await;
}

#[tokio::test(start_paused = true)]
async fn invalid_starts_are_refused_with_a_reason() {
    let mut cluster = SimCluster::three(10).await;
    let cluster_id = cluster.node(1).id();
    let refused = |result: Result<(), StartError>, words: &[&str]| {
        let error = result.unwrap_err().to_string();
        for word in words {
            assert!(error.contains(word), "`{error}` does not contain `{word}`");
        }
    };
    let id = cluster_id.to_string();
    let joins = || vec!["n1:1".to_owned()];
    // A second cluster although a node answers.
    let result = cluster.start(4, |config| (config.bootstrap, config.join) = (true, joins())).await;
    refused(result, &["refused to found", &id, "n1:1"]);
    // Another cluster than the wanted one.
    let other = ClusterId(Uuid::from_u128(99));
    let result = cluster.start(4, |config| (config.cluster, config.join) = (Some(other), joins())).await;
    refused(result, &[&id, &other.to_string()]);
    // Neither --bootstrap nor --join.
    refused(cluster.start(4, |_| {}).await, &["--bootstrap", "--join"]);
    // An emptied directory under an existing name.
    let lost = cluster.follower();
    cluster.kill(lost).await;
    let disk = cluster.disks.remove(&lost).unwrap();
    let result = cluster.start(lost, |config| config.join = vec!["n1:1".into(), "n2:1".into(), "n3:1".into()]).await;
    refused(result, &["MemberName", &format!("n{lost}")]);
    // Another cluster's directory.
    cluster.disks.insert(lost, disk);
    let result = cluster.start(lost, |config| config.cluster = Some(other)).await;
    refused(result, &[&id, &other.to_string(), "directory"]);
    // The right one.
    cluster.start(lost, |config| config.cluster = Some(cluster_id)).await.unwrap();
    cluster.settle(3).await;
}

#[tokio::test(start_paused = true)]
async fn four_nodes_have_three_voters_and_five_have_five() {
    let mut cluster = SimCluster::three(11).await;
    cluster.join(4).await;
    cluster.settle(3).await;
    cluster.join(5).await;
    cluster.settle(5).await;
    let lost = cluster.leader();
    cluster.kill(lost).await;
    let asks = *cluster.up.keys().next().unwrap();
    cluster.store(asks, 1, 100).await;
    let leader = cluster.leader();
    cluster.node(leader).leave().await.unwrap();
    cluster.up.remove(&leader);
    let asks = *cluster.up.keys().next().unwrap();
    cluster.store(asks, 2, 100).await;
    cluster
        .until("there are three voters", |cluster| cluster.nodes().all(|node| node.status().voters.len() == 3))
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_process_that_restarts_at_once_keeps_its_new_session() {
    for seed in 0..8 {
        let mut cluster = SimCluster::three(seed).await;
        let again = cluster.follower();
        cluster.kill(again).await;
        sleep(Duration::from_millis(40 * seed)).await;
        cluster.start(again, |_| {}).await.unwrap();
        cluster.until("it has a session", |cluster| cluster.node(again).session().borrow().is_some()).await;
        let mut session = cluster.node(again).session();
        session.mark_unchanged();
        let lost = timeout(Duration::from_secs(30), session.changed()).await;
        assert!(lost.is_err(), "seed {seed}: a new session was ended instead of the old");
    }
}

#[tokio::test(start_paused = true)]
async fn a_minority_reports_it_and_the_majority_continues() {
    let mut cluster = SimCluster::three(12).await;
    let alone = cluster.leader();
    for nth in [1, 2, 3].into_iter().filter(|nth| *nth != alone) {
        cluster.kill(nth).await;
    }
    let error = cluster.node(alone).append(&event("s", 1, 100)).await.unwrap_err();
    assert!(matches!(error.class, Class::Unknown | Class::Overloaded), "{error:?}");
    let error = cluster.node(alone).append(&event("s", 2, 100)).await.unwrap_err();
    assert!(error.to_string().contains("majority"), "{error}");
    assert!(cluster.node(alone).barrier().await.is_err());
    let back = [1, 2, 3].into_iter().find(|nth| *nth != alone).unwrap();
    cluster.start(back, |_| {}).await.unwrap();
    cluster.store(back, 1, 100).await;
    cluster.store(alone, 2, 100).await;
}
