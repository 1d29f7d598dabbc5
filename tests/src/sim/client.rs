//! Clients: they append with their own ids, repeat appends of unknown outcome, send forged appends, which must be
//! refused, and read.

use std::{sync::Arc, time::Duration};

use evener_cluster::{Class, Error};
use evener_core::{
    append::{Appended, Condition, Expect, Expected, Refusal, Request},
    criteria::{Criteria, Criterion},
    event::{DataKind, Event},
    id::{ContextId, Position, Revision},
};
use evener_store::events::Query;
use parking_lot::Mutex;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{machine::Machine, sim_rng::SimRng, trace::Trace};
use crate::oracle::{Answer, History, Read};

/// The time a client waits for an answer before it tries another node.
const ANSWER_WAIT: Duration = Duration::from_secs(4);
/// The attempts at an append. After the last one its outcome stays unknown to the client.
const ATTEMPTS_MAX: u32 = 8;
/// The maximum number of events per read.
const READ_EVENTS_MAX: usize = 200;

/// The state that all tasks of a run share.
#[derive(Clone)]
pub struct RunContext {
    /// The machines whose nodes receive the requests.
    pub machines: Vec<Arc<Machine>>,
    /// The history that the oracles check.
    pub history: Arc<Mutex<History>>,
    /// The trace of the run.
    pub trace: Trace,
    /// Stops the clients.
    pub stop: CancellationToken,
}

/// A client that appends.
pub struct Writer {
    context: RunContext,
    number: u64,
    rng: SimRng,
    /// The number of the stream that only this client writes to. It is increased once the content of the stream is
    /// unknown.
    own_stream: u64,
    /// The number of events in that stream.
    own_length: u64,
    /// The position after the last event known to be in that stream.
    marker: Position,
    /// The last stored append.
    last: Option<(usize, Request)>,
}

impl Writer {
    /// Creates client `number` of a run.
    pub fn new(context: &RunContext, number: u64, rng: &SimRng) -> Self {
        let rng = rng.derive(&format!("client {number}"));
        Self { context: context.clone(), number, rng, own_stream: 0, own_length: 0, marker: Position(0), last: None }
    }

    /// Appends until the run stops.
    pub async fn run(mut self) {
        let stop = self.context.stop.clone();
        while !stop.is_cancelled() {
            match (self.rng.between(1, 20), self.last.clone()) {
                (1, Some((call, request))) => drop(self.send(call, &request).await),
                (2, Some((_, request))) => self.append_forged(request).await,
                _ => self.append().await,
            }
            let pause = self.rng.time(Duration::from_millis(1), Duration::from_millis(60));
            sleep(pause).await;
        }
    }

    async fn append(&mut self) {
        let own = self.rng.once_in(2);
        let stream = match own {
            true => format!("own-{}-{}", self.number, self.own_stream),
            false => format!("shared-{}", self.rng.between(1, 5)),
        };
        let count = self.rng.pick(&[1, 1, 1, 2, 5]);
        let mut request = Request { request: self.rng.uuid(), ..Request::default() };
        request.events = (0..count).map(|_| self.event(&stream)).collect();
        if own {
            self.add_expectation(&stream, &mut request);
        } else if self.rng.once_in(4) {
            // Another client may have written meanwhile: the append is stored or refused, and both must be correct.
            request.conditions.push(Condition { criteria: events_of(&stream), marker: self.marker });
        }
        let call = self.context.history.lock().invoked(request.clone());
        let answer = self.send(call, &request).await;
        match answer {
            Some(Answer::Stored(appended)) => {
                if own {
                    self.own_length += count;
                }
                self.marker = self.marker.max(appended.next);
                self.last = Some((call, request));
            }
            // The outcome is unknown, or the append was refused.
            _ if own => (self.own_stream, self.own_length) = (self.own_stream + 1, 0),
            _ => {}
        }
    }

    /// Appends one event through this node alone, and retries until it is stored.
    pub async fn append_at(&mut self, machine: &Machine) {
        let request = Request { request: self.rng.uuid(), events: vec![self.event("last")], ..Request::default() };
        let call = self.context.history.lock().invoked(request.clone());
        loop {
            if let Some(process) = machine.process()
                && let Ok(stored) = process.cluster.append(&request).await
            {
                let answer = Answer::Stored(Appended { repeated: false, ..stored });
                self.trace_answer(call, &answer);
                return self.context.history.lock().returned(call, answer);
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Adds an expectation or a condition on the own stream. It holds, because no other client writes there.
    fn add_expectation(&mut self, stream: &str, request: &mut Request) {
        let at = self.own_length.checked_sub(1).map_or(Expected::NoStream, |last| Expected::At(Revision(last)));
        match self.rng.between(1, 3) {
            1 => request.expect.push(Expect { stream: stream.into(), at }),
            2 => request.conditions.push(Condition { criteria: events_of(stream), marker: self.marker }),
            _ => {}
        }
    }

    /// Appends stored ids with other content, which must be refused.
    async fn append_forged(&mut self, mut request: Request) {
        request.conditions.clear();
        request.expect.clear();
        request.events[0].data = b"\"forged\"".to_vec();
        let call = self.context.history.lock().invoked(request.clone());
        self.send(call, &request).await;
    }

    fn event(&mut self, stream: &str) -> Event {
        let size = self.rng.pick(&[8, 100, 200, 1_000]);
        Event {
            id: self.rng.uuid(),
            source: format!("client-{}", self.number),
            kind: self.rng.pick(&["opened", "changed", "closed"]).into(),
            stream: Some(stream.into()),
            tags: vec![format!("stream={stream}")],
            data_kind: DataKind::Json,
            data: format!("\"{}\"", "x".repeat(size)).into_bytes(),
            ..Event::default()
        }
    }

    /// Sends a request until its outcome is known; none if it stays unknown.
    async fn send(&mut self, call: usize, request: &Request) -> Option<Answer> {
        for _ in 0..ATTEMPTS_MAX {
            let outcome = self.send_once(request).await;
            let answer = match outcome {
                Some(Ok(appended)) => Answer::Stored(Appended { repeated: false, ..appended }),
                Some(Err(error)) => match refusal(error) {
                    Some(refusal) => Answer::Refused(refusal),
                    None => {
                        let pause = self.rng.time(Duration::from_millis(5), Duration::from_millis(200));
                        sleep(pause).await;
                        continue;
                    }
                },
                None => {
                    sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            self.context.history.lock().returned(call, answer.clone());
            self.trace_answer(call, &answer);
            return Some(answer);
        }
        self.context.trace.record(format_args!("client {} does not know of call {call}", self.number));
        None
    }

    /// Sends a request to a random node; none if the node is down, does not answer in time, or is killed meanwhile.
    async fn send_once(&mut self, request: &Request) -> Option<Result<Appended, Error>> {
        let process = self.rng.pick(&self.context.machines).process()?;
        tokio::select! {
            answer = timeout(ANSWER_WAIT, process.cluster.append(request)) => answer.ok(),
            () = process.killed.cancelled() => None,
        }
    }

    fn trace_answer(&self, call: usize, answer: &Answer) {
        let number = self.number;
        match answer {
            Answer::Stored(stored) => {
                self.context.trace.record(format_args!("client {number}: call {call} stands at {}", stored.first));
            }
            Answer::Refused(why) => {
                self.context.trace.record(format_args!("client {number}: call {call} is refused: {why:?}"));
            }
        }
    }
}

/// Returns the refusal of a final error; none if the request is to be retried.
fn refusal(error: Error) -> Option<Refusal> {
    let refusal = error.refusal.map(|refusal| *refusal).filter(|refusal| *refusal != Refusal::Retry);
    assert!(
        refusal.is_some() || error.class != Class::Invalid,
        "a valid request was refused as invalid: {}",
        error.message
    );
    refusal
}

fn events_of(stream: &str) -> Criteria {
    Criteria(vec![Criterion { types: Vec::new(), tags: vec![format!("stream={stream}")] }])
}

/// Runs a client that reads linearizably from random nodes.
pub async fn read(context: RunContext, mut rng: SimRng) {
    while !context.stop.is_cancelled() {
        let pause = rng.time(Duration::from_millis(20), Duration::from_millis(200));
        sleep(pause).await;
        let Some(process) = rng.pick(&context.machines).process() else { continue };
        let invoked_at = context.history.lock().tick();
        let barrier = tokio::select! {
            barrier = timeout(ANSWER_WAIT, process.cluster.barrier()) => barrier,
            () = process.killed.cancelled() => continue,
        };
        let Ok(Ok(_)) = barrier else { continue };
        let events = process.cluster.events();
        let head = events.head(ContextId::DEFAULT);
        let from = Position(rng.between(0, head.0));
        let query = Query {
            context: ContextId::DEFAULT,
            from,
            to: None,
            limit: READ_EVENTS_MAX,
            criteria: &Criteria::ANY,
            stream: None,
            backwards: false,
        };
        // The read fails if the power was cut meanwhile.
        let Ok(page) = events.read(&query) else { continue };
        let ids = page.events.iter().map(|stored| stored.event.id).collect();
        let mut history = context.history.lock();
        let returned_at = history.tick();
        // A read that its limit cut short proves nothing about the head.
        let next = page.next;
        let invoked_at = if page.more { u64::MIN } else { invoked_at };
        context.trace.record(format_args!("a read on {} saw {from} to {next}", process.cluster.me()));
        history.reads.push(Read { invoked_at, returned_at, from, ids, next });
    }
}
