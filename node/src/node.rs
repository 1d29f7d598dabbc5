//! A node as a program holds it: append, read, follow, wait, and operate.
//!
//! A [`Node`] is a handle over whoever [`Answers`] requests: the node that runs in this process, or a client of
//! servers far away. Both understand the same requests, so both can do the same.

mod append;
mod operate;
mod read;
mod wait;

mod arguments;
mod door;
mod house;
mod start;

use std::{sync::Arc, time::Duration};

use evener_core::{criteria::Criteria, id::Position};
use tokio::time::Instant;

use crate::{
    RawEvent,
    client::Client,
    codes,
    doubt::Doubt,
    engine::{Answers, Operation, OperationFilter, Reply, Request},
    error::ApiError,
    handler::{self, Event},
    logs::Log,
};

pub use append::{Any, Append, Expecting, NoStream};
pub use operate::{DeadLetters, ProcessorHandle, sequence};
pub use read::{Reading, Tail};
pub use start::NodeBuilder;
#[doc(hidden)]
pub use start::Outside;

use house::House;

/// How long what ended *unknown*, or found the cluster busy or without a leader, is repeated with the same ids
/// before its error is given back: longer than an election.
const PATIENCE: Duration = Duration::from_secs(15);
/// One wish to stop may come as several signals: to the process, and to the group that it is of.
const ONE_WISH: Duration = Duration::from_millis(500);
/// The pause before it is repeated, where the error names none.
const PAUSE: Duration = Duration::from_millis(100);
/// And the longest, whatever it names: what it waits for may be there sooner.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// A node of the cluster, in this process or far away. Clones are the same node.
#[derive(Clone)]
pub struct Node(Arc<Inner>);

struct Inner {
    answers: Arc<dyn Answers>,
    /// The `source` of the events it appends.
    source: String,
    /// Repeats what may be repeated; a client does so by itself.
    patience: Duration,
    /// The node itself, where it is in this process.
    house: Option<House>,
    /// Last: it writes what the end of everything else logged.
    _log: Option<Log>,
}

impl Node {
    /// A handle on the cluster that these servers belong to, `URL[,URL…]`, without being a part of it. A request goes
    /// to the next server if one fails, and is given up after some 15 s; if it may have taken effect, its error says
    /// so ([`Class::Unknown`](crate::error::Class::Unknown)).
    ///
    /// # Errors
    /// If one is no `http://` address. Nothing is sent yet.
    pub fn connect(urls: &str) -> Result<Self, ApiError> {
        let client = Client::connect(urls)?;
        Ok(Self::over(Arc::new(client), "client", Duration::ZERO))
    }

    fn over(answers: Arc<dyn Answers>, name: &str, patience: Duration) -> Self {
        Self(Arc::new(Inner { answers, source: format!("/evener/{name}"), patience, house: None, _log: None }))
    }

    /// Runs until Ctrl-C or SIGTERM; then lets handlers end, hands the segments over, and stops. A node that stops
    /// stays a member of its cluster: started again with its data directory it goes on. To leave for good is a change
    /// of its own, `evener cluster leave`, after which this returns, too. A handle on servers far away only waits.
    ///
    /// # Errors
    /// Where the node failed, as when its disk did.
    pub async fn run(self) -> handler::Result {
        let Some(house) = &self.0.house else { return Ok(asked_to_end().await?) };
        let mut stopped = house.cluster.stopped();
        enum End {
            Asked,
            Leaving,
            Failed(String),
        }
        let end = tokio::select! {
            asked = asked_to_end() => asked.map(|()| End::Asked)?,
            () = house.engine.asked_to_leave() => End::Leaving,
            Ok(why) = stopped.wait_for(Option::is_some) => End::Failed(why.clone().unwrap_or_default()),
        };
        let ending = async {
            match end {
                End::Asked => house.stop().await,
                End::Leaving => house.leave().await?,
                End::Failed(why) if house.cluster.was_removed() => {
                    return Err(ApiError::new(&codes::REMOVED, why).into());
                }
                End::Failed(why) => return Err(ApiError::new(&codes::FAILED_NODE, why).into()),
            }
            Ok(())
        };
        tracing::info!(node = house.name, "ending: handlers finish, and segments are handed over");
        tokio::select! {
            ended = ending => ended,
            again = asked_again() => {
                again?;
                Err(ApiError::new(&codes::INTERRUPTED, "told to stop again before all was handed over").into())
            }
        }
    }

    /// Ends it as [`Self::run`] does, without being asked from outside. Handlers at work have `hand_over_wait` (5 s by
    /// default) to end; what is cut short is handled again elsewhere.
    pub async fn stop(self) {
        if let Some(house) = &self.0.house {
            house.stop().await;
        }
    }

    /// Where clients reach it, `http://127.0.0.1:4750` by default; none if it serves no HTTP in this process.
    #[must_use]
    pub fn url(&self) -> Option<&str> {
        Some(self.0.house.as_ref()?.door.as_ref()?.url())
    }

    /// Returns the address at which peers reach it; none if it is only a client.
    #[must_use]
    pub fn peer(&self) -> Option<&str> {
        Some(self.0.house.as_ref()?.cluster.peer_addr())
    }

    /// Whether it is ready. One that has no vote yet is not while a pair of learners is about to be promoted: the
    /// cluster may still depend on a single node.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.0.house.as_ref().is_none_or(|house| house.trouble().is_none())
    }

    /// Waits until it is ready, or has failed.
    pub async fn ready(&self) {
        if let Some(house) = &self.0.house {
            house.ready().await;
        }
    }

    /// The line that says it is ready, as `evener serve` prints it. It says so if it is not, and why.
    #[must_use]
    pub fn ready_line(&self) -> Option<String> {
        let house = self.0.house.as_ref()?;
        let trouble = house.trouble();
        let mut line = serde_json::json!({
            "ready": trouble.is_none(),
            "node": house.name,
            "cluster": house.cluster.id().to_string(),
            "http": self.url(),
            "peer": self.peer(),
            "version": env!("CARGO_PKG_VERSION"),
        });
        if let Some(why) = trouble.or_else(|| house.engine.note()) {
            line["why"] = why.into();
        }
        Some(line.to_string())
    }

    /// Adds events to a stream: all or none. Nothing happens until it is awaited. It is answered once the events are
    /// synced on a majority of the nodes; if the cluster is busy or has no leader, it is repeated with the same ids for
    /// up to 15 s.
    ///
    /// Awaited, it fails with an [`ApiError`] whose [`class`](crate::error::Class) says what to do: a condition that
    /// does not hold is a `Conflict`, and after `Unknown` the events may be stored or not. Give an append that must be
    /// repeated across restarts a [name](Append::named).
    ///
    /// ```
    /// # use evener::prelude::*;
    /// # #[derive(Event, Serialize, Deserialize)]
    /// # #[event(name = "account.credited.v1", key = account)]
    /// # struct Credited { account: String, cents: i64 }
    /// # async fn example(node: Node) -> Result {
    /// let credited = Credited { account: "7".into(), cents: 100 };
    /// let appended = node.append("account-7", [credited]).expecting(Revision(3)).tagged(["tenant=blue"]).await?;
    /// println!("the next event will stand at {}", appended.next);
    /// # Ok(())
    /// # }
    /// ```
    pub fn append<E: Event>(&self, stream: impl Into<String>, events: impl IntoIterator<Item = E>) -> Append {
        Append::of(self.clone(), stream.into(), events)
    }

    /// Adds events as they are, each with its own id and stream: all or none, as [`Self::append`] does.
    pub fn append_raw(&self, events: impl IntoIterator<Item = RawEvent>) -> Append {
        Append::raw(self.clone(), events.into_iter().collect())
    }

    /// Reads events that match, from the first on, and all of them unless [limited](Reading::limit). It sees whatever
    /// was acknowledged before, on whichever node.
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

    /// Follows the events from a position on, as they come; `Position(0)` is the first event there is.
    pub fn tail(&self, from: Position) -> Tail {
        Tail::new(self.clone(), from)
    }

    /// A processor of the cluster: its status, and what one can do with it.
    pub fn processor(&self, name: impl Into<String>) -> ProcessorHandle {
        ProcessorHandle::new(self.clone(), name.into())
    }

    /// What a processor has set aside.
    pub fn dead_letters(&self, name: impl Into<String>) -> DeadLetters {
        DeadLetters::new(self.clone(), name.into())
    }

    /// Lists the changes that are remembered, the newest first, with their outcomes and reasons: the latest 1,024 of
    /// the whole cluster (`operations_max`), and at most [`OPERATIONS_PAGE_MAX`](crate::engine::OPERATIONS_PAGE_MAX)
    /// at once.
    ///
    /// # Errors
    /// Where the filter makes no sense, or the node cannot answer.
    pub async fn operations(&self, filter: OperationFilter) -> Result<Vec<Operation>, ApiError> {
        match self.ask(Request::Operations(filter)).await? {
            Reply::Operations(operations) => Ok(operations),
            _ => Err(odd()),
        }
    }

    /// Waits until a processor has passed all that is in the log now: read your writes, in a line. What it has
    /// set aside it has passed. It waits without end for one that is paused or stands still: put a
    /// `tokio::time::timeout` around it if that may be.
    ///
    /// # Errors
    /// If there is no such processor, or the cluster cannot be asked.
    pub async fn caught_up(&self, processor: &str) -> Result<(), ApiError> {
        wait::caught_up(self, processor).await
    }

    /// Asks for anything that can be asked for.
    ///
    /// # Errors
    /// Those of the request; what may be repeated was repeated for a while.
    pub async fn ask(&self, request: Request) -> Result<Reply, ApiError> {
        let begun = Instant::now();
        let mut doubt = Doubt::default();
        loop {
            let error = match self.0.answers.call(request.clone()).await.map_err(|error| doubt.weigh(error)) {
                Err(error) if error.may_repeat() && begun.elapsed() < self.0.patience => error,
                answer => return answer,
            };
            let told = error.retry_after_ms.map(|wait| Duration::from_millis(u64::from(wait)));
            tokio::time::sleep(told.unwrap_or(PAUSE).min(PAUSE_MAX).min(self.0.patience)).await;
        }
    }
}

/// Waits for Ctrl-C or SIGTERM.
async fn asked_to_end() -> std::io::Result<()> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        ctrl_c = tokio::signal::ctrl_c() => ctrl_c,
        _ = terminate.recv() => Ok(()),
    }
}

/// Waits until a person has had enough of waiting.
async fn asked_again() -> std::io::Result<()> {
    tokio::time::sleep(ONE_WISH).await;
    asked_to_end().await
}

/// An answer of another kind than was asked for.
fn odd() -> ApiError {
    ApiError::new(&codes::BUG, "the answer is not of the kind that was asked for")
}

#[cfg(test)]
mod house_tests;
#[cfg(test)]
mod tests;
