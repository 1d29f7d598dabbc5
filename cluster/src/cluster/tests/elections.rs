//! How soon somebody leads again.

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
