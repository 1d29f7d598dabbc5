//! The handle on a node: append, read, follow, wait, and operate.
//!
//! A [`Node`] sends its requests to an implementation of [`Answers`]: the node in this process, or a client of remote
//! servers. Both support the same requests.

mod append;
mod operate;
mod read;
mod wait;

mod arguments;
mod client_listener;
mod environment;
mod running_node;
mod start;

use std::{sync::Arc, time::Duration};

use evener_core::{criteria::Criteria, id::Position};
use tokio::time::Instant;

use crate::{
    RawEvent,
    client::Client,
    codes,
    engine::{Answers, Operation, OperationFilter, Reply, Request},
    error::ApiError,
    handler::{self, Event},
    logs::Log,
    unknown_outcome::UnknownOutcome,
};

pub use append::{Any, Append, Expecting, NoStream};
#[doc(hidden)]
pub use environment::Environment;
pub use operate::{DeadLetters, ProcessorHandle, sequence};
pub use read::{Reading, Tail};
pub use start::NodeBuilder;

use running_node::RunningNode;

/// How long a request is retried with the same ids if its outcome is unknown, the cluster is busy, or there is no
/// leader: longer than an election.
const RETRY_TIME: Duration = Duration::from_secs(15);
/// Signals within this time count as one: a single Ctrl-C may reach both the process and its process group.
const SIGNAL_DEBOUNCE: Duration = Duration::from_millis(500);
/// The delay before a retry if the error does not name one.
const PAUSE: Duration = Duration::from_millis(100);
/// The maximum delay before a retry, even if the error names a longer one.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// A handle on a node of the cluster, in this process or remote. Clones refer to the same node.
#[derive(Clone)]
pub struct Node(Arc<Inner>);

struct Inner {
    answers: Arc<dyn Answers>,
    /// The `source` of appended events.
    source: String,
    /// How long requests are retried; zero for a client, which retries by itself.
    retry_time: Duration,
    /// The node, if it runs in this process.
    running: Option<RunningNode>,
    /// The last field, so that it also writes what the other fields log while they are dropped.
    _log: Option<Log>,
}

impl Node {
    /// Returns a handle on the cluster of these servers, `URL[,URL…]`, without joining it. If a server fails, the next
    /// one is tried, for up to about 15 s; if a failed request may have taken effect, its error has the class unknown
    /// ([`Class::Unknown`](crate::error::Class::Unknown)).
    ///
    /// # Errors
    /// If one is not an `http://` address. Nothing is sent yet.
    pub fn connect(urls: &str) -> Result<Self, ApiError> {
        let client = Client::connect(urls)?;
        Ok(Self::over(Arc::new(client), "client", Duration::ZERO))
    }

    fn over(answers: Arc<dyn Answers>, name: &str, retry_time: Duration) -> Self {
        Self(Arc::new(Inner { answers, source: format!("/evener/{name}"), retry_time, running: None, _log: None }))
    }

    /// Runs until Ctrl-C or SIGTERM, then waits for running handlers, hands over the segments, and stops. A stopped
    /// node remains a member of its cluster and continues when it is started again with its data directory. `evener
    /// cluster leave` removes it permanently; this function then returns as well. A handle on remote servers only waits
    /// for the signal.
    ///
    /// # Errors
    /// If the node failed, for example because of its disk.
    pub async fn run(self) -> handler::Result {
        let Some(running) = &self.0.running else { return Ok(stop_signal().await?) };
        let mut stopped = running.cluster.stopped();
        enum End {
            Asked,
            Leaving,
            Failed(String),
        }
        let end = tokio::select! {
            asked = stop_signal() => asked.map(|()| End::Asked)?,
            () = running.engine.asked_to_leave() => End::Leaving,
            Ok(why) = stopped.wait_for(Option::is_some) => End::Failed(why.clone().unwrap_or_default()),
        };
        let ending = async {
            match end {
                End::Asked => running.stop().await,
                End::Leaving => running.leave().await?,
                End::Failed(why) if running.cluster.was_removed() => {
                    return Err(ApiError::new(&codes::REMOVED, why).into());
                }
                End::Failed(why) => return Err(ApiError::new(&codes::FAILED_NODE, why).into()),
            }
            Ok(())
        };
        tracing::info!(node = running.name, "ending: handlers finish, and segments are handed over");
        tokio::select! {
            ended = ending => ended,
            again = second_stop_signal() => {
                again?;
                let message = "received a second stop signal before all segments were handed over";
                Err(ApiError::new(&codes::INTERRUPTED, message).into())
            }
        }
    }

    /// Stops the node as [`Self::run`] does, without waiting for a signal. Running handlers have `hand_over_wait` (5 s
    /// by default) to finish; events of cancelled handlers are handled again on another node.
    pub async fn stop(self) {
        if let Some(running) = &self.0.running {
            running.stop().await;
        }
    }

    /// Returns the URL for clients, `http://127.0.0.1:4750` by default; none if this process serves no HTTP.
    #[must_use]
    pub fn url(&self) -> Option<&str> {
        Some(self.0.running.as_ref()?.listener.as_ref()?.url())
    }

    /// Returns the address for peers; none for a client.
    #[must_use]
    pub fn peer(&self) -> Option<&str> {
        Some(self.0.running.as_ref()?.cluster.peer_addr())
    }

    /// Returns whether the node is ready. A learner that is about to be promoted is not ready yet: the cluster may
    /// still depend on a single node.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.0.running.as_ref().is_none_or(|running| running.not_ready_reason().is_none())
    }

    /// Waits until the node is ready or has failed.
    pub async fn ready(&self) {
        if let Some(running) = &self.0.running {
            running.ready().await;
        }
    }

    /// Returns the JSON line that `evener serve` prints once the node is ready. If it is not ready, the line has the
    /// reason.
    #[must_use]
    pub fn ready_line(&self) -> Option<String> {
        let running = self.0.running.as_ref()?;
        let trouble = running.not_ready_reason();
        let mut line = serde_json::json!({
            "ready": trouble.is_none(),
            "node": running.name,
            "cluster": running.cluster.id().to_string(),
            "http": self.url(),
            "peer": self.peer(),
            "version": env!("CARGO_PKG_VERSION"),
        });
        if let Some(why) = trouble.or_else(|| running.engine.note()) {
            line["why"] = why.into();
        }
        Some(line.to_string())
    }

    /// Appends events to a stream: all or none. Nothing happens until it is awaited. It completes once the events are
    /// synced on a majority of the nodes; if the cluster is busy or has no leader, it is retried with the same ids for
    /// up to 15 s.
    ///
    /// On failure, the [`class`](crate::error::Class) of the [`ApiError`] says what to do: a condition that does not
    /// hold is a `Conflict`, and after `Unknown` the events may or may not be stored. [Name](Append::named) an append
    /// that must be retried across restarts.
    ///
    /// ```
    /// # use evener::prelude::*;
    /// # #[derive(Event, Serialize, Deserialize)]
    /// # #[event(name = "account.credited.v1", key = account)]
    /// # struct Credited { account: String, cents: i64 }
    /// # async fn example(node: Node) -> Result {
    /// let credited = Credited { account: "7".into(), cents: 100 }; let appended = node.append("account-7",
    /// [credited]).expecting(Revision(3)).tagged(["tenant=blue"]).await?; println!("the next event will have position
    /// {}", appended.next);
    /// # Ok(())
    /// # }
    /// ```
    pub fn append<E: Event>(&self, stream: impl Into<String>, events: impl IntoIterator<Item = E>) -> Append {
        Append::of(self.clone(), stream.into(), events)
    }

    /// Appends raw events, each with its own id and stream: all or none, as [`Self::append`] does.
    pub fn append_raw(&self, events: impl IntoIterator<Item = RawEvent>) -> Append {
        Append::raw(self.clone(), events.into_iter().collect())
    }

    /// Reads all matching events from the first on, unless [limited](Reading::limit). It sees every event that any node
    /// acknowledged before.
    ///
    /// ```
    /// # use evener::prelude::*;
    /// # async fn example(node: Node) -> Result {
    /// let seen = node.read(Criteria::ANY).stream("account-7").limit(100).await?;
    /// println!("{} events; nothing newer before {}", seen.events.len(), seen.marker);
    /// # Ok(())
    /// # }
    /// ```
    pub fn read(&self, criteria: Criteria) -> Reading {
        Reading::new(self.clone(), criteria)
    }

    /// Follows events from a position on; `Position(0)` is the first event.
    pub fn tail(&self, from: Position) -> Tail {
        Tail::new(self.clone(), from)
    }

    /// Returns a handle on a processor of the cluster: its status and its operations.
    pub fn processor(&self, name: impl Into<String>) -> ProcessorHandle {
        ProcessorHandle::new(self.clone(), name.into())
    }

    /// Returns a handle on the sequences that a processor has set aside.
    pub fn dead_letters(&self, name: impl Into<String>) -> DeadLetters {
        DeadLetters::new(self.clone(), name.into())
    }

    /// Lists the recorded operations, newest first, with outcomes and reasons. The cluster keeps the latest 1,024
    /// (`operations_max`); one call returns at most [`OPERATIONS_PAGE_MAX`](crate::engine::OPERATIONS_PAGE_MAX) at
    /// once.
    ///
    /// # Errors
    /// If the filter is invalid, or the node cannot answer.
    pub async fn operations(&self, filter: OperationFilter) -> Result<Vec<Operation>, ApiError> {
        match self.ask(Request::Operations(filter)).await? {
            Reply::Operations(operations) => Ok(operations),
            _ => Err(unexpected_reply()),
        }
    }

    /// Waits until a processor has passed every event that is in the log now (read your writes). Events that are set
    /// aside count as passed. It waits indefinitely if the processor is paused or stalled: wrap it in
    /// `tokio::time::timeout` if that can happen.
    ///
    /// # Errors
    /// If there is no such processor, or the cluster does not answer.
    pub async fn caught_up(&self, processor: &str) -> Result<(), ApiError> {
        wait::caught_up(self, processor).await
    }

    /// Sends any request.
    ///
    /// # Errors
    /// The errors of the request, after retries where those are safe.
    pub async fn ask(&self, request: Request) -> Result<Reply, ApiError> {
        let begun = Instant::now();
        let mut unknown = UnknownOutcome::default();
        loop {
            let error = match self.0.answers.call(request.clone()).await.map_err(|error| unknown.apply(error)) {
                Err(error) if error.may_repeat() && begun.elapsed() < self.0.retry_time => error,
                answer => return answer,
            };
            let told = error.retry_after_ms.map(|wait| Duration::from_millis(u64::from(wait)));
            tokio::time::sleep(told.unwrap_or(PAUSE).min(PAUSE_MAX).min(self.0.retry_time)).await;
        }
    }
}

/// Waits for Ctrl-C or SIGTERM.
async fn stop_signal() -> std::io::Result<()> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        ctrl_c = tokio::signal::ctrl_c() => ctrl_c,
        _ = terminate.recv() => Ok(()),
    }
}

/// Waits for a second stop signal.
async fn second_stop_signal() -> std::io::Result<()> {
    tokio::time::sleep(SIGNAL_DEBOUNCE).await;
    stop_signal().await
}

/// The error for a reply that does not match its request.
fn unexpected_reply() -> ApiError {
    ApiError::new(&codes::BUG, "the answer does not match the request")
}

#[cfg(test)]
mod replay_tests;
#[cfg(test)]
mod running_node_tests;
#[cfg(test)]
mod tests;
