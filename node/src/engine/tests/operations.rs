//! Operations: listed with their reasons, and repeated.

use evener_core::{
    command::{Admit, Begin},
    id::{FeatureLevel, Incarnation, NodeId},
    reason::Existing,
    state::{self, ChangeKind},
    time::Timestamp,
};

use super::*;
use crate::engine::operations::{OPERATIONS_PAGE_MAX, list};

async fn because(engine: &Engine, what: What, reason: &str) -> Uuid {
    let change = Change { reason: Some(reason.into()), ..Change::new(what) };
    let id = change.operation;
    let _ = engine.call(change.into()).await;
    id
}

async fn ask(engine: &Engine, filter: OperationFilter) -> Result<Vec<Operation>, ApiError> {
    match engine.call(Request::Operations(filter)).await? {
        Reply::Operations(operations) => Ok(operations),
        other => panic!("{other:?}"),
    }
}

fn note(operation: &Operation) -> &Note {
    operation.note.as_ref().expect("what is listed is remembered")
}

#[tokio::test]
async fn operations_are_listed_with_reasons_the_newest_first() {
    let engine = alone().await;
    let made = because(&engine, create(r#"{"name":"p","exec":"cat","segments":2}"#), "first").await;
    own_all(&engine).await;
    let claimed = because(&engine, What::Claim("p".into(), SegmentId(1), None), "near its data").await;
    let refused = because(&engine, What::Pause("q".into()), "a slip").await;
    because(&engine, What::Join("10.0.0.1:4751".into()), "more").await;

    let all = ask(&engine, OperationFilter::default()).await.unwrap();
    let reported: Vec<(&str, Option<&str>)> =
        all.iter().map(|known| (note(known).kind.as_str(), note(known).reason.as_deref())).collect();
    let expected = [("join", "more"), ("pause", "a slip"), ("claim", "near its data"), ("create", "first")];
    assert_eq!(reported, expected.map(|(kind, reason)| (kind, Some(reason))));
    assert_eq!((all[1].operation, all[1].state, note(&all[1]).code.as_deref()), {
        (refused, OperationState::Refused, Some("EV0300"))
    });
    assert_eq!(all[1].why.as_deref(), Some("there is no processor q"));
    let subject = Subject {
        processor: Some("p".into()),
        segment: Some(1),
        node: Some("n1".into()),
        node_id: Some(engine.cluster().me().0),
        ..Subject::default()
    };
    assert_eq!((&note(&all[2]).subject, note(&all[2]).principal.as_ref()), (&subject, None));
    assert!(note(&all[2]).index > note(&all[3]).index);

    let ids = async |filter| -> Vec<Uuid> {
        ask(&engine, filter).await.unwrap().iter().map(|known| known.operation).collect()
    };
    let filter = OperationFilter::default;
    assert_eq!(ids(OperationFilter { processor: Some("p".into()), ..filter() }).await, [claimed, made]);
    assert_eq!(ids(OperationFilter { node: Some("n1".into()), ..filter() }).await, [claimed]);
    assert_eq!(ids(OperationFilter { node: Some("10.0.0.1:4751".into()), ..filter() }).await.len(), 1);
    assert_eq!(ids(OperationFilter { kind: Some("create".into()), ..filter() }).await, [made]);
    assert_eq!(ids(OperationFilter { limit: Some(1), before: Some(refused), ..filter() }).await, [claimed]);
    assert!(ids(OperationFilter { before: Some(made), ..filter() }).await.is_empty());

    let history = processor(&engine, "p").await.history;
    assert_eq!(history, [all[2].clone(), all[3].clone()]);
    let Ok(Reply::Processors(listed)) = engine.call(Request::Processors).await else { panic!("they are listed") };
    assert!(listed[0].history.is_empty());
}

#[tokio::test]
async fn a_filter_that_makes_no_sense_is_told_what_would() {
    let engine = alone().await;
    let refused = async |filter| ask(&engine, filter).await.unwrap_err();
    let filter = OperationFilter::default;
    let error = refused(OperationFilter { kind: Some("puase".into()), ..filter() }).await;
    assert!(error.code == "EV0101" && error.hint.contains("did you mean pause?"), "{error:?}");
    for limit in [0, OPERATIONS_PAGE_MAX + 1] {
        let error = refused(OperationFilter { limit: Some(limit), ..filter() }).await;
        assert!(error.code == "EV0101" && error.message.contains("1 to 1000 operations (operations_page_max)"));
    }
    let error = refused(OperationFilter { before: Some(Uuid::from_u128(7)), ..filter() }).await;
    assert!(error.code == "EV0308" && error.hint.contains("operations_max"), "{error:?}");
}

#[tokio::test]
async fn only_the_latest_are_remembered() {
    let engine = alone_with(Limits { operations_max: 16, ..Limits::DEFAULT }).await;
    let first = because(&engine, What::Pause("q".into()), "a slip").await;
    for _ in 0..16 {
        because(&engine, What::Resume("q".into()), "another").await;
    }
    assert_eq!(ask(&engine, OperationFilter::default()).await.unwrap().len(), 16);
    let error = engine.call(Request::Operation(first)).await.unwrap_err();
    assert_eq!((error.code.as_ref(), error.status()), ("EV0308", 404));
}

/// Makes `n2` a member, and lets its process begin.
async fn admit(engine: &Engine, incarnation: u128) -> NodeId {
    let incarnation = Incarnation(Uuid::from_u128(incarnation));
    let (peer, http, level) = ("n2:4751".to_owned(), "http://n2:4750".to_owned(), FeatureLevel::CURRENT);
    let name = "n2".to_owned();
    propose(engine, Command::Admit(Admit { name, incarnation, peer: peer.clone(), http: http.clone(), level })).await;
    let node = engine.cluster().state().member("n2").expect("it was admitted").node;
    let (capabilities, nonce) = (Default::default(), Uuid::new_v4());
    let begin = Begin { node, incarnation, peer, http, level, capabilities, weight: 1, nonce };
    assert!(matches!(propose(engine, Command::Begin(begin)).await, Outcome::Begun(_)));
    node
}

async fn operate(engine: &Engine, operation: Uuid, change: To) -> Outcome {
    propose(engine, Command::Operate(Operate { operation, principal: None, reason: None, change })).await
}

#[tokio::test]
async fn a_claim_without_a_node_is_that_of_the_first_server_when_it_is_repeated() {
    let engine = alone().await;
    change(&engine, create(r#"{"name":"p","exec":"cat","segments":1}"#)).await.unwrap();
    own_all(&engine).await;
    let (node, operation) = (admit(&engine, 2).await, Uuid::new_v4());
    // As the engine of n2 makes it of a claim without a node.
    let first = operate(&engine, operation, To::Claim("p".into(), SegmentId(0), node)).await;
    assert_eq!(first, Outcome::Changed(1));
    let claim = |segment, name: Option<&str>| {
        let what = What::Claim("p".into(), SegmentId(segment), name.map(str::to_owned));
        Request::Change(Change { operation, ..Change::new(what) })
    };
    let (open, named) = tokio::join!(engine.call(claim(0, None)), engine.call(claim(0, Some("n2"))));
    for again in [open, named] {
        let Ok(Reply::Operation(again)) = again else { panic!("it is the same: {again:?}") };
        assert_eq!(again.state, OperationState::Waiting);
    }
    for other in [claim(0, Some("n1")), claim(1, None)] {
        assert_eq!(engine.call(other).await.unwrap_err().code, "EV0310", "it is another change");
    }
}

#[test]
fn a_choice_that_was_made_where_it_is_not_seen_yet_is_kept() {
    let subject = state::Subject { node: Some(NodeId(2)), ..Default::default() };
    let known = |kind| {
        let subject = subject.clone();
        let known = Existing::Operation { operation: Uuid::nil(), kind, subject, recorded: Timestamp(0) };
        Outcome::Refused(evener_core::command::RefusalReason::Exists(known))
    };
    let claim = |node: Option<&str>| What::Claim("p".into(), SegmentId(0), node.map(str::to_owned));
    let first = crate::engine::change::first_choice;
    assert_eq!(first(&claim(None), &known(ChangeKind::Claim)), Some(NodeId(2)));
    assert_eq!(first(&What::Transfer(None), &known(ChangeKind::Lead)), Some(NodeId(2)));
    assert_eq!(first(&claim(Some("n1")), &known(ChangeKind::Claim)), None);
    assert_eq!(first(&What::Transfer(None), &known(ChangeKind::Claim)), None);
    assert_eq!(first(&claim(None), &Outcome::Done), None);
}

#[tokio::test]
async fn a_leave_is_answered_the_same_after_the_member_is_gone() {
    let engine = alone().await;
    let first = admit(&engine, 2).await;
    let operation = Uuid::new_v4();
    let leave = |dry_run| Request::Change(Change { operation, dry_run, ..Change::new(What::Leave("n2".into())) });
    let Ok(Reply::Operation(asked)) = engine.call(leave(false)).await else { panic!("it is asked to leave") };
    assert_eq!(asked.state, OperationState::Waiting);
    propose(&engine, Command::Remove(first)).await;
    let again = async || match engine.call(leave(false)).await {
        Ok(Reply::Operation(again)) => (again.state, again.changed),
        other => panic!("{other:?}"),
    };
    assert_eq!(again().await, (OperationState::Done, Some(1)));
    let Ok(Reply::Operation(tried)) = engine.call(leave(true)).await else { panic!("it is answered as the first") };
    assert_eq!((tried.state, tried.changed, tried.dry_run), (OperationState::Done, Some(1), true));
    // The name may be given to another.
    let second = admit(&engine, 3).await;
    assert_eq!(again().await, (OperationState::Done, Some(1)));
    assert!(engine.cluster().state().members.contains_key(&second));
    assert_eq!(list(&engine, &OperationFilter::default()).unwrap().len(), 1);
}

#[tokio::test]
async fn a_dry_run_under_a_used_id_is_answered_as_the_change_would_be() {
    let engine = alone().await;
    let p = || "p".to_owned();
    let made = [
        create(r#"{"name":"p","exec":"cat","segments":2}"#),
        What::Pause(p()),
        What::Pause("q".into()),
        What::Claim(p(), SegmentId(0), None),
        What::Join("10.0.0.1:4751".into()),
        What::Drop(p(), Selection::All),
        What::Transfer(Some("n2".into())),
        What::Transfer(Some("n1".into())),
        What::Leave("n3".into()),
    ];
    for what in made {
        let operation = Uuid::new_v4();
        let reported = async |what: &What, dry_run| {
            let change = Change { operation, dry_run, ..Change::new(what.clone()) };
            match engine.call(change.into()).await {
                Ok(Reply::Operation(reported)) => {
                    Ok((reported.operation, reported.state, reported.why, reported.changed, reported.events))
                }
                Ok(other) => panic!("{other:?}"),
                Err(error) => Err((error.code, error.message)),
            }
        };
        let first = reported(&what, false).await;
        let used = engine.cluster().state().operations.iter().any(|known| known.operation == operation);
        assert_eq!(reported(&what, true).await, reported(&what, false).await, "{what:?}: {first:?}");
        let other = What::Resume("other".into());
        assert_eq!(reported(&other, true).await, reported(&other, false).await, "another change after {what:?}");
        if used {
            assert_eq!(reported(&other, true).await.unwrap_err().0, "EV0310", "after {what:?}");
        }
    }
    assert!(engine.cluster().state().processor("p").unwrap().paused, "nothing was done twice");
}

#[tokio::test]
async fn the_log_line_of_a_skipped_event_has_its_position() {
    let engine = alone().await;
    fill(&engine, 0..10).await;
    change(&engine, create(r#"{"name":"p","exec":"cat","segments":1}"#)).await.unwrap();
    own_all(&engine).await;
    let (segment, epoch) = (SegmentId(0), processor(&engine, "p").await.segments[0].epoch);
    let sequence = SequenceKey { component: ComponentId(0), name: "s".into() };
    let failure = Failure { attempt: 1, cause: "boom".into(), wait_ms: 1_000, random: 0, last: false };
    let (epoch, position, kind) = (Epoch(epoch), Position(3), "k".to_owned());
    let aside = LetterMove::SetAside { segment, epoch, sequence, position, kind, failure };
    progress(&engine, vec![TokenMove { segment, epoch, next: Position(10) }], vec![aside]).await;
    let state = engine.cluster().state();
    let passes_over = |what| crate::engine::change::passes_over(&state, &what);
    let of = |name: &str| Selection::Sequence(ComponentId(0), name.into());
    assert_eq!(passes_over(What::Skip("p".into(), of("s"))), Some(position));
    assert_eq!(passes_over(What::SkipEvent("p".into(), segment, Position(7))), Some(Position(7)));
    for what in [
        What::Skip("p".into(), of("t")),
        What::Skip("q".into(), of("s")),
        What::Skip("p".into(), Selection::All),
        What::Drop("p".into(), of("s")),
        What::Pause("p".into()),
    ] {
        assert_eq!(passes_over(what), None);
    }
}
