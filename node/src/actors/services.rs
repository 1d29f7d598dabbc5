//! The services that a node's actors use: the cluster, handler threads, the status board, clocks and random numbers.

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

/// The services that a node's actors use.
pub struct NodeServices {
    /// The cluster.
    cluster: Cluster,
    clock: Arc<dyn Clock>,
    /// The runtime of handlers.
    pub handlers: Handlers,
    /// The status board of the actors.
    pub board: StatusBoard,
    /// The metrics.
    pub metrics: Metrics,
    /// Set when the node stops: no new work is started.
    pub stopping: watch::Sender<bool>,
    /// Processors whose coordinator has running handlers or unsent progress.
    busy: watch::Sender<BTreeSet<ProcessorId>>,
    started: Instant,
    rng: Mutex<SmallRng>,
}

impl NodeServices {
    /// Creates the services of one node; random numbers derive from `seed`.
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
            stopping: watch::Sender::new(false),
            busy: watch::Sender::new(BTreeSet::new()),
            started: Instant::now(),
            rng: Mutex::new(SmallRng::seed_from_u64(seed)),
        }
    }

    /// Returns the node's id.
    pub fn me(&self) -> NodeId {
        self.cluster.me()
    }

    /// Returns the node's name.
    pub fn name(&self) -> &str {
        self.cluster.name()
    }

    /// Returns the wall clock.
    pub fn wall(&self) -> Timestamp {
        self.clock.wall()
    }

    /// Returns the log's clock, as this node would advance it.
    pub fn log_time(&self) -> Timestamp {
        self.cluster.log_time()
    }

    /// Returns the monotonic clock.
    pub fn now(&self) -> Moment {
        // Rounded up, so that a moment that was waited for is never in the future.
        let elapsed = self.started.elapsed() + Duration::from_micros(999);
        Moment(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX))
    }

    /// Converts a moment of the monotonic clock to wall time.
    pub fn wall_at(&self, moment: Moment) -> Timestamp {
        self.wall().after(moment.since(self.now()))
    }

    /// Returns a random number for jitter.
    pub fn random(&self) -> u16 {
        self.rng.lock().random()
    }

    /// Watches the applied position of this node.
    pub fn applied(&self) -> watch::Receiver<Applied> {
        self.cluster.applied()
    }

    /// Watches the node's session; none while it is lost.
    pub fn session(&self) -> watch::Receiver<Option<SessionId>> {
        self.cluster.session()
    }

    /// Returns if this node still holds this session; otherwise never returns. The segment may then belong to another
    /// node, and the waiting task is cancelled.
    pub async fn ensure_session(&self, session: Option<SessionId>) {
        if !session.is_some_and(|session| self.cluster.holds(session)) {
            std::future::pending().await
        }
    }

    /// Returns for how long a member whose session has ended has been missed.
    pub fn missed_for(&self, node: NodeId) -> Duration {
        self.cluster.unreachable_since(node).elapsed()
    }

    /// Watches the leadership.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.cluster.leadership()
    }

    /// Returns whether this node is the leader.
    pub fn leads(&self) -> bool {
        self.cluster.leads()
    }

    /// Reads the replicated state and its applied index. Must be brief: nothing is applied meanwhile.
    pub fn look<R>(&self, look: impl FnOnce(&State, LogIndex) -> R) -> R {
        self.cluster.with_state(look)
    }

    /// Proposes a command and waits until it is applied on this node.
    ///
    /// # Errors
    ///
    /// If the command was refused or its outcome is unknown.
    pub async fn propose(&self, command: Command) -> Result<Outcome, evener_cluster::Error> {
        let (index, outcomes) = self.cluster.propose_all(&[command]).await?;
        // The channel cannot close while the cluster exists.
        let _ = self.cluster.applied().wait_for(|applied| applied.index >= index).await;
        outcomes.into_iter().next().ok_or_else(|| evener_cluster::Error::unknown("a command was not answered"))
    }

    /// Reads events from this position on.
    pub async fn block(
        &self,
        context: ContextId,
        from: Position,
        events_max: usize,
        bytes_max: usize,
    ) -> Result<Block, ReadError> {
        self.cluster.events().block(context, from, events_max, bytes_max)
    }

    /// Reads one event.
    pub async fn event(&self, context: ContextId, position: Position) -> Result<Arc<Stored>, String> {
        let block = self.block(context, position, 1, 1).await.map_err(|error| error_chain(&error))?;
        block.first().cloned().ok_or_else(|| format!("the event {position} is not there"))
    }

    /// Sets whether a coordinator has running handlers or unsent progress.
    pub fn set_busy(&self, processor: ProcessorId, busy: bool) {
        self.busy.send_if_modified(|all| if busy { all.insert(processor) } else { all.remove(&processor) });
    }

    /// Waits until no coordinator is busy.
    pub async fn until_idle(&self) {
        // It cannot close: the sender is `self`.
        let _ = self.busy.subscribe().wait_for(BTreeSet::is_empty).await;
    }

    /// Waits until the quorum is lost, so that no more progress can be stored.
    pub async fn quorum_lost(&self) {
        self.cluster.quorum_lost().await;
    }

    /// Drains this node in the cluster: waits until its segments are handed over, or no other node can take them.
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

/// Returns the text of an error with its sources.
pub(super) fn error_chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// Returns whether nothing is lent to `node` and it owns no segment that another node could take.
fn nothing_left(state: &State, node: NodeId) -> bool {
    state.processors.values().all(|processor| {
        let is_lent = processor.set_aside.values().any(|aside| aside.loan.is_some_and(|loan| loan.node == node));
        let others = state.sessions.keys().any(|other| *other != node && state.can_run(*other, processor));
        !is_lent && (!others || processor.segments.values().all(|share| share.claim.owner != Some(node)))
    })
}
