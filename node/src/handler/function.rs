//! The traits that functions implement to be handlers.
//!
//! [`Handler`] describes only the *shape*: a function of an event and further parameters. It has no bounds on these
//! types, so that it applies to every function and the compiler reports an error about the type at fault. The bounds
//! are on the methods of `Processor` that take a handler.

use std::future::Future;

use super::{Delivery, FromDelivery, Outcome, Result};

/// A function of an event and up to eight further parameters that returns a future.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not look like an event handler",
    label = "not an event handler",
    note = "a handler is `async fn(event, up to eight more) -> ()` or `-> Result`",
    note = "a plain function, one that is not `async`, goes to `.on_blocking(…)`"
)]
pub trait Handler<Shape>: Clone + Send + Sync + 'static {
    /// The first parameter: the event.
    type On;
    /// The further parameters.
    type Args;
    /// The returned future.
    type Handling;

    /// Calls the function.
    fn call(&self, event: Self::On, args: Self::Args) -> Self::Handling;
}

/// A plain function of an event and up to eight further parameters. It runs on a thread where it may block.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not look like a blocking event handler",
    label = "not a blocking event handler",
    note = "it is `fn(event, up to eight more) -> ()` or `-> Result`; an `async fn` goes to `.on(…)`"
)]
pub trait BlockingHandler<Shape>: Clone + Send + Sync + 'static {
    /// The first parameter: the event.
    type On;
    /// The further parameters.
    type Args;
    /// The return type.
    type Returns;

    /// Calls the function.
    fn call(&self, event: Self::On, args: Self::Args) -> Self::Returns;
}

/// The future of a handler.
#[diagnostic::on_unimplemented(
    message = "a handler is an `async fn`, and this function is not",
    label = "returns `{Self}`, which is not a future",
    note = "write `async fn`; a plain function, which may block, goes to `.on_blocking(…)`"
)]
pub trait Handling: Future<Output: Outcome> + Send + 'static {}
impl<F: Future<Output: Outcome> + Send + 'static> Handling for F {}

macro_rules! functions {
    ($($arg:ident)*) => {
        impl<F, E, R, $($arg,)*> Handler<(E, $($arg,)*)> for F
        where
            F: Fn(E, $($arg,)*) -> R + Clone + Send + Sync + 'static,
        {
            type On = E;
            type Args = ($($arg,)*);
            type Handling = R;
            #[allow(non_snake_case)]
            fn call(&self, event: E, ($($arg,)*): Self::Args) -> R {
                self(event, $($arg,)*)
            }
        }

        impl<F, E, R, $($arg,)*> BlockingHandler<(E, $($arg,)*)> for F
        where
            F: Fn(E, $($arg,)*) -> R + Clone + Send + Sync + 'static,
        {
            type On = E;
            type Args = ($($arg,)*);
            type Returns = R;
            #[allow(non_snake_case)]
            fn call(&self, event: E, ($($arg,)*): Self::Args) -> R {
                self(event, $($arg,)*)
            }
        }

        impl<S, $($arg: FromDelivery<S>,)*> FromDelivery<S> for ($($arg,)*) {
            #[allow(unused_variables, clippy::unused_unit)]
            fn from_delivery(delivery: &Delivery, state: &S) -> Result<Self> {
                Ok(($($arg::from_delivery(delivery, state)?,)*))
            }
        }
    };
}
functions!();
functions!(A1);
functions!(A1 A2);
functions!(A1 A2 A3);
functions!(A1 A2 A3 A4);
functions!(A1 A2 A3 A4 A5);
functions!(A1 A2 A3 A4 A5 A6);
functions!(A1 A2 A3 A4 A5 A6 A7);
functions!(A1 A2 A3 A4 A5 A6 A7 A8);
