//! The engine over a real node: alone, on a disk in memory.

mod operations;

use std::sync::Arc;

use evener_cluster::{
    Cluster as Members, Config,
    transport::{SystemClock, TcpTransport},
};
use evener_core::{
    append::{Condition, Expect, Expected},
    command::{
        Advance, Assign, Change as To, Command, LetterMove, Move, Operate, Outcome, Progress, Selection, TokenMove,
    },
    criteria::{Criteria, Criterion},
    event::{DataKind, Event},
    hash,
    id::{ComponentId, Epoch, Position, Revision, SegmentId},
    letter::{Failure, SequenceKey},
    principal::Principal,
};
use evener_store::disk::MemoryDisk;
use tokio::runtime::Handle;
use uuid::Uuid;

use super::*;
use crate::{
    definition::Fields,
    metrics::Metrics,
    status::{Standstill, StatusBoard},
};

pub(super) async fn alone() -> Engine {
    alone_with(Limits::DEFAULT).await
}

async fn alone_with(limits: Limits) -> Engine {
    let config = Config { limits, bootstrap: true, ..Config::new("n1", "127.0.0.1:0") };
    running(started(config, 1).await, true).await
}

/// Two nodes of one cluster, of which the first is connected to the second.
pub(super) async fn joined() -> (Engine, Engine) {
    let first = alone().await;
    let join = vec![first.cluster().peer_addr().to_owned()];
    let second = running(started(Config { join, ..Config::new("n2", "127.0.0.1:0") }, 2).await, true).await;
    while first.cluster().member_status(second.cluster().me(), local::ANSWER_WAIT).await.is_err() {
        tokio::task::yield_now().await;
    }
    (first, second)
}

async fn started(mut config: Config, seed: u64) -> Members {
    (config.seed, config.random_id) = (seed, Uuid::from_u128(seed.into()));
    let disk = Arc::new(MemoryDisk::new());
    let cluster = Members::start(config, disk, Arc::new(TcpTransport), Arc::new(SystemClock));
    cluster.await.expect("the node starts")
}

async fn running(cluster: Members, allows_exec: bool) -> Engine {
    let session = cluster.session().wait_for(Option::is_some).await.map(|_| ());
    session.expect("its session begins");
    let engine = Engine::new(cluster, StatusBoard::default(), Metrics::default(), allows_exec);
    engine.answer_members(Handle::current());
    engine
}

#[tokio::test]
async fn a_node_that_allows_no_programs_creates_no_processor_that_runs_one() {
    let engine = alone().await;
    let strict = running(engine.cluster().clone(), false).await;
    let what = create(r#"{"name":"p","exec":"true"}"#);
    let error = change(&strict, what.clone()).await.unwrap_err();
    assert_eq!((error.code.as_ref(), error.class), ("EV0703", crate::error::Class::Refused));
    assert!(error.hint.contains("--allow-exec"), "{}", error.hint);
    assert!(engine.cluster().state().processor("p").is_none());
    change(&engine, what).await.unwrap();
}

#[tokio::test]
async fn a_new_processor_has_a_name_that_all_surfaces_can_say_and_a_command_that_can_be_run() {
    let engine = alone().await;
    let refused = async |json: &str, part: &str| {
        let error = change(&engine, create(json)).await.unwrap_err();
        assert!(error.code == "EV0303" && error.message.contains(part), "{json}: {error}");
    };
    refused(r#"{"name":"..","exec":"true"}"#, "`.` or `..`").await;
    refused(r#"{"name":".","exec":"true"}"#, "`.` or `..`").await;
    refused(r#"{"name":"a b","exec":"true"}"#, "the character ' '").await;
    refused(r#"{"name":"a/b","exec":"true"}"#, "the character '/'").await;
    refused(r#"{"name":"","exec":"true"}"#, "is empty").await;
    refused(r#"{"name":"p","exec":"echo \u0000"}"#, "a NUL character").await;
    assert!(engine.cluster().state().processors.is_empty());
    // A definition under the rules of an earlier day stays.
    let What::Create(mut old) = create(r#"{"name":"p","exec":"true"}"#) else { unreachable!("it is made just now") };
    old.name = "my processor".into();
    let change_of_old = To::Create(old.clone());
    let operate = Operate { operation: Uuid::new_v4(), principal: None, reason: None, change: change_of_old };
    engine.cluster().propose(Command::Operate(operate)).await.unwrap();
    change(&engine, What::Create(old)).await.unwrap();
}

#[tokio::test]
async fn who_asked_is_kept_with_the_operation() {
    let engine = alone().await;
    for (name, principal) in [("p", None), ("q", Some(Principal("ada".into())))] {
        let asked = Change::new(create(&format!(r#"{{"name":"{name}","exec":"true"}}"#)));
        engine.call(Request::Change(asked.clone()).asked_by(principal.clone())).await.unwrap();
        let state = engine.cluster().state();
        let known = state.operations.iter().find(|known| known.operation == asked.operation).unwrap();
        assert_eq!(known.principal, principal);
    }
}

fn event(id: u32, stream: &str, kind: &str) -> Event {
    Event {
        id: Uuid::from_u128(u128::from(id) + 1),
        source: "/test".into(),
        kind: kind.into(),
        stream: Some(stream.into()),
        tags: vec![format!("n={id}")],
        data_kind: DataKind::Json,
        data: format!("{{\"n\":{id}}}").into_bytes(),
        ..Event::default()
    }
}

fn append(events: Vec<Event>) -> evener_core::append::Request {
    let request = crate::cloudevent::request_id(&events);
    evener_core::append::Request { request, events, ..Default::default() }
}

async fn fill(engine: &Engine, ids: std::ops::Range<u32>) {
    let events = ids.map(|id| event(id, &format!("case-{}", id % 5), if id % 2 == 0 { "even" } else { "odd" }));
    let answer = engine.call(Request::Append(append(events.collect()))).await;
    assert!(matches!(answer, Ok(Reply::Appended(_))), "{answer:?}");
}

async fn page(engine: &Engine, read: Read) -> Page {
    match engine.call(Request::Read(read)).await {
        Ok(Reply::Page(page)) => page,
        other => panic!("{other:?}"),
    }
}

async fn change(engine: &Engine, what: What) -> Result<Operation, ApiError> {
    match engine.call(Change::new(what).into()).await? {
        Reply::Operation(operation) => Ok(operation),
        other => panic!("{other:?}"),
    }
}

async fn processor(engine: &Engine, name: &str) -> Processor {
    match engine.call(Request::Processor(name.into())).await {
        Ok(Reply::Processor(processor)) => *processor,
        other => panic!("{other:?}"),
    }
}

fn create(json: &str) -> What {
    let fields: Fields = serde_json::from_str(json).expect("it is well-formed");
    What::Create(Box::new(fields.definition().expect("it is complete")))
}

/// What the actors would propose.
async fn propose(engine: &Engine, command: Command) -> Outcome {
    engine.cluster().propose(command).await.expect("a node alone decides alone")
}

/// Gives all segments to this node, as the balancer would.
async fn own_all(engine: &Engine) {
    let (generation, moves) = {
        let state = engine.cluster().state();
        let me = engine.cluster().me();
        let segments = state.processors.values().flat_map(|p| p.segments.keys().map(|segment| (p.id, *segment)));
        let moves = segments.map(|(processor, segment)| Move { processor, segment, to: me }).collect();
        (state.generation, moves)
    };
    let outcome = propose(engine, Command::Assign(Assign { generation, moves })).await;
    assert!(matches!(outcome, Outcome::Changed(_)), "{outcome:?}");
}

async fn progress(engine: &Engine, tokens: Vec<TokenMove>, letters: Vec<LetterMove>) {
    let advance = {
        let (state, cluster) = (engine.cluster().state(), engine.cluster());
        let processor = *state.processors.keys().next().expect("there is one processor");
        Advance {
            node: cluster.me(),
            session: (*cluster.session().borrow()).expect("it has a session"),
            as_of: cluster.applied().borrow().index,
            items: vec![Progress { processor, scanned: None, tokens, letters }],
        }
    };
    assert_eq!(propose(engine, Command::Advance(advance)).await, Outcome::Advanced(vec![]));
}

#[tokio::test]
async fn conditions_and_expectations_are_answered_with_what_stands_there() {
    let engine = alone().await;
    fill(&engine, 0..3).await;
    let refused = async |request| engine.call(Request::Append(request)).await.unwrap_err();
    let criteria = Criteria(vec![Criterion { types: vec!["odd".into()], tags: vec![] }]);
    let conditions = vec![Condition { criteria, marker: Position(1) }];
    let error = refused(evener_core::append::Request { conditions, ..append(vec![event(9, "s", "t")]) }).await;
    let conflict = error.conflict.clone().expect("it says what conflicts");
    assert_eq!((error.code.as_ref(), conflict.position, conflict.kind.as_deref()), ("EV0200", Some(1), Some("odd")));
    let expect = vec![Expect { stream: "case-0".into(), at: Expected::At(Revision(5)) }];
    let error = refused(evener_core::append::Request { expect, ..append(vec![event(9, "s", "t")]) }).await;
    assert_eq!((error.code.as_ref(), error.conflict.unwrap().revision), ("EV0201", Some(0)));
    let error = refused(append(vec![event(2, "case-2", "even"), event(9, "s", "t")])).await;
    assert_eq!((error.code.as_ref(), error.conflict.unwrap().stored[0].position), ("EV0202", 2));
    let error = refused(append(vec![event(2, "case-2", "other")])).await;
    assert_eq!((error.code.as_ref(), error.status()), ("EV0203", 409));
    let id = event(2, "case-2", "other").id;
    assert!(error.message.contains(&format!("{id} at position 2")), "as its sender wrote it: {}", error.message);
    assert_eq!(error.conflict.unwrap().other[0].id, id);
    let expect = vec![Expect { stream: "case-0".into(), at: Expected::At(Revision(0)) }];
    let error = refused(evener_core::append::Request { expect, ..append(vec![]) }).await;
    assert_eq!(error.code, "EV0205", "nothing would judge it");
    assert_eq!(page(&engine, Read::default()).await.events.len(), 3, "nothing of all that is stored");
    let named = |kind| Event {
        given_id: Some("order 7".into()),
        id: crate::cloudevent::derived_id("test", "order 7"),
        source: "test".into(),
        ..event(2, "case-2", kind)
    };
    engine.call(Request::Append(append(vec![named("one")]))).await.unwrap();
    let error = refused(append(vec![named("other")])).await;
    assert!(error.message.contains("\"order 7\" at position 3"), "as its sender wrote it: {}", error.message);
    let other = error.conflict.unwrap().other.remove(0);
    assert_eq!((other.given.as_deref(), other.source.as_deref()), (Some("order 7"), Some("test")));
}

#[tokio::test]
async fn a_read_goes_on_page_by_page_to_the_head_it_began_with() {
    let engine = alone().await;
    let count = u32::try_from(read::PAGE_EVENTS).unwrap() + 100;
    fill(&engine, 0..count).await;
    let first = page(&engine, Read::default()).await;
    assert_eq!((first.events.len() as u64, first.end), (read::PAGE_EVENTS, false));
    fill(&engine, count..count + 10).await;
    let rest = page(&engine, Read { from: first.next, to: Some(first.to), ..Read::default() }).await;
    assert_eq!((rest.events.len(), rest.end, rest.next), (100, true, Position(u64::from(count))));
    let last = page(&engine, Read { backwards: true, limit: Some(1), ..Read::default() }).await;
    assert_eq!((last.events[0].position.0, last.marker.0), (u64::from(count) + 9, u64::from(count) + 10));
    let nothing = page(&engine, Read { limit: Some(0), backwards: true, ..Read::default() }).await;
    assert_eq!((nothing.events.len(), nothing.marker.0), (0, u64::from(count) + 10));
    let stream = Read { stream: Some("case-3".into()), from: Position(5), limit: Some(2), ..Read::default() };
    let revisions: Vec<_> = page(&engine, stream).await.events.iter().map(|event| event.revision.unwrap().0).collect();
    assert_eq!(revisions, [1, 2]);
}

#[tokio::test]
async fn p10_what_passes_a_limit_is_told_its_name() {
    let engine = alone().await;
    let items = Criteria(vec![Criterion { types: vec!["t".into()], tags: vec![] }; 65]);
    let read = Read { criteria: items, ..Read::default() };
    for request in [Request::Read(read.clone()), Request::Tail(read)] {
        let error = engine.call(request).await.unwrap_err();
        assert_eq!((error.code.as_ref(), error.status()), ("EV0106", 413));
        assert_eq!(error.message, "conditions_max allows 64 items of criteria, and there are 65");
    }
    let tagged = Event { tags: vec!["t".repeat(257)], ..event(1, "s", "k") };
    let error = engine.call(Request::Append(append(vec![tagged]))).await.unwrap_err();
    assert_eq!(error.message, "tag_bytes_max allows 256 bytes of a tag of event 0, and there are 257");
    let reason = Some("r".repeat(1_025));
    let pause = Change { reason, ..Change::new(What::Pause("p".into())) };
    let error = engine.call(Request::Change(pause)).await.unwrap_err();
    assert!(error.code == "EV0303" && error.message.contains("reason_bytes_max allows 1024"), "{error}");
}

#[tokio::test]
async fn a_tail_waits_for_what_comes() {
    let engine = alone().await;
    fill(&engine, 0..2).await;
    let tail = Request::Tail(Read { from: Position(2), consistency: Consistency::Local, ..Read::default() });
    let (answer, ()) = tokio::join!(engine.call(tail), fill(&engine, 2..4));
    let Ok(Reply::Page(page)) = answer else { panic!("{answer:?}") };
    assert_eq!((page.events[0].position, page.end), (Position(2), false));
}

#[tokio::test]
async fn a_processor_is_created_shown_paused_and_deleted() {
    let engine = alone().await;
    let json = r#"{"name":"p","exec":"cat","segments":4,"types":["odd"]}"#;
    let trial = Change { dry_run: true, ..Change::new(create(json)) };
    let Ok(Reply::Operation(trial)) = engine.call(trial.into()).await else { panic!("it is tried") };
    assert_eq!((trial.state, trial.changed, trial.dry_run), (OperationState::Done, Some(1), true));
    assert_eq!(trial.why.as_deref(), Some("it would touch 1 processor; nothing was changed"));
    let error = engine.call(Request::Processor("p".into())).await.unwrap_err();
    assert_eq!((error.code.as_ref(), error.status()), ("EV0300", 404), "a trial changes nothing");

    let done = change(&engine, create(json)).await.unwrap();
    let remembered = engine.call(Request::Operation(done.operation)).await.unwrap();
    let Reply::Operation(remembered) = remembered else { panic!("it is remembered") };
    assert_eq!(remembered.note.as_ref().map(|note| note.kind.as_str()), Some("create"));
    assert_eq!(Operation { note: None, ..remembered }, done);
    let again = change(&engine, create(json)).await.unwrap();
    assert_eq!((again.changed, again.why.as_deref()), (Some(0), Some("it was so already")));
    let other = change(&engine, create(r#"{"name":"p","exec":"dog","segments":4}"#)).await.unwrap_err();
    assert_eq!(other.code, "EV0301");

    let shown = processor(&engine, "p").await;
    assert_eq!((shown.state.as_str(), shown.segments.len()), ("unowned", 4));
    assert_eq!(shown.segments[0].reason.as_deref(), Some("it waits for the next plan of the balancer"));
    assert_eq!(shown.definition["exec"], "cat");
    change(&engine, What::Pause("p".into())).await.unwrap();
    assert_eq!(processor(&engine, "p").await.state, "paused");
    change(&engine, What::Delete("p".into())).await.unwrap();
    let error = change(&engine, What::Pause("p".into())).await.unwrap_err();
    assert_eq!((error.code.as_ref(), error.operation.is_some()), ("EV0300", true));
}

#[tokio::test]
async fn lag_counts_what_is_to_be_handled_and_not_what_is_to_be_looked_at() {
    let engine = alone().await;
    fill(&engine, 0..10).await;
    change(&engine, create(r#"{"name":"p","exec":"cat","segments":2,"types":["odd"]}"#)).await.unwrap();
    own_all(&engine).await;
    let shown = processor(&engine, "p").await;
    assert_eq!(shown.segments.iter().map(|segment| segment.lag_events).sum::<u64>(), 5, "five of ten are odd");
    assert!(shown.segments.iter().all(|segment| segment.owner.as_deref() == Some("n1")));
    for segment in &shown.segments {
        let mine = (0..10_u32).filter(|id| {
            let hash = hash::sequence(format!("case-{}", id % 5).as_bytes());
            id % 2 == 1 && u64::from(segment.id) == hash & u64::from(segment.mask)
        });
        assert_eq!(segment.lag_events, mine.count() as u64);
        assert_eq!(segment.state, if segment.lag_events == 0 { "caught-up" } else { "running" });
    }
    // What is left, at 9, is odd.
    let tokens = |next| {
        let moved = |segment: &Segment| TokenMove {
            segment: SegmentId(segment.id),
            epoch: Epoch(segment.epoch),
            next: Position(next),
        };
        shown.segments.iter().map(moved).collect::<Vec<_>>()
    };
    progress(&engine, tokens(9), vec![]).await;
    let lags = |shown: Processor| shown.segments.iter().map(|segment| segment.lag_events).sum::<u64>();
    assert_eq!(lags(processor(&engine, "p").await), 1);
    progress(&engine, tokens(10), vec![]).await;
    fill(&engine, 10..11).await;
    let shown = processor(&engine, "p").await;
    assert_eq!((shown.state.as_str(), shown.head), ("caught-up", 11), "what does not match is no lag");
}

#[tokio::test]
async fn what_is_set_aside_is_listed_tried_again_and_dropped() {
    let engine = alone().await;
    fill(&engine, 0..10).await;
    change(&engine, create(r#"{"name":"p","exec":"cat","segments":1}"#)).await.unwrap();
    own_all(&engine).await;
    let (segment, epoch) = (SegmentId(0), Epoch(processor(&engine, "p").await.segments[0].epoch));
    let sequence = SequenceKey { component: ComponentId(0), name: "case-3".into() };
    let failure = Failure { attempt: 1, cause: "boom".into(), wait_ms: 60_000, random: 0, last: false };
    let letters = vec![
        LetterMove::SetAside {
            segment,
            epoch,
            sequence: sequence.clone(),
            position: Position(3),
            kind: "odd".into(),
            failure,
        },
        LetterMove::Queue { segment, epoch, sequence, position: Position(8), kind: "even".into() },
    ];
    progress(&engine, vec![TokenMove { segment, epoch, next: Position(10) }], letters).await;

    let shown = processor(&engine, "p").await;
    assert_eq!(shown.set_aside, SetAside { sequences: 1, letters: 2, dead: 0 });
    assert_eq!(shown.segments[0].attempt, Some(1));
    assert_eq!(shown.segments[0].reason.as_deref(), Some("the sequence 'case-3' is set aside: boom"));
    assert_eq!((shown.segments[0].set_aside, shown.segments[0].state.as_str()), (shown.set_aside, "caught-up"));
    let list = async || match engine.call(Request::DeadLetters("p".into())).await {
        Ok(Reply::DeadLetters(letters)) => letters,
        other => panic!("{other:?}"),
    };
    let letters = list().await;
    assert_eq!((letters[0].sequence.as_str(), letters[0].state.as_str()), ("case-3", "waiting"));
    let positions: Vec<u64> = letters[0].letters.iter().map(|letter| letter.position).collect();
    assert_eq!((positions, letters[0].cause.as_str()), (vec![3, 8], "boom"));

    let which = |name: &str| Selection::Sequence(ComponentId(0), name.to_owned());
    let error = change(&engine, What::Retry("p".into(), which("case-4"))).await.unwrap_err();
    assert_eq!((error.code.as_ref(), error.status()), ("EV0304", 404));
    let due = letters[0].retry_at.clone();
    assert_eq!(change(&engine, What::Retry("p".into(), which("case-3"))).await.unwrap().changed, Some(1));
    assert!(list().await[0].retry_at < due, "it is due at once");
    change(&engine, What::Skip("p".into(), which("case-3"))).await.unwrap();
    assert_eq!(list().await[0].letters[0].position, 8);
    assert_eq!(change(&engine, What::Drop("p".into(), Selection::All)).await.unwrap().changed, Some(1));
    assert_eq!((list().await.len(), processor(&engine, "p").await.skipped), (0, 2));
}

#[tokio::test]
async fn a_segment_that_stands_still_says_why_and_what_to_do() {
    let engine = alone().await;
    change(&engine, create(r#"{"name":"p","exec":"cat","segments":2,"on_error":"stop"}"#)).await.unwrap();
    own_all(&engine).await;
    let shown = processor(&engine, "p").await;
    let flood = |segment: u32, epoch| Standstill {
        processor: "p".into(),
        segment,
        epoch,
        state: "flooded".into(),
        reason: "so many fail".into(),
        retry_at: Some(evener_core::time::Timestamp(1_000)),
    };
    // The first is of an earlier claim.
    engine.board().set_standstills("p", vec![flood(0, 0), flood(1, shown.segments[1].epoch)]);
    let shown = processor(&engine, "p").await;
    assert_eq!((shown.state.as_str(), shown.segments[0].state.as_str()), ("flooded", "caught-up"));
    let segment = &shown.segments[1];
    assert_eq!((segment.state.as_str(), segment.retry_at.as_deref()), ("flooded", Some("1970-01-01T00:00:01Z")));
    let reason = segment.reason.as_deref().unwrap();
    assert!(reason.starts_with("so many fail") && reason.contains("evener dead-letter list p"), "{reason}");

    // What the log knows counts more.
    fill(&engine, 0..1).await;
    let (segment, epoch) = (SegmentId(1), Epoch(segment.epoch));
    let failure = Failure { attempt: 4, cause: "boom".into(), wait_ms: 60_000, random: 0, last: false };
    progress(
        &engine,
        vec![],
        vec![LetterMove::Stall { segment, epoch, position: Position(0), failure, unable: false }],
    )
    .await;
    let segment = &processor(&engine, "p").await.segments[1];
    assert_eq!((segment.state.as_str(), segment.attempt), ("stalled", Some(4)));
    let reason = segment.reason.as_deref().unwrap();
    assert!(
        reason.contains("the event at 0") && reason.contains("boom") && reason.contains("fix the cause"),
        "{reason}"
    );
}

#[tokio::test]
async fn a_release_waits_for_the_handler_and_says_so() {
    let engine = alone().await;
    change(&engine, create(r#"{"name":"p","exec":"cat","segments":2}"#)).await.unwrap();
    own_all(&engine).await;
    let asked = change(&engine, What::Release("p".into(), SegmentId(1))).await.unwrap();
    assert_eq!(asked.state, OperationState::Waiting);
    assert_eq!(asked.why.as_deref(), Some("n1 first finishes what it handles there"));
    let Ok(Reply::Operation(later)) = engine.call(Request::Operation(asked.operation)).await else { panic!("known") };
    assert_eq!((later.state, later.why), (OperationState::Waiting, asked.why));
    let shown = processor(&engine, "p").await;
    assert_eq!((shown.segments[1].state.as_str(), shown.segments[0].state.as_str()), ("moving", "caught-up"));
    let error = change(&engine, What::Release("p".into(), SegmentId(7))).await.unwrap_err();
    assert_eq!(error.code, "EV0302");
    let error = change(&engine, What::Claim("p".into(), SegmentId(0), Some("n11".into()))).await.unwrap_err();
    assert_eq!((error.code.as_ref(), error.hint.contains("did you mean n1?")), ("EV0403", true), "{}", error.hint);
}

#[tokio::test]
async fn members_are_shown_and_the_last_one_stays() {
    let engine = alone().await;
    let Ok(Reply::Cluster(cluster)) = engine.call(Request::ClusterStatus).await else { panic!("it is shown") };
    let me = &cluster.members[0];
    assert_eq!((me.name.as_str(), me.role.as_str(), me.alive), ("n1", "leader", true));
    assert_eq!((cluster.leader.as_deref(), cluster.unowned.len()), (Some("n1"), 0));
    let Ok(Reply::Status(status)) = engine.call(Request::Status).await else { panic!("it is shown") };
    assert_eq!((status.node.as_str(), status.role.as_str(), status.state_hash.hash.len()), ("n1", "leader", 16));
    let error = change(&engine, What::Leave("n1".into())).await.unwrap_err();
    assert!(error.code == "EV0303" && error.message.contains("n1 is the last member"), "{error}");
    assert!(engine.health().iter().all(|check| check.trouble.is_none()), "{:?}", engine.health());
    let asked = change(&engine, What::Join("10.0.0.1:4751".into())).await.unwrap();
    assert_eq!(asked.state, OperationState::Waiting);
    assert!(asked.why.unwrap().contains("evener serve --peer-listen 10.0.0.1:4751 --join "));
    let Ok(Reply::Operation(later)) = engine.call(Request::Operation(asked.operation)).await else { panic!("known") };
    assert_eq!(later.state, OperationState::Waiting);
    let asked = change(&engine, What::Transfer(Some("n1".into()))).await.unwrap();
    assert_eq!((asked.state, asked.why.as_deref()), (OperationState::Done, Some("n1 leads already")));
}

#[tokio::test]
async fn a_node_that_starts_says_so() {
    let cell = EngineCell::default();
    let error = Answers::call(&cell, Request::Status).await.unwrap_err();
    assert_eq!((error.code.as_ref(), error.may_repeat()), ("EV0405", true));
    assert_eq!((cell.health())()[0].trouble.as_deref(), Some("it is starting"));
    let limits = Limits { event_bytes_max: 4_321, ..Limits::DEFAULT };
    assert_eq!(cell.limits(), Limits::DEFAULT);
    cell.set(alone_with(limits).await);
    assert!(Answers::call(&cell, Request::Status).await.is_ok());
    assert_eq!(cell.limits().event_bytes_max, 4_321, "those of its cluster");
    assert!((cell.health())().iter().all(|check| check.trouble.is_none()));
}

#[tokio::test]
async fn many_appends_are_answered_each_in_its_place() {
    let engine = alone().await;
    let appends = vec![
        append(vec![event(1, "a", "t")]),
        append(vec![event(7, "a", "")]),
        append(vec![event(1, "a", "t")]),
        append(vec![event(2, "a", "t")]),
    ];
    let Ok(Reply::Many(answers)) = engine.call(Request::AppendMany(appends)).await else { panic!("it is answered") };
    assert_eq!(answers[0].as_ref().unwrap().first, answers[2].as_ref().unwrap().first);
    assert_eq!(answers[1].as_ref().unwrap_err().class, crate::error::Class::Invalid);
    assert!(answers[3].is_ok());
}
