//! The actors of a node: thin coats over the machines of `evener_core`.
//!
//! ```text
//! node ─┬─ balancer          plans, while this node leads
//!       ├─ teller            one Advance a tick for all processors
//!       └─ NAME              a coordinator per processor
//!           ├─ NAME/0        a worker per segment that has work
//!           └─ NAME/loans    letters lent to this node
//! ```
//!
//! A message *is* the machine's input. Effects are carried out in order before the next one; what takes long
//! runs in a task of its own and comes back as an input. Each actor publishes what it is doing on the
//! [`StatusBoard`](crate::status::StatusBoard); nobody asks it.

mod balancer;
mod coordinator;
mod failures;
mod limits;
mod publish;
mod root;
mod skips;
mod takeover;
mod teller;
mod timer;
mod watch;
mod worker;
mod world;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use evener_core::{coordinator::Bounds, processor::Definition};
use ractor::{Actor, ActorRef};

pub use world::World;

use crate::handler::Runner;

/// How long what moved is gathered before it is told.
pub const TICK: Duration = Duration::from_millis(10);

/// An embedded processor: what it is, and who handles its events.
pub type Embedded = (Definition, Arc<dyn Runner>);

/// How the actors of a node are set.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings {
    /// Of every coordinator.
    pub bounds: Bounds,
    /// Of handler programs.
    pub programs: crate::exec::Settings,
}

/// The actors of one node, at work.
#[derive(Clone)]
pub struct Actors {
    root: ActorRef<root::Message>,
    world: Arc<World>,
}

impl Actors {
    /// Starts them all. Embedded processors must be known to the log already.
    ///
    /// # Errors
    ///
    /// Where the root cannot be started.
    pub async fn start(world: World, embedded: Vec<Embedded>, settings: Settings) -> Result<Self, String> {
        let world = Arc::new(world);
        let runners: BTreeMap<String, Arc<dyn Runner>> =
            embedded.into_iter().map(|(definition, runner)| (definition.name, runner)).collect();
        let arguments = root::Arguments { world: world.clone(), runners, settings };
        let (root, _) = Actor::spawn(None, root::Root, arguments)
            .await
            .map_err(|error| format!("the actors could not be started: {error}"))?;
        Ok(Self { root, world })
    }

    /// Leaves well: hands over what it has, as far as there is somebody to take it; then lets the handlers that
    /// run end, and tells the log what they did. Takes at most `wait`, and ends as soon as so many nodes are gone that
    /// the log takes nothing more: what runs then is handled again, however long it is waited for.
    pub async fn drain(&self, wait: Duration) {
        let leaving = async {
            self.world.drain().await;
            self.world.quiet.send_replace(true);
            self.world.settled().await;
        };
        tokio::select! {
            _ = tokio::time::timeout(wait, leaving) => {}
            () = self.world.quorum_lost() => {}
        }
        self.world.quiet.send_replace(true);
    }

    /// Ends them all at once.
    pub async fn stop(&self) {
        let _ = self.root.stop_and_wait(None, None).await;
    }
}
