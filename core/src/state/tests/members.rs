//! Members that are asked to leave.

use uuid::Uuid;

use super::*;
use crate::{
    claim::Motion,
    command::{Assign, Move, RefusalReason},
    id::{SegmentId, Term},
    reason::Invalid,
    removal::REMOVALS_MAX,
    state::Goal,
};

fn leave(log: &mut Log, operation: u128, node: u64) -> Outcome {
    let (operation, change) = (Uuid::from_u128(operation), Change::Leave(NodeId(node)));
    log.apply(Command::Operate(Operate { operation, principal: None, reason: None, change }))
}

fn waits(log: &Log, operation: u128) -> bool {
    let known = log.state.operations.iter().find(|known| known.operation == Uuid::from_u128(operation)).unwrap();
    known.goal.as_ref().is_some_and(|goal| !log.state.reached(goal))
}

#[test]
fn an_active_leaving_member_is_assigned_no_work_and_ends_by_itself() {
    let mut log = Log::of(3);
    assert_eq!(leave(&mut log, 7, 2), Outcome::Changed(1));
    assert!(log.state.sessions[&NodeId(2)].draining && waits(&log, 7));
    assert_eq!(leave(&mut log, 8, 2), Outcome::Changed(0), "it was asked before");
    // A new session of it was asked too.
    log.begin(2);
    assert!(log.state.sessions[&NodeId(2)].draining);
    log.apply(Command::Remove(NodeId(2)));
    assert!(!waits(&log, 7) && !waits(&log, 8));
}

#[test]
fn a_leaving_member_that_dies_is_removed_and_a_dead_one_at_once() {
    let mut log = Log::of(3);
    leave(&mut log, 7, 2);
    let session = log.session(2).unwrap();
    log.apply(Command::Expire(NodeId(2), session));
    assert!(!log.state.members.contains_key(&NodeId(2)) && !waits(&log, 7));
    let session = log.session(3).unwrap();
    log.apply(Command::Expire(NodeId(3), session));
    assert_eq!(leave(&mut log, 8, 3), Outcome::Changed(1));
    assert!(!log.state.members.contains_key(&NodeId(3)) && !waits(&log, 8));
}

#[test]
fn the_last_member_cannot_leave() {
    let mut log = Log::of(2);
    leave(&mut log, 7, 1);
    assert!(matches!(leave(&mut log, 8, 2), Outcome::Refused(RefusalReason::Invalid(Invalid::LastMember(_)))));
    assert!(!log.state.members[&NodeId(2)].leaving);
    assert!(matches!(leave(&mut log, 9, 5), Outcome::Refused(RefusalReason::NotFound(_))));
}

#[test]
fn expected_members_and_leaders_are_remembered_by_name() {
    let mut log = Log::of(1);
    let mut operate = |operation, change| {
        log.apply(Command::Operate(Operate {
            operation: Uuid::from_u128(operation),
            principal: None,
            reason: None,
            change,
        }))
    };
    assert_eq!(operate(7, Change::Expect("h:2".into())), Outcome::Done);
    assert_eq!(operate(8, Change::Lead(NodeId(1), Term(4))), Outcome::Done);
    assert!(matches!(operate(9, Change::Lead(NodeId(2), Term(4))), Outcome::Refused(RefusalReason::NotFound(_))));
    assert!(waits(&log, 7));
    assert_eq!(log.state.operations[1].goal, Some(Goal::Leads(NodeId(1), Term(4))));
    let peer = String::from("h:2");
    log.apply(Command::Admit(Admit { peer, ..admit(2) }));
    assert!(!waits(&log, 7));
}

#[test]
fn a_data_directory_belongs_to_one_member() {
    let mut log = Log::of(2);
    let renamed = Admit { name: "other".into(), ..admit(2) };
    assert!(matches!(log.apply(Command::Admit(renamed)), Outcome::Refused(RefusalReason::Exists(_))));
    let Admit { incarnation, peer, http, level, .. } = admit(1);
    let (node, session, nonce) = (NodeId(2), log.session(2), Uuid::from_u128(5));
    let begin = Begin { node, incarnation, peer, http, level, capabilities: [].into(), weight: 1, nonce };
    assert!(matches!(log.apply(Command::Begin(begin.clone())), Outcome::Refused(RefusalReason::Exists(_))));
    assert_eq!(log.session(2), session);

    // Proposed again, because the answer was lost, it is the same session.
    let begin = Begin { incarnation: admit(2).incarnation, ..begin };
    let begun = log.apply(Command::Begin(begin.clone()));
    let before = log.state.changed;
    assert_eq!(log.apply(Command::Begin(begin)), begun);
    assert_eq!(log.state.changed, before);
}

fn motion(log: &Log) -> Motion {
    log.processor().segments[&SegmentId(0)].claim.motion
}

#[test]
fn the_last_member_cannot_be_removed() {
    let mut log = Log::of(1);
    assert!(matches!(log.apply(Command::Remove(NodeId(1))), Outcome::Refused(RefusalReason::Invalid(_))));
    assert!(log.state.members.contains_key(&NodeId(1)) && log.session(1).is_some());
}

#[test]
fn p10_only_the_latest_removals_are_remembered() {
    let mut log = Log::of(1);
    for node in 2..REMOVALS_MAX as u64 + 3 {
        log.apply(Command::Admit(admit(node)));
        log.apply(Command::Remove(NodeId(node)));
    }
    let removals = &log.state.removals;
    assert_eq!((removals.len(), removals.contains_key(&NodeId(2))), (REMOVALS_MAX, false));
    let (node, last) = removals.last_key_value().unwrap();
    assert_eq!((node.0, last.recorded), (REMOVALS_MAX as u64 + 2, log.state.recorded));
    assert_eq!(last.name, admit(node.0).name);
}

#[test]
fn a_claim_moving_to_a_node_that_dies_stays_with_its_owner() {
    let mut log = Log::of(2);
    log.create(OnError::SetAside);
    let processor = log.processor().id;
    // The plan changes: node 1 keeps it, then not.
    for (to, meant) in [(1, Motion::Stay), (2, Motion::To(NodeId(2))), (1, Motion::Stay), (2, Motion::To(NodeId(2)))] {
        let moves = vec![Move { processor, segment: SegmentId(0), to: NodeId(to) }];
        log.apply(Command::Assign(Assign { generation: log.state.generation, moves }));
        assert_eq!(motion(&log), meant);
    }
    let session = log.session(2).unwrap();
    log.apply(Command::Expire(NodeId(2), session));
    assert_eq!(motion(&log), Motion::Stay);
}
