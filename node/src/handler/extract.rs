//! What a handler may ask for beside the event, in any order.

use std::sync::Arc;

use evener_core::{
    id::{Epoch, Position, Revision, SegmentId},
    time::Timestamp,
};
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::{Delivery, Result};
use crate::event::Stored;

/// Something that a delivery can give to a handler. `S` is the state of the processor.
///
/// ```
/// use evener::{handler::Delivery, prelude::*};
///
/// /// The value of the tag `tenant=…`.
/// struct Tenant(String);
///
/// impl<S> FromDelivery<S> for Tenant {
///     fn from_delivery(delivery: &Delivery, _: &S) -> Result<Self> {
///         let meta = Meta::of(delivery);
///         meta.tag("tenant").map(|name| Self(name.to_owned())).ok_or_else(|| Error::set_aside("no tenant"))
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "a handler cannot ask for `{Self}`",
    label = "not something a delivery can give",
    note = "after the event a handler may take: `State<S>`, `Position`, `Meta`, `Attempt`, `Replaying`, `Claim`",
    note = "`State<S>` has the type that `.with_state(…)` gives: one for all handlers of a processor",
    note = "for a type of your own, implement `evener::FromDelivery<{S}>` for it"
)]
pub trait FromDelivery<S>: Sized + Send {
    /// Takes it from the delivery, or from the processor's state.
    ///
    /// # Errors
    /// Where it is not there: the handler is not called, and the error is taken for its own.
    fn from_delivery(delivery: &Delivery, state: &S) -> Result<Self>;
}

/// What the processor was given by `.with_state(…)`: a clone of it.
#[derive(Clone, Copy, Debug)]
pub struct State<S>(pub S);

impl<S: Clone + Send> FromDelivery<S> for State<S> {
    fn from_delivery(_: &Delivery, state: &S) -> Result<Self> {
        Ok(Self(state.clone()))
    }
}

/// Where the event stands.
impl<S> FromDelivery<S> for Position {
    fn from_delivery(delivery: &Delivery, _: &S) -> Result<Self> {
        Ok(delivery.stored.position)
    }
}

/// Which attempt at this event it is, from 1, on whichever node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attempt(pub u32);

impl<S> FromDelivery<S> for Attempt {
    fn from_delivery(delivery: &Delivery, _: &S) -> Result<Self> {
        Ok(Self(delivery.attempt))
    }
}

/// Whether the event was handled before, and comes again because of a reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replaying(pub bool);

impl<S> FromDelivery<S> for Replaying {
    fn from_delivery(delivery: &Delivery, _: &S) -> Result<Self> {
        Ok(Self(delivery.replaying))
    }
}

/// The right under which the event is handled: the fence to hand to a database of your own.
///
/// Keep the `epoch` of each `processor`, `segment` and `mask` in the database. In the transaction that writes, refuse
/// an event if a row of a segment that shares events with this one has a higher epoch. Then a node that was frozen or
/// cut off changes nothing there once another has written in its place, whoever of the two owned the segment or was
/// [lent](Self::lent) the sequence, and also if segments were split or merged meanwhile. This is SQLite:
///
/// ```sql
/// INSERT INTO fence SELECT $processor, $segment, $mask, $epoch WHERE NOT EXISTS (
///         SELECT 1 FROM fence AS f WHERE f.processor = $processor AND f.epoch > $epoch
///             AND f.segment & f.mask & $mask = $segment & f.mask & $mask)
///     ON CONFLICT (processor, segment, mask) DO UPDATE SET epoch = excluded.epoch
/// ```
///
/// If that changes no row, roll back and return an error. It counts as no attempt: if the node has a right to the
/// event at all, the event comes again under the epoch that is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Of which processor.
    pub processor: Arc<str>,
    /// Which segment.
    pub segment: SegmentId,
    /// Which bits of a hash the segment looks at: two segments share events if their numbers agree in the bits that are
    /// in both masks.
    pub mask: u32,
    /// Grows whenever a right to handle events of the segment is taken from a node that may still be at work.
    pub epoch: Epoch,
    /// The event failed on the segment's owner, which has lent this node a try of it. For information: the epoch is
    /// the segment's, as for its owner.
    pub lent: bool,
}

impl<S> FromDelivery<S> for Claim {
    fn from_delivery(delivery: &Delivery, _: &S) -> Result<Self> {
        let Delivery { processor, segment, mask, epoch, lent, .. } = delivery;
        let (segment, mask, epoch, lent) = (*segment, *mask, *epoch, *lent);
        Ok(Self { processor: processor.clone(), segment, mask, epoch, lent })
    }
}

/// Everything the log knows of the event but its payload.
#[derive(Clone, Debug)]
pub struct Meta(Arc<Stored>);

impl<S> FromDelivery<S> for Meta {
    fn from_delivery(delivery: &Delivery, _: &S) -> Result<Self> {
        Ok(Self::of(delivery))
    }
}

impl Meta {
    /// Of the event of this delivery.
    #[must_use]
    pub fn of(delivery: &Delivery) -> Self {
        Self(delivery.stored.clone())
    }

    /// Returns its UUID, unique within its context for all time: it follows from the event's source and the id that its
    /// producer gave it.
    #[must_use]
    pub fn id(&self) -> Uuid {
        self.0.event.id
    }

    /// Returns the id that its producer gave it, as it was given. None if the event was stored under its UUID alone.
    #[must_use]
    pub fn given_id(&self) -> Option<&str> {
        self.0.event.given_id.as_deref()
    }

    /// Its type (CloudEvents `type`).
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.0.event.kind
    }

    /// Who told it.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.0.event.source
    }

    /// The aggregate it happened to (CloudEvents `subject`).
    #[must_use]
    pub fn stream(&self) -> Option<&str> {
        self.0.event.stream.as_deref()
    }

    /// Its number within its stream, from 0.
    #[must_use]
    pub fn revision(&self) -> Option<Revision> {
        self.0.revision
    }

    /// What orders it, if not its stream.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        self.0.event.key.as_deref()
    }

    /// Where it stands.
    #[must_use]
    pub fn position(&self) -> Position {
        self.0.position
    }

    /// Its producer's time, as it wrote it.
    #[must_use]
    pub fn time(&self) -> Option<&str> {
        self.0.event.time.as_deref()
    }

    /// When the log recorded it.
    #[must_use]
    pub fn recorded(&self) -> Timestamp {
        self.0.recorded
    }

    /// Its labels.
    #[must_use]
    pub fn tags(&self) -> &[String] {
        &self.0.event.tags
    }

    /// The value of its first tag `name=…`.
    #[must_use]
    pub fn tag(&self, name: &str) -> Option<&str> {
        self.tags().iter().find_map(|tag| tag.strip_prefix(name)?.strip_prefix('='))
    }

    /// Its further CloudEvents attributes, by name, as JSON.
    #[must_use]
    pub fn extensions(&self) -> &[(String, String)] {
        &self.0.event.extensions
    }

    /// One of these, if it is there and of this type.
    #[must_use]
    pub fn extension<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        let (_, json) = self.extensions().iter().find(|(known, _)| known == name)?;
        serde_json::from_str(json).ok()
    }
}
