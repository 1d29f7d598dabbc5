//! Handlers: the functions that a program registers with its processors.
//!
//! Read in this order: the [`Event`] trait; the [`Delivery`] of an event to a handler, and its [`Verdict`]; the further
//! parameters of a handler ([`FromDelivery`]) and its return value ([`Outcome`]); the traits of handler functions
//! ([`Handler`], [`BlockingHandler`]); the [`Processor`], a named set of handlers; and the
//! [`Reset`], which the hooks of a replay receive.

mod diagnostics;
mod event;
mod payload;

mod delivery;

mod error;
mod extract;

mod function;

mod processor;
mod reset;

mod pool;
mod sequence_lock;
mod watch;

#[cfg(test)]
mod tests;

pub(crate) use delivery::cause;
pub use delivery::{CAUSE_BYTES_MAX, Delivery, Runner, Verdict};
pub use error::{DurationExt, Error, Outcome, Result};
pub use event::{Event, Raw, decode, encode};
pub use extract::{Attempt, Claim, FromDelivery, Meta, ReplayContext, Replaying, State};
pub use function::{BlockingHandler, Handler, Handling};
#[doc(hidden)]
pub use pool::{Handlers, Running};
pub use processor::{Incomplete, Processor, Ready, SEGMENTS};
pub use reset::{FromReset, Reset};
pub(crate) use sequence_lock::{SequenceGuard, SequenceLocks};
#[doc(hidden)]
pub use watch::{BlockedThread, HandlerWatch};
