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
