//! What the client writes, the server reads.

use evener_core::{
    append::{self, Condition, Expect, Expected},
    command::Selection,
    criteria::{Criteria, Criterion},
    id::{ComponentId, Position, Revision, SegmentId},
};
use uuid::Uuid;

use super::*;
use crate::{
    cloudevent,
    engine::{Consistency, OperationFilter, Read, TABLE, What},
    reset::{ResetAt, ResetRequest},
};

fn append() -> append::Request {
    let criteria = Criteria(vec![Criterion { types: vec!["t".into()], tags: vec!["a=b".into()] }]);
    let expect = |stream: &str, at| Expect { stream: stream.into(), at };
    append::Request {
        request: Uuid::from_u128(9),
        conditions: vec![Condition { criteria, marker: Position(4) }],
        expect: vec![
            expect("a", Expected::NoStream),
            expect("b", Expected::At(Revision(7))),
            expect("c", Expected::Any),
        ],
        events: vec![
            cloudevent::from_json(r#"{"id":"00000000-0000-0000-0000-000000000000","source":"s","type":"t"}"#).unwrap(),
        ],
        ..append::Request::default()
    }
}

fn samples() -> Vec<Request> {
    let name = || "a processor/ü".to_owned();
    let definition = crate::definition::Fields { name: "p".into(), exec: Some("cat".into()), ..Default::default() };
    let sequence = Selection::Sequence(ComponentId(2), "case 1".into());
    let read = Read { from: Position(3), limit: Some(4), consistency: Consistency::Local, ..Read::default() };
    let changes = [
        What::Create(Box::new(definition.definition().expect("it is complete"))),
        What::Delete(name()),
        What::Pause(name()),
        What::Resume(name()),
        What::Release(name(), SegmentId(3)),
        What::Claim(name(), SegmentId(3), Some("node-2".into())),
        What::Unpin(name(), SegmentId(3)),
        What::Split(name(), None),
        What::Split(name(), Some(SegmentId(3))),
        What::Merge(name(), Some(SegmentId(3))),
        What::Move(name(), SegmentId(3), "node-2".into()),
        What::SkipEvent(name(), SegmentId(3), Position(7)),
        What::Reset(name(), ResetRequest::to(ResetAt::Beginning)),
        What::Reset(name(), ResetRequest::to(ResetAt::ReplayEnd)),
        What::Reset(name(), ResetRequest::to(ResetAt::Position(7)).with_context(serde_json::json!({"why": [1]}))),
        What::Reset(name(), ResetRequest::to(ResetAt::Time("2026-01-31T08:00:00Z".into()))),
        What::Retry(name(), Selection::All),
        What::Skip(name(), sequence.clone()),
        What::Drop(name(), sequence),
        What::Join("127.0.0.1:4751".into()),
        What::Leave("node-2".into()),
        What::Transfer(None),
    ];
    let mut requests = vec![
        Request::Append(append()),
        Request::AppendMany(vec![append(), append()]),
        Request::Read(read.clone()),
        Request::Tail(read),
        Request::Processors,
        Request::Processor(name()),
        Request::DeadLetters(name()),
        Request::Status,
        Request::ClusterStatus,
        Request::Operations(OperationFilter::default()),
        Request::Operations(OperationFilter {
            processor: Some(name()),
            node: Some("node-2".into()),
            kind: Some("pause".into()),
            before: Some(Uuid::from_u128(3)),
            limit: Some(7),
        }),
        Request::Operation(Uuid::from_u128(3)),
    ];
    requests.extend(changes.into_iter().enumerate().map(|(n, what)| {
        Request::Change(Change { reason: Some("why".into()), dry_run: n % 2 == 0, ..Change::new(what) })
    }));
    requests
}

#[test]
fn every_request_arrives_as_it_was_sent() {
    for request in samples() {
        let (verb, call) = Call::of(&request);
        assert_eq!(call.parse(verb).unwrap(), request, "{verb:?}");
        assert!(call.target(verb).starts_with('/') && !call.target(verb).contains(['{', ' ', 'ü']));
    }
}

#[test]
fn every_verb_has_a_request_or_is_not_built_yet() {
    let sent: Vec<Verb> = samples().iter().map(|request| Call::of(request).0).collect();
    for row in TABLE.iter().filter(|row| row.verb != Verb::Read) {
        assert_ne!(sent.contains(&row.verb), row.is_not_yet(), "{:?}", row.verb);
        if row.is_not_yet() {
            let error = Call { path: vec!["p".into()], ..Call::default() }.parse(row.verb).unwrap_err();
            assert_eq!((error.code.as_ref(), error.status()), ("EV0900", 501));
        }
    }
}

#[test]
fn a_change_without_a_body_is_a_change_without_reason() {
    let call = Call { path: vec!["p".into()], query: "dry_run=true&reason=because".into(), body: vec![] };
    let Ok(Request::Change(change)) = call.parse(Verb::Delete) else { panic!("it is a change") };
    assert_eq!((change.what, change.dry_run), (What::Delete("p".into()), true));
    assert_eq!(change.reason.as_deref(), Some("because"));
}

#[test]
fn a_misspelt_field_is_refused() {
    let check = |verb, body: &str, part: &str| {
        let call = Call { path: vec!["p".into()], body: body.into(), ..Call::default() };
        let error = call.parse(verb).unwrap_err();
        assert!(error.message.contains(part), "{}", error.message);
    };
    check(Verb::Pause, r#"{"dryrun":true}"#, "unknown field `dryrun`");
    check(Verb::Release, "{}", "missing field `segment`");
    check(Verb::Retry, "{}", "either `sequence`, or `all`");
    check(Verb::Create, r#"{"name":"p","exce":"cat"}"#, "unknown field `exce`");
    check(Verb::Leave, "[]", "invalid type");
}
