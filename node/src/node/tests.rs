//! The requests of a handle, and how it treats replies.

use std::collections::VecDeque;

use evener_core::{
    append::{self, Appended, Expected},
    command::Selection,
    id::SegmentId,
    time::Timestamp,
};
use futures::future::BoxFuture;
use parking_lot::Mutex;

use super::*;
use crate::{
    engine::{Change, Consistency, Operation, OperationState, Page, Processor, Read, Segment, SetAside, What},
    event::Stored,
    prelude::{Criterion, Deserialize, NoStream, Revision, Serialize},
};

#[derive(Debug, PartialEq, Serialize, Deserialize, crate::Event)]
#[event(name = "account.credited.v1", key = account)]
struct Credited {
    account: String,
}

/// Returns prepared answers in order and records the requests.
#[derive(Default)]
struct Script {
    asked: Mutex<Vec<Request>>,
    answers: Mutex<VecDeque<Result<Reply, ApiError>>>,
}

impl Answers for Script {
    fn call(&self, request: Request) -> BoxFuture<'_, Result<Reply, ApiError>> {
        self.asked.lock().push(request);
        let answer = self.answers.lock().pop_front().expect("one answer for each request");
        Box::pin(std::future::ready(answer))
    }
}

fn node(answers: impl IntoIterator<Item = Result<Reply, ApiError>>) -> (Node, Arc<Script>) {
    let script = Arc::new(Script { answers: Mutex::new(answers.into_iter().collect()), ..Script::default() });
    (Node::over(script.clone(), "a", RETRY_TIME), script)
}

fn appended(first: u64) -> Result<Reply, ApiError> {
    Ok(Reply::Appended(Appended { first: Position(first), next: Position(first + 1), repeated: false }))
}

fn credited() -> [Credited; 1] {
    [Credited { account: "7".into() }]
}

fn appends(script: &Script) -> Vec<append::Request> {
    let asked = script.asked.lock();
    let append = |request: &Request| match request {
        Request::Append(append) => append.clone(),
        other => panic!("{other:?} is no append"),
    };
    asked.iter().map(append).collect()
}

fn page(positions: std::ops::Range<u64>, next: u64, to: u64) -> Page {
    let stored = |position| Stored {
        position: Position(position),
        revision: None,
        recorded: Timestamp(0),
        event: RawEvent::default(),
    };
    let (next, to) = (Position(next), Position(to));
    Page { events: positions.map(stored).collect(), next, marker: next, to, end: next == to }
}

fn positions(events: &[Stored]) -> Vec<u64> {
    events.iter().map(|stored| stored.position.0).collect()
}

#[tokio::test]
async fn an_append_request_has_all_options_of_its_builder() {
    let (node, script) = node([appended(4)]);
    let criteria = Criteria(vec![Criterion { types: vec!["x".into()], tags: vec![] }]);
    let answer = node
        .append("account-7", credited())
        .expecting(NoStream)
        .expecting_stream("other", Revision(3))
        .unless(criteria.clone(), Position(9))
        .tagged(["tenant=blue"])
        .await;
    assert_eq!(answer.unwrap().first, Position(4));
    let [request] = &appends(&script)[..] else { panic!("one append") };
    let [event] = &request.events[..] else { panic!("one event") };
    assert_eq!(event.kind, "account.credited.v1");
    assert_eq!((event.stream.as_deref(), event.key.as_deref()), (Some("account-7"), Some("7")));
    assert_eq!((event.source.as_str(), event.tags.as_slice()), ("/evener/a", ["tenant=blue".to_owned()].as_slice()));
    let expected: Vec<_> = request.expect.iter().map(|expect| (expect.stream.as_str(), expect.at)).collect();
    assert_eq!(expected, [("account-7", Expected::NoStream), ("other", Expected::At(Revision(3)))]);
    assert_eq!(request.conditions, [append::Condition { criteria, marker: Position(9) }]);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_outcome_is_repeated_with_the_same_ids() {
    let unknown = || Err(ApiError::new(&codes::OUTCOME_UNKNOWN, "the leader died"));
    let (node, script) = node([unknown(), unknown(), appended(0)]);
    node.append("account-7", credited()).await.unwrap();
    let asked = appends(&script);
    assert_eq!(asked.len(), 3);
    assert!(asked.iter().all(|request| *request == asked[0] && !request.events[0].id.is_nil()));
}

#[tokio::test(start_paused = true)]
async fn retries_end_after_the_retry_time_and_final_errors_are_not_retried() {
    let (leaderless, script) = node((0..1_000).map(|_| Err(ApiError::new(&codes::NO_LEADER, "no leader"))));
    assert!(leaderless.append("account-7", credited()).await.unwrap_err().is(&codes::NO_LEADER));
    assert!(script.asked.lock().len() > 10);
    let (node, script) = node([Err(ApiError::new(&codes::REVISION, "elsewhere"))]);
    assert!(node.append("account-7", credited()).await.unwrap_err().is(&codes::REVISION));
    assert_eq!(script.asked.lock().len(), 1);
}

#[tokio::test]
async fn appends_of_the_same_name_have_the_same_ids() {
    let (node, script) = node([appended(0), appended(0), appended(1)]);
    for name in ["invoice-12", "invoice-12", "invoice-13"] {
        node.append("account-7", credited()).named(name).await.unwrap();
    }
    let asked = appends(&script);
    assert_eq!(asked[0], asked[1]);
    assert_ne!(asked[0].events[0].id, asked[2].events[0].id);
}

#[tokio::test]
async fn raw_events_have_no_stream_in_common() {
    let (node, script) = node([]);
    let error = node.append_raw([RawEvent::default()]).expecting(NoStream).await.unwrap_err();
    assert!(error.is(&codes::INVALID_APPEND) && script.asked.lock().is_empty());
}

#[tokio::test]
async fn a_read_is_one_view_over_all_its_pages() {
    let pages = [page(0..3, 3, 7), page(3..6, 6, 7), page(6..6, 7, 7)];
    let (node, script) = node(pages.map(|page| Ok(Reply::Page(page))));
    let all = node.read(Criteria::ANY).stream("s").limit(50).await.unwrap();
    assert_eq!((positions(&all.events), all.marker), (vec![0, 1, 2, 3, 4, 5], Position(7)));
    let asked = |from, to: Option<u64>, limit, consistency| {
        Request::Read(Read {
            from: Position(from),
            to: to.map(Position),
            limit: Some(limit),
            stream: Some("s".into()),
            continues: consistency == Consistency::Local,
            consistency,
            ..Read::default()
        })
    };
    let expected = [
        asked(0, None, 50, Consistency::Linearizable),
        asked(3, Some(7), 47, Consistency::Local),
        asked(6, Some(7), 44, Consistency::Local),
    ];
    assert_eq!(*script.asked.lock(), expected);
}

#[tokio::test(start_paused = true)]
async fn a_tail_continues_after_the_last_event_it_returned() {
    let failed = || Err(ApiError::new(&codes::FAILED_NODE, "stopped"));
    let (node, script) = node([
        Ok(Reply::Page(page(4..6, 6, 6))),
        Ok(Reply::Page(page(6..6, 6, 6))),
        failed(),
        Ok(Reply::Page(page(6..7, 7, 7))),
    ]);
    let mut tail = node.tail(Position(4));
    assert_eq!(tail.next().await.unwrap().position, Position(4));
    assert_eq!(tail.next().await.unwrap().position, Position(5));
    assert!(tail.next().await.is_err());
    assert_eq!(tail.next().await.unwrap().position, Position(6));
    let last = script.asked.lock().last().cloned();
    assert_eq!(last, Some(Request::Tail(Read { from: Position(6), continues: true, ..Read::default() })));
}

#[tokio::test(start_paused = true)]
async fn caught_up_waits_for_every_segment() {
    let seen = |tokens: [u64; 2]| {
        let segments = tokens.map(|token| Segment { token, ..Segment::default() }).to_vec();
        Ok(Reply::Processor(Box::new(Processor {
            name: "p".into(),
            version: 1,
            state: "running".into(),
            display_state: "running".into(),
            head: 9,
            segments,
            set_aside: SetAside::default(),
            definition: serde_json::Value::Null,
            skipped: 0,
            replay: None,
            room: crate::engine::Room::default(),
            segments_wanted: Vec::new(),
            history: Vec::new(),
        })))
    };
    let head = Ok(Reply::Page(page(7..8, 8, 8)));
    let (node, script) = node([head, seen([8, 2]), seen([9, 7]), seen([8, 8])]);
    node.caught_up("p").await.unwrap();
    assert_eq!(script.asked.lock().len(), 4);
}

#[tokio::test]
async fn a_change_has_an_operation_id_and_a_reason() {
    let done = |_| {
        let (state, why) = (OperationState::Done, None);
        Ok(Reply::Operation(Operation {
            operation: Default::default(),
            state,
            why,
            changed: Some(1),
            events: None,
            dry_run: false,
            note: Default::default(),
        }))
    };
    let (node, script) = node((0..2).map(done));
    node.processor("p").because("too hot").release(SegmentId(3)).await.unwrap();
    node.dead_letters("p").retry(operate::sequence("case-1")).await.unwrap();
    let asked = script.asked.lock();
    let changes: Vec<&Change> = asked
        .iter()
        .map(|request| match request {
            Request::Change(change) => change,
            other => panic!("{other:?} is no change"),
        })
        .collect();
    assert_eq!(changes[0].reason.as_deref(), Some("too hot"));
    assert_eq!(changes[0].what, What::Release("p".into(), SegmentId(3)));
    let sequence = Selection::Sequence(Default::default(), "case-1".into());
    assert_eq!(changes[1].what, What::Retry("p".into(), sequence));
    assert_ne!(changes[0].operation, changes[1].operation);
}
