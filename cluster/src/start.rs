//! Starting a node, and the tasks that run until it stops.

use std::{
    collections::BTreeSet,
    future::Future,
    sync::{Arc, OnceLock},
    time::Duration,
};

use evener_core::id::{ClusterId, Incarnation, NodeId};
use evener_store::{Disk, EventReader, Identity, Journal};
use parking_lot::Mutex;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::{
    admission::NodeAdmission,
    clock_watch,
    cluster::{Cluster, Inner},
    config::Config,
    disk_reserve::DiskStatus,
    disk_task,
    error::StartError,
    heartbeat::Heartbeats,
    heartbeat_task, join, leader_duties,
    leadership::Leadership,
    leadership_task,
    link::Server,
    links::{Links, PeerEvent},
    log_clock::LogClock,
    peer_events,
    peer_service::PeerService,
    proposer::Proposer,
    raft::{Consensus, check_membership},
    recovery::AppliedState,
    searches::Searches,
    session_task,
    sessions::{Leases, SuspendDetector},
    transport::{Clock, Transport},
};

/// The index of the first command of a log: after the membership and the first leader's blank entry.
const FOUNDED_INDEX: u64 = 2;
/// How often the log's watermark is synced while it moves; after a power loss it may be this old.
const WATERMARK_SYNC: Duration = Duration::from_secs(1);

/// The parts of a node that exist before it is a member.
struct Parts {
    config: Config,
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    incarnation: Incarnation,
    admission: Arc<NodeAdmission>,
    service: Arc<PeerService>,
    server: Arc<Server>,
    links: Arc<Links>,
    peer: String,
    stop: CancellationToken,
}

impl Cluster {
    /// Starts a node on the current runtime: as the member of its directory's identity, as the first node of a new
    /// cluster, or as a node that joins. Returns when it is a member, which may have to wait for other members.
    ///
    /// # Errors
    ///
    /// The configuration contradicts the directory or the cluster, or the node cannot start; the message says what to
    /// do.
    pub async fn start(
        config: Config,
        disk: Arc<dyn Disk>,
        transport: Arc<dyn Transport>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StartError> {
        let stop = CancellationToken::new();
        join::try_disk(&*disk)?;
        let incarnation = join::incarnation(&config, &*disk)?;
        let admission = NodeAdmission::new(incarnation, config.level);
        let service = Arc::new(PeerService::default());
        let listener = transport.bind(&config.listen).await;
        let listener = listener.map_err(|error| StartError::Network(error.to_string()))?;
        let server = Server::start(listener, admission.clone(), service.clone());
        let server = Arc::new(server.map_err(|error| StartError::Network(error.to_string()))?);
        let peer = config.peer.clone().unwrap_or_else(|| server.addr().to_owned());
        let (links, events) = Links::new(transport, admission.clone(), stop.clone());
        let parts = Parts {
            config,
            disk,
            clock,
            incarnation,
            admission,
            service,
            server: server.clone(),
            links,
            peer,
            stop: stop.clone(),
        };
        // Boxed to keep the callers' futures small.
        let started = Box::pin(Self::assemble(parts, events)).await;
        if started.is_err() {
            // A retry must find the address free and no tasks of this attempt running.
            stop.cancel();
            server.shutdown().await;
        }
        started
    }

    async fn assemble(parts: Parts, events: mpsc::Receiver<PeerEvent>) -> Result<Self, StartError> {
        let Parts { config, disk, links, peer, incarnation, .. } = &parts;
        let (identity, new) = join::become_member(config, &**disk, links, peer, *incarnation).await?;
        let mut settings = config.journal;
        settings.chunk_bytes = identity.chunk_bytes;
        let begun = Instant::now();
        let (applied_state, journal, recovered) =
            AppliedState::open(disk.clone(), settings, config.checkpoint, identity.cluster, check_membership)?;
        join::check_first_chunk(&journal, &**disk)?;
        join::persist_identity(&identity, new, recovered.fresh, &**disk)?;
        applied_state.log_recovery(&identity, &recovered, begun.elapsed());
        let cluster = parts.into_cluster(identity, applied_state, journal).await?;
        cluster.enter(new).await?;
        cluster.spawn_tasks(events);
        Ok(cluster)
    }

    /// Founds the cluster if this node is to do so, or asks the other members whether it was removed, before it is
    /// reported as ready.
    async fn enter(&self, new: bool) -> Result<(), StartError> {
        // A log this short may lack the founding command, for example because the process exited before writing it.
        let unfounded = self.journal.last().is_none_or(|(index, _)| index.0 <= FOUNDED_INDEX);
        if self.me() == NodeId(1)
            && unfounded
            && self.applied_state.view.state().cluster == ClusterId::default()
            && let Err(error) = join::found(self).await
        {
            self.shutdown().await;
            return Err(error);
        }
        if new {
            return Ok(());
        }
        // If no other member answers, it may still learn later that it was removed.
        if let Some(notice) = self.links.removal_notice_from_peers().await {
            self.on_removed(notice);
        }
        if self.is_removed() {
            self.kill().await;
            return Err(StartError::Removed(self.removal_notice()));
        }
        Ok(())
    }

    /// Starts the tasks of a node.
    fn spawn_tasks(&self, events: mpsc::Receiver<PeerEvent>) {
        self.spawn(|node| async move { node.consensus.resume(node.config.raft.heartbeat).await });
        self.spawn(join::announce_address);
        self.spawn(session_task::run);
        self.spawn(|node| async move {
            loop {
                sleep(WATERMARK_SYNC).await;
                node.journal.sync_watermark();
            }
        });
        self.spawn(heartbeat_task::run);
        self.spawn(clock_watch::watch);
        self.spawn(disk_task::run);
        self.spawn(leader_duties::count_leases);
        self.spawn(leader_duties::reconcile);
        self.spawn(|node| node.links.clone().watch());
        self.spawn(|node| peer_events::run(node, events));
        tokio::spawn(end_with_raft(self.clone()));
    }

    /// Starts a task that ends when the node does.
    fn spawn<F: Future<Output = ()> + Send + 'static>(&self, work: impl FnOnce(Self) -> F) {
        let (work, stop) = (Box::pin(work(self.clone())), self.stop.clone());
        tokio::spawn(async move {
            let _ = stop.run_until_cancelled(work).await;
        });
    }
}

impl Parts {
    /// Starts consensus and assembles the node. Peers are answered from then on.
    async fn into_cluster(
        self,
        identity: Identity,
        applied_state: AppliedState,
        journal: Journal,
    ) -> Result<Cluster, StartError> {
        let Self { config, clock: wall, admission, service, server, links, peer, stop, .. } = self;
        admission.set_member(&identity, config.level, applied_state.view.clone());
        let clock = Arc::new(LogClock::new(wall.clone(), applied_state.view.clone()));
        let consensus = Consensus::start(
            identity.node,
            &config.raft,
            config.seed,
            journal.clone(),
            applied_state.clone(),
            links.clone(),
        );
        let consensus = consensus.await.map_err(|why| StartError::Failed(journal.stopped().unwrap_or(why)))?;
        let leadership = watch::Sender::new(Leadership::default());
        let proposer = Proposer::start(
            config.proposer,
            consensus.clone(),
            clock.clone(),
            links.clone(),
            leadership.subscribe(),
            stop.clone(),
        );
        let cluster = Cluster::new(Inner {
            peer,
            events: EventReader::new(journal.clone(), applied_state.index.clone()),
            searches: Searches::new(config.searches),
            identity,
            consensus,
            journal,
            applied_state,
            proposer,
            leadership,
            session: watch::Sender::new(None),
            suspended: watch::Sender::new(false),
            lease: Mutex::default(),
            suspend_detector: Mutex::new(SuspendDetector::new(Instant::now(), wall.boot())),
            leases: Mutex::new(Leases::default()),
            server,
            links,
            heartbeats: Heartbeats::default(),
            disk_status: watch::Sender::new(DiskStatus::default()),
            blocking_disks: watch::Sender::new(BTreeSet::new()),
            clock,
            ahead: Mutex::default(),
            wall,
            stop,
            stopped: watch::Sender::new(None),
            removed: OnceLock::new(),
            status_provider: OnceLock::new(),
            config,
        });
        let weak = cluster.downgrade();
        let raft_address =
            move |member: NodeId| Some(weak.upgrade()?.consensus.status().raft_members.get(&member)?.peer.clone());
        cluster.links.open(cluster.me(), cluster.applied_state.view.clone(), Box::new(raft_address));
        service.open(cluster.downgrade());
        // Founding a cluster needs a leader.
        cluster.spawn(leadership_task::run);
        Ok(cluster)
    }
}

/// Ends the node when its Raft does.
async fn end_with_raft(node: Cluster) {
    // Raft may also end because of a shutdown at the same moment.
    if let Some(why) = node.stop.run_until_cancelled(node.ended()).await
        && !node.stop.is_cancelled()
    {
        node.fail(why);
    }
    // On a shutdown, the caller of the shutdown does the rest. After a failure, the closed sockets inform the other
    // nodes at once.
    if node.stopped.borrow().is_some() {
        node.server.shutdown().await;
        node.consensus.shutdown().await;
    }
}
