//! Remembered operations.

use uuid::Uuid;

use super::*;
use crate::{
    canonical::samples,
    command::RefusalReason,
    id::SegmentId,
    principal::Principal,
    reason::Existing,
    state::{ChangeKind, Subject},
};

#[test]
fn an_operation_records_requester_change_subject_and_reason() {
    let mut log = Log::of(2);
    let principal = Some(Principal("ada".into()));
    let operate = |operation, change| {
        let (operation, reason) = (Uuid::from_u128(operation), Some("a test".into()));
        Command::Operate(Operate { operation, principal: principal.clone(), reason, change })
    };
    log.create(OnError::SetAside);
    let outcome = log.apply(operate(7, Change::Claim("p".into(), SegmentId(0), NodeId(2))));
    log.apply(operate(8, Change::Delete("p".into())));
    let [.., claim, delete] = log.state.operations.make_contiguous() else { panic!("there are three") };
    assert_eq!((claim.kind, delete.kind), (ChangeKind::Claim, ChangeKind::Delete));
    assert_eq!((&claim.principal, claim.reason.as_deref(), &claim.outcome), (&principal, Some("a test"), &outcome));
    let Subject { processor, segment, node, member, .. } = &claim.subject;
    assert_eq!((processor.as_deref(), segment, node), (Some("p"), &Some(SegmentId(0)), &Some(NodeId(2))));
    assert_eq!(member.as_deref(), Some("n2"));
    assert_eq!(delete.subject.processor.as_deref(), Some("p"), "also of a deleted processor");
    assert!(claim.index < delete.index);
}

#[test]
fn an_operation_id_that_made_another_change_is_refused() {
    let mut log = Log::of(1);
    log.create(OnError::SetAside);
    let operate =
        |change| Command::Operate(Operate { operation: Uuid::from_u128(7), principal: None, reason: None, change });
    let pause = operate(Change::Pause("p".into(), true));
    assert_eq!(log.apply(pause.clone()), Outcome::Changed(1));
    let recorded = log.state.recorded;
    for other in [
        Change::Pause("p".into(), false),
        Change::Pause("q".into(), true),
        Change::Delete("p".into()),
        Change::SetLimits(Limits::DEFAULT),
    ] {
        let outcome = log.apply(operate(other));
        let Outcome::Refused(RefusalReason::Exists(Existing::Operation { kind, subject, recorded: at, .. })) = outcome
        else {
            panic!("{outcome:?}");
        };
        assert_eq!((kind, subject.processor.as_deref(), at), (ChangeKind::Pause, Some("p"), recorded));
    }
    assert_eq!(log.apply(pause), Outcome::Changed(1), "the same change again is the first one");
    assert!(log.state.processor("p").unwrap().paused);
}

#[test]
fn a_dry_run_and_a_change_answer_a_repeated_id_alike() {
    for first in samples::changes() {
        let mut log = Log::of(2);
        log.create(OnError::SetAside);
        let operation = Uuid::from_u128(7);
        let operate = |change| Command::Operate(Operate { operation, principal: None, reason: None, change });
        assert_eq!(log.state.repeated(operation, &first), None, "the id is new");
        let outcome = log.apply(operate(first.clone()));
        assert_eq!(log.state.repeated(operation, &first), Some(outcome), "{first:?}");
        for again in samples::changes() {
            let tried = log.state.repeated(operation, &again);
            assert_eq!(tried, Some(log.apply(operate(again.clone()))), "{again:?} after {first:?}");
        }
    }
}
