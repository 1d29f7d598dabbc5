//! A node as a program holds it: append, read, follow, wait, and operate.
//!
//! A [`Node`] is a handle over whoever [`Answers`] requests: the node that runs in this process, or a client of
//! servers far away. Both understand the same requests, so both can do the same.

mod append;
mod operate;
mod read;
mod wait;

use std::{sync::Arc, time::Duration};

use evener_core::{criteria::Criteria, id::Position};
use tokio::time::Instant;

use crate::{
    RawEvent,
    client::Client,
    codes,
    engine::{Answers, Reply, Request},
    error::ApiError,
    handler::Event,
};

pub use append::{Any, Append, Expecting, NoStream};
pub use operate::{DeadLetters, ProcessorHandle, sequence};
pub use read::{Reading, Tail};

/// How long what ended *unknown*, or found the cluster busy or without a leader, is repeated with the same ids
/// before its error is given back: longer than an election.
const PATIENCE: Duration = Duration::from_secs(15);
/// The pause before it is repeated, where the error names none.
const PAUSE: Duration = Duration::from_millis(100);

/// A node of the cluster, in this process or far away. Clones are the same node.
#[derive(Clone)]
pub struct Node(Arc<Inner>);

struct Inner {
    answers: Arc<dyn Answers>,
    /// The `source` of the events it appends.
    source: String,
    /// Repeats what may be repeated; a client does so by itself.
    patience: Duration,
}

impl Node {
    /// A handle on the cluster that these servers belong to, `URL[,URL…]`, without being a part of it.
    ///
    /// # Errors
    /// Where one is no `http://` address. Nothing is sent yet.
    pub fn connect(urls: &str) -> Result<Self, ApiError> {
        let client = Client::connect(urls)?;
        Ok(Self::over(Arc::new(client), "client", Duration::ZERO))
    }

    fn over(answers: Arc<dyn Answers>, name: &str, patience: Duration) -> Self {
        Self(Arc::new(Inner { answers, source: format!("/evener/{name}"), patience }))
    }

    /// Adds events to a stream: all or none. Nothing happens until it is awaited.
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

    /// Adds events as they are, each with its own id and stream.
    pub fn append_raw(&self, events: impl IntoIterator<Item = RawEvent>) -> Append {
        Append::raw(self.clone(), events.into_iter().collect())
    }

    /// Reads events that match, from the first on.
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

    /// Follows the events from a position on, as they come.
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

    /// Waits until a processor has passed all that is in the log now: read your writes, in a line. What it has
    /// set aside it has passed.
    ///
    /// # Errors
    /// Where there is no such processor, or the cluster cannot be asked.
    pub async fn caught_up(&self, processor: &str) -> Result<(), ApiError> {
        wait::caught_up(self, processor).await
    }

    /// Asks for anything that can be asked for.
    ///
    /// # Errors
    /// Those of the request; what may be repeated was repeated for a while.
    pub async fn ask(&self, request: Request) -> Result<Reply, ApiError> {
        let begun = Instant::now();
        loop {
            let error = match self.0.answers.call(request.clone()).await {
                Err(error) if error.may_repeat() && begun.elapsed() < self.0.patience => error,
                answer => return answer,
            };
            let told = error.retry_after_ms.map(|wait| Duration::from_millis(u64::from(wait)));
            tokio::time::sleep(told.unwrap_or(PAUSE).min(self.0.patience)).await;
        }
    }
}

/// An answer of another kind than was asked for.
fn odd() -> ApiError {
    ApiError::new(&codes::BUG, "the answer is not of the kind that was asked for")
}

#[cfg(test)]
mod house_tests;
#[cfg(test)]
mod tests;
