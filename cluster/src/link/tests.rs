use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use evener_core::id::{FeatureLevel, Incarnation};
use futures::future::join_all;
use parking_lot::Mutex;
use proptest::prelude::*;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    sync::{Semaphore, oneshot},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    handshake::{Identity, PeerIdentity, Purpose},
    message::{FRAME_BYTES_MAX, HEAD_BYTES, Kind},
    transport::{BoxFuture, BoxedStream},
};

const ECHO: Kind = Kind(100);
const WAIT: Kind = Kind(101);
const OVERSIZED: Kind = Kind(102);
const DOUBLE: Kind = Kind(110);
const UNREAD: Kind = Kind(111);
const SOON: Duration = Duration::from_secs(5);

/// Answers, waits for its gate, doubles a stream, or does not read a stream.
#[derive(Default)]
struct TestService {
    gate: Gate,
    seen: Mutex<Vec<Bytes>>,
    running: Arc<AtomicUsize>,
}

struct Gate(Arc<Semaphore>);

impl Default for Gate {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }
}

struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl TestService {
    fn counted(&self) -> Counted {
        self.running.fetch_add(1, Ordering::SeqCst);
        Counted(self.running.clone())
    }
}

impl Service for TestService {
    fn handle(&self, kind: Kind, _: Arc<PeerIdentity>, payload: Bytes) -> BoxFuture<'static, Result<Bytes, Refusal>> {
        self.seen.lock().push(payload.clone());
        let (gate, counted) = (self.gate.0.clone(), self.counted());
        Box::pin(async move {
            let _counted = counted;
            match kind {
                ECHO => Ok(payload),
                WAIT => {
                    gate.acquire().await.expect("the gate stays").forget();
                    Ok(payload)
                }
                OVERSIZED => Ok(vec![0; PAYLOAD_BYTES_MAX + 1].into()),
                other => Err(Refusal::unknown(other)),
            }
        })
    }

    fn stream(
        &self,
        kind: Kind,
        _: Arc<PeerIdentity>,
        payload: Bytes,
        mut sender: StreamSender,
        mut receiver: StreamReceiver,
    ) -> BoxFuture<'static, ()> {
        let (gate, counted) = (self.gate.0.clone(), self.counted());
        Box::pin(async move {
            let _counted = counted;
            match kind {
                DOUBLE => {
                    sender.send(payload).await.ok();
                    while let Some(Ok(item)) = receiver.recv().await {
                        if sender.send([&item[..], &item[..]].concat().into()).await.is_err() {
                            break;
                        }
                    }
                }
                UNREAD => {
                    let _ = gate.acquire().await;
                    drop((sender, receiver));
                }
                other => sender.refuse(&Refusal::unknown(other)).await,
            }
        })
    }
}

fn peer_identity() -> PeerIdentity {
    let identity =
        Identity { cluster: None, node: None, incarnation: Incarnation::default(), level: FeatureLevel::CURRENT };
    PeerIdentity { identity, purpose: Purpose::Peer, addr: "there:1".into(), principal: None }
}

struct Pair {
    link: Link,
    service: Arc<TestService>,
    stop: CancellationToken,
    served: JoinHandle<CloseReason>,
}

fn pair() -> Pair {
    let (near, far) = duplex(1 << 16);
    let (service, stop) = (Arc::new(TestService::default()), CancellationToken::new());
    let served = tokio::spawn(serve(Box::new(far), peer_identity(), service.clone(), stop.clone()));
    Pair { link: Link::start(Box::new(near), peer_identity()), service, stop, served }
}

/// Returns a link whose other end is held by the test.
fn half() -> (Link, DuplexStream) {
    let (near, far) = duplex(1 << 16);
    (Link::start(Box::new(near), peer_identity()), far)
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

async fn until(mut holds: impl FnMut() -> bool) {
    while !holds() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_call_returns_its_answer() {
    let t = pair();
    assert_eq!(t.link.call(ECHO, bytes("hey"), SOON).await, Ok(bytes("hey")));
    assert_eq!(t.link.call(ECHO, Bytes::new(), SOON).await, Ok(Bytes::new()));
}

#[tokio::test]
async fn a_message_of_the_maximum_length_is_sent_and_a_longer_one_is_not() {
    let t = pair();
    let longest = Bytes::from(vec![7; PAYLOAD_BYTES_MAX]);
    assert!(t.link.call(ECHO, longest.clone(), SOON).await == Ok(longest));
    let error = t.link.call(ECHO, vec![7; PAYLOAD_BYTES_MAX + 1].into(), SOON).await.unwrap_err();
    assert!(matches!(error, CallError::TooLong { .. }) && !error.may_have_happened());
    let error = t.link.call(OVERSIZED, Bytes::new(), SOON).await.unwrap_err();
    assert!(error.to_string().contains(&PAYLOAD_BYTES_MAX.to_string()), "{error}");
    assert!(t.link.call(ECHO, bytes("still"), SOON).await.is_ok());
}

#[tokio::test]
async fn a_later_call_may_be_answered_first() {
    let t = pair();
    let slow = t.link.call(WAIT, bytes("slow"), SOON);
    let quick = async {
        let answer = t.link.call(ECHO, bytes("quick"), SOON).await;
        t.service.gate.0.add_permits(1);
        answer
    };
    let (slow, quick) = tokio::join!(slow, quick);
    assert_eq!((slow, quick), (Ok(bytes("slow")), Ok(bytes("quick"))));
}

#[tokio::test]
async fn a_thousand_calls_at_once_each_get_their_own_answer() {
    let t = pair();
    let calls = (0..1_000u32).map(|number| t.link.call(ECHO, number.to_string().into(), SOON));
    for (number, answer) in join_all(calls).await.into_iter().enumerate() {
        assert_eq!(answer, Ok(number.to_string().into()));
    }
}

#[tokio::test]
async fn an_unknown_kind_is_refused_and_the_link_stays_open() {
    let t = pair();
    let error = t.link.call(Kind(99), Bytes::new(), SOON).await.unwrap_err();
    assert!(!error.may_have_happened());
    assert_eq!(
        error.to_string(),
        "the node at there:1 refused kind 99: this version does not know kind 99: upgrade this node first"
    );
    assert!(t.link.call(ECHO, Bytes::new(), SOON).await.is_ok());
}

#[tokio::test]
async fn a_cast_arrives_and_its_answer_is_dropped() {
    let t = pair();
    t.link.cast(Kind(99), bytes("cast")).unwrap();
    t.link.call(ECHO, bytes("call"), SOON).await.unwrap();
    assert_eq!(*t.service.seen.lock(), [bytes("cast"), bytes("call")]);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_times_out_drops_its_handler() {
    let t = pair();
    let error = t.link.call(WAIT, Bytes::new(), SOON).await.unwrap_err();
    assert!(matches!(error, CallError::TimedOut { within: SOON, .. }) && error.may_have_happened());
    until(|| t.service.running.load(Ordering::SeqCst) == 0).await;
    assert!(t.link.call(ECHO, Bytes::new(), SOON).await.is_ok());
}

#[tokio::test]
async fn a_closed_link_fails_pending_calls_with_an_unknown_outcome() {
    let t = pair();
    let waiting = (0..3).map(|_| t.link.call(WAIT, Bytes::new(), SOON));
    let cut = async {
        until(|| t.service.running.load(Ordering::SeqCst) == 3).await;
        t.stop.cancel();
        t.link.closed().await
    };
    let (failed, why) = tokio::join!(join_all(waiting), cut);
    assert_eq!(why, CloseReason::ByPeer);
    for failed in failed {
        let error = failed.unwrap_err();
        assert!(
            matches!(error, CallError::Closed { why: CloseReason::ByPeer, .. }) && error.may_have_happened(),
            "{error}"
        );
    }
    let error = t.link.call(ECHO, Bytes::new(), SOON).await.unwrap_err();
    assert!(matches!(error, CallError::NotSent { .. }) && !error.may_have_happened(), "{error}");
    assert!(matches!(t.link.cast(ECHO, Bytes::new()), Err(CallError::NotSent { .. })));
    assert!(matches!(t.link.open(DOUBLE, Bytes::new()).await, Err(CallError::NotSent { .. })));
}

#[tokio::test]
async fn a_call_that_was_never_written_has_had_no_effect() {
    let (link, far) = half();
    let mut far = far;
    // Longer than the connection holds: it is still being written when the second call is queued.
    let first = link.call(ECHO, vec![0; 1 << 20].into(), SOON);
    let second = async {
        far.read_exact(&mut [0; 100]).await.unwrap();
        let second = link.call(ECHO, Bytes::new(), SOON);
        let cut = async {
            tokio::task::yield_now().await;
            drop(far);
        };
        tokio::join!(second, cut).0
    };
    let (first, second) = tokio::join!(first, second);
    assert!(matches!(first, Err(CallError::Closed { .. })), "{first:?}");
    assert!(matches!(second, Err(CallError::NotSent { .. })), "{second:?}");
}

#[tokio::test]
async fn dropping_the_last_handle_closes_the_link_on_both_sides() {
    let t = pair();
    let waiting = tokio::spawn({
        let link = t.link.clone();
        async move { link.call(WAIT, Bytes::new(), SOON).await }
    });
    until(|| t.service.running.load(Ordering::SeqCst) == 1).await;
    waiting.abort();
    drop(t.link);
    assert_eq!(t.served.await.unwrap(), CloseReason::ByPeer);
    assert_eq!(t.service.running.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_service_that_ends_leaves_no_task_behind() {
    let t = pair();
    let (_sender, _receiver) = t.link.open(UNREAD, Bytes::new()).await.unwrap();
    let waiting = t.link.call(WAIT, Bytes::new(), SOON);
    let end = async {
        until(|| t.service.running.load(Ordering::SeqCst) == 2).await;
        t.stop.cancel();
        t.served.await.unwrap()
    };
    let (failed, down) = tokio::join!(waiting, end);
    assert!(failed.is_err());
    assert_eq!(down, CloseReason::ByThisNode);
    assert_eq!(t.service.running.load(Ordering::SeqCst), 0);
    assert_eq!(Arc::strong_count(&t.service), 1);
}

#[tokio::test]
async fn handlers_over_the_limit_are_refused_with_a_hint() {
    let t = pair();
    let most = LINK_HANDLERS_BYTES_MAX / (4 << 20);
    let long = Bytes::from(vec![0; PAYLOAD_BYTES_MAX]);
    let waiting: Vec<_> = (0..most)
        .map(|_| {
            let (link, long) = (t.link.clone(), long.clone());
            tokio::spawn(async move { link.call(WAIT, long, SOON).await })
        })
        .collect();
    until(|| t.service.running.load(Ordering::SeqCst) == most).await;
    let error = t.link.call(ECHO, long.clone(), SOON).await.unwrap_err();
    let CallError::Refused { refusal, .. } = error else { panic!("{error}") };
    assert_eq!((refusal.code, refusal.retry_after), (Code::Overloaded, Some(OVERLOADED_RETRY_AFTER)));
    assert!(refusal.text.contains("link_handlers_bytes_max"));
    t.service.gate.0.add_permits(most);
    assert!(join_all(waiting).await.into_iter().all(|answer| answer.unwrap().is_ok()));
    assert!(t.link.call(ECHO, long, SOON).await.is_ok());
}

#[tokio::test]
async fn calls_over_the_limit_are_refused_by_the_caller() {
    let (link, mut far) = half();
    let drain = tokio::spawn(async move { tokio::io::copy(&mut far, &mut tokio::io::sink()).await });
    let call = || {
        let link = link.clone();
        tokio::spawn(async move { link.call(ECHO, Bytes::new(), SOON).await })
    };
    let calls: Vec<_> = (0..=LINK_CALLS_MAX).map(|_| call()).collect();
    until(|| calls.iter().any(JoinHandle::is_finished)).await;
    link.close();
    drain.await.unwrap().unwrap();
    let failed: Vec<_> = join_all(calls).await.into_iter().map(|answer| answer.unwrap().unwrap_err()).collect();
    let over = |error: &&CallError| matches!(error, CallError::Overloaded { limit: "link_calls_max", .. });
    assert_eq!(failed.iter().filter(over).count(), 1);
}

#[tokio::test]
async fn a_full_queue_refuses_a_cast() {
    let (link, _far) = half();
    let long = Bytes::from(vec![0; PAYLOAD_BYTES_MAX]);
    let sent = (0..100).map_while(|_| link.cast(ECHO, long.clone()).ok()).count();
    assert!((4..8).contains(&sent), "{sent}");
    assert!(matches!(link.cast(ECHO, long), Err(CallError::Overloaded { limit: "link_queue_bytes_max", .. })));
}

#[tokio::test]
async fn a_stream_is_answered_in_order_while_more_is_sent() {
    let t = pair();
    let (mut sender, mut receiver) = t.link.open(DOUBLE, bytes("first")).await.unwrap();
    let sending = async {
        for number in 0..2_000 {
            sender.send(format!("{number},").into()).await.unwrap();
        }
        drop(sender);
    };
    let reading = async {
        assert_eq!(receiver.recv().await.unwrap().unwrap(), bytes("first"));
        for number in 0..2_000 {
            assert_eq!(receiver.recv().await.unwrap().unwrap(), bytes(&format!("{number},{number},")));
        }
        assert!(receiver.recv().await.is_none());
    };
    tokio::join!(sending, reading);
    until(|| t.service.running.load(Ordering::SeqCst) == 0).await;
}

#[tokio::test]
async fn a_stream_longer_than_its_window_is_read_completely() {
    let t = pair();
    let (mut sender, mut receiver) = t.link.open(DOUBLE, Bytes::new()).await.unwrap();
    let item = Bytes::from(vec![1; 1 << 20]);
    let sending = async {
        for _ in 0..40 {
            sender.send(item.clone()).await.unwrap();
        }
        drop(sender);
    };
    let reading = async {
        let mut total = 0;
        while let Some(item) = receiver.recv().await {
            total += item.unwrap().len();
        }
        total
    };
    let ((), total) = tokio::join!(sending, reading);
    assert_eq!(total, 80 << 20);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_not_read_delays_nothing_else() {
    let t = pair();
    let (mut sender, _receiver) = t.link.open(UNREAD, Bytes::new()).await.unwrap();
    let item = Bytes::from(vec![1; 1 << 20]);
    let sending = async {
        let mut sent = 0;
        while tokio::time::timeout(SOON, sender.send(item.clone())).await.is_ok() {
            sent += 1;
        }
        sent
    };
    assert_eq!(sending.await, STREAM_WINDOW_BYTES / (1 << 20) - 1);
    assert!(t.link.call(ECHO, bytes("free"), SOON).await.is_ok());
    t.service.gate.0.add_permits(1);
    assert_eq!(sender.send(item).await, Err(StreamError::Stopped));
}

#[tokio::test]
async fn a_stream_of_an_unknown_kind_is_refused_with_a_text() {
    let t = pair();
    let (mut sender, mut receiver) = t.link.open(Kind(99), Bytes::new()).await.unwrap();
    let Some(Err(StreamError::Refused(refusal))) = receiver.recv().await else { panic!("not refused") };
    assert_eq!(refusal.code, Code::UnknownKind);
    assert_eq!(sender.send(Bytes::new()).await, Err(StreamError::Stopped));
}

#[tokio::test]
async fn a_stream_ends_with_its_link() {
    let t = pair();
    let (mut sender, mut receiver) = t.link.open(UNREAD, Bytes::new()).await.unwrap();
    t.stop.cancel();
    assert_eq!(receiver.recv().await, Some(Err(StreamError::Closed)));
    assert_eq!(receiver.recv().await, None);
    assert_eq!(sender.send(Bytes::new()).await, Err(StreamError::Closed));
}

#[tokio::test]
async fn a_stream_keeps_its_link_open_until_both_halves_are_dropped() {
    let t = pair();
    let (mut sender, mut receiver) = t.link.open(DOUBLE, Bytes::new()).await.unwrap();
    drop(t.link);
    sender.send(bytes("a")).await.unwrap();
    receiver.recv().await.unwrap().unwrap();
    assert_eq!(receiver.recv().await, Some(Ok(bytes("aa"))));
    drop((sender, receiver));
    assert_eq!(t.served.await.unwrap(), CloseReason::ByPeer);
}

#[tokio::test]
async fn streams_over_the_limit_are_refused_until_others_end() {
    let t = pair();
    let mut open = Vec::new();
    for _ in 0..LINK_STREAMS_MAX {
        open.push(t.link.open(UNREAD, Bytes::new()).await.unwrap());
    }
    let error = t.link.open(UNREAD, Bytes::new()).await.err().unwrap();
    assert!(matches!(error, CallError::Overloaded { limit: "link_streams_max", .. }), "{error}");
    t.service.gate.0.add_permits(LINK_STREAMS_MAX);
    for (sender, mut receiver) in open.drain(..) {
        assert_eq!(receiver.recv().await, None);
        drop((sender, receiver));
    }
    assert!(t.link.open(DOUBLE, Bytes::new()).await.is_ok());
}

/// Sends these bytes to a serving side and to a calling side, and returns why each closed.
async fn feed(malformed: Vec<u8>) -> (CloseReason, CloseReason) {
    let (mut near, far) = duplex(1 << 20);
    let far: BoxedStream = Box::new(far);
    near.write_all(&malformed).await.unwrap();
    near.shutdown().await.unwrap();
    let served = serve(far, peer_identity(), Arc::new(TestService::default()), CancellationToken::new()).await;
    let (link, mut far) = half();
    far.write_all(&malformed).await.unwrap();
    drop(far);
    (served, link.closed().await)
}

fn message(kind: u8, role: u8, id: u64, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEAD_BYTES - 4 + payload.len()).unwrap();
    [&length.to_le_bytes()[..], &[kind, role], &id.to_le_bytes(), payload].concat()
}

#[tokio::test]
async fn a_protocol_violation_closes_the_link_with_a_reason() {
    let over = u32::try_from(FRAME_BYTES_MAX).unwrap().to_le_bytes().to_vec();
    let (served, calling) = feed(over).await;
    assert!(matches!(served, CloseReason::Malformed(MalformedMessage::TooLong { .. })) && served == calling);
    assert_eq!(feed(message(100, 77, 1, b"")).await.0, CloseReason::Malformed(MalformedMessage::Role(77)));
    assert_eq!(
        feed(message(100, 1, 1, b"")).await.0,
        CloseReason::ProtocolViolation("the calling side sent an answer")
    );
    assert_eq!(
        feed(message(100, 0, 1, b"")).await.1,
        CloseReason::ProtocolViolation("the serving side sent a request")
    );
    let twice = [message(101, 0, 1, b""), message(101, 0, 1, b"")].concat();
    assert_eq!(feed(twice).await.0, CloseReason::ProtocolViolation("two calls have the same id"));
    let after = [message(111, 5, 1, b""), message(111, 7, 1, b""), message(111, 6, 1, b"x")].concat();
    assert_eq!(feed(after).await.0, CloseReason::ProtocolViolation("a stream continued after its end"));
    let credit = [message(111, 5, 1, b""), message(111, 9, 1, &[1, 0, 0, 0])].concat();
    assert_eq!(feed(credit).await.0, CloseReason::ProtocolViolation("more credit than was taken"));
    let flood: Vec<u8> = (0..9).flat_map(|_| message(111, 6, 1, &vec![0; 1 << 20])).collect();
    let (near, far) = duplex(1 << 20);
    let served =
        tokio::spawn(serve(Box::new(far), peer_identity(), Arc::new(TestService::default()), CancellationToken::new()));
    let mut near = near;
    near.write_all(&message(111, 5, 1, b"")).await.unwrap();
    let _ = near.write_all(&flood).await;
    assert_eq!(served.await.unwrap(), CloseReason::ProtocolViolation("more was sent than stream_window_bytes allow"));
}

#[tokio::test]
async fn a_handler_that_panics_closes_only_its_link() {
    struct Panics;
    impl Service for Panics {
        fn handle(&self, _: Kind, _: Arc<PeerIdentity>, _: Bytes) -> BoxFuture<'static, Result<Bytes, Refusal>> {
            Box::pin(async { panic!("on purpose") })
        }
    }
    let (near, far) = duplex(1 << 16);
    let (held, dropped) = oneshot::channel::<()>();
    tokio::spawn(async move {
        let _held = held;
        serve(Box::new(far), peer_identity(), Arc::new(Panics), CancellationToken::new()).await
    });
    let link = Link::start(Box::new(near), peer_identity());
    assert!(link.call(ECHO, Bytes::new(), SOON).await.unwrap_err().may_have_happened());
    assert!(dropped.await.is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_malformed_message_at_any_point_closes_the_link_without_a_panic(
        valid in prop::collection::vec((100..112u8, 0..10u8, 0..4u64, prop::collection::vec(any::<u8>(), 0..20)), 0..20),
        cut in any::<prop::sample::Index>(),
        malformed in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let mut all: Vec<u8> = valid
            .iter()
            .filter(|(kind, ..)| *kind != OVERSIZED.0)
            .flat_map(|(kind, role, id, payload)| message(*kind, *role, *id, payload))
            .collect();
        all.truncate(cut.index(all.len() + 1));
        all.extend(malformed);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(feed(all));
    }
}
