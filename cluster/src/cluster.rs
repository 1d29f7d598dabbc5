//! One node's membership in the cluster: the interface for the embedding process, peers and the node's own tasks.

mod append;
mod member_status;
mod propose;
mod session;
mod shutdown;
mod transfer;

use std::{
    collections::BTreeSet,
    ops::Deref,
    sync::{Arc, OnceLock, Weak},
};

use evener_core::{
    id::{ClusterId, LogIndex, NodeId, SessionId},
    state::State,
    time::Timestamp,
};
use evener_store::{EventReader, Identity, Journal};
use parking_lot::{MappedRwLockReadGuard, Mutex};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use self::member_status::StatusProvider;
use crate::{
    config::Config,
    disk_reserve::DiskStatus,
    error::Error,
    heartbeat::{Heartbeat, Heartbeats},
    leadership::Leadership,
    link::Server,
    links::Links,
    log_clock::LogClock,
    membership::non_voter_reason,
    proposer::Proposer,
    raft::{Consensus, Role},
    recovery::AppliedState,
    searches::{SearchPhase, Searches},
    sessions::{Lease, Leases, SuspendDetector},
    status::Status,
    transport::Clock,
    view::Applied,
};

/// One node's membership in the cluster. Clones refer to the same node.
#[derive(Clone)]
pub struct Cluster(Arc<Inner>);

/// The data shared by all clones.
pub struct Inner {
    pub(crate) config: Config,
    pub(crate) identity: Identity,
    /// The address at which peers reach this node.
    pub(crate) peer: String,
    pub(crate) consensus: Consensus,
    pub(crate) journal: Journal,
    pub(crate) applied_state: AppliedState,
    pub(crate) events: EventReader,
    pub(crate) searches: Searches,
    pub(crate) proposer: Arc<Proposer>,
    /// Written by one task, see [`crate::leadership_task`].
    pub(crate) leadership: watch::Sender<Leadership>,
    pub(crate) session: watch::Sender<Option<SessionId>>,
    /// Whether this process is suspended, so that its session is not renewed.
    pub(crate) suspended: watch::Sender<bool>,
    /// The lease of this node's own session.
    pub(crate) lease: Mutex<Option<Lease>>,
    pub(crate) suspend_detector: Mutex<SuspendDetector>,
    pub(crate) leases: Mutex<Leases>,
    pub(crate) server: Arc<Server>,
    pub(crate) links: Arc<Links>,
    pub(crate) heartbeats: Heartbeats,
    /// The free space on this node's disk.
    pub(crate) disk_status: watch::Sender<DiskStatus>,
    /// The nodes whose disks have too little free space for more appends.
    pub(crate) blocking_disks: watch::Sender<BTreeSet<NodeId>>,
    /// The log's clock.
    pub(crate) clock: Arc<LogClock>,
    /// How many milliseconds this machine's wall clock is ahead of the majority's, if known.
    pub(crate) ahead: Mutex<Option<i64>>,
    /// This machine's clock.
    pub(crate) wall: Arc<dyn Clock>,
    pub(crate) stop: CancellationToken,
    pub(crate) stopped: watch::Sender<Option<String>>,
    /// The notice of this node's removal, if a peer sent one.
    pub(crate) removed: OnceLock<String>,
    /// Encodes this node's status for other members.
    pub(crate) status_provider: OnceLock<StatusProvider>,
}

impl Deref for Cluster {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

/// A weak reference to a node, held by the node's own parts.
pub(crate) struct WeakCluster(Weak<Inner>);

impl WeakCluster {
    /// Returns the node, if it has not been dropped.
    pub(crate) fn upgrade(&self) -> Option<Cluster> {
        self.0.upgrade().map(Cluster)
    }
}

impl Cluster {
    pub(crate) fn new(inner: Inner) -> Self {
        Self(Arc::new(inner))
    }

    pub(crate) fn downgrade(&self) -> WeakCluster {
        WeakCluster(Arc::downgrade(&self.0))
    }

    /// Returns the time with which an entry proposed here now would be stamped. Deadlines in log time are compared with
    /// it.
    #[must_use]
    pub fn log_time(&self) -> Timestamp {
        self.clock.wall()
    }

    /// Returns the current wall-clock time, corrected to the majority's clocks if they are known.
    #[must_use]
    pub fn wall_time(&self) -> Timestamp {
        self.clock.steady()
    }

    /// Returns a receiver for the position up to which this node has applied the log.
    #[must_use]
    pub fn applied(&self) -> watch::Receiver<Applied> {
        self.applied_state.view.applied()
    }

    /// Returns the replicated state as applied here. Hold the guard briefly: it blocks apply.
    pub fn state(&self) -> MappedRwLockReadGuard<'_, State> {
        self.applied_state.view.state()
    }

    /// Calls `read` with the state and the index of the last applied entry, both of one moment. Keep `read` short: it
    /// blocks apply.
    pub fn with_state<R>(&self, read: impl FnOnce(&State, LogIndex) -> R) -> R {
        self.applied_state.view.with_state(read)
    }

    /// Returns a reader of the events.
    #[must_use]
    pub fn events(&self) -> &EventReader {
        &self.events
    }

    /// Searches the events on a thread for blocking work.
    ///
    /// # Errors
    ///
    /// The queue of searches is full, or this node stops.
    pub async fn search<T: Send + 'static>(
        &self,
        turn: SearchPhase,
        search: impl FnOnce(&EventReader) -> T + Send + 'static,
    ) -> Result<T, Error> {
        let events = self.events.clone();
        self.searches.run(turn, move |_| search(&events)).await
    }

    /// Returns the number of this member.
    #[must_use]
    pub fn me(&self) -> NodeId {
        self.identity.node
    }

    /// Returns this member's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.identity.name
    }

    /// Returns the id of the cluster.
    #[must_use]
    pub fn id(&self) -> ClusterId {
        self.identity.cluster
    }

    /// Returns the address at which peers reach this node.
    #[must_use]
    pub fn peer_addr(&self) -> &str {
        &self.peer
    }

    /// Returns the size of a chunk of the log, in bytes, as set when the cluster was founded.
    #[must_use]
    pub fn chunk_bytes(&self) -> u64 {
        self.identity.chunk_bytes
    }

    /// Returns a receiver for this node's session. Handlers must not run while it is `None`.
    #[must_use]
    pub fn session(&self) -> watch::Receiver<Option<SessionId>> {
        self.session.subscribe()
    }

    /// Returns a receiver for the leader and whether a majority is reachable.
    #[must_use]
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.subscribe()
    }

    /// Returns a receiver for the reason why this node has stopped; `None` while it runs.
    #[must_use]
    pub fn stopped(&self) -> watch::Receiver<Option<String>> {
        self.stopped.subscribe()
    }

    /// Returns whether this node has stopped because it was removed from the cluster.
    #[must_use]
    pub fn was_removed(&self) -> bool {
        self.removed.get().is_some()
    }

    /// Returns the status of this node.
    #[must_use]
    pub fn status(&self) -> Status {
        let raft_status = self.consensus.status();
        let applied = *self.applied_state.view.applied().borrow();
        let learners = raft_status
            .raft_members
            .keys()
            .filter(|raft_member| !raft_status.voters.contains(raft_member))
            .copied()
            .collect();
        let non_voters = {
            let state = self.applied_state.view.state();
            let why = |member: &NodeId| {
                Some((*member, non_voter_reason(*member, &raft_status, &state, self.config.voters_max)?))
            };
            state.members.keys().chain([&self.me()]).filter_map(why).collect()
        };
        let stopped = self.stopped.borrow().clone();
        Status {
            cluster: self.identity.cluster,
            node: self.me(),
            name: self.identity.name.clone(),
            peer: self.peer.clone(),
            http: self.config.http.clone(),
            role: if stopped.is_some() { Role::Stopped } else { raft_status.role },
            leadership: self.leadership.borrow().clone(),
            voters: raft_status.certain_voters,
            learners,
            non_voters,
            last: raft_status.last,
            committed: raft_status.committed,
            applied: applied.index,
            durable: self.journal.durable(),
            head: applied.head,
            session: *self.session.borrow(),
            proposing: self.proposer.depth(),
            matched: raft_status.matched,
            clock_ahead_ms: *self.ahead.lock(),
            log_ahead: self.clock.log_ahead(),
            disk: *self.disk_status.borrow(),
            append_refusal: self.append_refusal(),
            stopped,
        }
    }

    /// Waits until `holds` returns true. It is called again whenever this node's status changes.
    pub async fn until(&self, holds: impl Fn() -> bool) {
        let mut raft = self.consensus.status_changes();
        let (mut applied, mut session, mut leadership) = (self.applied(), self.session(), self.leadership());
        loop {
            // Seen before it is looked: what moves meanwhile is not missed.
            raft.mark_unchanged();
            applied.mark_unchanged();
            session.mark_unchanged();
            leadership.mark_unchanged();
            if holds() {
                return;
            }
            let moved = tokio::select! {
                moved = raft.changed() => moved,
                moved = leadership.changed() => moved.is_ok(),
                moved = applied.changed() => moved.is_ok(),
                moved = session.changed() => moved.is_ok(),
            };
            if !moved {
                // The node is stopping, and so is the caller.
                return std::future::pending().await;
            }
        }
    }

    /// Returns the display name of a member.
    pub(crate) fn name_of(&self, member: NodeId) -> String {
        self.applied_state.view.state().name_of(member)
    }

    /// Returns the display names of these members.
    pub(crate) fn names_of<'w>(&self, nodes: impl IntoIterator<Item = &'w NodeId>) -> Vec<String> {
        nodes.into_iter().map(|member| self.name_of(*member)).collect()
    }

    /// Returns whether the entry that founds the cluster is applied here.
    pub(crate) fn is_founded(&self) -> bool {
        !self.applied_state.view.state().members.is_empty()
    }

    /// Returns the status that this node reports to its peers.
    pub(crate) fn heartbeat(&self) -> Heartbeat {
        let leader = self.leadership.borrow().leader;
        let others = leader.filter(|leader| *leader != self.me());
        let since_leader_answer = others.and_then(|leader| self.heartbeats.since_answer(leader)).unwrap_or_default();
        Heartbeat { wall: self.wall.wall(), leader, since_leader_answer, disk_low: self.disk_status.borrow().low }
    }
}

#[cfg(test)]
mod tests;
