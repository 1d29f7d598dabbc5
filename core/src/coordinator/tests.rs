//! The state machines against the promises P4, P5, P6 and P7, in any order of steps.

mod database;
mod fence;
mod loans;
mod parts;
mod world;

use std::{
    collections::{BTreeMap, BTreeSet},
    string::String,
    vec,
    vec::Vec,
};

use proptest::{collection, option, prelude::*};

use self::world::{BATCH, Faults, NODES, Step, World};
use crate::{
    command::{Change, LetterChange, LetterMove},
    id::{NodeId, Position, SegmentId},
    limits::{LimitName, Limits},
    processor::OnError,
};

const SEQUENCES: u64 = 6;

/// A random step.
#[derive(Clone, Copy, Debug)]
enum Chaos {
    Append(u64),
    Kill(u64),
    Fence(u64),
    Revive(u64),
    Balance,
    Drain(u64),
    Pause(bool),
    Pass,
    Unheard(u64),
    HandOverUnheard(u64, bool),
    WorkerDies(u64),
    /// A delayed write of a stopped handler reaches its database.
    WriteLate(usize),
    Person(u64, LetterChange),
    /// A person moves the first segment to this node.
    Move(u64),
    Split(usize),
    Merge(usize),
    /// The handlers of a node hang, or continue.
    Slow(u64),
    Go(usize),
}

fn chaos() -> impl Strategy<Value = Chaos> {
    let node = 1..=NODES;
    prop_oneof![
        14 => (0..SEQUENCES).prop_map(Chaos::Append),
        1 => node.clone().prop_map(Chaos::Kill),
        1 => node.clone().prop_map(Chaos::Fence),
        2 => node.clone().prop_map(Chaos::Revive),
        3 => Just(Chaos::Balance),
        1 => node.clone().prop_map(Chaos::Drain),
        1 => any::<bool>().prop_map(Chaos::Pause),
        6 => Just(Chaos::Pass),
        3 => node.clone().prop_map(Chaos::Unheard),
        3 => (node.clone(), any::<bool>()).prop_map(|(node, judged)| Chaos::HandOverUnheard(node, judged)),
        1 => node.prop_map(Chaos::WorkerDies),
        3 => (0_usize..1_000).prop_map(Chaos::WriteLate),
        80 => (0_usize..1_000).prop_map(Chaos::Go),
    ]
}

/// Steps that interrupt no handler.
fn harmless() -> impl Strategy<Value = Chaos> {
    let node = 1..=NODES;
    prop_oneof![
        14 => (0..SEQUENCES).prop_map(Chaos::Append),
        3 => Just(Chaos::Balance),
        1 => any::<bool>().prop_map(Chaos::Pause),
        2 => node.clone().prop_map(Chaos::Move),
        6 => Just(Chaos::Pass),
        3 => node.clone().prop_map(Chaos::Unheard),
        3 => (node, any::<bool>()).prop_map(|(node, judged)| Chaos::HandOverUnheard(node, judged)),
        80 => (0_usize..1_000).prop_map(Chaos::Go),
    ]
}

fn faults() -> impl Strategy<Value = Faults> {
    let fail = collection::btree_map(0_u64..60, 1_u32..8, 0..8);
    let unable = collection::btree_map(0_u64..60, 1_u32..8, 0..4);
    let (refuse, skip) = (collection::btree_set(0_u64..60, 0..3), collection::btree_set(0_u64..60, 0..6));
    let all = (fail, refuse, skip, unable, option::of(1_usize..6));
    all.prop_map(|(fail, refuse, skip, unable, room)| Faults { fail, refuse, skip, unable, room, cause_bytes: 0 })
}

fn on_error() -> impl Strategy<Value = OnError> {
    prop_oneof![3 => Just(OnError::SetAside), 1 => Just(OnError::Stop), 1 => Just(OnError::Skip)]
}

fn unleash(world: &mut World, chaos: Chaos) {
    match chaos {
        Chaos::Append(sequence) => world.append(&std::format!("s{sequence}")),
        Chaos::Kill(node) => world.kill(NodeId(node)),
        Chaos::Fence(node) => world.fence(NodeId(node)),
        Chaos::Revive(node) if world.nodes.contains_key(&NodeId(node)) => {}
        Chaos::Revive(node) => world.begin(node),
        Chaos::Balance => world.balance(),
        Chaos::Drain(node) => world.drain(NodeId(node)),
        Chaos::Pause(paused) => drop(world.change(Change::Pause("p".into(), paused))),
        Chaos::Pass => {
            if let Some(wake) = world.next_wake() {
                world.pass(wake);
            }
        }
        Chaos::Unheard(node) => {
            let step = Step::TellUnheard(NodeId(node));
            if world.enabled().contains(&Step::Tell(NodeId(node))) {
                world.take(step);
            }
        }
        Chaos::HandOverUnheard(node, judged) => {
            if world.enabled().contains(&Step::HandOver(NodeId(node))) {
                world.take(Step::HandOverUnheard(NodeId(node), judged));
            }
        }
        Chaos::WorkerDies(node) => world.worker_dies(NodeId(node)),
        Chaos::WriteLate(which) => {
            world.database.write_late(which);
        }
        Chaos::Person(sequence, change) => world.person(&std::format!("s{sequence}"), change),
        Chaos::Move(node) => {
            world.change(Change::Claim("p".into(), SegmentId(0), NodeId(node)));
            world.change(Change::Unpin("p".into(), SegmentId(0)));
        }
        Chaos::Split(which) => world.split(which),
        Chaos::Merge(which) => world.merge(which),
        Chaos::Slow(node) => {
            if !world.slow.remove(&NodeId(node)) {
                world.slow.insert(NodeId(node));
            }
        }
        Chaos::Go(which) => {
            let enabled = world.enabled();
            if !enabled.is_empty() {
                world.take(enabled[which % enabled.len()].clone());
            }
        }
    }
}

/// Brings all nodes back and resumes everything; from now on nothing fails.
fn mend(world: &mut World) {
    world.slow.clear();
    world.change(Change::Pause("p".into(), false));
    for node in 1..=NODES {
        if world.nodes.contains_key(&NodeId(node)) {
            world.fence(NodeId(node)); // it may have been leaving: a new life is not
        } else {
            world.begin(node);
        }
    }
    // A sequence that waits for a person blocks its segment while a limit is reached: then it never settles by itself.
    world.settle(world.now + 300_000);
    world.faults = Faults { skip: core::mem::take(&mut world.faults.skip), ..Faults::default() };
    // After a limit was reached there may be more to retry once there is room.
    let rests = (0..6).map(|_| {
        world.retry_all();
        world.settle(world.now + 120_000)
    });
    assert_eq!(rests.last(), Some(true), "it does not come to rest");
}

fn by_sequence(world: &World) -> BTreeMap<&String, Vec<u64>> {
    let mut sequences = BTreeMap::<_, Vec<u64>>::new();
    for (position, sequence) in world.log.iter().enumerate() {
        sequences.entry(sequence).or_default().push(position as u64);
    }
    sequences
}

/// Checks P5: every event was handled, and when it was handled first, all earlier events of its sequence had been.
fn assert_all_handled_in_order(world: &World, skips: bool) {
    let mut first = BTreeMap::new();
    for (nth, call) in world.calls.iter().enumerate().filter(|(_, call)| call.ok) {
        first.entry(call.position).or_insert(nth);
    }
    for (sequence, positions) in by_sequence(world) {
        let places: Vec<_> = positions.iter().map(|position| first.get(position)).collect();
        if !skips {
            assert!(
                places.iter().all(Option::is_some),
                "{sequence}: not all of {positions:?} were handled: {places:?}"
            );
        }
        let handled: Vec<_> = places.into_iter().flatten().collect();
        assert!(handled.is_sorted(), "{sequence}: {positions:?} were handled in the order {handled:?}");
    }
}

/// Checks P3: events that handlers skip are counted once, however often and by however many nodes that is reported.
fn assert_skips_are_counted_once(world: &World) {
    let skipped = world.faults.skip.range(..world.log.len() as u64).count();
    assert_eq!(world.processor().skipped, skipped as u64);
}

fn assert_settled(world: &World) {
    let processor = world.processor();
    assert!(processor.set_aside.is_empty() && processor.letters == 0, "{:?}", processor.set_aside);
    for (id, share) in &processor.segments {
        assert_eq!(share.token.low(), Position(world.log.len() as u64), "segment {id}");
        assert_eq!(share.stalled, None, "segment {id}");
    }
}

/// Checks that only interrupted events are handled again: at most a batch per segment and kill.
fn assert_few_handled_again(world: &World) {
    let mut handled = BTreeMap::<u64, usize>::new();
    for call in world.calls.iter().filter(|call| call.ok) {
        *handled.entry(call.position).or_default() += 1;
    }
    let again: usize = handled.values().map(|times| times - 1).sum();
    // Per segment a batch, and as many letters as are tried at once (all sequences of the test). The claim is also
    // renewed if a person takes a sequence from the node to which it is lent; that counts like a kill.
    let allowed = (world.kills + world.persons) * (world.processor().segments.len() * BATCH + SEQUENCES as usize);
    assert!(again <= allowed, "{again} were handled again after {} kills", world.kills);
}

/// Checks that the waits between the attempts at one event are those of the schedule, or longer.
fn assert_waits(world: &World) {
    let mut last = BTreeMap::<u64, (u32, u64)>::new();
    for call in &world.calls {
        if let Some((attempt, at)) = last.get(&call.position)
            && call.attempt == attempt + 1
        {
            let wait = world::BACKOFF.wait(*attempt, u16::MAX).as_millis() as u64;
            assert!(call.at >= at + wait, "event {} was tried again after {} ms", call.position, call.at - at);
        }
        if !call.ok {
            last.insert(call.position, (call.attempt, call.at));
        }
    }
}

/// Checks that a refusal by the database is no attempt: only planned failures count. Nor does a try whose handler could
/// not be called, except for a segment that waits with its event.
fn assert_refusals_do_not_count(world: &World, faults: &Faults, on_error: OnError) {
    for call in &world.calls {
        let planned = [&faults.fail, &faults.unable].map(|plan| plan.get(&call.position).copied().unwrap_or_default());
        let unable = if on_error == OnError::Stop { planned[1] } else { 0 };
        let planned = planned[0].saturating_add(unable);
        assert!(call.attempt <= planned.saturating_add(1), "{call:?} after {planned} failures");
    }
}

fn run(segments: u32, on_error: OnError, faults: Faults, limits: Limits, steps: &[Chaos]) -> World {
    let skips = on_error == OnError::Skip || steps.iter().any(|step| matches!(step, Chaos::Person(..)));
    let planned = faults.clone();
    let mut world = World::new(segments, on_error, limits, faults);
    for step in steps {
        unleash(&mut world, *step);
    }
    mend(&mut world);
    assert_all_handled_in_order(&world, skips);
    assert_settled(&world);
    if !skips {
        assert_skips_are_counted_once(&world);
    }
    assert_few_handled_again(&world);
    if world.persons == 0 {
        assert_waits(&world); // a person waits for no schedule
    }
    assert_refusals_do_not_count(&world, &planned, on_error);
    // After a bar has ended, segments may return to the node.
    world.pass(world.now + u64::from(limits.unable_bar_ms));
    assert!(world.settle(world.now + 60_000), "it moves home");
    let index = world.index;
    world.pass(world.now + 3_600_000);
    assert!(world.settle(world.now), "nobody waits for anything");
    assert_eq!(world.index, index, "an idle cluster writes nothing");
    world
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, max_shrink_iters: 3_000, ..ProptestConfig::default() })]

    #[test]
    fn p5_all_is_handled_in_order_whatever_happens(
        on_error in on_error(),
        faults in faults(),
        steps in collection::vec(chaos(), 0..600),
    ) {
        run(3, on_error, faults, Limits::DEFAULT, &steps);
    }

    #[test]
    fn where_no_handler_is_cut_short_nothing_is_handled_again(
        on_error in on_error(),
        unable in collection::btree_map(0_u64..60, 1_u32..8, 0..4),
        steps in collection::vec(harmless(), 0..300),
    ) {
        let mut world = World::new(3, on_error, Limits::DEFAULT, Faults { unable, ..Faults::default() });
        for step in steps {
            // The result of a try is judged before the event is tried again.
            if !matches!(step, Chaos::Pass) || world.enabled().is_empty() {
                unleash(&mut world, step);
            }
        }
        world.change(Change::Pause("p".into(), false));
        world.settle(world.now + 600_000);
        assert_few_handled_again(&world);
    }

    #[test]
    fn p6_limits_stall_and_lose_nothing(faults in faults(), steps in collection::vec(chaos(), 0..600)) {
        let limits = Limits { sequences_max: 2, letters_max: 3, ..Limits::DEFAULT };
        run(3, OnError::SetAside, faults, limits, &steps);
    }
}

fn story(faults: &[(u64, u32)]) -> World {
    let faults = Faults { fail: faults.iter().copied().collect(), ..Faults::default() };
    World::new(3, OnError::SetAside, Limits::DEFAULT, faults)
}

#[test]
fn p6_a_failing_sequence_delays_itself_only() {
    let mut world = story(&[(0, u32::MAX)]);
    for nth in 0..30 {
        world.append(&std::format!("s{}", nth % SEQUENCES));
    }
    assert!(world.settle(world.now + 600_000), "it waits for a person");
    let handled: BTreeSet<u64> = world.calls.iter().filter(|call| call.ok).map(|call| call.position).collect();
    let others: BTreeSet<u64> = (0..30).filter(|position| position % SEQUENCES != 0).collect();
    assert_eq!(handled, others);
    assert_eq!((world.processor().set_aside.len(), world.processor().letters), (1, 5));
    let low = world.processor().low();
    assert_eq!(low, Some(Position(30)), "the tokens went on");
    let attempts: Vec<u32> = world.calls.iter().filter(|call| !call.ok).map(|call| call.attempt).collect();
    assert_eq!(attempts, (1..=world::BACKOFF.attempts).collect::<Vec<_>>());
    let at: Vec<NodeId> = world.calls.iter().filter(|call| !call.ok).map(|call| call.node).collect();
    assert!(at[..3].iter().all(|node| *node == at[0]) && at[3..].iter().all(|node| *node != at[0]), "{at:?}");
}

#[test]
fn p6_a_sequence_that_reached_its_limit_is_finished_in_order() {
    let faults = Faults { fail: [(0, 2)].into(), ..Faults::default() };
    let limits = Limits { letters_max: 2, ..Limits::DEFAULT };
    let mut world = World::new(3, OnError::SetAside, limits, faults);
    for nth in 0..12 {
        world.append(&std::format!("s{}", nth % 2));
    }
    assert!(world.settle(world.now + 600_000), "it never finds room");
    assert_all_handled_in_order(&world, false);
    assert_settled(&world);
    assert_few_handled_again(&world);
}

#[test]
fn a_segment_without_room_says_which_limit_is_reached() {
    let faults = Faults { fail: [(0, 2)].into(), ..Faults::default() };
    let limits = Limits { letters_max: 1, ..Limits::DEFAULT };
    let mut world = World::new(1, OnError::SetAside, limits, faults);
    (0..3).for_each(|_| world.append("s0"));
    let stalled = |world: &World| {
        let mut lanes = world.nodes.values().flat_map(|node| node.coordinator.lanes());
        lanes.find(|lane| lane.phase == super::STALLED)
    };
    while stalled(&world).is_none() {
        let step = world.enabled().first().cloned().expect("it is not settled before it is stalled");
        world.take(step);
    }
    let lane = stalled(&world).expect("the loop ended with one");
    let reason = lane.reason.expect("it says why");
    let full = matches!(&reason, super::Halt::Limit(reached) if reached.limit == LimitName::Letters);
    assert!(full && lane.until.is_some(), "{reason:?}");
    assert!(world.settle(world.now + 600_000) && stalled(&world).is_none(), "it finds room in the end");
}

#[test]
fn a_sequence_stays_aside_while_letters_that_were_refused_are_told_again() {
    let faults = Faults { fail: [(0, 1)].into(), ..Faults::default() };
    let limits = Limits { letters_max: 1, ..Limits::DEFAULT };
    let mut world = World::new(3, OnError::SetAside, limits, faults);
    (0..2).for_each(|_| world.append("s0"));
    // Letters that had room are done, and those that had none are in flight again.
    let told_again = |world: &World| {
        let told =
            world.nodes.values().filter_map(|node| node.tell.as_ref()).flat_map(|(_, progress)| &progress.letters);
        world.calls.len() > 1
            && world.processor().set_aside.is_empty()
            && told.filter_map(LetterMove::holds).count() > 0
    };
    while !told_again(&world) {
        match world.enabled().first().cloned() {
            Some(step) => world.take(step),
            None => world.pass(world.next_wake().expect("it is told again at some time")),
        }
    }
    // Meanwhile a new table arrives, and the sequence continues.
    world.change(Change::Pause("p".into(), true));
    world.change(Change::Pause("p".into(), false));
    world.append("s0");
    while let Some(step) = world.enabled().into_iter().find(|step| !matches!(step, Step::Tell(_))) {
        world.take(step);
    }
    assert!(world.calls.iter().all(|call| call.position < 2), "event 2 overtakes the letters");
    assert!(world.settle(world.now + 600_000));
    assert_all_handled_in_order(&world, false);
    assert_settled(&world);
}

#[test]
fn p5_a_sequence_stays_aside_when_nobody_hears_how_its_refused_letters_were_judged() {
    let faults = Faults { fail: [(0, u32::MAX), (1, 1)].into(), ..Faults::default() };
    let limits = Limits { sequences_max: 1, ..Limits::DEFAULT };
    let mut world = World::new(3, OnError::SetAside, limits, faults);
    ["s5", "s1"].into_iter().for_each(|sequence| world.append(sequence));
    let (_, share) = world.processor().share_of(crate::hash::sequence(b"s1")).unwrap();
    let owner = share.claim.owner.unwrap();
    let tells = |world: &World| {
        let told = world.nodes[&owner].tell.as_ref();
        told.is_some_and(|(_, progress)| progress.letters.iter().any(|letter| letter.holds() == Some(Position(1))))
    };
    world.until(tells);
    world.take(Step::Tell(owner));
    world.until(tells);
    world.take(Step::TellUnheard(owner)); // there is no room yet
    assert_eq!(world.processor().set_aside.len(), 1);

    // Meanwhile a new table arrives, and the sequence continues.
    world.change(Change::Pause("p".into(), true));
    world.change(Change::Pause("p".into(), false));
    world.append("s1");
    while let Some(step) = world.enabled().into_iter().find(|step| !matches!(step, Step::Tell(_))) {
        world.take(step);
    }
    assert!(world.calls.iter().all(|call| call.position < 2), "event 2 overtakes the one that failed");
}

#[test]
fn a_segment_that_stops_goes_to_another_node_after_three_attempts_and_goes_on_there() {
    let faults = Faults { fail: [(0, 4)].into(), ..Faults::default() };
    let mut world = World::new(3, OnError::Stop, Limits::DEFAULT, faults);
    (0..4).for_each(|_| world.append("s0"));
    assert!(world.settle(world.now + 600_000));
    assert_all_handled_in_order(&world, false);
    assert_settled(&world);
    assert_waits(&world);
    let first: Vec<_> = world.calls.iter().filter(|call| call.position == 0).collect();
    let attempts: Vec<u32> = first.iter().map(|call| call.attempt).collect();
    assert_eq!(attempts, [1, 2, 3, 4, 5]);
    assert!(first[2].node == first[0].node && first[3].node != first[0].node, "{first:?}");
}

#[test]
fn p6_a_handler_that_cannot_be_asked_holds_the_segment_and_another_node_asks() {
    let faults = Faults { unable: [(0, 4)].into(), ..Faults::default() };
    let mut world = World::new(3, OnError::SetAside, Limits::DEFAULT, faults);
    (0..4).for_each(|_| world.append("s0"));
    let hash = crate::hash::sequence(b"s0");
    let owner = world.processor().share_of(hash).and_then(|(_, share)| share.claim.owner);
    assert!(world.settle(world.now + 600_000));
    assert_all_handled_in_order(&world, false);
    assert_settled(&world);
    assert!(owner.is_some_and(|owner| world.calls[0].node != owner), "{owner:?}: {:?}", world.calls);
    assert_eq!(world.calls.iter().map(|call| call.attempt).collect::<Vec<_>>(), [1; 4], "no event ever failed");
    assert_eq!(world.processor().skipped, 0);
}

#[test]
fn what_was_handled_before_nobody_could_be_asked_is_not_handled_again() {
    for nth in 0..BATCH as u64 {
        let faults = Faults { unable: [(nth, 1)].into(), ..Faults::default() };
        let mut world = World::new(1, OnError::SetAside, Limits::DEFAULT, faults);
        (0..BATCH).for_each(|_| world.append("s0"));
        assert!(world.settle(world.now + 600_000));
        assert_all_handled_in_order(&world, false);
        assert_settled(&world);
        let handled: Vec<u64> = world.calls.iter().map(|call| call.position).collect();
        assert_eq!(handled, (0..BATCH as u64).collect::<Vec<_>>(), "each once");
    }
}

#[test]
fn a_node_that_ends_waits_for_nothing_that_only_waits() {
    // An event whose handler cannot be called, one that failed, and a backlog behind each.
    let faults = Faults { unable: [(0, u32::MAX)].into(), fail: [(1, u32::MAX)].into(), ..Faults::default() };
    let mut world = World::new(3, OnError::SetAside, Limits::DEFAULT, faults);
    (0..20).for_each(|nth| world.append(&std::format!("s{nth}")));
    let settled = |world: &World| world.nodes.values().all(|node| node.coordinator.is_settled());
    world.settle(world.now + 30_000);
    assert!(!settled(&world), "what waits may be tried at any time");
    world.change(Change::Pause("p".into(), true));
    while let Some(step) = world.enabled().first().cloned() {
        world.take(step);
    }
    assert!(settled(&world));
    assert!(world.processor().segments.values().any(|share| share.token.low().0 < 20), "with events left");
}

#[test]
fn a_planned_move_handles_nothing_again() {
    let mut world = story(&[]);
    for nth in 0..200 {
        world.append(&std::format!("s{}", nth % 20));
        let (steps, leaving) = (world.enabled(), NodeId(nth / 20 % NODES + 1));
        if let Some(step) = steps.get(nth as usize % steps.len().max(1)) {
            world.take(step.clone());
        }
        if nth % 20 == 10 {
            world.drain(leaving);
            world.balance();
            assert!(world.settle(world.now + 60_000));
            assert!(world.processor().segments.values().all(|share| share.claim.owner != Some(leaving)));
            world.fence(leaving); // comes back as a new life
            world.balance();
        }
    }
    assert!(world.settle(world.now + 60_000));
    assert_eq!(world.calls.len(), 200, "each event once");
    assert_all_handled_in_order(&world, false);
}

#[test]
fn p5_what_an_earlier_worker_had_told_says_nothing_of_what_this_one_has() {
    let mut world = story(&[(2, 1)]);
    world.append("s5");
    assert!(world.settle(world.now + 60_000), "its worker ends, having had nothing to do for long");
    let (_, share) = world.processor().share_of(crate::hash::sequence(b"s5")).unwrap();
    let owner = share.claim.owner.unwrap();
    world.append("s0"); // of another segment
    world.until(|world| world.nodes[&owner].tell.is_some());

    // While that is in flight a new worker begins; its first event fails.
    ["s5", "s1", "s5"].into_iter().for_each(|sequence| world.append(sequence));
    while world.calls.last().is_none_or(|call| call.position != 2) {
        let step = world.enabled().into_iter().find(|step| *step != Step::Tell(owner));
        world.take(step.expect("it comes to the event"));
    }
    world.take(Step::Tell(owner));
    // The worker reports before the next progress is sent.
    let works = |step: &Step| matches!(step, Step::WorkerMail(..) | Step::Handle(..));
    while let Some(step) = world.enabled().into_iter().find(works) {
        world.take(step);
    }
    assert!(world.settle(world.now + 60_000));
    assert_all_handled_in_order(&world, false);
    assert_settled(&world);
}
