//! Clocks that stand still or are wrong.

use evener_core::id::SessionId;

use super::*;

fn sessions(world: &World) -> BTreeMap<u64, Option<SessionId>> {
    world.nodes.iter().map(|(nth, node)| (*nth, *node.session().borrow())).collect()
}

/// Its own clocks have not seen the time pass; the others have ended its session meanwhile, or might have.
#[tokio::test(start_paused = true)]
async fn a_node_that_was_suspended_begins_a_new_session() {
    for leads in [true, false] {
        let world = World::founded(1, 3).await;
        let leader = world.leader().unwrap();
        let sleeper = if leads { leader } else { 1 + leader % 3 };
        let before = sessions(&world);
        let session = before[&sleeper].unwrap();
        assert!(world.nodes[&sleeper].holds(session));
        world.clocks[&sleeper].suspend(Duration::from_secs(2));
        pass(Duration::from_secs(1)).await;
        assert_eq!(sessions(&world), before, "it was shorter than a lease");

        world.clocks[&sleeper].suspend(Duration::from_secs(10));
        assert!(!world.nodes[&sleeper].holds(session), "nothing is handled from now on");
        world
            .until("it has another session", |world| {
                let now = *world.nodes[&sleeper].session().borrow();
                now.is_some() && now != Some(session)
            })
            .await;
        let others = |sessions: BTreeMap<u64, _>| sessions.into_iter().filter(|(nth, _)| *nth != sleeper).collect();
        let (before, after): (Vec<_>, Vec<_>) = (others(before), others(sessions(&world)));
        assert_eq!(before, after, "nobody else has lost anything");
    }
}

/// What the log recorded last, and what a right clock shows.
fn recorded_and_right(world: &World) -> (Timestamp, Timestamp) {
    let leader = world.leader().unwrap();
    let recorded = world.nodes[&leader].state().recorded;
    (recorded, world.right_time())
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_clock_jumps_hands_leadership_on_and_stamps_nothing_wrong() {
    for (seed, off_ms) in [(1, 3_600_000), (2, -3_600_000), (3, 3_600_000_000_000), (4, 2_500)] {
        let world = World::founded(seed, 3).await;
        pass(Duration::from_secs(1)).await;
        let off = world.leader().unwrap();
        world.clocks[&off].set_off(off_ms);
        world.append(off, 1).await.unwrap();
        world.until("another leads", |world| world.leader().is_some_and(|leader| leader != off)).await;
        let ahead = world.nodes[&off].status().clock_ahead_ms.unwrap();
        assert!((ahead - off_ms).abs() < 100, "{ahead} of {off_ms}");
        world.append(off, 2).await.unwrap();
        let (recorded, right) = recorded_and_right(&world);
        let differ = recorded.since(right).max(right.since(recorded));
        assert!(differ < Duration::from_secs(2), "{recorded:?} where it was {right:?}");
        let leads = world.leader();
        pass(Duration::from_secs(20)).await;
        assert_eq!(world.leader(), leads, "leadership stays where the clock is right");
        world.clocks[&off].set_off(0);
        let right = |ahead: i64| ahead.abs() < 100;
        world.until("it is right", |world| world.nodes[&off].status().clock_ahead_ms.is_some_and(right)).await;
    }
}

/// Alone it has nobody to ask. The log's time never goes back; that it is ahead is said.
#[tokio::test(start_paused = true)]
async fn a_log_whose_time_is_ahead_says_by_how_much() {
    let world = World::founded(1, 1).await;
    let hour = Duration::from_secs(3_600);
    world.clocks[&1].set_off(3_600_000);
    pass(Duration::from_secs(1)).await;
    world.append(1, 1).await.unwrap();
    assert_eq!(world.nodes[&1].status().log_ahead, Duration::ZERO);
    world.clocks[&1].set_off(0);
    pass(Duration::from_secs(1)).await;
    world.append(1, 2).await.unwrap();
    let ahead = world.nodes[&1].status().log_ahead;
    assert!(ahead > hour - Duration::from_secs(2) && ahead <= hour, "{ahead:?}");
}
