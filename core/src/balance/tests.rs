//! The plan against a brute force that tries every placement, and at size.

use std::{vec, vec::Vec};

use proptest::{collection, prelude::*};

use super::*;
use crate::claim::{Bar, BarCause, Pin};

fn claim(owner: Option<u64>) -> Claim {
    Claim { owner: owner.map(NodeId), ..Claim::default() }
}

fn node(node: u64, weight: u32) -> Candidate {
    Candidate { node: NodeId(node), weight, draining: false }
}

fn claims_of(processor: u32, capable: &[u64], claims: Vec<Claim>) -> ProcessorClaims {
    ProcessorClaims {
        processor: ProcessorId(processor),
        capable: capable.iter().map(|n| NodeId(*n)).collect(),
        claims: claims.into_iter().enumerate().map(|(id, claim)| (SegmentId(id as u32), claim)).collect(),
    }
}

/// Applies a plan as the state does.
fn after(view: &BalanceView, moves: &[Move]) -> BalanceView {
    let mut view = view.clone();
    for wanted in moves {
        let processor = view.processors.iter_mut().find(|t| t.processor == wanted.processor).unwrap();
        let claim = processor.claims.get_mut(&wanted.segment).unwrap();
        match claim.owner {
            None => claim.owner = Some(wanted.to),
            Some(owner) if owner == wanted.to => claim.motion = Motion::Stay,
            Some(_) => claim.motion = Motion::To(wanted.to),
        }
    }
    view
}

/// Completes all moves, as the owners do.
fn arrived(view: &BalanceView) -> BalanceView {
    let mut view = view.clone();
    for claim in view.processors.iter_mut().flat_map(|processor| processor.claims.values_mut()) {
        (claim.owner, claim.motion) = (going(claim), Motion::Stay);
    }
    view
}

fn counts(view: &BalanceView, processor: &ProcessorClaims) -> BTreeMap<NodeId, i128> {
    let mut counts: BTreeMap<NodeId, i128> = eligible(view, processor).map(|c| (c.node, 0)).collect();
    for node in processor.claims.values().filter_map(going) {
        *counts.entry(node).or_default() += 1;
    }
    counts
}

fn eligible<'v>(view: &'v BalanceView, processor: &'v ProcessorClaims) -> impl Iterator<Item = &'v Candidate> {
    view.nodes.iter().filter(|c| !c.draining && c.weight > 0 && processor.capable.contains(&c.node))
}

/// Checks P7 literally, in exact fractions.
fn even(view: &BalanceView) -> bool {
    const COMMON: i128 = 2 * 2 * 2 * 3 * 3 * 5 * 7 * 11; // any sum of weights in these tests divides it
    let mut totals: BTreeMap<NodeId, i128> = BTreeMap::new();
    for processor in &view.processors {
        let weights: i128 = eligible(view, processor).map(|c| i128::from(c.weight)).sum();
        let counts = counts(view, processor);
        if counts.keys().any(|node| eligible(view, processor).all(|c| c.node != *node)) {
            return false;
        }
        if weights > 0 && processor.claims.values().any(|claim| going(claim).is_none()) {
            return false;
        }
        for c in eligible(view, processor) {
            assert_eq!(COMMON % weights, 0, "{weights}");
            let share = processor.claims.len() as i128 * i128::from(c.weight) * (COMMON / weights);
            let off = counts[&c.node] * COMMON - share;
            if off.abs() >= COMMON {
                return false;
            }
            *totals.entry(c.node).or_default() += off;
        }
    }
    totals.values().all(|off| off.abs() < COMMON)
}

/// Returns the fewest moves that make it even, by trying all placements.
fn fewest(view: &BalanceView) -> Option<usize> {
    let slots: Vec<(usize, SegmentId)> =
        view.processors.iter().enumerate().flat_map(|(at, t)| t.claims.keys().map(move |id| (at, *id))).collect();
    let mut tried = view.clone();
    let mut best = None;
    search(view, &mut tried, &slots, 0, &mut best);
    best
}

fn search(
    view: &BalanceView,
    tried: &mut BalanceView,
    slots: &[(usize, SegmentId)],
    moves: usize,
    best: &mut Option<usize>,
) {
    if best.is_some_and(|best| moves >= best) {
        return;
    }
    let Some(((at, id), rest)) = slots.split_first() else {
        if even(tried) {
            *best = Some(moves);
        }
        return;
    };
    let was = going(&view.processors[*at].claims[id]);
    let nodes: Vec<NodeId> = eligible(view, &view.processors[*at]).map(|c| c.node).collect();
    let choices: Vec<Option<NodeId>> = if nodes.is_empty() { vec![was] } else { nodes.into_iter().map(Some).collect() };
    for to in choices {
        let claim = tried.processors[*at].claims.get_mut(id).unwrap();
        (claim.owner, claim.motion) = (to, Motion::Stay);
        search(view, tried, rest, moves + usize::from(to != was), best);
    }
}

prop_compose! {
    fn any_claim(nodes: u64)(
        owner in prop::option::weighted(0.8, 1..=nodes),
        motion in prop_oneof![4 => Just(None), 1 => (1..=nodes).prop_map(Some)],
    ) -> Claim {
        let motion = motion.filter(|to| owner.is_some_and(|o| o != *to));
        let motion = motion.map_or(Motion::Stay, |n| Motion::To(NodeId(n)));
        Claim { motion, ..claim(owner) }
    }
}

fn any_view(nodes: u64, processors: usize, segments: usize) -> impl Strategy<Value = BalanceView> {
    let candidate = (1_u32..=3, prop::bool::weighted(0.15));
    let tables = collection::vec(
        (collection::vec(any_claim(nodes), 1..=segments), collection::vec(prop::bool::weighted(0.8), nodes as usize)),
        1..=processors,
    );
    (collection::vec(candidate, 0..=nodes as usize), tables).prop_map(|(candidates, tables)| {
        let nodes = candidates
            .iter()
            .zip(1..)
            .map(|((weight, draining), id)| Candidate { draining: *draining, ..node(id, *weight) });
        let capable = |can: Vec<bool>| -> Vec<u64> { can.iter().zip(1..).filter(|c| *c.0).map(|c| c.1).collect() };
        let tables = tables.into_iter().zip(0..).map(|((claims, can), id)| claims_of(id, &capable(can), claims));
        BalanceView { now: Timestamp(0), nodes: nodes.collect(), processors: tables.collect() }
    })
}

fn with_bars_and_pins(nodes: u64) -> impl Strategy<Value = BalanceView> {
    let marks = collection::vec((prop::option::weighted(0.2, 1..=nodes), collection::vec(1..=nodes, 0..=2)), 12);
    (any_view(nodes, 2, 6), marks).prop_map(|(mut view, marks)| {
        let claims = view.processors.iter_mut().flat_map(|processor| processor.claims.values_mut());
        for (claim, (pin, bars)) in claims.zip(marks) {
            claim.pin = pin.map(|node| Pin { node: NodeId(node), reason: None });
            claim.bars = bars
                .into_iter()
                .map(|n| Bar { node: NodeId(n), until: Timestamp(5), cause: BarCause::Released })
                .collect();
        }
        view
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn p7_a_plan_is_even_minimal_and_idempotent(view in any_view(3, 3, 3)) {
        let moves = plan(&view);
        let planned = after(&view, &moves);
        let fewest = fewest(&view);
        prop_assert_eq!(even(&planned), fewest.is_some(), "{:?}", &moves);
        if let Some(fewest) = fewest {
            prop_assert_eq!(moves.len(), fewest, "{:?}", &moves);
        }
        prop_assert_eq!(plan(&planned), vec![]);
        prop_assert_eq!(plan(&arrived(&planned)), vec![]);
    }

    #[test]
    fn bars_and_pins_are_kept_and_a_second_plan_moves_nothing(view in with_bars_and_pins(4)) {
        let planned = after(&view, &plan(&view));
        for processor in &view.processors {
            let after = &planned.processors.iter().find(|t| t.processor == processor.processor).unwrap().claims;
            for (id, before) in &processor.claims {
                let fits = |n: NodeId| eligible(&view, processor).any(|c| c.node == n) && !before.bars(n, view.now);
                let place = going(&after[id]);
                if let Some(pin) = before.pinned_to().filter(|pin| fits(*pin)) {
                    prop_assert_eq!(place, Some(pin), "a pin takes precedence");
                } else if eligible(&view, processor).any(|c| fits(c.node)) {
                    prop_assert!(place.is_some_and(fits), "{:?} is at {:?}", id, place);
                }
            }
        }
        prop_assert_eq!(plan(&planned), vec![]);
    }

    #[test]
    fn every_unowned_segment_has_a_reason(view in with_bars_and_pins(3)) {
        let arrived = arrived(&after(&view, &plan(&view)));
        for unowned in unowned_segments(&arrived) {
            let processor = arrived.processors.iter().find(|t| t.processor == unowned.processor).unwrap();
            let claim = &processor.claims[&unowned.segment];
            prop_assert!(claim.owner.is_none());
            let fits = |c: &&Candidate| !claim.bars(c.node, arrived.now);
            prop_assert_eq!(eligible(&arrived, processor).find(fits), None, "unowned although a node could have it");
            let is_unexpected = matches!(unowned.reason, UnownedReason::GivenTo(_) | UnownedReason::NoWeight);
            prop_assert!(!is_unexpected, "{:?}", unowned);
        }
    }
}

#[test]
fn remainders_are_distributed_so_that_totals_are_even_too() {
    let claims = || vec![claim(None); 16];
    let view = BalanceView {
        now: Timestamp(0),
        nodes: (1..=3).map(|n| node(n, 1)).collect(),
        processors: (0..3).map(|p| claims_of(p, &[1, 2, 3], claims())).collect(),
    };
    let planned = after(&view, &plan(&view));
    let mut totals: BTreeMap<NodeId, i128> = BTreeMap::new();
    for processor in &planned.processors {
        counts(&planned, processor).into_iter().for_each(|(node, count)| *totals.entry(node).or_default() += count);
    }
    assert!(totals.values().all(|total| *total == 16), "{totals:?}");
}

#[test]
fn a_fourth_node_takes_its_share_and_nothing_else_moves() {
    let claims = (0..16).map(|id| claim(Some(id % 3 + 1))).collect();
    let view = BalanceView {
        now: Timestamp(0),
        nodes: (1..=4).map(|n| node(n, 1)).collect(),
        processors: vec![claims_of(0, &[1, 2, 3, 4], claims)],
    };
    let moves = plan(&view);
    assert_eq!(moves.len(), 4);
    assert!(moves.iter().all(|m| m.to == NodeId(4)));
}

#[test]
fn a_released_segment_is_unowned_until_its_bar_ends() {
    let mut released = claim(Some(1));
    released.motion = Motion::Release;
    released.bars.push(Bar { node: NodeId(1), until: Timestamp(10), cause: BarCause::Released });
    let mut view = BalanceView {
        now: Timestamp(0),
        nodes: vec![node(1, 1)],
        processors: vec![claims_of(0, &[1], vec![released])],
    };
    assert_eq!(plan(&view), vec![]);
    view = arrived(&view);
    assert_eq!(unowned_segments(&view)[0].reason, UnownedReason::BarredUntil(Timestamp(10)));
    assert_eq!(view.next_bar_end(), Some(Timestamp(10)));
    view.now = Timestamp(10);
    assert_eq!(plan(&view), [Move { processor: ProcessorId(0), segment: SegmentId(0), to: NodeId(1) }]);
    assert_eq!(view.next_bar_end(), None);
}

#[test]
fn a_move_to_a_leaving_node_is_cancelled() {
    let mut moving = claim(Some(1));
    moving.motion = Motion::To(NodeId(2));
    let leaving = Candidate { draining: true, ..node(2, 1) };
    let view = BalanceView {
        now: Timestamp(0),
        nodes: vec![node(1, 1), leaving],
        processors: vec![claims_of(0, &[1, 2], vec![moving])],
    };
    assert_eq!(plan(&view), [Move { processor: ProcessorId(0), segment: SegmentId(0), to: NodeId(1) }]);
}

#[test]
fn each_unowned_segment_gets_the_reason_that_applies() {
    let reason_for = |nodes: Vec<Candidate>, capable: &[u64]| {
        let processors = vec![claims_of(0, capable, vec![claim(None)])];
        unowned_segments(&BalanceView { now: Timestamp(0), nodes, processors })[0].reason
    };
    let leaving = Candidate { draining: true, ..node(1, 1) };
    assert_eq!(reason_for(vec![], &[]), UnownedReason::NoCapableNode);
    assert_eq!(reason_for(vec![node(1, 1)], &[2]), UnownedReason::NoCapableNode);
    assert_eq!(reason_for(vec![leaving], &[1]), UnownedReason::AllLeaving);
    assert_eq!(reason_for(vec![node(1, 0)], &[1]), UnownedReason::NoWeight);
    assert_eq!(reason_for(vec![node(1, 1)], &[1]), UnownedReason::GivenTo(NodeId(1)));
}

#[test]
fn ten_thousand_segments_rebalance_when_a_node_joins() {
    let claims = (0..10_000).map(|id| claim(Some(id % 100 + 1))).collect();
    let all: Vec<u64> = (1..=101).collect();
    let nodes: Vec<Candidate> = all.iter().map(|n| node(*n, 1)).collect();
    let view = BalanceView { now: Timestamp(0), nodes, processors: vec![claims_of(0, &all, claims)] };
    let moves = plan(&view);
    assert_eq!(moves.len(), 99, "10,000 / 101, rounded up or down");
    assert_eq!(plan(&after(&view, &moves)), vec![]);
}

#[test]
fn a_thousand_processors_rebalance_when_a_node_joins() {
    let all: Vec<u64> = (1..=10).collect();
    let processors =
        (0..1_000).map(|p| claims_of(p, &all, (0..16).map(|s| claim(Some((u64::from(p) * 7 + s) % 9 + 1))).collect()));
    let nodes: Vec<Candidate> = all.iter().map(|n| node(*n, 1)).collect();
    let view = BalanceView { now: Timestamp(0), nodes, processors: processors.collect() };
    let moves = plan(&view);
    assert_eq!(moves.len(), 1_600, "exactly a tenth of all segments move");
    let planned = after(&view, &moves);
    let mut totals: BTreeMap<NodeId, i128> = BTreeMap::new();
    for processor in &planned.processors {
        counts(&planned, processor).into_iter().for_each(|(node, count)| *totals.entry(node).or_default() += count);
    }
    assert!(totals.values().all(|total| *total == 1_600), "{totals:?}");
    assert_eq!(plan(&planned), vec![]);
}
