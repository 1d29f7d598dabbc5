//! Types that are often given where an event is wanted. Each implements [`Event`] under a condition that nothing
//! meets: the compiler then reports the condition, whose text names the mistake, where it would otherwise advise to
//! derive [`Event`] for a type that cannot have it. They are few, as it lists them all where a derive is missing.
//!
//! It reports the text of [`Event`] itself if the condition is on the very type, so the conditions are on [`Given`].
//! A `for` keeps it from judging a condition here, where nobody has made the mistake.

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

/// What nobody calls.
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
