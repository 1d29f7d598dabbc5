//! Who votes, and how soon somebody leads again.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_leader_dies_and_the_others_go_on_and_it_comes_back() {
    let mut world = World::founded(1, 3).await;
    for id in 0..30 {
        assert_eq!(world.append(1 + id as u64 % 3, id).await.unwrap(), Position(id as u64));
    }
    let lost = world.leader().unwrap();
    world.kill(lost).await;
    let start = Instant::now();
    let other = 1 + lost % 3;
    assert_eq!(world.append(other, 30).await.unwrap(), Position(30));
    assert!(start.elapsed() < Duration::from_secs(1), "the closed socket tells, long before an election's time");
    world.until("the session of the dead has ended", |world| world.nodes[&other].state().sessions.len() == 2).await;
    world.revive(lost).await;
    world.settle().await;
    assert_eq!(world.append(lost, 30).await.unwrap(), Position(30));
    assert_eq!(world.append(lost, 31).await.unwrap(), Position(31));
    world.same().await;
}

/// The listener of a process that was killed takes another connection of one voter and not of the other: they must not
/// come to ask for votes at the same time for that.
#[tokio::test(start_paused = true)]
async fn a_connection_that_broke_on_the_way_does_not_hold_an_election_up() {
    for (seed, broken) in [(4, 1), (5, 2), (8, 1), (9, 2)] {
        let mut world = World::founded(seed, 3).await;
        let lost = world.leader().unwrap();
        let voters: Vec<u64> = (1..=3).filter(|nth| *nth != lost).collect();
        world.breaking.0.lock().insert(voters[0], broken);
        world.kill(lost).await;
        let start = Instant::now();
        world.append(voters[1], 1).await.unwrap();
        assert!(!world.breaking.takes(voters[0]), "it met them");
        assert!(start.elapsed() < Duration::from_millis(250), "{broken} broken: {:?}", start.elapsed());
    }
}

/// Whoever asks first has a shorter log than the other voter, and uses up a term in vain.
#[tokio::test(start_paused = true)]
async fn a_voter_with_a_shorter_log_does_not_hold_an_election_up() {
    for seed in 1..=4 {
        let mut world = World::founded(seed, 3).await;
        let lost = world.leader().unwrap();
        let voters: Vec<u64> = (1..=3).filter(|nth| *nth != lost).collect();
        world.net.partition(&[&format!("n{lost}")], &[&format!("n{}", voters[0])]);
        world.append(lost, 1).await.unwrap();
        world.net.heal();
        world.kill(lost).await;
        let start = Instant::now();
        world.append(voters[1], 2).await.unwrap();
        assert!(start.elapsed() < Duration::from_millis(750), "seed {seed}: {:?}", start.elapsed());
    }
}

/// It runs again before anybody has found its port closed: the others still take it for their leader, and their own
/// elections wait until its lease has ended.
#[tokio::test(start_paused = true)]
async fn a_leader_that_is_back_before_it_was_missed_asks_for_votes_at_once() {
    let mut world = World::founded(1, 3).await;
    let lost = world.leader().unwrap();
    let others: Vec<u64> = (1..=3).filter(|nth| *nth != lost).collect();
    world.breaking.0.lock().extend(others.iter().map(|nth| (*nth, 1_000)));
    let sessions = |world: &World| {
        let state = world.nodes[&others[0]].state();
        others.iter().map(|nth| state.sessions[&NodeId(*nth)].session).collect::<Vec<_>>()
    };
    let before = sessions(&world);
    let start = Instant::now();
    world.kill(lost).await;
    world.revive(lost).await;
    world.append(others[0], 1).await.unwrap();
    assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
    world.settle().await;
    assert_eq!(sessions(&world), before, "nobody else has lost anything");
}

/// A frozen process keeps its sockets: only its silence tells. Here its packets are lost in both directions.
#[tokio::test(start_paused = true)]
async fn a_silent_leader_is_replaced_before_anybody_loses_a_session() {
    for seed in 1..=10 {
        let world = World::founded(seed, 3).await;
        // All have asked each other once.
        pass(Duration::from_secs(1)).await;
        let silent = world.leader().unwrap();
        let others: Vec<u64> = (1..=3).filter(|nth| *nth != silent).collect();
        let sessions: Vec<_> = others.iter().map(|nth| world.nodes[nth].session()).collect();
        let before: Vec<_> = sessions.iter().map(|session| *session.borrow()).collect();
        world.net.partition(&[&format!("n{silent}")], &[&format!("n{}", others[0]), &format!("n{}", others[1])]);
        let start = Instant::now();
        world.append(others[0], 1).await.unwrap();
        let took = start.elapsed();
        assert!(took < Duration::from_millis(2_250), "seed {seed}: {took:?}");
        pass(Duration::from_secs(10)).await;
        for (session, before) in sessions.iter().zip(before) {
            assert!(!session.has_changed().unwrap(), "seed {seed}: {:?} was {before:?}", *session.borrow());
        }
        world.net.heal();
        world.settle().await;
    }
}

/// One that is silent for one voter alone leads on.
#[tokio::test(start_paused = true)]
async fn a_broken_link_to_the_leader_is_no_reason_for_an_election() {
    let world = World::founded(1, 3).await;
    let leader = world.leader().unwrap();
    let cut_off = 1 + leader % 3;
    let term = world.nodes[&leader].status().leadership.term;
    world.net.partition(&[&format!("n{leader}")], &[&format!("n{cut_off}")]);
    pass(Duration::from_secs(30)).await;
    assert_eq!((world.leader(), world.nodes[&leader].status().leadership.term), (Some(leader), term));
}

/// It believes in its leader, which does not answer. What cannot have been sent is refused at once; what was sent
/// before is not known.
#[tokio::test(start_paused = true)]
async fn a_follower_that_is_left_alone_says_so_at_once() {
    for seed in 1..=5 {
        let world = World::founded(seed, 3).await;
        let alone = 1 + world.leader().unwrap() % 3;
        let others: Vec<u64> = (1..=3).filter(|nth| *nth != alone).collect();
        world.net.partition(&[&format!("n{alone}")], &[&format!("n{}", others[0]), &format!("n{}", others[1])]);
        let start = Instant::now();
        let sent = world.append(alone, 1).await.unwrap_err();
        assert_eq!(sent.class, Class::Unknown, "{sent}");
        assert!(start.elapsed() < Duration::from_secs(3), "seed {seed}: {:?}", start.elapsed());
        for id in 2..5 {
            let start = Instant::now();
            let kept = world.append(alone, id).await.unwrap_err();
            assert_eq!(kept.class, Class::Overloaded, "{kept}");
            assert!(start.elapsed() < Duration::from_millis(300), "seed {seed}: {:?}", start.elapsed());
            let asked = world.nodes[&alone].barrier().await.unwrap_err();
            assert_eq!(asked.class, Class::Overloaded, "{asked}");
        }
        let told = world.nodes[&alone].status().leadership.lack.unwrap();
        assert_eq!((told.answer, told.voters), (1, 3));
        assert_eq!(told.silent, others.iter().map(|nth| NodeId(*nth)).collect::<Vec<_>>());
        world.net.heal();
        world.until("it is led again", |world| world.nodes[&alone].status().leadership.lack.is_none()).await;
        world.append(alone, 9).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn five_vote_and_four_do_not() {
    let mut world = World::founded(2, 3).await;
    world.join(4).await.unwrap();
    world.settle().await;
    assert_eq!(world.nodes[&4].status().role, Role::Learner);
    assert_eq!(world.nodes[&4].status().voteless, [(NodeId(4), Voteless::Single)].into());
    assert_eq!(world.append(4, 1).await.unwrap(), Position(0));
    world.join(5).await.unwrap();
    world.settle().await;
    let leaving = world.nodes.remove(&5).unwrap();
    leaving.leave().await.unwrap();
    world.settle().await;
    assert_eq!(world.nodes[&1].state().members.len(), 4);
    let leaving = world.leader().unwrap();
    world.nodes.remove(&leaving).unwrap().leave().await.unwrap();
    world.settle().await;
    assert_eq!(world.append(4, 2).await.unwrap(), Position(1));
}
