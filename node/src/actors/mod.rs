//! The actors of a node: thin wrappers around the state machines of `evener_core`.
//!
//! ```text
//! node ─┬─ balancer          plans, while this node leads
//!       ├─ progress sender   one Advance a tick for all processors
//!       └─ NAME              a coordinator per processor
//!           ├─ NAME/0        a worker per segment that has work
//!           └─ NAME/loans    letters lent to this node
//! ```
//!
//! A message *is* the machine's input. Effects are performed in order before the next input; long-running work has its
//! own task and its result returns as an input. Each actor publishes its status on the
//! [`StatusBoard`](crate::status::StatusBoard) and is never queried.

mod balancer;
mod coordinator;
mod coordinator_message;
mod failures;
mod limits;
mod progress_sender;
mod root;
mod services;
mod skips;
mod status_row;
mod takeover;
mod timer;
mod watch;
mod worker;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use evener_core::{coordinator::Bounds, processor::Definition};
use ractor::{Actor, ActorRef};

pub use services::NodeServices;

use crate::handler::Runner;

/// How long progress is collected before it is sent.
pub const TICK: Duration = Duration::from_millis(10);

/// An embedded processor: its definition and its runner.
pub type Embedded = (Definition, Arc<dyn Runner>);

/// The configuration of a node's actors.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings {
    /// The bounds of every coordinator.
    pub bounds: Bounds,
    /// The settings of handler programs.
    pub programs: crate::exec::Settings,
}

/// The running actors of one node.
#[derive(Clone)]
pub struct Actors {
    root: ActorRef<root::Message>,
    services: Arc<NodeServices>,
}

impl Actors {
    /// Starts all actors. Embedded processors must exist in the log already.
    ///
    /// # Errors
    ///
    /// If the root cannot be started.
    pub async fn start(services: NodeServices, embedded: Vec<Embedded>, settings: Settings) -> Result<Self, String> {
        let services = Arc::new(services);
        let runners: BTreeMap<String, Arc<dyn Runner>> =
            embedded.into_iter().map(|(definition, runner)| (definition.name, runner)).collect();
        let arguments = root::Arguments { services: services.clone(), runners, settings };
        let (root, _) = Actor::spawn(None, root::Root, arguments)
            .await
            .map_err(|error| format!("the actors could not be started: {error}"))?;
        Ok(Self { root, services })
    }

    /// Drains the node: hands over segments to other nodes if there are any, waits for running handlers, and sends
    /// their progress to the log. Takes at most `wait`, and ends early if the quorum is lost, since no more progress
    /// can be stored then and unfinished events are handled again in any case.
    pub async fn drain(&self, wait: Duration) {
        let leaving = async {
            self.services.drain().await;
            self.services.stopping.send_replace(true);
            self.services.until_idle().await;
        };
        tokio::select! {
            _ = tokio::time::timeout(wait, leaving) => {}
            () = self.services.quorum_lost() => {}
        }
        self.services.stopping.send_replace(true);
    }

    /// Stops all actors immediately.
    pub async fn stop(&self) {
        let _ = self.root.stop_and_wait(None, None).await;
    }
}
