//! The further parameters of a handler, after the event and in any order.

use std::sync::Arc;

use evener_core::{
    id::{Epoch, Position, Revision, SegmentId},
    time::Timestamp,
};
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::{Delivery, Result, reset::read_context};
use crate::event::Stored;

/// A handler parameter that is taken from the delivery. `S` is the state of the processor.
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
    note = "after the event a handler may take: `State<S>`, `Position`, `Meta`, `Attempt`, `Claim`, `Replaying`, \
            `ReplayContext<T>`",
    note = "`State<S>` has the type that `.with_state(…)` gives: one for all handlers of a processor",
    note = "for a type of your own, implement `evener::FromDelivery<{S}>` for it"
)]
pub trait FromDelivery<S>: Sized + Send {
    /// Extracts the value from the delivery or the processor's state.
    ///
    /// # Errors
    /// If the value is missing. The handler is then not called, and the error counts as the handler's.
    fn from_delivery(delivery: &Delivery, state: &S) -> Result<Self>;
}

/// A clone of the state passed to `.with_state(…)`.
#[derive(Clone, Copy, Debug)]
pub struct State<S>(pub S);

impl<S: Clone + Send> FromDelivery<S> for State<S> {
    fn from_delivery(_: &Delivery, state: &S) -> Result<Self> {
        Ok(Self(state.clone()))
    }
}

/// The position of the event.
impl<S> FromDelivery<S> for Position {
    fn from_delivery(delivery: &Delivery, _: &S) -> Result<Self> {
        Ok(delivery.stored.position)
    }
}

/// The number of the attempt at this event, from 1, counted over all nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attempt(pub u32);

impl<S> FromDelivery<S> for Attempt {
    fn from_delivery(delivery: &Delivery, _: &S) -> Result<Self> {
        Ok(Self(delivery.attempt))
    }
}

/// Whether the processor had passed the event before a reset, so that it is delivered again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replaying(pub bool);

impl<S> FromDelivery<S> for Replaying {
    fn from_delivery(delivery: &Delivery, _: &S) -> Result<Self> {
        Ok(Self(delivery.replaying))
    }
}

/// The context that was given with the reset, if the event is a replay and one was given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplayContext<T>(pub Option<T>);

impl<S, T: DeserializeOwned + Send> FromDelivery<S> for ReplayContext<T> {
    fn from_delivery(delivery: &Delivery, _: &S) -> Result<Self> {
        read_context(delivery.replay_context.as_deref()).map(Self)
    }
}

/// The claim under which the event is handled; its epoch is a fencing token for your own database.
///
/// Keep the `epoch` of each `processor`, `segment` and `mask` in the database. In the transaction that writes, refuse
/// an event if a row of a segment that shares events with this one has a higher epoch. A node that was frozen or
/// partitioned then changes nothing there once another node has written in its place. This holds for owners and for
/// nodes that were [lent](Self::lent) the sequence, and across splits and merges of segments. In SQLite:
///
/// ```sql
/// INSERT INTO fence SELECT $processor, $segment, $mask, $epoch WHERE NOT EXISTS (
///         SELECT 1 FROM fence AS f WHERE f.processor = $processor AND f.epoch > $epoch
///             AND f.segment & f.mask & $mask = $segment & f.mask & $mask)
///     ON CONFLICT (processor, segment, mask) DO UPDATE SET epoch = excluded.epoch
/// ```
///
/// If that changes no row, roll back and return an error. This does not count as an attempt: if the node still has a
/// right to the event, the event is delivered again under the current epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The processor.
    pub processor: Arc<str>,
    /// The segment.
    pub segment: SegmentId,
    /// The hash bits that select the segment: two segments share events if their numbers agree in all bits set in both
    /// masks.
    pub mask: u32,
    /// The epoch. It increases whenever a right to the segment is revoked from a node that may still be running.
    pub epoch: Epoch,
    /// Whether the event failed on the segment's owner and was lent to this node for one attempt. The epoch is the
    /// segment's in either case.
    pub lent: bool,
}

impl<S> FromDelivery<S> for Claim {
    fn from_delivery(delivery: &Delivery, _: &S) -> Result<Self> {
        let Delivery { processor, segment, mask, epoch, lent, .. } = delivery;
        let (segment, mask, epoch, lent) = (*segment, *mask, *epoch, *lent);
        Ok(Self { processor: processor.clone(), segment, mask, epoch, lent })
    }
}

/// The metadata of the event: everything but its payload.
#[derive(Clone, Debug)]
pub struct Meta(Arc<Stored>);

impl<S> FromDelivery<S> for Meta {
    fn from_delivery(delivery: &Delivery, _: &S) -> Result<Self> {
        Ok(Self::of(delivery))
    }
}

impl Meta {
    /// Returns the metadata of the delivered event.
    #[must_use]
    pub fn of(delivery: &Delivery) -> Self {
        Self(delivery.stored.clone())
    }

    /// Returns the event's UUID, unique within its context for all time. It is derived from the event's source and the
    /// producer's id.
    #[must_use]
    pub fn id(&self) -> Uuid {
        self.0.event.id
    }

    /// Returns the id as given by the producer; none if the event has only a UUID.
    #[must_use]
    pub fn given_id(&self) -> Option<&str> {
        self.0.event.given_id.as_deref()
    }

    /// Returns the event type (CloudEvents `type`).
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.0.event.kind
    }

    /// Returns the producer of the event (CloudEvents `source`).
    #[must_use]
    pub fn source(&self) -> &str {
        &self.0.event.source
    }

    /// Returns the stream of the event (CloudEvents `subject`).
    #[must_use]
    pub fn stream(&self) -> Option<&str> {
        self.0.event.stream.as_deref()
    }

    /// Returns the event's number within its stream, from 0.
    #[must_use]
    pub fn revision(&self) -> Option<Revision> {
        self.0.revision
    }

    /// Returns the key of its sequence, if events are not ordered by stream.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        self.0.event.key.as_deref()
    }

    /// Returns the event's position.
    #[must_use]
    pub fn position(&self) -> Position {
        self.0.position
    }

    /// Returns the producer's time as given.
    #[must_use]
    pub fn time(&self) -> Option<&str> {
        self.0.event.time.as_deref()
    }

    /// Returns the time at which the log recorded the event.
    #[must_use]
    pub fn recorded(&self) -> Timestamp {
        self.0.recorded
    }

    /// Returns the event's tags.
    #[must_use]
    pub fn tags(&self) -> &[String] {
        &self.0.event.tags
    }

    /// Returns the value of the first tag `name=…`.
    #[must_use]
    pub fn tag(&self, name: &str) -> Option<&str> {
        self.tags().iter().find_map(|tag| tag.strip_prefix(name)?.strip_prefix('='))
    }

    /// Returns the CloudEvents extension attributes: name and JSON value.
    #[must_use]
    pub fn extensions(&self) -> &[(String, String)] {
        &self.0.event.extensions
    }

    /// Returns the extension of this name if it exists and has this type.
    #[must_use]
    pub fn extension<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        let (_, json) = self.extensions().iter().find(|(known, _)| known == name)?;
        serde_json::from_str(json).ok()
    }
}
