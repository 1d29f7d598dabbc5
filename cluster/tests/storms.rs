//! Whole nodes in virtual time on a network that misbehaves, one scenario a test. The simulator finds such things
//! by chance; here each has its name.

mod sea;

use std::time::Duration;

use evener_cluster::{Class, Cluster, Config, StartError};
use evener_core::{
    command::{Command, Outcome},
    id::{ClusterId, ContextId, NodeId, Position},
};
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use sea::{Sea, event, host};

#[tokio::test(start_paused = true)]
async fn a_killed_leader_is_followed_within_a_second() {
    for seed in 0..6 {
        let mut sea = Sea::three(seed).await;
        let asks = sea.follower();
        sea.store(asks, 1, 100).await;
        let (lost, start) = (sea.leader(), Instant::now());
        sea.kill(lost).await;
        sea.store(asks, 2, 100).await;
        let took = start.elapsed();
        assert!(took < Duration::from_millis(1_500), "seed {seed}: {took:?}");
        let ended = sea.until("its session has ended", |sea| sea.node(asks).state().sessions.len() == 2).await;
        assert!(ended < Duration::from_secs(1), "seed {seed}: {ended:?}");
        sea.start(lost, |_| {}).await.unwrap();
        sea.settle(3).await;
        assert_eq!(sea.node(lost).state().head(ContextId::DEFAULT), Position(2));
    }
}

#[tokio::test(start_paused = true)]
async fn a_killed_follower_loses_its_session_at_once_and_nothing_else_happens() {
    let mut sea = Sea::three(1).await;
    let (lost, leader) = (sea.follower(), sea.leader());
    let term = sea.node(leader).status().leadership.term;
    sea.kill(lost).await;
    let took = sea.until("its session has ended", |sea| sea.node(leader).state().sessions.len() == 2).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
    let missed = sea.node(leader).missed_since(NodeId(lost)).elapsed();
    assert!(missed <= took, "since its socket closed: {missed:?} of {took:?}");
    sleep(Duration::from_secs(20)).await;
    assert_eq!((sea.leader(), sea.node(leader).status().leadership.term), (leader, term));
}

/// A process whose own threads are stuck looks alive to its peers.
#[tokio::test(start_paused = true)]
async fn a_node_that_stands_aside_gives_up_leadership_and_session_and_comes_back() {
    let sea = Sea::three(9).await;
    let leader = sea.leader();
    let stuck = sea.node(leader);
    let (session, sessions) = (stuck.status().session, stuck.state().sessions.clone());
    assert!(session.is_some());
    let aside = async {
        loop {
            stuck.stand_aside(true).await;
            sleep(Duration::from_millis(250)).await;
        }
    };
    let elsewhere = sea.until("another one leads, and the session is over", |sea| {
        let others = || sea.nodes().filter(|node| node.me() != stuck.me());
        let gone = |node: &Cluster| !node.state().sessions.contains_key(&stuck.me());
        others().any(|node| node.leads()) && others().all(gone) && stuck.status().session.is_none()
    });
    let took = tokio::select! {
        took = elsewhere => took,
        () = aside => unreachable!("it never ends"),
    };
    // A lease, and what the leader needs to notice its end.
    assert!(took <= Config::new("", "").lease * 2, "{took:?}");
    for node in sea.nodes().filter(|node| node.me() != stuck.me()) {
        assert_eq!(node.status().session, sessions.get(&node.me()).map(|live| live.session), "others keep theirs");
    }
    stuck.stand_aside(false).await;
    sea.settle(3).await;
    assert_ne!(stuck.status().session, session, "a new one began");
}

#[tokio::test(start_paused = true)]
async fn a_leader_cut_off_acknowledges_nothing_and_reads_nothing_stale() {
    for seed in 0..4 {
        let sea = Sea::three(seed).await;
        let (cut, asks) = (sea.leader(), sea.follower());
        sea.store(cut, 1, 100).await;
        let others: Vec<String> = sea.up.keys().filter(|nth| **nth != cut).map(|nth| host(*nth)).collect();
        sea.net.partition(&[&host(cut)], &others.iter().map(String::as_str).collect::<Vec<_>>());
        let request = event("s", 2, 100);
        let lost = sea.node(cut).append(&request);
        let read = sea.node(cut).barrier();
        let (lost, read, stored) = tokio::join!(lost, read, sea.store(asks, 3, 100));
        assert_eq!(lost.unwrap_err().class, Class::Unknown);
        assert!(read.is_err());
        assert_eq!(stored.first, Position(1));
        let idle = sea.until("the cut off node has no session", |sea| sea.node(cut).session().borrow().is_none()).await;
        assert!(idle < Duration::from_secs(5), "{idle:?}");
        sea.net.heal();
        sea.settle(3).await;
        sea.node(cut).barrier().await.unwrap();
        assert_eq!(sea.store(cut, 2, 100).await.first, Position(2));
        assert_eq!(sea.store(cut, 3, 100).await.first, Position(1));
    }
}

/// Nobody else is elected, as no two can reach each other.
#[tokio::test(start_paused = true)]
async fn a_leader_without_a_majority_begins_nothing_and_says_so_soon() {
    let sea = Sea::three(10).await;
    let leads = sea.leader();
    sea.store(leads, 1, 100).await;
    for (one, other) in [(1, 2), (2, 3), (3, 1)] {
        sea.net.partition(&[&host(one)], &[&host(other)]);
    }
    sleep(Duration::from_secs(4)).await;
    let node = sea.node(leads);
    let last = node.status().last;
    for round in 0..5 {
        let start = Instant::now();
        let stored = async { node.append(&event("s", 2, 100)).await.unwrap_err() };
        let read = async { node.barrier().await.unwrap_err() };
        let changed = async { node.propose(Command::Remove(NodeId(leads % 3 + 1))).await.unwrap_err() };
        let (stored, read, changed) = tokio::join!(stored, read, changed);
        assert!(start.elapsed() <= Duration::from_secs(1), "round {round}: {:?}", start.elapsed());
        for error in [stored, read, changed] {
            assert_eq!(error.class, Class::Overloaded, "{error}");
            assert!(error.message.starts_with("no majority for") && error.message.contains("1 of 3 voters answers"));
            let again = error.retry_after.unwrap();
            assert!((Duration::from_secs(1)..=Duration::from_secs(30)).contains(&again), "{again:?}");
        }
        sleep(Duration::from_secs(15)).await;
    }
    assert_eq!((sea.leader(), node.status().last), (leads, last), "nothing is proposed that cannot be decided");
    sea.net.heal();
    sea.settle(3).await;
    assert_eq!(sea.store(leads, 2, 100).await.first, Position(1));
}

/// Their sockets are closed, so it knows at once; and whoever asks waits a while, as they may be back in a moment.
#[tokio::test(start_paused = true)]
async fn a_leader_whose_majority_is_killed_ends_no_session_and_goes_on_when_one_is_back() {
    let mut sea = Sea::three(11).await;
    let leads = sea.leader();
    let others: Vec<u64> = sea.up.keys().copied().filter(|nth| *nth != leads).collect();
    for nth in &others {
        sea.kill(*nth).await;
    }
    sleep(Duration::from_millis(500)).await;
    let start = Instant::now();
    let error = sea.node(leads).append(&event("s", 1, 100)).await.unwrap_err();
    assert_eq!(error.class, Class::Overloaded, "{error}");
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    sleep(Duration::from_secs(30)).await;
    assert_eq!(sea.node(leads).state().sessions.len(), 3);
    sea.start(others[0], |_| {}).await.unwrap();
    sea.until("who stays away has no session", |sea| {
        let state = sea.node(leads).state();
        !state.sessions.contains_key(&NodeId(others[1])) && state.sessions.len() == 2
    })
    .await;
    assert_eq!(sea.store(leads, 1, 100).await.first, Position(0));
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_hears_nobody_or_is_heard_by_nobody_is_replaced() {
    for (seed, inward) in [(1, true), (2, false), (3, true), (4, false)] {
        let sea = Sea::three(seed).await;
        let (deaf, asks) = (sea.leader(), sea.follower());
        for other in sea.up.keys().filter(|nth| **nth != deaf) {
            let (from, to) = if inward { (host(*other), host(deaf)) } else { (host(deaf), host(*other)) };
            sea.net.block(&from, &to);
        }
        let start = Instant::now();
        sea.store(asks, 1, 100).await;
        assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
        sea.net.heal();
        sea.settle(3).await;
    }
}

#[tokio::test(start_paused = true)]
async fn connections_that_break_all_the_time_lose_and_double_nothing() {
    let sea = Sea::three(5).await;
    let storm = async {
        for round in 0..60u64 {
            sleep(Duration::from_millis(130)).await;
            let (a, b) = [("n1", "n2"), ("n2", "n3"), ("n3", "n1")][round as usize % 3];
            sea.net.cut(a, b);
        }
    };
    let client = |nth: u64| {
        let sea = &sea;
        async move {
            for id in 0..40u128 {
                sea.store(nth, u128::from(nth) * 1_000 + id, 60_000).await;
            }
        }
    };
    tokio::join!(storm, client(1), client(2), client(3));
    sea.settle(3).await;
    assert_eq!(sea.node(1).state().head(ContextId::DEFAULT), Position(120));
}

#[tokio::test(start_paused = true)]
async fn the_largest_events_pass_from_every_node_at_once() {
    let sea = Sea::three(6).await;
    let client = |nth: u64| {
        let sea = &sea;
        async move {
            for id in 0..4u128 {
                sea.store(nth, u128::from(nth) * 1_000 + id, 900_000).await;
            }
        }
    };
    tokio::join!(client(1), client(2), client(3));
    sea.settle(3).await;
    assert_eq!(sea.node(1).state().head(ContextId::DEFAULT), Position(12));
}

#[tokio::test(start_paused = true)]
async fn an_idle_cluster_writes_nothing() {
    let sea = Sea::three(7).await;
    sea.store(1, 1, 100).await;
    sea.settle(3).await;
    let last: Vec<_> = sea.nodes().map(|node| node.status().last).collect();
    sleep(Duration::from_secs(60)).await;
    assert_eq!(last, sea.nodes().map(|node| node.status().last).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_member_removed_while_it_was_down_does_not_come_back() {
    let mut sea = Sea::three(8).await;
    let lost = sea.follower();
    sea.kill(lost).await;
    let leader = sea.leader();
    assert_eq!(sea.node(leader).propose(Command::Remove(NodeId(lost))).await.unwrap(), Outcome::Done);
    sea.until("it has no seat", |sea| sea.node(leader).status().voters.len() == 1).await;
    let _ = sea.start(lost, |config| config.listen = format!("{}:2", host(lost))).await;
    sleep(Duration::from_secs(30)).await;
    let members: Vec<u64> = sea.node(leader).state().members.keys().map(|node| node.0).collect();
    assert_eq!(members.len(), 2, "{members:?}");
    assert!(!members.contains(&lost));
    sea.store(leader, 1, 100).await;
}

#[tokio::test(start_paused = true)]
async fn a_member_removed_while_it_runs_stops_and_asks_for_nothing() {
    for seed in 0..3 {
        let sea = Sea::three(seed).await;
        let (removed, leader) = (sea.follower(), sea.leader());
        assert_eq!(sea.node(leader).propose(Command::Remove(NodeId(removed))).await.unwrap(), Outcome::Done);
        sea.until("it has stopped", |sea| sea.node(removed).stopped().borrow().is_some()).await;
        let why = sea.node(removed).stopped().borrow().clone().unwrap();
        assert!(why.contains("removed"), "{why}");
        sleep(Duration::from_secs(5)).await;
        let last = sea.node(leader).status().last;
        sleep(Duration::from_secs(30)).await;
        assert_eq!(sea.node(leader).status().last, last);
    }
}

/// A member that does not know of the removal yet is told by the removed one where it is now.
#[tokio::test(start_paused = true)]
async fn a_member_removed_does_not_come_back_through_one_that_lags() {
    let mut sea = Sea::three(8).await;
    let (leader, lost) = (sea.leader(), sea.follower());
    let lags = 6 - leader - lost;
    sea.kill(lost).await;
    sea.net.block(&host(leader), &host(lags));
    let removing = sea.node(leader).clone();
    tokio::spawn(async move { removing.propose(Command::Remove(NodeId(lost))).await });
    let _ = sea
        .start(lost, |config| {
            (config.listen, config.join) = (format!("{}:2", host(lost)), vec![format!("{}:1", host(lags))]);
        })
        .await;
    sleep(Duration::from_secs(2)).await;
    sea.net.unblock(&host(leader), &host(lags));
    sleep(Duration::from_secs(30)).await;
    let members: Vec<u64> = sea.node(leader).state().members.keys().map(|node| node.0).collect();
    assert_eq!(members.len(), 2, "{members:?}");
}

#[tokio::test(start_paused = true)]
async fn a_node_killed_while_it_joins_joins_again_by_the_same_command() {
    for seed in 0..4 {
        let mut sea = Sea::three(seed).await;
        let joining = sea.start(4, |config| config.join = vec!["n1:1".into()]);
        // killed as soon as the cluster has let it in, at whatever point it is itself
        let killed = timeout(Duration::from_millis(20 + 10 * seed), joining).await;
        if killed.is_ok() {
            sea.kill(4).await;
        } else {
            let disk = sea.disks[&4].kill();
            sea.disks.insert(4, disk);
            sea.net.kill("n4");
        }
        sea.join(4).await;
        sea.settle(3).await;
        assert_eq!(sea.node(1).state().members.len(), 4, "seed {seed}");
        assert_eq!(sea.node(4).me(), NodeId(4));
    }
}

/// It has heard nothing of the log then, and knows of no context: that is no fault of who asks.
#[tokio::test(start_paused = true)]
async fn a_node_that_has_just_joined_takes_an_append() {
    for seed in 0..4 {
        let mut sea = Sea::three(seed).await;
        sea.join(4).await;
        sea.store(4, 1, 100).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_follower_that_moved_is_found_and_so_is_a_whole_cluster() {
    let mut sea = Sea::three(9).await;
    let moved = sea.follower();
    sea.kill(moved).await;
    sea.start(moved, |config| config.listen = format!("{}:2", host(moved))).await.unwrap();
    sea.settle(3).await;
    for nth in [1, 2, 3] {
        sea.kill(nth).await;
    }
    for nth in [1, 2, 3] {
        sea.start(nth, |config| config.listen = format!("{}:3", host(nth))).await.unwrap();
    }
    // nobody is where anybody knows them to be: only --join tells
    sleep(Duration::from_secs(10)).await;
    for nth in [1, 2, 3] {
        sea.kill(nth).await;
        sea.start(nth, |config| {
            config.listen = format!("{}:3", host(nth));
            config.join = (1..=3).map(|nth| format!("n{nth}:3")).collect();
        })
        .await
        .unwrap();
    }
    sea.settle(3).await;
}

#[tokio::test(start_paused = true)]
async fn wrong_starts_are_refused_in_words() {
    let mut sea = Sea::three(10).await;
    let cluster = sea.node(1).id();
    let refused = |result: Result<(), StartError>, words: &[&str]| {
        let error = result.unwrap_err().to_string();
        for word in words {
            assert!(error.contains(word), "`{error}` does not say `{word}`");
        }
    };
    let id = cluster.to_string();
    let joins = || vec!["n1:1".to_owned()];
    // a second cluster where one answers
    let result = sea.start(4, |config| (config.bootstrap, config.join) = (true, joins())).await;
    refused(result, &["refused to found", &id, "n1:1"]);
    // another cluster than is meant
    let other = ClusterId(Uuid::from_u128(99));
    let result = sea.start(4, |config| (config.cluster, config.join) = (Some(other), joins())).await;
    refused(result, &[&id, &other.to_string()]);
    // neither one nor the other
    refused(sea.start(4, |_| {}).await, &["--bootstrap", "--join"]);
    // an emptied directory under an old name
    let lost = sea.follower();
    sea.kill(lost).await;
    let disk = sea.disks.remove(&lost).unwrap();
    let result = sea.start(lost, |config| config.join = vec!["n1:1".into(), "n2:1".into(), "n3:1".into()]).await;
    refused(result, &["MemberName", &format!("n{lost}")]);
    // another cluster's directory
    sea.disks.insert(lost, disk);
    let result = sea.start(lost, |config| config.cluster = Some(other)).await;
    refused(result, &[&id, &other.to_string(), "directory"]);
    // the right one
    sea.start(lost, |config| config.cluster = Some(cluster)).await.unwrap();
    sea.settle(3).await;
}

#[tokio::test(start_paused = true)]
async fn four_nodes_have_three_votes_and_five_have_five() {
    let mut sea = Sea::three(11).await;
    sea.join(4).await;
    sea.settle(3).await;
    sea.join(5).await;
    sea.settle(5).await;
    let lost = sea.leader();
    sea.kill(lost).await;
    let asks = *sea.up.keys().next().unwrap();
    sea.store(asks, 1, 100).await;
    let leader = sea.leader();
    sea.node(leader).leave().await.unwrap();
    sea.up.remove(&leader);
    let asks = *sea.up.keys().next().unwrap();
    sea.store(asks, 2, 100).await;
    sea.until("three vote", |sea| sea.nodes().all(|node| node.status().voters.len() == 3)).await;
}

#[tokio::test(start_paused = true)]
async fn a_process_that_restarts_at_once_keeps_the_session_it_begins() {
    for seed in 0..8 {
        let mut sea = Sea::three(seed).await;
        let again = sea.follower();
        sea.kill(again).await;
        sleep(Duration::from_millis(40 * seed)).await;
        sea.start(again, |_| {}).await.unwrap();
        sea.until("it has a session", |sea| sea.node(again).session().borrow().is_some()).await;
        let mut session = sea.node(again).session();
        session.mark_unchanged();
        let lost = timeout(Duration::from_secs(30), session.changed()).await;
        assert!(lost.is_err(), "seed {seed}: a new session was ended in place of the old");
    }
}

#[tokio::test(start_paused = true)]
async fn a_minority_says_so_and_the_majority_goes_on() {
    let mut sea = Sea::three(12).await;
    let alone = sea.leader();
    for nth in [1, 2, 3].into_iter().filter(|nth| *nth != alone) {
        sea.kill(nth).await;
    }
    let error = sea.node(alone).append(&event("s", 1, 100)).await.unwrap_err();
    assert!(matches!(error.class, Class::Unknown | Class::Overloaded), "{error:?}");
    let error = sea.node(alone).append(&event("s", 2, 100)).await.unwrap_err();
    assert!(error.to_string().contains("majority"), "{error}");
    assert!(sea.node(alone).barrier().await.is_err());
    let back = [1, 2, 3].into_iter().find(|nth| *nth != alone).unwrap();
    sea.start(back, |_| {}).await.unwrap();
    sea.store(back, 1, 100).await;
    sea.store(alone, 2, 100).await;
}
