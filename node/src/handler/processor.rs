//! The builder of a processor: its name, its handlers, and its settings.

use std::{any::Any, collections::BTreeMap, fmt, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use evener_core::{
    backoff::Backoff,
    criteria::{Criteria, Criterion},
    id::ContextId,
    processor::{self, Definition, OnError, Start},
    replay::ReplayPhase,
    sequence::Sequencing,
};
use futures::{FutureExt, future::BoxFuture};

use super::{
    BlockingHandler, Delivery, Error, Event, FromDelivery, FromReset, Handler, Handling, Outcome, Raw, Reset, Result,
    Runner, Verdict,
    event::decode,
    reset::{HookCall, Hooks},
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
    hooks: Hooks<S>,
    /// Whether `no_replay` was called before any handler was added.
    no_replay_of_nothing: bool,
}

struct BoundHandler<S> {
    /// The event types it handles; none for all.
    names: Option<&'static [&'static str]>,
    call: Call<S>,
    /// Whether it is not called for replayed events.
    no_replay: bool,
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
        let (types, tags, handlers) = (Vec::new(), Vec::new(), Vec::new());
        Self { definition, types, tags, handlers, hooks: Hooks::NONE, no_replay_of_nothing: false }
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
        self.handlers.push(BoundHandler { names, call, no_replay: false });
        self
    }

    /// Excludes the handler that was added last from replays: after `evener processor reset`, it is not called for
    /// events that the processor had passed before. It is called again with the first new event. For handlers that send
    /// mail or charge a card.
    pub fn no_replay(mut self) -> Self {
        match self.handlers.last_mut() {
            Some(handler) => handler.no_replay = true,
            None => self.no_replay_of_nothing = true,
        }
        self
    }

    /// Sets the hook that runs before a replay begins, as to clear a table: an `async fn(Reset)` or
    /// `async fn(Reset, State<S>)`. No event is handled until it has returned `Ok`; if it fails, it is run again. One
    /// node runs it; if that node ends meanwhile, another one runs it again. So it runs at least once, and may be
    /// cancelled at any `.await`.
    ///
    /// ```
    /// use evener::prelude::*;
    ///
    /// # #[derive(Event, Serialize, Deserialize)]
    /// # #[event(name = "order.paid.v1", key = order)]
    /// # struct Paid { order: u64 }
    /// # async fn count(_: Paid, State(_): State<Table>) {}
    /// # #[derive(Clone)]
    /// # struct Table;
    /// # impl Table { async fn clear(&self) -> Result { Ok(()) } }
    /// async fn clear(_: Reset, State(table): State<Table>) -> Result {
    ///     table.clear().await
    /// }
    ///
    /// let totals = Processor::new("totals").on(count).before_replay(clear).with_state(Table);
    /// ```
    pub fn before_replay<Shape, H>(mut self, hook: H) -> Self
    where
        H: Handler<Shape, On = Reset, Args: FromReset<S>, Handling: Handling>,
    {
        self.hooks.before = Some(hook_call(hook));
        self
    }

    /// Sets the hook that runs once a replay has ended: every segment has passed the events that it had passed before,
    /// or an operator ended the replay. It runs at least once, as [`Self::before_replay`] does; new events are handled
    /// meanwhile.
    pub fn after_replay<Shape, H>(mut self, hook: H) -> Self
    where
        H: Handler<Shape, On = Reset, Args: FromReset<S>, Handling: Handling>,
    {
        self.hooks.after = Some(hook_call(hook));
        self
    }

    /// Sets the state that handlers take as `State<S>`; each call receives a clone.
    pub fn with_state(self, state: S) -> Processor {
        let handlers = self.handlers.into_iter().map(|BoundHandler { names, call, no_replay }| {
            let state = state.clone();
            let call: Call<()> = Arc::new(move |delivery, ()| call(delivery, &state));
            BoundHandler { names, call, no_replay }
        });
        let hook = |call: HookCall<S>| -> HookCall<()> {
            let state = state.clone();
            Arc::new(move |reset, ()| call(reset, &state))
        };
        let hooks = Hooks { before: self.hooks.before.map(hook), after: self.hooks.after.map(hook) };
        let (definition, types, tags) = (self.definition, self.types, self.tags);
        let no_replay_of_nothing = self.no_replay_of_nothing;
        Processor { handlers: handlers.collect(), definition, types, tags, hooks, no_replay_of_nothing }
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
    /// If it has no handler, or `no_replay` stands before the first one.
    #[doc(hidden)]
    pub fn into_parts(self) -> Result<(Definition, Arc<dyn Runner>), Incomplete> {
        let Self { mut definition, types, tags, handlers, hooks, no_replay_of_nothing } = self;
        if handlers.is_empty() {
            return Err(Incomplete::NoHandler(definition.name));
        }
        if no_replay_of_nothing {
            return Err(Incomplete::NoReplay(definition.name));
        }
        definition.criteria = criteria(types, tags, &handlers);
        Ok((definition, Arc::new(FunctionRunner::new(handlers, hooks))))
    }
}

/// Returns the call of a hook.
fn hook_call<S, Shape, H>(hook: H) -> HookCall<S>
where
    H: Handler<Shape, On = Reset, Args: FromReset<S>, Handling: Handling>,
{
    Arc::new(move |reset, state| {
        let handling = hook.call(reset, H::Args::from_reset(state));
        Box::pin(async move { handling.await.into_result() })
    })
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

/// Why a processor cannot be run, each with its name.
#[doc(hidden)]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Incomplete {
    /// It has no handler.
    #[error("the processor {0:?} has no handler: give it one by `.on(…)`, `.on_blocking(…)` or `.on_any(…)`")]
    NoHandler(String),
    /// `no_replay` excludes no handler.
    #[error("the processor {0:?} calls `.no_replay()` before its first handler: it applies to the handler before it")]
    NoReplay(String),
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

/// A handler's call, and whether it is not made for replayed events.
type OptionalCall = (Call<()>, bool);

/// Runs the handler functions of a processor.
struct FunctionRunner {
    by_type: BTreeMap<&'static str, Arc<[OptionalCall]>>,
    /// The handlers of all other types.
    others: Arc<[OptionalCall]>,
    hooks: Hooks<()>,
}

impl FunctionRunner {
    fn new(handlers: Vec<BoundHandler<()>>, hooks: Hooks<()>) -> Self {
        let of = |wanted: Option<&str>| -> Arc<[OptionalCall]> {
            let takes = |names: Option<&[&str]>| names.is_none_or(|names| wanted.is_some_and(|w| names.contains(&w)));
            let taking = handlers.iter().filter(|handler| takes(handler.names));
            taking.map(|handler| (handler.call.clone(), handler.no_replay)).collect()
        };
        let named = handlers.iter().filter_map(|handler| handler.names).flatten();
        let by_type = named.map(|name| (*name, of(Some(name)))).collect();
        Self { by_type, others: of(None), hooks }
    }
}

impl Runner for FunctionRunner {
    fn run(&self, delivery: Delivery) -> BoxFuture<'static, Verdict> {
        let calls = self.by_type.get(delivery.stored.event.kind.as_str()).unwrap_or(&self.others).clone();
        let handling = async move {
            for (call, no_replay) in calls.iter() {
                if !(*no_replay && delivery.replaying) {
                    call(&delivery, &()).await?;
                }
            }
            Ok::<(), Error>(())
        };
        Box::pin(async move {
            match caught("handler", handling).await {
                Ok(()) => Verdict::Handled,
                Err(error) => Verdict::from(error),
            }
        })
    }

    fn run_hook(&self, phase: ReplayPhase, reset: Reset) -> BoxFuture<'static, Result> {
        match self.hooks.of(phase) {
            Some(hook) => Box::pin(caught("hook", hook(reset, &()))),
            None => Box::pin(std::future::ready(Ok(()))),
        }
    }
}

/// Runs a function of the program; its panic is a failure.
async fn caught(what: &str, running: impl Future<Output = Result>) -> Result {
    // Unwind safety: a handler shares state only through types that detect or tolerate a panic, such as locks.
    let result = AssertUnwindSafe(running).catch_unwind().await;
    result.unwrap_or_else(|panic| Err(Error::retry(format!("the {what} panicked: {}", message(&*panic)))))
}

/// Returns the message of a panic.
pub(crate) fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&'static str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("(without a text)")
}
