//! The processors of a run, and handlers that record their deliveries: some take long, some fail a few times before
//! they succeed. The behaviour of a handler depends on the event alone, not on the node. An event counts as handled
//! only if the handler's database accepts the write; the database keeps the highest epoch it has seen of each segment.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use evener::{
    actors::Embedded,
    handler::{Delivery, Runner, Verdict},
};
use evener_core::{
    backoff::Backoff,
    criteria::Criteria,
    hash::xxh64,
    id::{ContextId, Epoch, NodeId, SegmentId},
    processor::{Definition, Handler, OnError, Start},
    sequence::Sequencing,
};
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{sim_rng::SimRng, trace::Trace};
use crate::oracle::{Handling, History};

/// One in this many events fails, one to three times. That is too rare to count as a flood of failures.
const FAILS_ONE_IN: u64 = 150;

/// One in this many events takes longer than a session's lease, and longer than a hand-over waits.
const LONG_ONE_IN: u64 = 1_500;

/// The names of all processors of a run.
pub const PROCESSOR_NAMES: [&str; 3] = ["aside", "stops", TEMPORARY];
/// The processor that operators create and delete.
pub const TEMPORARY: &str = "brief";

/// Returns the permanent processors: one sets failed events aside, the other stops their segment.
#[must_use]
pub fn definitions() -> Vec<Definition> {
    vec![definition("aside"), definition("stops")]
}

/// Returns the definition of a processor.
#[must_use]
pub fn definition(name: &str) -> Definition {
    let (segments, on_error) = match name {
        "stops" => (4, OnError::Stop),
        "aside" => (16, OnError::SetAside),
        _ => (5, OnError::SetAside),
    };
    Definition {
        name: name.into(),
        context: ContextId::DEFAULT,
        handler: Handler::Embedded,
        segments,
        start: Start::Beginning,
        criteria: Criteria::ANY,
        sequencing: Sequencing::KeyElseStream,
        on_error,
        // Short, so that failed events are handled before the run ends.
        backoff: Backoff { first_ms: 200, max_ms: 1_000, attempts: 10 },
    }
}

/// Returns the capabilities of a node that can run all processors.
#[must_use]
pub fn capabilities() -> BTreeMap<String, Vec<u32>> {
    PROCESSOR_NAMES.map(|name| (name.to_owned(), vec![1])).into()
}

/// The state that all handlers of a run share.
#[derive(Clone)]
pub struct HandlerContext {
    /// The history in which they record their deliveries.
    pub history: Arc<Mutex<History>>,
    /// The trace of the run.
    pub trace: Trace,
    /// The seed that, with the event, determines their behaviour.
    pub seed: u64,
    /// The state of their database: the highest epoch of each segment.
    highest: Arc<Mutex<BTreeMap<(String, SegmentId), Epoch>>>,
}

impl HandlerContext {
    /// Creates the state of a run.
    pub fn new(history: &Arc<Mutex<History>>, trace: &Trace, seed: u64) -> Self {
        let (history, trace) = (history.clone(), trace.clone());
        Self { history, trace, seed: SimRng::new(seed).derive("handlers").number(), highest: Arc::default() }
    }

    /// Returns the processors for a process on `node`; its handlers hang once `killed` is cancelled.
    #[must_use]
    pub fn embedded(&self, node: NodeId, killed: &CancellationToken) -> Vec<Embedded> {
        let runner = Recorder { handler_context: self.clone(), node, killed: killed.clone() };
        let runner: Arc<dyn Runner> = Arc::new(runner);
        PROCESSOR_NAMES.map(|name| (definition(name), runner.clone())).into()
    }

    /// Returns whether the database accepts a write under the epoch of this delivery.
    fn accepts(&self, delivery: &Delivery) -> bool {
        let mut highest = self.highest.lock();
        let highest = highest.entry((delivery.processor.to_string(), delivery.segment)).or_default();
        let accepts = delivery.epoch >= *highest;
        *highest = delivery.epoch.max(*highest);
        accepts
    }

    /// Returns how long an attempt takes, and how many attempts fail.
    fn behaviour(&self, delivery: &Delivery) -> (Duration, u64) {
        let random = xxh64(&delivery.stored.position.0.to_le_bytes(), self.seed);
        let slow = match random {
            _ if (random >> 24).is_multiple_of(LONG_ONE_IN) => 9_000,
            _ if random.is_multiple_of(50) => 100,
            _ => 2,
        };
        let fails = if (random >> 16).is_multiple_of(FAILS_ONE_IN) { 1 + (random >> 40) % 3 } else { 0 };
        (Duration::from_millis((random >> 8) % slow), fails)
    }
}

/// A handler that records its deliveries.
#[derive(Clone)]
struct Recorder {
    handler_context: HandlerContext,
    node: NodeId,
    killed: CancellationToken,
}

impl Runner for Recorder {
    fn run(&self, delivery: Delivery) -> BoxFuture<'static, Verdict> {
        let own = self.clone();
        Box::pin(async move {
            let (duration, fails) = own.handler_context.behaviour(&delivery);
            sleep(duration).await;
            if own.killed.is_cancelled() {
                // The process was killed: its handler never returns.
                std::future::pending::<()>().await;
            }
            let fault = if u64::from(delivery.attempt) <= fails {
                Some("it fails at first")
            } else {
                (!own.handler_context.accepts(&delivery)).then_some("the database has seen a later epoch")
            };
            own.record(&delivery, fault);
            fault.map_or(Verdict::Handled, |cause| Verdict::Retry { cause: cause.into(), after: None })
        })
    }
}

impl Recorder {
    fn record(&self, delivery: &Delivery, fault: Option<&str>) {
        let Delivery { processor, segment, epoch, lent, attempt, stored, .. } = delivery;
        let how = fault.unwrap_or("handled");
        let (node, position) = (self.node, stored.position);
        self.handler_context.trace.record(format_args!(
            "{processor}/{segment} at {position} on {node}, epoch {epoch}, attempt {attempt}: {how}"
        ));
        let mut history = self.handler_context.history.lock();
        let time = history.tick();
        history.handlings.push(Handling {
            time,
            node,
            processor: processor.to_string(),
            segment: *segment,
            epoch: *epoch,
            lent: *lent,
            position,
            done: fault.is_none(),
        });
    }
}
