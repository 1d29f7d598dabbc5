//! Handlers: the functions that a program gives to its processors.
//!
//! Read in this order: what an [`Event`] is; the [`Delivery`] that brings one to a handler, and the [`Verdict`] it
//! gives back; what a handler may ask for beside the event ([`FromDelivery`]) and return ([`Outcome`]); which functions
//! are handlers at all ([`Handler`], [`BlockingHandler`]); and the [`Processor`] that binds them to a name.

mod event;
mod mistaken;
mod payload;

mod delivery;

mod error;
mod extract;

mod function;

mod processor;

mod pool;
mod turn;
mod watch;

#[cfg(test)]
mod tests;

pub(crate) use delivery::cause;
pub use delivery::{CAUSE_BYTES_MAX, Delivery, Runner, Verdict};
pub use error::{Error, Every, Outcome, Result};
pub use event::{Event, Raw, decode, encode};
pub use extract::{Attempt, Claim, FromDelivery, Meta, Replaying, State};
pub use function::{BlockingHandler, Handler, Handling};
#[doc(hidden)]
pub use pool::{Handlers, Running};
pub use processor::{Incomplete, Processor, Ready, SEGMENTS};
pub(crate) use turn::{Turn, Turns};
#[doc(hidden)]
pub use watch::{HandlerWatch, Held};
