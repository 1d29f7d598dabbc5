//! The requests that a node answers: one enum of [`Request`]s, one of [`Reply`]s, one table of verbs. A program
//! meets the values in the answers, such as [`Page`], [`Processor`], [`DeadLetter`] and [`Operation`].

mod reply;
mod request;
mod verbs;

mod engine_cell;
mod local;

mod answers;

mod change;
mod lag;
mod leader;
mod letters;
mod node_status;
mod operations;
pub(crate) mod peers;
mod read;
mod replay;
mod votes;

#[cfg(test)]
mod tests;

use evener_core::limits::Limits;
use futures::future::BoxFuture;

use crate::error::ApiError;

#[doc(hidden)]
pub use change::watch_unowned;
#[doc(hidden)]
pub use engine_cell::EngineCell;
#[doc(hidden)]
pub use leader::clock_words;
#[doc(hidden)]
pub use local::Engine;
pub(crate) use node_status::segments_wanted;
pub(crate) use operations::HISTORY_OPERATIONS_MAX;
#[doc(hidden)]
pub use operations::kinds;
pub use operations::{OPERATIONS_PAGE, OPERATIONS_PAGE_MAX};
pub use reply::{
    Cluster, DeadLetter, Disk, Letter, Member, Note, Operation, OperationState, Page, Processor, Replay, Reply, Room,
    Segment, SetAside, StateHash, Status, Subject, Unowned, Used, WantedBy,
};
pub use request::{Change, Consistency, OperationFilter, Read, Request};
pub use verbs::What;
pub(crate) use verbs::verbs;
#[doc(hidden)]
pub use verbs::{Effect, TABLE, Verb, VerbEntry};

/// Answers requests: the node itself, or a client of a remote node.
pub trait Answers: Send + Sync + 'static {
    /// Answers one request.
    fn call(&self, request: Request) -> BoxFuture<'_, Result<Reply, ApiError>>;

    /// The limits in force, as far as they are known here.
    fn limits(&self) -> Limits {
        Limits::DEFAULT
    }
}
