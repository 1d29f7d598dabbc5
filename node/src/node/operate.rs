//! What a person, or a program for one, can do with a processor and with what it has set aside.

use evener_core::{
    command::Selection,
    id::{ComponentId, Position, SegmentId},
};

use super::{Node, odd};
use crate::{
    engine::{Change, DeadLetter, Operation, Processor, Reply, Request, What},
    error::ApiError,
};

/// A processor of the cluster.
#[derive(Clone)]
#[must_use]
pub struct ProcessorHandle {
    node: Node,
    name: String,
    reason: Option<String>,
}

/// What a processor of the cluster has set aside.
#[derive(Clone)]
#[must_use]
pub struct DeadLetters {
    node: Node,
    name: String,
    reason: Option<String>,
}

impl Node {
    async fn change(&self, what: What, reason: Option<&String>) -> Result<Operation, ApiError> {
        // Its name is drawn once: repeated, it is done once.
        let change = Change { reason: reason.cloned(), ..Change::new(what) };
        match self.ask(Request::Change(change)).await? {
            Reply::Operation(operation) => Ok(operation),
            _ => Err(odd()),
        }
    }
}

/// Changes that are made by name alone, or of one segment.
macro_rules! changes {
    ($($(#[$doc:meta])* $verb:ident($($arg:ident: $ty:ty),*) = $what:ident;)*) => {$(
        $(#[$doc])*
        ///
        /// # Errors
        /// Where it is refused, or the cluster cannot be asked.
        pub async fn $verb(&self, $($arg: $ty),*) -> Result<Operation, ApiError> {
            self.node.change(What::$what(self.name.clone(), $($arg),*), self.reason.as_ref()).await
        }
    )*};
}

impl ProcessorHandle {
    pub(super) fn new(node: Node, name: String) -> Self {
        Self { node, name, reason: None }
    }

    /// Why: it is kept with the changes made by this handle.
    pub fn because(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    /// How far it is, segment by segment.
    ///
    /// # Errors
    /// Where there is no such processor, or the node cannot answer.
    pub async fn status(&self) -> Result<Processor, ApiError> {
        match self.node.ask(Request::Processor(self.name.clone())).await? {
            Reply::Processor(processor) => Ok(*processor),
            _ => Err(odd()),
        }
    }

    changes! {
        /// Stops it.
        pause() = Pause;
        /// Lets it go on.
        resume() = Resume;
        /// Takes a segment from its owner, who may not have it back for two leases.
        release(segment: SegmentId) = Release;
        /// Gives a segment to the node of this name, and binds it to that; none is the node that is asked.
        claim(segment: SegmentId, node: Option<String>) = Claim;
        /// Unbinds a segment from the node an operator bound it to.
        unpin(segment: SegmentId) = Unpin;
        /// Passes over the event that a segment waits with, which is the one at this position: see
        /// [`waits_with`](crate::engine::Segment::waits_with).
        skip_event(segment: SegmentId, position: Position) = SkipEvent;
        /// Deletes it, its progress, and what it has set aside.
        delete() = Delete;
    }
}

impl DeadLetters {
    pub(super) fn new(node: Node, name: String) -> Self {
        Self { node, name, reason: None }
    }

    /// Why: it is kept with the changes made by this handle.
    pub fn because(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    /// The sequences that are set aside, with their letters and causes.
    ///
    /// # Errors
    /// Where there is no such processor, or the node cannot answer.
    pub async fn list(&self) -> Result<Vec<DeadLetter>, ApiError> {
        match self.node.ask(Request::DeadLetters(self.name.clone())).await? {
            Reply::DeadLetters(letters) => Ok(letters),
            _ => Err(odd()),
        }
    }

    changes! {
        /// Tries them now, their attempts counted anew.
        retry(which: Selection) = Retry;
        /// Passes over the letter that fails; those behind it are tried now.
        skip(which: Selection) = Skip;
        /// Gives up all their letters.
        drop(which: Selection) = Drop;
    }
}

/// The sequence of this name.
#[must_use]
pub fn sequence(name: impl Into<String>) -> Selection {
    Selection::Sequence(ComponentId::default(), name.into())
}
