//! Handlers as the actors call them: a delivery in, a verdict out.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU32, Ordering::SeqCst},
};

use evener_cluster::transport::SystemClock;
use evener_core::{
    criteria::{Criteria, Criterion},
    id::{ComponentId, Epoch, SegmentId},
    letter::SequenceKey,
    time::Timestamp,
};
use uuid::Uuid;

use super::{Delivery, Handlers, Incomplete, Runner, Verdict, encode};
use crate::{Revision, event::Stored, prelude::*, status::StatusBoard, threads::Threads};

#[derive(Debug, PartialEq, Event, Serialize, Deserialize)]
#[event(name = "account.credited.v1", key = account)]
struct Credited {
    account: u64,
    cents: i64,
}

#[derive(Debug, PartialEq, Event, Serialize, Deserialize)]
#[event(key = account)]
enum Account {
    #[event(name = "account.opened.v1")]
    Opened { account: u64 },
    #[event(name = "account.credited.v1")]
    Credited { account: u64, cents: i64 },
    #[event(name = "account.renamed.v1", key = 0)]
    Renamed(String),
    #[event(name = "account.closed.v1", key = account)]
    Closed { account: u64 },
}

type Log = Arc<Mutex<Vec<String>>>;

fn delivery<E: Event>(event: &E) -> Delivery {
    let mut raw = encode(event, Uuid::from_u128(1), "/test", Some("account-7")).unwrap();
    raw.tags = vec!["tenant=blue".into()];
    raw.extensions = vec![("level".into(), "3".into())];
    let stored = Stored { position: Position(12), revision: Some(Revision(4)), recorded: Timestamp(99), event: raw };
    Delivery {
        processor: "balances".into(),
        segment: SegmentId(3),
        mask: 3,
        epoch: Epoch(8),
        lent: false,
        attempt: 2,
        is_set_aside: false,
        replaying: false,
        replay_context: None,
        stored: Arc::new(stored),
        guard: super::SequenceGuard::default(),
    }
}

fn runner(processor: Processor) -> Arc<dyn Runner> {
    processor.into_parts().unwrap().1
}

async fn verdict(processor: Processor, event: &impl Event) -> Verdict {
    Handlers::current().run(&runner(processor), delivery(event)).await
}

#[tokio::test]
async fn a_handler_gets_its_event_and_all_it_asks_for() {
    async fn all(
        event: Credited,
        State(log): State<Log>,
        Position(at): Position,
        meta: Meta,
        Attempt(attempt): Attempt,
        Replaying(replaying): Replaying,
        claim: Claim,
    ) {
        let text = format!(
            "{event:?} {at} {} {:?} {:?} {:?} {:?} {attempt} {replaying} {}/{} {}",
            meta.kind(),
            meta.stream(),
            meta.revision(),
            meta.tag("tenant"),
            meta.extension::<u8>("level"),
            claim.processor,
            claim.segment,
            claim.epoch
        );
        log.lock().unwrap().push(text);
    }
    let log = Log::default();
    let processor = Processor::new("balances").on(all).with_state(log.clone());
    assert_eq!(verdict(processor, &Credited { account: 7, cents: 100 }).await, Verdict::Handled);
    let expected = "Credited { account: 7, cents: 100 } 12 account.credited.v1 Some(\"account-7\") \
                    Some(Revision(4)) Some(\"blue\") Some(3) 2 false balances/3 8";
    assert_eq!(*log.lock().unwrap(), [expected]);
}

#[tokio::test]
async fn a_struct_reads_what_a_family_wrote_and_the_other_way_round() {
    let of_family = delivery(&Account::Credited { account: 7, cents: 5 });
    assert_eq!(of_family.stored.event.data, br#"{"account":7,"cents":5}"#);
    assert_eq!(of_family.stored.event.key.as_deref(), Some("7"));
    assert_eq!(super::decode::<Credited>(&of_family.stored).unwrap(), Credited { account: 7, cents: 5 });
    let of_struct = delivery(&Credited { account: 7, cents: 5 });
    let family = super::decode::<Account>(&of_struct.stored).unwrap();
    assert_eq!(family, Account::Credited { account: 7, cents: 5 });
    let renamed = delivery(&Account::Renamed("ann".into()));
    assert_eq!(renamed.stored.event.key.as_deref(), Some("ann"));
    assert_eq!(super::decode::<Account>(&renamed.stored).unwrap(), Account::Renamed("ann".into()));
}

#[tokio::test]
async fn handlers_are_called_in_order_and_the_first_failure_ends_it() {
    async fn family(event: Account, State(log): State<Log>) -> Result {
        log.lock().unwrap().push(format!("family {event:?}"));
        if let Account::Closed { .. } = event { Err(Error::skip("closed")) } else { Ok(()) }
    }
    fn blocking(event: Account, State(log): State<Log>) -> std::io::Result<()> {
        log.lock().unwrap().push(format!("blocking {}", event.name()));
        if let Account::Opened { .. } = event { Err(std::io::Error::other("disk full")) } else { Ok(()) }
    }
    async fn any(event: Raw, Position(at): Position, State(log): State<Log>) {
        let kind = event.json::<serde_json::Value>().unwrap();
        log.lock().unwrap().push(format!("any {} {kind} {at}", event.event.kind));
    }
    let log = Log::default();
    let make = || Processor::new("p").on(family).on_blocking(blocking).on_any(any).with_state(log.clone());

    assert_eq!(verdict(make(), &Account::Renamed("x".into())).await, Verdict::Handled);
    let skipped = verdict(make(), &Account::Closed { account: 1 }).await;
    assert_eq!(skipped, Verdict::Skip { cause: "closed".into() });
    let failed = verdict(make(), &Account::Opened { account: 1 }).await;
    assert_eq!(failed, Verdict::Retry { cause: "disk full".into(), after: None });
    let expected = [
        "family Renamed(\"x\")",
        "blocking account.renamed.v1",
        "any account.renamed.v1 \"x\" 12",
        "family Closed { account: 1 }",
        "family Opened { account: 1 }",
        "blocking account.opened.v1",
    ];
    assert_eq!(*log.lock().unwrap(), expected);
}

#[tokio::test]
async fn a_panic_is_a_failure_that_says_what_it_said() {
    async fn panics(event: Credited) {
        assert!(event.cents > 0, "no cents in account {}", event.account);
    }
    fn blocks(event: Credited) {
        panic!("nothing for {}", event.account);
    }
    let event = Credited { account: 7, cents: 0 };
    let said = verdict(Processor::new("p").on(panics), &event).await;
    assert_eq!(said, Verdict::retry("the handler panicked: no cents in account 7"));
    let said = verdict(Processor::new("p").on_blocking(blocks), &event).await;
    assert_eq!(said, Verdict::retry("the handler panicked: nothing for 7"));
}

#[tokio::test]
async fn what_cannot_be_read_is_set_aside() {
    async fn wants(_: Credited) {}
    let mut delivery = delivery(&Credited { account: 7, cents: 0 });
    Arc::get_mut(&mut delivery.stored).unwrap().event.data = br#"{"account":7}"#.to_vec();
    let verdict = runner(Processor::new("p").on(wants)).run(delivery).await;
    let cause = "the event account.credited.v1 at 12 cannot be read as evener::handler::tests::Credited: \
                 missing field `cents` at line 1 column 13";
    assert_eq!(verdict, Verdict::SetAside { cause: cause.into() });
}

#[test]
fn its_handlers_are_its_subscription() {
    async fn one(_: Credited) {}
    async fn family(_: Account) {}
    async fn any(_: Raw) {}
    let criteria = |processor: Processor| processor.into_parts().unwrap().0.criteria;
    let item = |types: &[&str], tags: &[&str]| {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Criteria(vec![Criterion { types: texts(types), tags: texts(tags) }])
    };
    let all = ["account.closed.v1", "account.credited.v1", "account.opened.v1", "account.renamed.v1"];
    assert_eq!(criteria(Processor::new("p").on(one)), item(&["account.credited.v1"], &[]));
    assert_eq!(criteria(Processor::new("p").on(one).on(family).tags(["a=1"])), item(&all, &["a=1"]));
    assert_eq!(criteria(Processor::new("p").on(one).on_any(any)), Criteria::ANY);
    assert_eq!(criteria(Processor::new("p").on_any(any).types(["x"])), item(&["x"], &[]));
    let nothing = Processor::<()>::new("idle").into_parts().map(|_| ()).unwrap_err();
    assert_eq!(nothing, Incomplete::NoHandler("idle".into()));
}

#[tokio::test]
async fn a_handler_given_up_on_is_ended() {
    struct Ends(Arc<AtomicU32>);
    impl Drop for Ends {
        fn drop(&mut self) {
            self.0.fetch_add(1, SeqCst);
        }
    }
    async fn waits(_: Credited, State(ended): State<Arc<AtomicU32>>) {
        let _ends = Ends(ended);
        std::future::pending::<()>().await;
    }
    let ended = Arc::new(AtomicU32::new(0));
    let runner = runner(Processor::new("p").on(waits).with_state(ended.clone()));
    let running = Handlers::current().run(&runner, delivery(&Credited { account: 7, cents: 0 }));
    tokio::task::yield_now().await;
    drop(running);
    while ended.load(SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
}

#[test]
fn a_handler_that_holds_its_thread_is_named() {
    async fn holds(_: Credited, State(go): State<Arc<std::sync::Barrier>>) {
        go.wait();
        go.wait();
    }
    let go = Arc::new(std::sync::Barrier::new(2));
    let handlers = Handlers::new(1).unwrap();
    let runner = runner(Processor::new("p").on(holds).with_state(go.clone()));
    let running = handlers.run(&runner, delivery(&Credited { account: 7, cents: 0 }));
    go.wait();
    // Told from threads that are not the handlers'.
    let (board, others) = (StatusBoard::default(), Threads::new("others", 1).unwrap());
    others.spawn(handlers.watch().clone().watch(board.clone(), Arc::new(SystemClock)));
    let told = loop {
        match board.list().pop() {
            Some(row) if row.phase == "held" => break row,
            _ => std::thread::sleep(1.millis()),
        }
    };
    let last_error = told.last_error.unwrap();
    assert!(last_error.starts_with("the handler of balances/3 has blocked its thread for "), "{last_error}");
    assert!(last_error.ends_with(" ms, with event 12 (account.credited.v1)"), "{last_error}");
    let [held] = &handlers.watch().blocked_threads()[..] else { panic!("one handler is at work") };
    assert_eq!((held.processor.as_str(), held.segment, held.position, held.holding), ("balances", 3, 12, true));
    go.wait();
    assert_eq!(futures::executor::block_on(running), Verdict::Handled);
    let [ended] = &handlers.watch().blocked_threads()[..] else { panic!("one hold is remembered") };
    assert!(!ended.holding && ended.held_ms >= held.held_ms);
}

/// A blocking function cannot be stopped: what gave it up waits for its end before it handles the sequence again.
#[tokio::test]
async fn a_blocking_handler_that_was_given_up_is_not_overlapped() {
    let (begun, has_begun) = std::sync::mpsc::channel();
    let (end, may_end) = std::sync::mpsc::channel::<()>();
    let may_end = Arc::new(Mutex::new(may_end));
    let processor = Processor::new("balances").on_blocking(move |_: Credited| {
        begun.send(()).unwrap();
        let _ = may_end.lock().unwrap().recv();
    });
    let (runner, handlers) = (runner(processor), Handlers::new(1).unwrap());
    let (name, sequence) = ("balances".into(), SequenceKey { component: ComponentId(0), name: "7".into() });
    let deliver = |guard| Delivery { guard, ..delivery(&Credited { account: 7, cents: 1 }) };
    let first = handlers.run(&runner, deliver(handlers.sequence_locks().lock(&name, &sequence).await));
    has_begun.recv().unwrap();
    drop(first);
    let mut next = Box::pin(handlers.sequence_locks().lock(&name, &sequence));
    // The task that waits for it has ended once another one ran on its only thread.
    handlers.close(&runner, SegmentId(3)).await.unwrap();
    assert!(futures::poll!(&mut next).is_pending(), "it runs on");
    end.send(()).unwrap();
    let second = handlers.run(&runner, deliver(next.await));
    has_begun.recv().unwrap();
    end.send(()).unwrap();
    assert_eq!(second.await, Verdict::Handled);
}
