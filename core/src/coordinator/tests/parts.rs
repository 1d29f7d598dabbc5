//! A backlog is sent in parts, each within its bounds, with the same result as if sent at once (P4, P10).

use std::{string::String, vec::Vec};

use proptest::{collection, prelude::*};

use super::{
    Step, assert_all_handled_in_order, assert_settled, on_error,
    world::{Faults, World},
};
use crate::{
    id::{NodeId, Position, SegmentId},
    letter::Letter,
    limits::Limits,
    processor::OnError,
};

/// Takes only these steps, until none is left; returns how many progresses were judged.
fn only(world: &mut World, allowed: impl Fn(&Step) -> bool) -> usize {
    let mut tellings = 0;
    while let Some(step) = world.enabled().into_iter().find(&allowed) {
        tellings += usize::from(matches!(step, Step::Tell(_)));
        world.take(step);
    }
    tellings
}

/// Lets events fail and be retried for a minute, while the log judges nothing.
fn stand_still(world: &mut World) {
    let until = world.now + 60_000;
    loop {
        only(world, |step| !matches!(step, Step::Tell(_) | Step::HandOver(_)));
        let Some(wake) = world.next_wake().filter(|wake| *wake < until) else { return };
        world.pass(wake);
    }
}

/// Sends everything that waits, while no handler is called; returns in how many commands.
fn tell_all(world: &mut World) -> usize {
    let tell = |step: &Step| matches!(step, Step::Tell(_) | Step::Tick(_) | Step::Mail(_));
    let tellings = only(world, tell);
    // Progress over foreign events is sent a second later.
    world.pass(world.now + 1_000);
    tellings + only(world, tell)
}

type Share = (SegmentId, Position, Option<NodeId>, Option<Position>);
type Aside = (String, Vec<Letter>, String, u32, Option<NodeId>);

/// Returns what the log knows, without its times.
fn known(world: &World) -> (Vec<Share>, Vec<Aside>, u64) {
    let processor = world.processor();
    let shares = processor.segments.iter().map(|(id, share)| {
        (*id, share.token.low(), share.claim.owner, share.stalled.as_ref().map(|stall| stall.position))
    });
    let asides = processor.set_aside.iter().map(|(key, aside)| {
        let letters = aside.letters.iter().cloned().collect();
        (key.name.clone(), letters, aside.cause.clone(), aside.wait_ms, aside.loan.map(|loan| loan.node))
    });
    (shares.collect(), asides.collect(), processor.skipped)
}

fn world_of(on_error: OnError, faults: &Faults, room: Option<usize>) -> World {
    let mut world = World::new(8, on_error, Limits::DEFAULT, Faults { room, ..faults.clone() });
    (0..60).for_each(|nth| world.append(&std::format!("s{}", nth % 30)));
    world
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn p10_a_backlog_told_in_parts_comes_to_the_same_as_told_at_once(
        on_error in on_error(),
        fail in collection::btree_map(0_u64..60, 1_u32..8, 0..40),
        skip in collection::btree_set(0_u64..60, 0..6),
        unable in collection::btree_map(0_u64..60, 1_u32..8, 0..4),
        room in 1_usize..8,
    ) {
        let faults = Faults { fail, skip, unable, ..Faults::default() };
        let worlds = [None, Some(room)].map(|room| {
            let mut world = world_of(on_error, &faults, room);
            stand_still(&mut world);
            tell_all(&mut world);
            world
        });
        prop_assert_eq!(known(&worlds[0]), known(&worlds[1]));
    }
}

#[test]
fn p10_many_segments_with_long_causes_drain_once_the_log_goes_on() {
    let limits = Limits { cause_bytes_max: 65_536, ..Limits::DEFAULT };
    let fail = (0..400).map(|position| (position, 3)).collect();
    let faults = Faults { fail, cause_bytes: 65_536, ..Faults::default() };
    let mut world = World::new(64, OnError::SetAside, limits, faults);
    (0..400).for_each(|nth| world.append(&std::format!("s{nth}")));
    stand_still(&mut world);
    let causes = world.processor().set_aside.values().map(|aside| aside.cause.len()).max();
    assert_eq!(causes, None, "nothing was told yet");
    assert!(tell_all(&mut world) > 40, "25 MB do not fit a few entries");
    assert!(world.settle(world.now + 600_000));
    assert_all_handled_in_order(&world, false);
    assert_settled(&world);
}

#[test]
fn p10_a_handler_that_is_asked_again_and_again_while_nothing_can_be_told_adds_nothing() {
    let faults = Faults { fail: [(0, 1_000)].into(), ..Faults::default() };
    let mut world = World::new(1, OnError::Stop, Limits::DEFAULT, faults);
    world.append("s0");
    for _ in 0..20 {
        stand_still(&mut world);
    }
    assert!(world.calls.len() > 100, "{}", world.calls.len());
    let node = world.calls[0].node;
    world.take(Step::Tell(node));
    only(&mut world, |step| matches!(step, Step::Tick(_) | Step::Mail(_)));
    let (_, progress) = world.nodes[&node].tell.as_ref().expect("it goes on to tell");
    assert_eq!(progress.letters.len(), 1, "only the latest attempt counts");
}
