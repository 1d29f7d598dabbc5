//! Operations on a processor and on the sequences that it has set aside.

use evener_core::{
    command::Selection,
    id::{ComponentId, Position, SegmentId},
};

use super::{Node, unexpected_reply};
use crate::{
    engine::{Change, DeadLetter, Operation, Processor, Reply, Request, What, verbs},
    error::ApiError,
    reset::ResetRequest,
};

/// A handle on a processor of the cluster.
#[derive(Clone)]
#[must_use]
pub struct ProcessorHandle {
    node: Node,
    name: String,
    reason: Option<String>,
}

/// A handle on the sequences that a processor has set aside.
#[derive(Clone)]
#[must_use]
pub struct DeadLetters {
    node: Node,
    name: String,
    reason: Option<String>,
}

impl Node {
    async fn change(&self, what: What, reason: Option<&String>) -> Result<Operation, ApiError> {
        // The operation id is created once, so that a retry is applied once.
        let change = Change { reason: reason.cloned(), ..Change::new(what) };
        match self.ask(Request::Change(change)).await? {
            Reply::Operation(operation) => Ok(operation),
            _ => Err(unexpected_reply()),
        }
    }
}

/// Generates the methods of the handles that make changes.
macro_rules! methods {
    (
        events { $($events:tt)* }
        processors { $($processors:tt)* }
        dead_letters { $($dead_letters:tt)* }
        $($others:tt)*
    ) => {
        methods!(ProcessorHandle { $($processors)* });
        methods!(DeadLetters { $($dead_letters)* });
    };
    ($handle:ident {$(
        $verb:ident: $effect:ident $method:ident $path:literal, $words:literal, $about:literal $({ $($change:tt)* })?;
    )*}) => {
        impl $handle {
            $($(method!($verb { $($change)* });)?)*
        }
    };
}

/// Generates the method that makes one change, if the handle has one.
macro_rules! method {
    ($verb:ident {
        $(#[$doc:meta])*
        takes: [$name:ident: $name_type:ty] $({ $($field:ident: $type:ty = $json:literal),* })?
            $(by $body:ident: $body_type:ty)?,
        kind: $kind:ident, counts: $counts:literal, method: $call:ident;
    }) => {
        $(#[$doc])*
        ///
        /// # Errors
        /// Where it is refused, or the cluster cannot be asked.
        pub async fn $call(&self, $($($field: $type,)*)? $($body: $body_type)?) -> Result<Operation, ApiError> {
            let what = What::$verb(self.name.clone(), $($($field,)*)? $($body)?);
            self.node.change(what, self.reason.as_ref()).await
        }
    };
    ($verb:ident $change:tt) => {};
}

verbs!(methods);

impl ProcessorHandle {
    pub(super) fn new(node: Node, name: String) -> Self {
        Self { node, name, reason: None }
    }

    /// Sets the reason that is recorded with changes made by this handle.
    pub fn because(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    /// Returns its status by segment.
    ///
    /// # Errors
    /// Where there is no such processor, or the node cannot answer.
    pub async fn status(&self) -> Result<Processor, ApiError> {
        match self.node.ask(Request::Processor(self.name.clone())).await? {
            Reply::Processor(processor) => Ok(*processor),
            _ => Err(unexpected_reply()),
        }
    }
}

impl DeadLetters {
    pub(super) fn new(node: Node, name: String) -> Self {
        Self { node, name, reason: None }
    }

    /// Sets the reason that is recorded with changes made by this handle.
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
            _ => Err(unexpected_reply()),
        }
    }
}

/// Selects the sequence of this name.
#[must_use]
pub fn sequence(name: impl Into<String>) -> Selection {
    Selection::Sequence(ComponentId::default(), name.into())
}
