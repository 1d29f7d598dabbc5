//! Processors of a run, and handlers that write down what they were given: some take their time, some fail a few
//! times before they succeed. What a handler does follows from the event alone, on whichever node it runs; but what it
//! did counts only if its database takes it, which keeps the highest epoch that it was shown of each segment.

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

/// Of so many events one fails, one to three times. Rare enough that no segment takes it for a flood.
const FAILS_ONE_IN: u64 = 150;

/// Of so many events one takes longer than a session's lease, and than a hand-over waits.
const LONG_ONE_IN: u64 = 1_500;

/// Every processor of a run.
pub const PROCESSOR_NAMES: [&str; 3] = ["aside", "stops", TEMPORARY];
/// The one that people create, and delete.
pub const TEMPORARY: &str = "brief";

/// The processors of every run: one that sets aside what fails, and one that stops its segment for it.
#[must_use]
pub fn definitions() -> Vec<Definition> {
    vec![definition("aside"), definition("stops")]
}

/// A processor by its name.
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
        // Short, so that what failed is done before the run ends.
        backoff: Backoff { first_ms: 200, max_ms: 1_000, attempts: 10 },
    }
}

/// What a node that can run them says of itself.
#[must_use]
pub fn capabilities() -> BTreeMap<String, Vec<u32>> {
    PROCESSOR_NAMES.map(|name| (name.to_owned(), vec![1])).into()
}

/// What handlers need of a run.
#[derive(Clone)]
pub struct HandlerContext {
    /// Where they write down what they were given.
    pub history: Arc<Mutex<History>>,
    /// What happens.
    pub trace: Trace,
    /// What they do follows from it and from the event.
    pub seed: u64,
    /// All that their database knows of them.
    highest: Arc<Mutex<BTreeMap<(String, SegmentId), Epoch>>>,
}

impl HandlerContext {
    /// The kit of a run.
    pub fn new(history: &Arc<Mutex<History>>, trace: &Trace, seed: u64) -> Self {
        let (history, trace) = (history.clone(), trace.clone());
        Self { history, trace, seed: SimRng::new(seed).derive("handlers").number(), highest: Arc::default() }
    }

    /// The processors as a process on `node` runs them, until it is dead.
    #[must_use]
    pub fn embedded(&self, node: NodeId, killed: &CancellationToken) -> Vec<Embedded> {
        let runner = Recorder { handler_context: self.clone(), node, killed: killed.clone() };
        let runner: Arc<dyn Runner> = Arc::new(runner);
        PROCESSOR_NAMES.map(|name| (definition(name), runner.clone())).into()
    }

    /// Whether the database takes what is written under the epoch of this delivery.
    fn accepts(&self, delivery: &Delivery) -> bool {
        let mut highest = self.highest.lock();
        let highest = highest.entry((delivery.processor.to_string(), delivery.segment)).or_default();
        let accepts = delivery.epoch >= *highest;
        *highest = delivery.epoch.max(*highest);
        accepts
    }

    /// How long handling takes, and how often it fails before.
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

/// Writes down what it was given.
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
                // The process is dead and does not know it.
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
