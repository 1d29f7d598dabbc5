//! Compiler messages for types that are often used where an event is expected. Each implements [`Event`] under a bound
//! that nothing satisfies. The compiler then reports the bound, whose message names the mistake, instead of suggesting
//! to derive [`Event`] for a type that cannot implement it. The list is short because the compiler prints all of it if
//! a derive is missing.
//!
//! The bounds are on [`Given`], since the compiler reports the message of [`Event`] if a bound is on the type itself.
//! `for<'a>` keeps it from checking the bound at this definition.

use std::{borrow::Cow, marker::PhantomData};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};

use super::{Event, Raw, State};

/// A type that was given where an event is wanted.
pub struct Given<T>(PhantomData<T>);

/// A reference to an event: never implemented.
#[diagnostic::on_unimplemented(
    message = "`&{T}` is a reference: an event is given and taken by value",
    label = "by reference",
    note = "write `{T}` instead of `&{T}`"
)]
pub trait ByValue<T>: Serialize + DeserializeOwned + Send + Sync {}

/// Data that may belong to any event: never implemented.
#[diagnostic::on_unimplemented(
    message = "`{T}` is not an event: nothing says which event it is the data of",
    label = "plain data, not an event",
    note = "make it a field of a struct with `#[derive(Event, Serialize, Deserialize)]` and `#[event(name = \"…\")]`",
    note = "a handler of every event, of whatever type, takes a `Raw` and goes to `.on_any(…)`"
)]
pub trait OfOneEvent<T> {}

/// What a handler may ask for beside its event: never implemented.
#[diagnostic::on_unimplemented(
    message = "the first parameter of a handler is its event, and `{T}` comes after it",
    label = "its first parameter is not an event",
    note = "put the event first: `async fn project(event: Credited, …)`"
)]
pub trait AfterEvent<T> {}

/// An event of any type: never implemented.
#[diagnostic::on_unimplemented(
    message = "a handler of every event, which takes a `Raw`, goes to `.on_any(…)`",
    label = "takes events of every type",
    note = "`.on(…)` subscribes to the type of the first parameter; `.types([…])` narrows what `.on_any(…)` is given"
)]
pub trait OfOneType<T> {}

/// Trait items that are never called.
macro_rules! no_event {
    () => {
        const NAMES: &'static [&'static str] = &[];

        fn name(&self) -> &'static str {
            ""
        }

        fn key(&self) -> Option<Cow<'_, str>> {
            None
        }
    };
}

#[doc(hidden)]
impl<T: Sync + 'static> Event for &'static T
where
    for<'a> &'a T: ByValue<T>,
{
    no_event!();
}

#[doc(hidden)]
impl Event for String
where
    for<'a> Given<Self>: OfOneEvent<Self>,
{
    no_event!();
}

#[doc(hidden)]
impl<S: Send + Sync + 'static> Event for State<S>
where
    Given<Self>: AfterEvent<Self>,
{
    no_event!();
}

#[doc(hidden)]
impl<S> Serialize for State<S>
where
    Given<Self>: AfterEvent<Self>,
{
    fn serialize<W: Serializer>(&self, to: W) -> Result<W::Ok, W::Error> {
        to.serialize_unit()
    }
}

#[doc(hidden)]
impl<'de, S> Deserialize<'de> for State<S>
where
    Given<Self>: AfterEvent<Self>,
{
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom("it is not an event"))
    }
}

#[doc(hidden)]
impl Event for Raw
where
    for<'a> Given<Self>: OfOneType<Self>,
{
    no_event!();
}

#[doc(hidden)]
impl Serialize for Raw
where
    for<'a> Given<Self>: OfOneType<Self>,
{
    fn serialize<W: Serializer>(&self, to: W) -> Result<W::Ok, W::Error> {
        to.serialize_unit()
    }
}

#[doc(hidden)]
impl<'de> Deserialize<'de> for Raw
where
    for<'a> Given<Self>: OfOneType<Self>,
{
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom("it is not an event"))
    }
}
