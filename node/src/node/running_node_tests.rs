//! A node in memory with its own clock, as a program uses it.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU32, Ordering::SeqCst},
};

use evener_core::{id::SegmentId, processor::OnError};

use super::{Node, sequence};
use crate::{
    codes,
    engine::{Reply, Request},
    node::Any,
    prelude::*,
};

#[derive(Debug, Event, Serialize, Deserialize)]
#[event(key = account)]
enum Account {
    #[event(name = "account.opened.v1")]
    Opened { account: u32 },
    #[event(name = "account.credited.v1")]
    Credited { account: u32, cents: i64 },
}

use Account::{Credited, Opened};

type Seen = Arc<Mutex<Vec<(u64, u32)>>>;

async fn see(event: Account, Position(at): Position, State(seen): State<Seen>) {
    let (Opened { account } | Credited { account, .. }) = event;
    seen.lock().unwrap().push((at, account));
}

async fn started(processor: impl crate::handler::Ready) -> Node {
    Node::ephemeral().processor(processor).start().await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_is_appended_is_handled_in_order_and_can_be_waited_for() {
    let seen = Seen::default();
    let node = started(Processor::new("seen").on(see).with_state(seen.clone())).await;
    for round in 0..10 {
        let credit = |account| Credited { account, cents: round };
        let appended = node.append("accounts", (0..20).map(credit)).await.unwrap();
        assert_eq!((appended.first.0, appended.next.0), (round as u64 * 20, round as u64 * 20 + 20));
    }
    node.caught_up("seen").await.unwrap();
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 200);
    for account in 0..20 {
        let of: Vec<u64> = seen.iter().filter(|(_, of)| *of == account).map(|(at, _)| *at).collect();
        assert_eq!(of, (0..10).map(|round| round * 20 + u64::from(account)).collect::<Vec<_>>());
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_stands_where_it_was_expected_or_nothing_is_stored() {
    let node = Node::ephemeral().start().await.unwrap();
    node.append("a", [Opened { account: 1 }]).expecting(NoStream).await.unwrap();
    let refused = node.append("a", [Opened { account: 1 }]).expecting(NoStream).await.unwrap_err();
    assert!(refused.is(&codes::REVISION), "{refused}");
    node.append("a", [Credited { account: 1, cents: 5 }]).expecting(Revision(0)).await.unwrap();
    node.append("a", [Credited { account: 1, cents: 6 }]).expecting(Any).await.unwrap();

    let credits = Criteria(vec![Criterion { types: vec!["account.credited.v1".into()], tags: vec![] }]);
    let seen = node.read(credits.clone()).await.unwrap();
    assert_eq!((seen.events.len(), seen.marker), (2, Position(3)));
    let credit = || node.append("a", [Credited { account: 1, cents: 7 }]).unless(credits.clone(), seen.marker);
    credit().await.unwrap();
    let refused = credit().await.unwrap_err();
    assert!(refused.is(&codes::CONDITION), "{refused}");
    let last = node.read(Criteria::ANY).stream("a").backwards().limit(1).await.unwrap();
    assert_eq!((last.events[0].position, last.events[0].revision), (Position(3), Some(Revision(3))));
}

#[tokio::test(start_paused = true)]
async fn a_named_append_is_stored_once() {
    let node = Node::ephemeral().start().await.unwrap();
    let append = || node.append("a", [Opened { account: 1 }]).named("open-1");
    let (first, again) = (append().await.unwrap(), append().await.unwrap());
    assert_eq!((first.first, first.repeated), (again.first, false));
    assert!(again.repeated);
}

#[tokio::test(start_paused = true)]
async fn a_tail_gives_what_comes() {
    let node = Node::ephemeral().start().await.unwrap();
    let mut tail = node.tail(Position(0));
    let follower = tokio::spawn(async move { (tail.next().await.unwrap(), tail.next().await.unwrap()) });
    node.append("a", [Opened { account: 1 }]).await.unwrap();
    node.append("b", [Opened { account: 2 }]).await.unwrap();
    let (one, two) = follower.await.unwrap();
    assert_eq!((one.event.stream.as_deref(), two.event.stream.as_deref()), (Some("a"), Some("b")));
}

#[tokio::test(start_paused = true)]
async fn a_poisoned_sequence_waits_and_the_others_go_on() {
    type Poison = Arc<(AtomicU32, Seen)>;
    async fn picky(event: Account, Position(at): Position, attempt: Attempt, State(poison): State<Poison>) -> Result {
        let (Opened { account } | Credited { account, .. }) = event;
        if account == 7 && attempt.0 <= poison.0.load(SeqCst) {
            return Err(Error::retry("account 7 is poisoned"));
        }
        poison.1.lock().unwrap().push((at, account));
        Ok(())
    }
    let poison = Poison::new((AtomicU32::new(u32::MAX), Seen::default()));
    let processor = Processor::new("picky").on(picky).with_state(poison.clone()).retry(1.secs(), 60.secs(), 2);
    let node = started(processor.on_error(OnError::SetAside)).await;
    node.append("s", [7, 8, 7, 9].map(|account| Opened { account })).await.unwrap();
    node.caught_up("picky").await.unwrap();
    let mut seen = poison.1.lock().unwrap().clone();
    seen.sort_unstable();
    assert_eq!(seen, [(1, 8), (3, 9)]);

    let letters = node.dead_letters("picky");
    let dead = loop {
        match &letters.list().await.unwrap()[..] {
            [one] if one.state == "dead" => break one.clone(),
            _ => tokio::time::sleep(100.millis()).await,
        }
    };
    assert_eq!((dead.sequence.as_str(), dead.cause.as_str()), ("7", "account 7 is poisoned"));
    let places: Vec<(u64, u32)> = dead.letters.iter().map(|letter| (letter.position, letter.attempts)).collect();
    assert_eq!(places, [(0, 2), (2, 0)]);

    poison.0.store(0, SeqCst);
    letters.because("mended").retry(sequence("7")).await.unwrap();
    while poison.1.lock().unwrap().len() < 4 {
        tokio::time::sleep(100.millis()).await;
    }
    assert_eq!(poison.1.lock().unwrap()[2..], [(0, 7), (2, 7)]);
}

#[tokio::test(start_paused = true)]
async fn what_is_skipped_handled_and_failed_is_counted() {
    async fn picky(event: Account) -> Result {
        match event {
            Opened { account: 7 } => Err(Error::retry("no")),
            Opened { account: 9 } => Err(Error::skip("not mine")),
            _ => Ok(()),
        }
    }
    let picky = Processor::new("picky").on(picky).retry(1.secs(), 1.secs(), 1).on_error(OnError::Skip);
    let node = started(picky.with_state(())).await;
    node.append("s", [7, 8, 7, 9].map(|account| Opened { account })).await.unwrap();
    node.caught_up("picky").await.unwrap();
    assert_eq!(node.processor("picky").status().await.unwrap().skipped, 3);
    let metrics = node.0.running.as_ref().unwrap().engine.metrics().text();
    for line in [
        r#"evener_events_handled_total{processor="picky"} 1"#,
        r#"evener_handler_failures_total{processor="picky",verdict="retry"} 2"#,
        r#"evener_handler_failures_total{processor="picky",verdict="skip"} 1"#,
    ] {
        assert!(metrics.lines().any(|told| told == line), "{line} in {metrics}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_flooded_segment_says_so_until_it_goes_on() {
    async fn fails(_: Account, State(down): State<Arc<AtomicU32>>) -> Result {
        if down.load(SeqCst) > 0 { Err(Error::retry("the database is down")) } else { Ok(()) }
    }
    let down = Arc::new(AtomicU32::new(1));
    let node = started(Processor::new("fails").on(fails).with_state(down.clone()).segments(1)).await;
    node.append("s", (0..40).map(|account| Opened { account })).await.unwrap();
    let processor = node.processor("fails");
    let flooded = loop {
        let status = processor.status().await.unwrap();
        match status.state.as_str() {
            "flooded" => break status.segments[0].clone(),
            _ => tokio::time::sleep(100.millis()).await,
        }
    };
    let reason = flooded.reason.unwrap();
    assert!(reason.contains("the last failure: the database is down"), "{reason}");
    assert!(flooded.retry_at.is_some());
    down.store(0, SeqCst);
    while processor.status().await.unwrap().state != "caught-up" {
        tokio::time::sleep(1.secs()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_paused_processor_waits() {
    let seen = Seen::default();
    let node = started(Processor::new("seen").on(see).with_state(seen.clone()).segments(2)).await;
    let processor = node.processor("seen");
    processor.pause().await.unwrap();
    node.append("a", [Opened { account: 1 }]).await.unwrap();
    let status = processor.status().await.unwrap();
    assert_eq!((status.state.as_str(), status.segments.len()), ("paused", 2));
    assert!(seen.lock().unwrap().is_empty());
    processor.resume().await.unwrap();
    node.caught_up("seen").await.unwrap();
    assert_eq!(seen.lock().unwrap().len(), 1);
    let unknown = node.processor("unknown").release(SegmentId(0)).await.unwrap_err();
    assert!(unknown.is(&codes::UNKNOWN_PROCESSOR), "{unknown}");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_ends_does_not_wait_for_what_only_waits() {
    async fn fails(_: Account) -> Result {
        Err(Error::after(60.secs(), "not now"))
    }
    let processor = Processor::new("stops").on(fails).on_error(OnError::Stop).segments(1);
    let node = started(processor.with_state(())).await;
    node.append("s", (0..40).map(|account| Opened { account })).await.unwrap();
    while node.processor("stops").status().await.unwrap().state != "stalled" {
        tokio::time::sleep(100.millis()).await;
    }
    let begun = tokio::time::Instant::now();
    node.stop().await;
    assert!(begun.elapsed() < 1.secs(), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_started_says_why() {
    let two =
        Node::ephemeral().processor(Processor::<()>::new("a").on(nothing)).processor(Processor::new("a").on(nothing));
    let why = |started: Result<Node, _>| started.map(|_| ()).unwrap_err();
    assert!(why(two.start().await).message.contains("two processors of this program are named \"a\""));
    let idle = Node::ephemeral().processor(Processor::<()>::new("idle"));
    assert!(why(idle.start().await).message.contains("the processor \"idle\" has no handler"));
    let heartless = Node::ephemeral().set(|settings| settings.heartbeat = 10.secs());
    assert!(why(heartless.start().await).is(&codes::BAD_SETTING));
}

async fn nothing(_: Account) {}

#[tokio::test(start_paused = true)]
async fn who_votes_alone_leads_however_long_it_has_heard_from_nobody() {
    let node = Node::ephemeral().start().await.unwrap();
    tokio::time::sleep(60.secs()).await;
    let Reply::Cluster(cluster) = node.ask(Request::ClusterStatus).await.unwrap() else { panic!("it is the cluster") };
    assert_eq!(cluster.leader.as_ref(), Some(&cluster.members[0].name));
}
