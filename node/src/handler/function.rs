//! Which functions are handlers.
//!
//! [`Handler`] is the *shape* of one: a function of an event and some more. It asks nothing of these types, so
//! that it applies to every function, and what is wrong with one is said of the type that is wrong; the bounds
//! stand where a handler is bound to its processor.

use std::future::Future;

use super::{Delivery, FromDelivery, Outcome, Result};

/// A function of an event and up to eight more things, that gives a future.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not look like an event handler",
    label = "not an event handler",
    note = "a handler is `async fn(event, up to eight more) -> ()` or `-> Result`",
    note = "a plain function, one that is not `async`, goes to `.on_blocking(…)`"
)]
pub trait Handler<Shape>: Clone + Send + Sync + 'static {
    /// Its first parameter.
    type On;
    /// Its further ones.
    type Args;
    /// Its future.
    type Handling;

    /// Calls it.
    fn call(&self, event: Self::On, args: Self::Args) -> Self::Handling;
}

/// A plain function of an event and up to eight more things. It runs on a thread where it may block.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not look like a blocking event handler",
    label = "not a blocking event handler",
    note = "it is `fn(event, up to eight more) -> ()` or `-> Result`; an `async fn` goes to `.on(…)`"
)]
pub trait BlockingHandler<Shape>: Clone + Send + Sync + 'static {
    /// Its first parameter.
    type On;
    /// Its further ones.
    type Args;
    /// What it returns.
    type Returns;

    /// Calls it.
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
