//! One node's membership in the cluster: everything that a process, its peers and its own tasks need of it.

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

/// One node's membership in the cluster. A clone is the same node.
#[derive(Clone)]
pub struct Cluster(Arc<Inner>);

/// What the clones share.
pub struct Inner {
    pub(crate) config: Config,
    pub(crate) identity: Identity,
    /// Where peers reach it.
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
    /// This process cannot do its work: its session is not renewed.
    pub(crate) suspended: watch::Sender<bool>,
    /// As its owner counts it.
    pub(crate) lease: Mutex<Option<Lease>>,
    pub(crate) suspend_detector: Mutex<SuspendDetector>,
    pub(crate) leases: Mutex<Leases>,
    pub(crate) server: Arc<Server>,
    pub(crate) links: Arc<Links>,
    pub(crate) heartbeats: Heartbeats,
    /// The room on this node's disk.
    pub(crate) disk_status: watch::Sender<DiskStatus>,
    /// The nodes whose disks have too little room for more appends.
    pub(crate) blocking_disks: watch::Sender<BTreeSet<NodeId>>,
    /// The log's.
    pub(crate) clock: Arc<LogClock>,
    /// How many milliseconds this machine's wall clock is ahead of the majority's, where that can be told.
    pub(crate) ahead: Mutex<Option<i64>>,
    /// This machine's.
    pub(crate) wall: Arc<dyn Clock>,
    pub(crate) stop: CancellationToken,
    pub(crate) stopped: watch::Sender<Option<String>>,
    /// It is a member no more, in the words of who told it.
    pub(crate) removed: OnceLock<String>,
    /// Writes what members that ask are told of this node.
    pub(crate) status_provider: OnceLock<StatusProvider>,
}

impl Deref for Cluster {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

/// A node, unless it has been dropped: held by what the node itself holds.
pub struct WeakCluster(Weak<Inner>);

impl WeakCluster {
    /// Returns the node, if there still is one.
    pub fn upgrade(&self) -> Option<Cluster> {
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

    /// Now, as an entry proposed here would be stamped: what waits in the log's time is compared with this.
    #[must_use]
    pub fn log_time(&self) -> Timestamp {
        self.clock.wall()
    }

    /// Now, as a clock shows it that agrees with the majority's, as far as that can be told.
    #[must_use]
    pub fn wall_time(&self) -> Timestamp {
        self.clock.steady()
    }

    /// Up to where this node has applied the log, and when that moves.
    #[must_use]
    pub fn applied(&self) -> watch::Receiver<Applied> {
        self.applied_state.view.applied()
    }

    /// The replicated state as applied here. Hold it briefly: nothing is applied meanwhile.
    pub fn state(&self) -> MappedRwLockReadGuard<'_, State> {
        self.applied_state.view.state()
    }

    /// Looks at the state, and up to where it is applied: both of one moment. Briefly: nothing is applied meanwhile.
    pub fn with_state<R>(&self, read: impl FnOnce(&State, LogIndex) -> R) -> R {
        self.applied_state.view.with_state(read)
    }

    /// The events.
    #[must_use]
    pub fn events(&self) -> &EventReader {
        &self.events
    }

    /// Searches the events on a thread where that may take long.
    ///
    /// # Errors
    ///
    /// More wait for that than may, or this node stops.
    pub async fn search<T: Send + 'static>(
        &self,
        turn: SearchPhase,
        search: impl FnOnce(&EventReader) -> T + Send + 'static,
    ) -> Result<T, Error> {
        let events = self.events.clone();
        self.searches.run(turn, move |_| search(&events)).await
    }

    /// Which member this is.
    #[must_use]
    pub fn me(&self) -> NodeId {
        self.identity.node
    }

    /// The node's name, as a member.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.identity.name
    }

    /// Which cluster.
    #[must_use]
    pub fn id(&self) -> ClusterId {
        self.identity.cluster
    }

    /// Where peers reach this node.
    #[must_use]
    pub fn peer_addr(&self) -> &str {
        &self.peer
    }

    /// Bytes of a chunk of the log, as the cluster was founded.
    #[must_use]
    pub fn chunk_bytes(&self) -> u64 {
        self.identity.chunk_bytes
    }

    /// This node's session. While there is none, handlers must not run.
    #[must_use]
    pub fn session(&self) -> watch::Receiver<Option<SessionId>> {
        self.session.subscribe()
    }

    /// Returns a receiver for the leader and whether a majority is reachable.
    #[must_use]
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.subscribe()
    }

    /// Why this node has stopped; none while it has not.
    #[must_use]
    pub fn stopped(&self) -> watch::Receiver<Option<String>> {
        self.stopped.subscribe()
    }

    /// Whether it has stopped because it is a member no more.
    #[must_use]
    pub fn was_removed(&self) -> bool {
        self.removed.get().is_some()
    }

    /// How this node stands.
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
            let why =
                |who: &NodeId| Some((*who, non_voter_reason(*who, &raft_status, &state, self.config.voters_max)?));
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

    /// Waits until this holds. It is looked at whenever something moves that this node's
    /// status tells.
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
                // The node ends, and whoever waits with it.
                return std::future::pending().await;
            }
        }
    }

    /// What people call a member.
    pub(crate) fn name_of(&self, who: NodeId) -> String {
        self.applied_state.view.state().name_of(who)
    }

    /// What people call these members.
    pub(crate) fn names_of<'w>(&self, nodes: impl IntoIterator<Item = &'w NodeId>) -> Vec<String> {
        nodes.into_iter().map(|who| self.name_of(*who)).collect()
    }

    /// Whether its cluster exists, as far as it knows.
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
