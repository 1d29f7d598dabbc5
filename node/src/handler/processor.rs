//! The builder of a processor: its name, its handlers, and its settings.

use std::{any::Any, collections::BTreeMap, fmt, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use evener_core::{
    backoff::Backoff,
    criteria::{Criteria, Criterion},
    id::ContextId,
    processor::{self, Definition, OnError, Start},
    sequence::Sequencing,
};
use futures::{FutureExt, future::BoxFuture};

use super::{
    BlockingHandler, Delivery, Error, Event, FromDelivery, Handler, Handling, Outcome, Raw, Result, Runner, Verdict,
    event::decode,
};

/// The default number of segments: enough to distribute evenly over a few nodes, few enough to inspect.
pub const SEGMENTS: u32 = 16;

type Call<S> = Arc<dyn Fn(&Delivery, &S) -> BoxFuture<'static, Result> + Send + Sync>;

/// A named consumer of events, made of handlers. The types of their first parameters are its subscription.
///
/// Several handlers may take the same event. They are called in the order of registration; if one fails, the next
/// attempt calls all of them again.
///
/// ```
/// use evener::prelude::*;
///
/// #[derive(Event, Serialize, Deserialize)]
/// #[event(name = "order.paid.v1", key = order)]
/// struct Paid { order: u64 }
///
/// async fn ship(event: Paid, Position(at): Position) -> Result {
///     println!("order {} was paid, says event {at}", event.order);
///     Ok(())
/// }
///
/// let shipping: Processor = Processor::new("shipping").on(ship).segments(4).retry(1.secs(), 1.mins(), 5);
/// ```
#[must_use = "a processor does nothing until a node runs it"]
pub struct Processor<S = ()> {
    definition: Definition,
    types: Vec<String>,
    tags: Vec<String>,
    handlers: Vec<BoundHandler<S>>,
}

struct BoundHandler<S> {
    /// The event types it handles; none for all.
    names: Option<&'static [&'static str]>,
    call: Call<S>,
}

impl<S: Clone + Send + Sync + 'static> Processor<S> {
    /// Creates a processor without handlers. The name is its identity in the cluster: its progress is stored under it.
    /// By default it has 16 segments, begins with the first event of the log, handles the events of one key, else of
    /// one stream, one after the other, retries a failed event after 1 s, doubling up to 60 s, with ten attempts in
    /// all, and sets its sequence aside meanwhile.
    ///
    /// These settings take effect when the processor is created by the first node that runs it.
    pub fn new(name: impl Into<String>) -> Self {
        let definition = Definition {
            name: name.into(),
            context: ContextId::DEFAULT,
            handler: processor::Handler::Embedded,
            segments: SEGMENTS,
            start: Start::Beginning,
            criteria: Criteria::ANY,
            sequencing: Sequencing::KeyElseStream,
            on_error: OnError::SetAside,
            backoff: Backoff::default(),
        };
        Self { definition, types: Vec::new(), tags: Vec::new(), handlers: Vec::new() }
    }

    /// Adds an `async fn` that takes an event and further [`FromDelivery`] parameters.
    pub fn on<Shape, H>(self, handler: H) -> Self
    where
        H: Handler<Shape, On: Event, Args: FromDelivery<S>, Handling: Handling>,
    {
        self.bind(Some(H::On::NAMES), move |delivery, state| {
            let (event, args) = (decode(&delivery.stored)?, H::Args::from_delivery(delivery, state)?);
            let handling = handler.call(event, args);
            Ok(async move { handling.await.into_result() }.boxed())
        })
    }

    /// Adds a plain function that may block; it runs on its own thread. It cannot be interrupted: if its claim is lost
    /// it runs to its end and its verdict is ignored.
    pub fn on_blocking<Shape, H>(self, handler: H) -> Self
    where
        H: BlockingHandler<Shape, On: Event, Args: FromDelivery<S> + 'static, Returns: Outcome>,
    {
        self.bind(Some(H::On::NAMES), move |delivery, state| {
            let (event, args) = (decode(&delivery.stored)?, H::Args::from_delivery(delivery, state)?);
            let (handler, guard) = (handler.clone(), delivery.guard.clone());
            let blocking = move || {
                // The function continues after cancellation; no other attempt may handle this sequence meanwhile.
                let _guard = guard;
                handler.call(event, args).into_result()
            };
            Ok(async move {
                match tokio::task::spawn_blocking(blocking).await {
                    Ok(result) => result,
                    Err(error) => match error.try_into_panic() {
                        Ok(panic) => std::panic::resume_unwind(panic),
                        Err(cancelled) => Err(Error::retry(cancelled)),
                    },
                }
            }
            .boxed())
        })
    }

    /// Adds an `async fn` that takes events of every type, undecoded. [`Self::types`] and [`Self::tags`] restrict them.
    pub fn on_any<Shape, H>(self, handler: H) -> Self
    where
        H: Handler<Shape, On = Raw, Args: FromDelivery<S>, Handling: Handling>,
    {
        self.bind(None, move |delivery, state| {
            let args = H::Args::from_delivery(delivery, state)?;
            let handling = handler.call(Raw::new(delivery.stored.clone()), args);
            Ok(async move { handling.await.into_result() }.boxed())
        })
    }

    fn bind<C>(mut self, names: Option<&'static [&'static str]>, call: C) -> Self
    where
        C: Fn(&Delivery, &S) -> Result<BoxFuture<'static, Result>> + Send + Sync + 'static,
    {
        let call: Call<S> = Arc::new(move |delivery, state| match call(delivery, state) {
            Ok(handling) => handling,
            Err(error) => Box::pin(std::future::ready(Err(error))),
        });
        self.handlers.push(BoundHandler { names, call });
        self
    }

    /// Sets the state that handlers take as `State<S>`; each call receives a clone.
    pub fn with_state(self, state: S) -> Processor {
        let handlers = self.handlers.into_iter().map(|BoundHandler { names, call }| {
            let state = state.clone();
            let call: Call<()> = Arc::new(move |delivery, ()| call(delivery, &state));
            BoundHandler { names, call }
        });
        Processor { handlers: handlers.collect(), definition: self.definition, types: self.types, tags: self.tags }
    }

    /// Sets the number of segments at creation: 16 by default, at most the cluster's limit `segments_max` (16,384). It
    /// bounds how many events all nodes together handle at a time. An existing processor keeps its segments; if the
    /// number differs, the node logs a warning at start and `evener processor show` reports it.
    pub fn segments(mut self, count: u32) -> Self {
        self.definition.segments = count;
        self
    }

    /// Sets the retry schedule: after `first`, then doubling up to `max`, with `attempts` in all including the first.
    /// By default 1 s, 60 s and ten. Delays are whole milliseconds; random jitter shortens each by up to a tenth, so
    /// that events that failed together are not retried together. The node does not start if `first` is less than 1 ms,
    /// or `attempts` is 0.
    pub fn retry(mut self, first: Duration, max: Duration, attempts: u32) -> Self {
        let millis = |wait: Duration| u32::try_from(wait.as_millis()).unwrap_or(u32::MAX);
        self.definition.backoff = Backoff { first_ms: millis(first), max_ms: millis(max), attempts };
        self
    }

    /// Sets what happens if an event keeps failing: by default [`OnError::SetAside`].
    pub fn on_error(mut self, on_error: OnError) -> Self {
        self.definition.on_error = on_error;
        self
    }

    /// Sets which events are handled one after the other: by default [`Sequencing::KeyElseStream`].
    pub fn sequencing(mut self, sequencing: Sequencing) -> Self {
        self.definition.sequencing = sequencing;
        self
    }

    /// Sets where it starts when it is created: by default at [`Start::Beginning`].
    pub fn start(mut self, start: Start) -> Self {
        self.definition.start = start;
        self
    }

    /// Sets the event store whose events it handles: by default [`ContextId::DEFAULT`].
    pub fn context(mut self, context: ContextId) -> Self {
        self.definition.context = context;
        self
    }

    /// Adds event types to those of its handlers. By default none, so that a processor with [`on_any`](Self::on_any)
    /// receives all.
    pub fn types<T: Into<String>>(mut self, types: impl IntoIterator<Item = T>) -> Self {
        self.types.extend(types.into_iter().map(Into::into));
        self
    }

    /// Restricts it to events that have all these tags; by default there is no restriction.
    pub fn tags<T: Into<String>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        self.tags.extend(tags.into_iter().map(Into::into));
        self
    }
}

impl Processor {
    /// Returns its definition for the cluster, and the runner of its handlers.
    ///
    /// # Errors
    /// If it has no handler.
    #[doc(hidden)]
    pub fn into_parts(self) -> Result<(Definition, Arc<dyn Runner>), Incomplete> {
        let Self { mut definition, types, tags, handlers } = self;
        if handlers.is_empty() {
            return Err(Incomplete { processor: definition.name });
        }
        definition.criteria = criteria(types, tags, &handlers);
        Ok((definition, Arc::new(FunctionRunner::new(handlers))))
    }
}

/// Returns the criteria of the handlers. A handler of every event matches all events, unless types were set.
fn criteria(mut types: Vec<String>, tags: Vec<String>, handlers: &[BoundHandler<()>]) -> Criteria {
    let all = types.is_empty() && handlers.iter().any(|handler| handler.names.is_none());
    let named = handlers.iter().filter_map(|handler| handler.names).flatten();
    types.extend(named.map(|name| (*name).to_owned()));
    types.sort();
    types.dedup();
    let item = Criterion { types: if all { Vec::new() } else { types }, tags };
    if item.is_any() { Criteria::ANY } else { Criteria(vec![item]) }
}

/// A processor that has no handler.
#[doc(hidden)]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the processor {processor:?} has no handler: give it one by `.on(…)`, `.on_blocking(…)` or `.on_any(…)`")]
pub struct Incomplete {
    /// The name of the processor.
    pub processor: String,
}

/// A processor that a node can run: its handlers' state is set.
#[diagnostic::on_unimplemented(
    message = "this processor still lacks its state",
    label = "its handlers ask for a `State<…>` that nothing has given them",
    note = "end it with `.with_state(…)`"
)]
pub trait Ready {
    /// Returns the processor.
    fn ready(self) -> Processor;
}

impl Ready for Processor {
    fn ready(self) -> Processor {
        self
    }
}

impl<S> fmt::Debug for Processor<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Processor").field("definition", &self.definition).finish_non_exhaustive()
    }
}

/// Runs the handler functions of a processor.
struct FunctionRunner {
    by_type: BTreeMap<&'static str, Arc<[Call<()>]>>,
    /// The handlers of all other types.
    others: Arc<[Call<()>]>,
}

impl FunctionRunner {
    fn new(handlers: Vec<BoundHandler<()>>) -> Self {
        let of = |wanted: Option<&str>| -> Arc<[Call<()>]> {
            let takes = |names: Option<&[&str]>| names.is_none_or(|names| wanted.is_some_and(|w| names.contains(&w)));
            handlers.iter().filter(|handler| takes(handler.names)).map(|handler| handler.call.clone()).collect()
        };
        let named = handlers.iter().filter_map(|handler| handler.names).flatten();
        Self { by_type: named.map(|name| (*name, of(Some(name)))).collect(), others: of(None) }
    }
}

impl Runner for FunctionRunner {
    fn run(&self, delivery: Delivery) -> BoxFuture<'static, Verdict> {
        let calls = self.by_type.get(delivery.stored.event.kind.as_str()).unwrap_or(&self.others).clone();
        let handling = async move {
            for call in calls.iter() {
                call(&delivery, &()).await?;
            }
            Ok::<(), Error>(())
        };
        // Unwind safety: a handler shares state only through types that detect or tolerate a panic, such as locks.
        let handling = AssertUnwindSafe(handling).catch_unwind();
        Box::pin(async move {
            match handling.await {
                Ok(Ok(())) => Verdict::Handled,
                Ok(Err(error)) => Verdict::from(error),
                Err(panic) => Verdict::retry(format!("the handler panicked: {}", message(&*panic))),
            }
        })
    }
}

/// Returns the message of a panic.
pub(crate) fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&'static str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("(without a text)")
}
