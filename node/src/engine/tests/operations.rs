//! Operations: listed with their reasons, and repeated.

use super::*;
use crate::engine::operations::OPERATIONS_PAGE_MAX;

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
    let told: Vec<(&str, Option<&str>)> =
        all.iter().map(|known| (note(known).kind.as_str(), note(known).reason.as_deref())).collect();
    let expected = [("join", "more"), ("pause", "a slip"), ("claim", "near its data"), ("create", "first")];
    assert_eq!(told, expected.map(|(kind, reason)| (kind, Some(reason))));
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
