//! One owner per epoch, and nothing moves without its epoch (P4).

use std::{collections::BTreeMap, vec, vec::Vec};

use proptest::prelude::*;

use super::{Log, OnError};
use crate::{
    claim::Motion,
    command::{Advance, Assign, Change, Command, HandOver, Move, Outcome, Progress, RefusalReason, TokenMove},
    event::Event,
    id::{Epoch, LogIndex, NodeId, Position, SegmentId, SessionId},
};

fn events(log: &mut Log, n: u64) {
    for _ in 0..n {
        let id = uuid::Uuid::from_u128(u128::from(log.index) << 32);
        let event = Event { id, kind: "t".into(), ..Event::default() };
        let checked_to = log.state.head(crate::id::ContextId::DEFAULT);
        let append = crate::append::Append { checked_to, events: vec![event], ..Default::default() };
        assert!(matches!(log.apply(Command::Append(append)), Outcome::Appended(_)));
    }
}

fn assign(log: &mut Log, moves: &[(u32, u64)]) -> Outcome {
    let processor = log.processor().id;
    let moves = moves.iter().map(|(segment, to)| Move { processor, segment: SegmentId(*segment), to: NodeId(*to) });
    let assign = Assign { generation: log.state.generation, moves: moves.collect() };
    log.apply(Command::Assign(assign))
}

fn epoch(log: &Log, segment: u32) -> Epoch {
    log.processor().segments[&SegmentId(segment)].claim.epoch
}

fn token(log: &Log, segment: u32) -> Position {
    log.processor().segments[&SegmentId(segment)].token.low()
}

fn advance(log: &mut Log, node: u64, session: SessionId, as_of: u64, progress: Progress) -> Outcome {
    let items = vec![progress];
    log.apply(Command::Advance(Advance { node: NodeId(node), session, as_of: LogIndex(as_of), items }))
}

fn scanned(log: &Log, next: u64) -> Progress {
    let processor = log.processor().id;
    Progress { processor, scanned: Some(Position(next)), tokens: vec![], letters: vec![] }
}

fn moved(log: &Log, segment: u32, epoch: Epoch, next: u64) -> Progress {
    let moved = TokenMove { segment: SegmentId(segment), epoch, next: Position(next) };
    Progress { processor: log.processor().id, scanned: None, tokens: vec![moved], letters: vec![] }
}

#[test]
fn p4_scanned_applies_only_to_claims_that_its_sender_knew() {
    let mut log = Log::of(2);
    log.create(OnError::SetAside);
    events(&mut log, 10);
    assign(&mut log, &[(0, 1), (1, 1)]);
    let as_of = log.index;
    assign(&mut log, &[(2, 1)]);
    let session = log.session(1).unwrap();
    let progress = scanned(&log, 7);
    assert_eq!(advance(&mut log, 1, session, as_of, progress), Outcome::Advanced(vec![]));
    let tokens: Vec<_> = (0..4).map(|segment| token(&log, segment).0).collect();
    assert_eq!(tokens, [7, 7, 0, 0], "segment 2 was assigned later, segment 3 never");
}

#[test]
fn p4_an_old_epoch_moves_nothing() {
    let mut log = Log::of(2);
    log.create(OnError::SetAside);
    events(&mut log, 10);
    assign(&mut log, &[(0, 1)]);
    let (old, session) = (epoch(&log, 0), log.session(1).unwrap());
    log.apply(Command::Expire(NodeId(1), session));
    assign(&mut log, &[(0, 2)]);
    let progress = moved(&log, 0, old, 9);
    let as_of = log.index;
    assert_eq!(advance(&mut log, 1, session, as_of, progress), Outcome::Refused(RefusalReason::Fenced));
    let (again, progress) = (log.begin(1), moved(&log, 0, old, 9));
    let stale = advance(&mut log, 1, again, as_of, progress);
    assert!(matches!(stale, Outcome::Advanced(stale) if stale[0].reason == RefusalReason::Fenced));
    assert_eq!(token(&log, 0), Position(0));
}

#[test]
fn p4_an_owner_that_regains_its_claim_moves_nothing_under_the_old_epoch() {
    let mut log = Log::of(2);
    log.create(OnError::SetAside);
    events(&mut log, 10);
    assign(&mut log, &[(0, 1)]);
    let (old, session, as_of) = (epoch(&log, 0), log.session(1).unwrap(), log.index);
    for (from, to) in [(1, 2), (2, 1)] {
        let hand_over = HandOver {
            node: NodeId(from),
            session: log.session(from).unwrap(),
            processor: log.processor().id,
            segment: SegmentId(0),
            epoch: epoch(&log, 0),
            next: Position(0),
            to: Some(NodeId(to)),
            letters: vec![],
        };
        assert_eq!(log.apply(Command::HandOver(hand_over)), Outcome::Advanced(vec![]));
    }
    let progress = moved(&log, 0, old, 9);
    let stale = advance(&mut log, 1, session, as_of, progress);
    assert!(matches!(stale, Outcome::Advanced(stale) if stale[0].reason == RefusalReason::Fenced));
    assert_eq!(token(&log, 0), Position(0));
}

#[test]
fn a_token_never_passes_the_head() {
    let mut log = Log::of(1);
    log.create(OnError::SetAside);
    events(&mut log, 3);
    assign(&mut log, &[(0, 1)]);
    let (as_of, session, progress) = (log.index, log.session(1).unwrap(), scanned(&log, 99));
    advance(&mut log, 1, session, as_of, progress);
    assert_eq!(token(&log, 0), Position(3));
}

#[test]
fn a_hand_over_passes_token_and_claim_in_one_entry() {
    let mut log = Log::of(2);
    log.create(OnError::SetAside);
    events(&mut log, 10);
    assign(&mut log, &[(0, 1)]);
    assign(&mut log, &[(0, 2)]);
    let share = &log.processor().segments[&SegmentId(0)];
    assert_eq!((share.claim.owner, share.claim.motion), (Some(NodeId(1)), Motion::To(NodeId(2))));
    let hand_over = HandOver {
        node: NodeId(1),
        session: log.session(1).unwrap(),
        processor: log.processor().id,
        segment: SegmentId(0),
        epoch: share.claim.epoch,
        next: Position(6),
        to: Some(NodeId(2)),
        letters: vec![],
    };
    assert_eq!(log.apply(Command::HandOver(hand_over.clone())), Outcome::Advanced(vec![]));
    let share = &log.processor().segments[&SegmentId(0)];
    assert_eq!((share.claim.owner, share.token.low()), (Some(NodeId(2)), Position(6)));
    assert_eq!(log.apply(Command::HandOver(hand_over)), Outcome::Refused(RefusalReason::Fenced));
}

#[test]
fn a_plan_of_an_older_generation_is_refused() {
    let mut log = Log::of(2);
    log.create(OnError::SetAside);
    let old = log.state.generation;
    assign(&mut log, &[(0, 1)]);
    let moves = vec![];
    assert_eq!(
        log.apply(Command::Assign(Assign { generation: old, moves })),
        Outcome::Refused(RefusalReason::Outdated)
    );
}

/// A random step.
#[derive(Clone, Debug)]
enum Step {
    Events(u64),
    Assign(u32, u64),
    Advance { node: u64, stale_session: bool, as_of: u64, scanned: u64 },
    Token { node: u64, segment: u32, epoch: u64, next: u64 },
    HandOver { node: u64, segment: u32, epoch: u64, next: u64, to: u64 },
    Expire(u64),
    Begin(u64),
    Drain(u64),
    Release(u32),
}

fn step() -> impl Strategy<Value = Step> {
    let (node, segment) = (1..4_u64, 0..4_u32);
    prop_oneof![
        (1..5_u64).prop_map(Step::Events),
        (segment.clone(), node.clone()).prop_map(|(segment, node)| Step::Assign(segment, node)),
        (node.clone(), prop::bool::weighted(0.1), 0..10_u64, 0..40_u64)
            .prop_map(|(node, stale_session, as_of, scanned)| Step::Advance { node, stale_session, as_of, scanned }),
        (node.clone(), segment.clone(), 0..3_u64, 0..40_u64).prop_map(|(node, segment, epoch, next)| Step::Token {
            node,
            segment,
            epoch,
            next
        }),
        (node.clone(), segment.clone(), 0..3_u64, 0..40_u64, node.clone())
            .prop_map(|(node, segment, epoch, next, to)| Step::HandOver { node, segment, epoch, next, to }),
        node.clone().prop_map(Step::Expire),
        node.clone().prop_map(Step::Begin),
        node.prop_map(Step::Drain),
        segment.prop_map(Step::Release),
    ]
}

proptest! {
    /// Whatever happens: there is one owner per epoch, epochs and tokens only grow, owners are active, and no former
    /// owner moves a token.
    #[test]
    fn p4_one_owner_per_epoch_and_tokens_only_grow(steps in prop::collection::vec(step(), 1..120)) {
        let mut log = Log::of(3);
        log.create(OnError::SetAside);
        let mut owners = BTreeMap::<(u32, Epoch), Option<NodeId>>::new();
        for step in steps {
            let before = log.processor().segments.clone();
            let mut mover = None;
            match step {
                Step::Events(n) => events(&mut log, n),
                Step::Assign(segment, node) => { assign(&mut log, &[(segment, node)]); }
                Step::Advance { node, stale_session, as_of, scanned: to } => {
                    let live = log.session(node).unwrap_or_default();
                    let session = if stale_session { SessionId(live.0.saturating_sub(1)) } else { live };
                    let (as_of, progress) = (log.index.saturating_sub(as_of), scanned(&log, to));
                    mover = Some(node);
                    advance(&mut log, node, session, as_of, progress);
                }
                Step::Token { node, segment, epoch: back, next } => {
                    let epoch = Epoch(epoch(&log, segment).0.saturating_sub(back));
                    let (as_of, progress) = (log.index, moved(&log, segment, epoch, next));
                    let session = log.session(node).unwrap_or_default();
                    mover = Some(node);
                    advance(&mut log, node, session, as_of, progress);
                }
                Step::HandOver { node, segment, epoch: back, next, to } => {
                    let epoch = Epoch(epoch(&log, segment).0.saturating_sub(back));
                    let (session, processor) = (log.session(node).unwrap_or_default(), log.processor().id);
                    mover = Some(node);
                    log.apply(Command::HandOver(HandOver {
                        node: NodeId(node), session, processor, segment: SegmentId(segment), epoch,
                        next: Position(next), to: Some(NodeId(to)), letters: vec![],
                    }));
                }
                Step::Expire(node) => {
                    let session = log.session(node).unwrap_or_default();
                    log.apply(Command::Expire(NodeId(node), session));
                }
                Step::Begin(node) => { log.begin(node); }
                Step::Drain(node) => {
                    let session = log.session(node).unwrap_or_default();
                    log.apply(Command::Drain(NodeId(node), session));
                }
                Step::Release(segment) => { log.change(Change::Release("p".into(), SegmentId(segment))); }
            }
            for (id, share) in &log.processor().segments {
                let was = &before[id];
                prop_assert!(share.token.low() >= was.token.low());
                prop_assert!(share.claim.epoch >= was.claim.epoch);
                if share.token != was.token {
                    prop_assert_eq!(was.claim.owner, mover.map(NodeId), "a token moved without its owner");
                }
                if share.claim.owner != was.claim.owner {
                    prop_assert!(share.claim.epoch > was.claim.epoch);
                }
                let known = owners.entry((id.0, share.claim.epoch)).or_insert(share.claim.owner);
                prop_assert_eq!(*known, share.claim.owner);
                if let Some(owner) = share.claim.owner {
                    prop_assert!(log.state.sessions.contains_key(&owner), "an owner has a session");
                }
            }
        }
    }
}

#[test]
fn all_claims_of_a_lost_node_end_in_one_entry() {
    let mut log = Log::of(3);
    log.create(OnError::SetAside);
    assign(&mut log, &[(0, 1), (1, 1), (2, 2), (3, 3)]);
    let before = log.index;
    let session = log.session(1).unwrap();
    log.apply(Command::Expire(NodeId(1), session));
    assert_eq!(log.index, before + 1);
    let owners: Vec<_> = log.processor().segments.values().map(|share| share.claim.owner).collect();
    assert_eq!(owners, [None, None, Some(NodeId(2)), Some(NodeId(3))]);
}

#[test]
fn the_expiry_of_an_earlier_session_is_refused() {
    let mut log = Log::of(1);
    let old = log.session(1).unwrap();
    let new = log.begin(1);
    assert_eq!(log.apply(Command::Expire(NodeId(1), old)), Outcome::Refused(RefusalReason::Fenced));
    assert_eq!(log.session(1), Some(new));
}

#[test]
fn an_operators_claim_pins_the_segment_until_it_is_unpinned_or_released() {
    let mut log = Log::of(2);
    log.create(OnError::SetAside);
    assign(&mut log, &[(0, 1), (1, 1), (2, 2), (3, 2)]);
    let claim = || Change::Claim("p".into(), SegmentId(0), NodeId(2));
    let moves = |log: &Log| crate::balance::plan(&log.state.balance_view(log.state.recorded));
    assert_eq!(log.change(claim()), Outcome::Changed(1));
    let pinned = |log: &Log| log.processor().segments[&SegmentId(0)].claim.pinned_to();
    assert_eq!(pinned(&log), Some(NodeId(2)));
    let plan = moves(&log);
    assert!(plan.len() == 1 && plan[0].segment != SegmentId(0), "another segment moves back: {plan:?}");
    assert_eq!(log.change(claim()), Outcome::Changed(0), "the claim is already pinned there");
    let unpin = || Change::Unpin("p".into(), SegmentId(0));
    assert_eq!((log.change(unpin()), log.change(unpin())), (Outcome::Changed(1), Outcome::Changed(0)));
    assert_eq!(moves(&log).len(), 1, "now it may go back, or another one");
    log.change(claim());
    assert_eq!(log.change(Change::Release("p".into(), SegmentId(0))), Outcome::Changed(1));
    assert_eq!(pinned(&log), None, "the release ended the pin");
}
