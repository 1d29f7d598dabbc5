//! A processor as a program builds it: a name, its handlers, and how it wants to be run.

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

/// Segments of a processor that says nothing else: enough to share evenly over a handful of nodes, few enough
/// to look at.
pub const SEGMENTS: u32 = 16;

type Call<S> = Arc<dyn Fn(&Delivery, &S) -> BoxFuture<'static, Result> + Send + Sync>;

/// A named consumer of events, made of handlers. The types of their first parameters are its subscription.
///
/// Several handlers may take the same event; they are called in the order in which they were given, and if one
/// fails, all of them are called again at the next attempt.
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
    handlers: Vec<Bound<S>>,
}

struct Bound<S> {
    /// The types it takes; none are all.
    names: Option<&'static [&'static str]>,
    call: Call<S>,
}

impl<S: Clone + Send + Sync + 'static> Processor<S> {
    /// A processor without handlers yet. The name is its identity in the cluster: what was handled under it stays
    /// handled. Unless said otherwise it has 16 segments, begins with the first event of the log, handles the events of
    /// one key, else of one stream, one after the other, tries a failed one again after 1 s, then twice as long each
    /// time up to 60 s, ten times in all, and sets its sequence aside meanwhile.
    ///
    /// What a processor is made with counts when it is created, by the first node that runs it.
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

    /// Gives it an `async fn` that takes an event, and whatever else [`FromDelivery`] can give.
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

    /// Gives it a plain function, that may block: it runs on a thread of its own. It cannot be interrupted: where
    /// its claim is lost it runs on to its end, and only its verdict counts no more.
    pub fn on_blocking<Shape, H>(self, handler: H) -> Self
    where
        H: BlockingHandler<Shape, On: Event, Args: FromDelivery<S> + 'static, Returns: Outcome>,
    {
        self.bind(Some(H::On::NAMES), move |delivery, state| {
            let (event, args) = (decode(&delivery.stored)?, H::Args::from_delivery(delivery, state)?);
            let (handler, turn) = (handler.clone(), delivery.turn.clone());
            let blocking = move || {
                // It runs on after it was given up, and nothing else may handle this sequence meanwhile.
                let _turn = turn;
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

    /// Gives it an `async fn` that takes every event, of whatever type, undecoded. What it sees can be narrowed
    /// by [`Self::types`] and [`Self::tags`].
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
        self.handlers.push(Bound { names, call });
        self
    }

    /// Gives its handlers what they ask for by `State<S>`; each call gets a clone.
    pub fn with_state(self, state: S) -> Processor {
        let handlers = self.handlers.into_iter().map(|Bound { names, call }| {
            let state = state.clone();
            let call: Call<()> = Arc::new(move |delivery, ()| call(delivery, &state));
            Bound { names, call }
        });
        Processor { handlers: handlers.collect(), definition: self.definition, types: self.types, tags: self.tags }
    }

    /// How many segments it is cut into when it is created: 16 by default, and at most the cluster's limit
    /// `segments_max` (16,384). As many events are handled at a time, over all nodes. A processor that exists keeps its
    /// segments; another number here is warned of when the node starts, and shown by `evener processor show`.
    pub fn segments(mut self, count: u32) -> Self {
        self.definition.segments = count;
        self
    }

    /// How failed events are tried again: after `first`, then twice as long each time, up to `max`, and `attempts` in
    /// all, the first included. By default after 1 s, up to 60 s, ten in all. Waits count in whole milliseconds; up to
    /// a tenth is taken away by chance, so that what failed together does not come back together. The node does not
    /// start if `first` is less than 1 ms, or `attempts` is 0.
    pub fn retry(mut self, first: Duration, max: Duration, attempts: u32) -> Self {
        let millis = |wait: Duration| u32::try_from(wait.as_millis()).unwrap_or(u32::MAX);
        self.definition.backoff = Backoff { first_ms: millis(first), max_ms: millis(max), attempts };
        self
    }

    /// What happens when an event keeps failing: by default [`OnError::SetAside`].
    pub fn on_error(mut self, on_error: OnError) -> Self {
        self.definition.on_error = on_error;
        self
    }

    /// Which events are handled one after the other: by default [`Sequencing::KeyElseStream`].
    pub fn sequencing(mut self, sequencing: Sequencing) -> Self {
        self.definition.sequencing = sequencing;
        self
    }

    /// Where it starts when it is created: by default at [`Start::Beginning`].
    pub fn start(mut self, start: Start) -> Self {
        self.definition.start = start;
        self
    }

    /// The event store whose events it handles: by default [`ContextId::DEFAULT`].
    pub fn context(mut self, context: ContextId) -> Self {
        self.definition.context = context;
        self
    }

    /// Types of event that it wants, beside those its handlers name. By default none, so that a processor with an
    /// [`on_any`](Self::on_any) wants all.
    pub fn types<T: Into<String>>(mut self, types: impl IntoIterator<Item = T>) -> Self {
        self.types.extend(types.into_iter().map(Into::into));
        self
    }

    /// Only events that bear all these tags; by default whatever their tags.
    pub fn tags<T: Into<String>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        self.tags.extend(tags.into_iter().map(Into::into));
        self
    }
}

impl Processor {
    /// What the cluster is told of it, and what runs it here.
    ///
    /// # Errors
    /// Where it has no handler.
    #[doc(hidden)]
    pub fn into_parts(self) -> Result<(Definition, Arc<dyn Runner>), Incomplete> {
        let Self { mut definition, types, tags, handlers } = self;
        if handlers.is_empty() {
            return Err(Incomplete { processor: definition.name });
        }
        definition.criteria = criteria(types, tags, &handlers);
        Ok((definition, Arc::new(Functions::new(handlers))))
    }
}

/// A handler of every event wants every event, unless types were named.
fn criteria(mut types: Vec<String>, tags: Vec<String>, handlers: &[Bound<()>]) -> Criteria {
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
    /// Which one.
    pub processor: String,
}

/// A processor that a node can run: one whose handlers have all they ask for.
#[diagnostic::on_unimplemented(
    message = "this processor still lacks its state",
    label = "its handlers ask for a `State<…>` that nothing has given them",
    note = "end it with `.with_state(…)`"
)]
pub trait Ready {
    /// As it is.
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

/// Runs the functions of a processor.
struct Functions {
    by_type: BTreeMap<&'static str, Arc<[Call<()>]>>,
    /// For types that nobody named.
    others: Arc<[Call<()>]>,
}

impl Functions {
    fn new(handlers: Vec<Bound<()>>) -> Self {
        let of = |wanted: Option<&str>| -> Arc<[Call<()>]> {
            let takes = |names: Option<&[&str]>| names.is_none_or(|names| wanted.is_some_and(|w| names.contains(&w)));
            handlers.iter().filter(|handler| takes(handler.names)).map(|handler| handler.call.clone()).collect()
        };
        let named = handlers.iter().filter_map(|handler| handler.names).flatten();
        Self { by_type: named.map(|name| (*name, of(Some(name)))).collect(), others: of(None) }
    }
}

impl Runner for Functions {
    fn run(&self, delivery: Delivery) -> BoxFuture<'static, Verdict> {
        let calls = self.by_type.get(delivery.stored.event.kind.as_str()).unwrap_or(&self.others).clone();
        let handling = async move {
            for call in calls.iter() {
                call(&delivery, &()).await?;
            }
            Ok::<(), Error>(())
        };
        // A handler that panicked has had its own state to itself; what it shares, it shares by what poisons.
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

/// What a panic said.
pub(crate) fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&'static str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("(without a text)")
}
