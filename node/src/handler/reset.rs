//! Hooks of a replay: functions that run before it begins, as to clear a table, and after it has ended.

use std::sync::Arc;

use evener_core::{coordinator::Hook, replay::ReplayPhase};
use futures::future::BoxFuture;
use serde::de::DeserializeOwned;

use super::{Claim, Error, Result, State};

/// The reset of a processor, as its hooks receive it.
#[derive(Clone, Debug)]
pub struct Reset {
    claim: Claim,
    generation: u64,
    context: Option<Arc<str>>,
}

/// A hook of a replay, with its state.
pub(crate) type HookCall<S> = Arc<dyn Fn(Reset, &S) -> BoxFuture<'static, Result> + Send + Sync>;

/// The hooks of a processor.
pub(crate) struct Hooks<S> {
    pub before: Option<HookCall<S>>,
    pub after: Option<HookCall<S>>,
}

impl Reset {
    pub(crate) fn new(processor: Arc<str>, hook: &Hook) -> Self {
        let Hook { segment, mask, epoch, generation, ref context, .. } = *hook;
        let claim = Claim { processor, segment, mask, epoch, lent: false };
        Self { claim, generation: generation.0, context: context.as_deref().map(Arc::from) }
    }

    /// Returns the context that was given with the reset, if any was.
    ///
    /// # Errors
    /// If the context is not a `T`.
    pub fn context<T: DeserializeOwned>(&self) -> Result<Option<T>> {
        read_context(self.context.as_deref())
    }

    /// Returns the number of the reset, counted per processor from 1: a hook that is run again has the same.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// Returns the claim under which the hook runs, which is that of the processor's first segment. Its epoch is a
    /// fencing token for your own database: a node that runs the hook in place of this one has a higher one.
    #[must_use]
    pub const fn claim(&self) -> &Claim {
        &self.claim
    }
}

/// Reads the context of a reset.
pub(super) fn read_context<T: DeserializeOwned>(context: Option<&str>) -> Result<Option<T>> {
    let read = |json| serde_json::from_str(json);
    let wrong = |error| Error::retry(format!("the context of the reset is not what the program reads: {error}"));
    context.map(read).transpose().map_err(wrong)
}

/// What a hook takes beside the [`Reset`]: nothing, or the processor's state.
#[diagnostic::on_unimplemented(
    message = "a hook of a replay cannot ask for `{Self}`",
    note = "it is `async fn(Reset)` or `async fn(Reset, State<S>)`, where `.with_state(…)` gives the `S`"
)]
pub trait FromReset<S>: Sized + Send {
    /// Extracts the values from the processor's state.
    fn from_reset(state: &S) -> Self;
}

impl<S> FromReset<S> for () {
    fn from_reset(_: &S) -> Self {}
}

impl<S: Clone + Send> FromReset<S> for (State<S>,) {
    fn from_reset(state: &S) -> Self {
        (State(state.clone()),)
    }
}

impl<S> Hooks<S> {
    pub(crate) const NONE: Self = Self { before: None, after: None };

    /// Returns the hook that ends a phase, if there is one.
    pub(crate) fn of(&self, phase: ReplayPhase) -> Option<&HookCall<S>> {
        if phase == ReplayPhase::Preparing { self.before.as_ref() } else { self.after.as_ref() }
    }
}
