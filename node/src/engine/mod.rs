//! The requests that a node answers: one enum of [`Request`]s, one of [`Reply`]s, one table of verbs. A program
//! meets the values in the answers, such as [`Page`], [`Processor`], [`DeadLetter`] and [`Operation`].

mod reply;
mod request;
mod verbs;

mod late;
mod local;

mod change;
mod change_log;
mod lag;
mod leader;
mod letters;
mod look;
mod members;
mod operations;
pub(crate) mod peers;
mod read;
mod replay;
mod reset;
mod votes;

#[cfg(test)]
mod tests;

use evener_core::limits::Limits;
use futures::future::BoxFuture;

use crate::error::ApiError;

#[doc(hidden)]
pub use change_log::watch_unowned;
#[doc(hidden)]
pub use late::Late;
#[doc(hidden)]
pub use leader::clock_words;
#[doc(hidden)]
pub use local::Engine;
pub(crate) use local::time_text;
pub(crate) use look::segments_wanted;
#[doc(hidden)]
pub use operations::kinds;
pub(crate) use operations::{HISTORY_OPERATIONS_MAX, word};
pub use operations::{OPERATIONS_PAGE, OPERATIONS_PAGE_MAX};
pub use reply::{
    Cluster, DeadLetter, Disk, Letter, Member, Note, Operation, OperationState, Page, Processor, Replay, Reply, Room,
    Segment, SetAside, StateHash, Status, Subject, Unowned, Used, WantedBy,
};
pub use request::{Change, Consistency, OperationFilter, Read, Request};
pub use verbs::What;
pub(crate) use verbs::verbs;
#[doc(hidden)]
pub use verbs::{Effect, Row, TABLE, Verb};

/// Answers requests: the node itself, or a client of a remote node.
pub trait Answers: Send + Sync + 'static {
    /// Answers one request.
    fn call(&self, request: Request) -> BoxFuture<'_, Result<Reply, ApiError>>;

    /// The limits in force, as far as they are known here.
    fn limits(&self) -> Limits {
        Limits::DEFAULT
    }
}
