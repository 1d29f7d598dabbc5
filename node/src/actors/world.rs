//! What the actors of a node see of the world: the cluster, the handlers' threads, the board, time and dice.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use evener_cluster::{Applied, Cluster, Leadership, transport::Clock};
use evener_core::{
    command::{Command, Outcome},
    id::{ContextId, LogIndex, NodeId, Position, ProcessorId, SessionId},
    state::State,
    time::{Moment, Timestamp},
};
use evener_store::events::{Block, ReadError};
use parking_lot::Mutex;
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use tokio::{sync::watch, time::Instant};

use crate::{event::Stored, handler::Handlers, metrics::Metrics, status::StatusBoard};

/// What the actors of a node see of the world.
pub struct World {
    /// The node's part in the cluster.
    cluster: Cluster,
    clock: Arc<dyn Clock>,
    /// Where handlers run.
    pub handlers: Handlers,
    /// Where actors say what they are doing.
    pub board: StatusBoard,
    /// What they count.
    pub metrics: Metrics,
    /// Raised when the node leaves: nothing new is begun.
    pub quiet: watch::Sender<bool>,
    /// Coordinators with something running or on its way.
    busy: watch::Sender<BTreeSet<ProcessorId>>,
    started: Instant,
    dice: Mutex<SmallRng>,
}

impl World {
    /// The world of one node. All dice follow from `seed`.
    #[must_use]
    pub fn new(
        cluster: Cluster,
        clock: Arc<dyn Clock>,
        handlers: Handlers,
        board: StatusBoard,
        metrics: Metrics,
        seed: u64,
    ) -> Self {
        Self {
            cluster,
            clock,
            handlers,
            board,
            metrics,
            quiet: watch::Sender::new(false),
            busy: watch::Sender::new(BTreeSet::new()),
            started: Instant::now(),
            dice: Mutex::new(SmallRng::seed_from_u64(seed)),
        }
    }

    /// The node's number.
    pub fn me(&self) -> NodeId {
        self.cluster.me()
    }

    /// The node's name.
    pub fn name(&self) -> &str {
        self.cluster.name()
    }

    /// The node's wall clock.
    pub fn wall(&self) -> Timestamp {
        self.clock.wall()
    }

    /// The log's clock, as this node would go on with it.
    pub fn log_time(&self) -> Timestamp {
        self.cluster.log_time()
    }

    /// The node's monotonic clock.
    pub fn now(&self) -> Moment {
        // Rounded up: who waits for a moment must not find it still to come.
        let elapsed = self.started.elapsed() + Duration::from_micros(999);
        Moment(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX))
    }

    /// A moment of the monotonic clock, as a clock on the wall will show it.
    pub fn wall_at(&self, moment: Moment) -> Timestamp {
        self.wall().after(moment.since(self.now()))
    }

    /// A draw for jitter.
    pub fn draw(&self) -> u16 {
        self.dice.lock().random()
    }

    /// Up to where the log is applied here.
    pub fn applied(&self) -> watch::Receiver<Applied> {
        self.cluster.applied()
    }

    /// The node's session; none while it is lost.
    pub fn session(&self) -> watch::Receiver<Option<SessionId>> {
        self.cluster.session()
    }

    /// Returns while this node has this session. It never does after that: what was about to be handled under it is
    /// somebody else's, and whoever waits is ended.
    pub async fn holds(&self, session: Option<SessionId>) {
        if !session.is_some_and(|session| self.cluster.holds(session)) {
            std::future::pending().await
        }
    }

    /// How long a member whose session has just ended has been missed.
    pub fn missed(&self, who: NodeId) -> Duration {
        self.cluster.unreachable_since(who).elapsed()
    }

    /// Who leads.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.cluster.leadership()
    }

    /// Whether this node leads.
    pub fn leads(&self) -> bool {
        self.cluster.leads()
    }

    /// Looks at the replicated state, and up to where it is applied. Briefly: nothing is applied meanwhile.
    pub fn look<R>(&self, look: impl FnOnce(&State, LogIndex) -> R) -> R {
        self.cluster.with_state(look)
    }

    /// Has a command judged, and waits until it is applied here.
    ///
    /// # Errors
    ///
    /// Where it may not have been judged.
    pub async fn propose(&self, command: Command) -> Result<Outcome, evener_cluster::Error> {
        let (index, outcomes) = self.cluster.propose_all(&[command]).await?;
        // It cannot close while the cluster lives.
        let _ = self.cluster.applied().wait_for(|applied| applied.index >= index).await;
        outcomes.into_iter().next().ok_or_else(|| evener_cluster::Error::unknown("a command was not answered"))
    }

    /// The events from here on, and where they end.
    pub async fn block(
        &self,
        context: ContextId,
        from: Position,
        events_max: usize,
        bytes_max: usize,
    ) -> Result<Block, ReadError> {
        self.cluster.events().block(context, from, events_max, bytes_max)
    }

    /// One event.
    pub async fn event(&self, context: ContextId, position: Position) -> Result<Arc<Stored>, String> {
        let block = self.block(context, position, 1, 1).await.map_err(|error| told(&error))?;
        block.first().cloned().ok_or_else(|| format!("the event {position} is not there"))
    }

    /// A coordinator has something running or on its way, or not.
    pub fn set_busy(&self, processor: ProcessorId, busy: bool) {
        self.busy.send_if_modified(|all| if busy { all.insert(processor) } else { all.remove(&processor) });
    }

    /// Waits until nothing runs and nothing is on its way.
    pub async fn settled(&self) {
        // It cannot close: the sender is `self`.
        let _ = self.busy.subscribe().wait_for(BTreeSet::is_empty).await;
    }

    /// Waits until so many nodes are gone that nothing can be told to the log.
    pub async fn quorum_lost(&self) {
        self.cluster.quorum_lost().await;
    }

    /// Asks to be given nothing more, and waits until what it has is handed over, or nobody is there to take it.
    pub async fn drain(&self) {
        let Some(session) = *self.session().borrow() else { return };
        let me = self.me();
        if self.propose(Command::Drain(me, session)).await.is_err() {
            return;
        }
        let mut applied = self.applied();
        while !self.look(|state, _| nothing_left(state, me)) {
            if applied.changed().await.is_err() {
                return;
            }
        }
    }
}

/// An error with its causes.
pub fn told(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// Whether nothing is lent to `node`, and it has no segment that another node could take.
fn nothing_left(state: &State, node: NodeId) -> bool {
    state.processors.values().all(|processor| {
        let is_lent = processor.set_aside.values().any(|aside| aside.loan.is_some_and(|loan| loan.node == node));
        let others = state.sessions.keys().any(|other| *other != node && state.can_run(*other, processor));
        !is_lent && (!others || processor.segments.values().all(|share| share.claim.owner != Some(node)))
    })
}
