//! One node's membership in the cluster: everything that a process needs of it.

mod ending;

use std::{
    collections::BTreeSet,
    sync::{Arc, OnceLock},
    time::Duration,
};

use evener_core::{
    append::{Appended, Request},
    command::{Command, Outcome},
    id::{ClusterId, Incarnation, LogIndex, NodeId, SessionId},
    state::State,
    time::Timestamp,
};
use evener_store::{Disk, EventReader};
use parking_lot::{MappedRwLockReadGuard, Mutex};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::{
    clock_watch,
    config::Config,
    disk_reserve::DiskRoom,
    disk_task,
    error::{Error, StartError},
    gate::Gate,
    leader_duties,
    link::Server,
    links::{Links, PeerEvent},
    log_clock::LogClock,
    membership::voteless,
    node::Node,
    peer_events,
    peer_service::PeerService,
    proposer::{Leadership, Proposer},
    pulse::Pulses,
    pulse_task,
    raft::{Engine, Role, check_membership},
    recovery::Ledger,
    searches::{Searches, Turn},
    session_task,
    sessions::{Leases, Sleep},
    start,
    status::Status,
    transport::{Clock, Transport},
    view::Applied,
};

/// Where the first command of a log stands: after the membership and the first leader's blank entry.
const FOUNDED_INDEX: u64 = 2;

/// One node's membership in the cluster. A clone is the same node.
#[derive(Clone)]
pub struct Cluster {
    node: Arc<Node>,
    server: Arc<Server>,
}

/// What a node has before it is a member.
struct Parts {
    incarnation: Incarnation,
    gate: Arc<Gate>,
    service: Arc<PeerService>,
    server: Arc<Server>,
    links: Arc<Links>,
    peer_events: mpsc::Receiver<PeerEvent>,
    peer: String,
    stop: CancellationToken,
}

impl Cluster {
    /// Starts a node on the current runtime: as the member that its directory says it is, as the first of a new
    /// cluster, or as one that joins. Returns when it is a member, which takes as long as others take to answer.
    ///
    /// # Errors
    ///
    /// What contradicts each other, and what to do about it.
    pub async fn start(
        config: Config,
        disk: Arc<dyn Disk>,
        transport: Arc<dyn Transport>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StartError> {
        let stop = CancellationToken::new();
        start::try_disk(&*disk)?;
        let incarnation = start::incarnation(&config, &*disk)?;
        let gate = Gate::new(incarnation, config.level);
        let service = Arc::new(PeerService::default());
        let listener = transport.bind(&config.listen).await;
        let listener = listener.map_err(|error| StartError::Network(error.to_string()))?;
        let server = Server::start(listener, gate.clone(), service.clone());
        let server = server.map_err(|error| StartError::Network(error.to_string()))?;
        let peer = config.peer.clone().unwrap_or_else(|| server.addr().to_owned());
        let (links, peer_events) = Links::new(transport, gate.clone(), stop.clone());
        let server = Arc::new(server);
        let parts =
            Parts { incarnation, gate, service, server: server.clone(), links, peer_events, peer, stop: stop.clone() };
        let started = Self::assemble(config, disk, clock, parts).await;
        if started.is_err() {
            // Whoever tries again finds the address free, and nothing of this try running.
            stop.cancel();
            server.shutdown().await;
        }
        started
    }

    async fn assemble(
        config: Config,
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        parts: Parts,
    ) -> Result<Self, StartError> {
        let Parts { incarnation, gate, service, server, links, peer_events, peer, stop } = parts;
        let (identity, new) = start::become_member(&config, &*disk, &links, &peer, incarnation).await?;
        let mut settings = config.journal;
        settings.chunk_bytes = identity.chunk_bytes;
        let begun = Instant::now();
        let (ledger, journal, recovered) = Ledger::open(disk.clone(), settings, config.checkpoint, check_membership)?;
        start::seal(&identity, new, recovered.fresh, &*disk)?;
        ledger.log_recovery(&identity, &recovered, begun.elapsed());
        gate.open(&identity, config.level, ledger.view.clone());
        let wall = clock.clone();
        let clock = Arc::new(LogClock::new(clock, ledger.view.clone()));
        let engine =
            Engine::start(identity.node, &config.raft, config.seed, journal.clone(), ledger.clone(), links.clone());
        let engine = engine.await.map_err(|why| StartError::Failed(journal.stopped().unwrap_or(why)))?;

        let leadership = follow_leadership(&engine, stop.clone());
        let (lack, lacking) = watch::channel(None);
        let proposer = Proposer::start(
            config.proposer,
            engine.clone(),
            clock.clone(),
            links.clone(),
            leadership.clone(),
            lacking,
            stop.clone(),
        );
        let node = Arc::new(Node {
            peer,
            events: EventReader::new(journal.clone(), ledger.index.clone()),
            searches: Searches::new(config.searches),
            identity,
            engine,
            journal,
            ledger,
            proposer,
            leadership,
            lack,
            session: watch::Sender::new(None),
            aside: watch::Sender::new(false),
            lease: Mutex::default(),
            sleep: Mutex::new(Sleep::new(Instant::now(), wall.boot())),
            leases: Mutex::new(Leases::default()),
            links: links.clone(),
            pulses: Pulses::default(),
            disk_room: watch::Sender::new(DiskRoom::default()),
            no_room: watch::Sender::new(BTreeSet::new()),
            clock,
            ahead: Mutex::default(),
            wall,
            stop,
            stopped: watch::Sender::new(None),
            removed: OnceLock::new(),
            config,
        });
        let weak = Arc::downgrade(&node);
        let seat_address = move |who: NodeId| Some(weak.upgrade()?.engine.standing().seats.get(&who)?.peer.clone());
        links.open(node.me(), node.ledger.view.clone(), Box::new(seat_address));
        service.open(&node);
        let cluster = Self { node: node.clone(), server };
        // A log this short has not got the cluster's first command, or was cut off just then.
        let unfounded = node.journal.last().is_none_or(|(index, _)| index.0 <= FOUNDED_INDEX);
        if node.me() == NodeId(1)
            && unfounded
            && node.ledger.view.state().cluster == ClusterId::default()
            && let Err(error) = start::found(&node).await
        {
            cluster.shutdown().await;
            return Err(error);
        }
        // Before anybody is told that it is ready. Where no other member answers it may still learn of it later.
        if !new {
            if let Some(words) = node.links.greet().await {
                node.dismissed(words);
            }
            if node.is_removed() {
                cluster.kill().await;
                return Err(StartError::Removed(node.farewell()));
            }
        }
        cluster.run(peer_events);
        Ok(cluster)
    }

    /// The tasks of a node.
    fn run(&self, events: mpsc::Receiver<PeerEvent>) {
        let node = &self.node;
        let spawn = |work: futures::future::BoxFuture<'static, ()>| {
            let stop = node.stop.clone();
            tokio::spawn(async move {
                let _ = stop.run_until_cancelled(work).await;
            });
        };
        let resuming = node.clone();
        spawn(Box::pin(async move { resuming.engine.resume(resuming.config.raft.heartbeat).await }));
        spawn(Box::pin(start::announce(node.clone())));
        spawn(Box::pin(session_task::run(node.clone())));
        let marking = node.clone();
        spawn(Box::pin(async move {
            loop {
                sleep(WATERMARK_SYNC).await;
                marking.journal.sync_watermark();
            }
        }));
        spawn(Box::pin(pulse_task::run(node.clone())));
        spawn(Box::pin(clock_watch::watch(node.clone())));
        let measuring = node.clone();
        spawn(Box::pin(async move { disk_task::run(&measuring).await }));
        spawn(Box::pin(leader_duties::look_out(node.clone())));
        spawn(Box::pin(leader_duties::count_leases(node.clone())));
        spawn(Box::pin(leader_duties::reconcile(node.clone())));
        spawn(Box::pin(node.links.clone().watch()));
        spawn(Box::pin(peer_events::run(node.clone(), events)));
        let (ending, server) = (node.clone(), self.server.clone());
        tokio::spawn(async move {
            // It may end because it was told to, in the very moment in which it is looked.
            if let Some(why) = ending.stop.run_until_cancelled(ending.ended()).await
                && !ending.stop.is_cancelled()
            {
                ending.fail(why);
            }
            // Told to stop, whoever told it does the rest. One that failed takes no part any more, and its closing
            // sockets tell the others at once.
            if ending.stopped.borrow().is_some() {
                server.shutdown().await;
                ending.engine.shutdown().await;
            }
        });
    }

    /// Adds events: all or none.
    ///
    /// # Errors
    ///
    /// Of the class unknown alone it may have happened: ask again with the same ids.
    pub async fn append(&self, request: &Request) -> Result<Appended, Error> {
        self.node.append(request).await
    }

    /// Brings one command into the log, and tells how it was judged.
    ///
    /// # Errors
    ///
    /// As [`Cluster::append`].
    pub async fn propose(&self, command: Command) -> Result<Outcome, Error> {
        self.node.propose(&command).await
    }

    /// Brings commands into the log next to each other, in one entry.
    ///
    /// # Errors
    ///
    /// As [`Cluster::append`].
    pub async fn propose_all(&self, commands: &[Command]) -> Result<(LogIndex, Vec<Outcome>), Error> {
        self.node.propose_all(commands).await
    }

    /// Waits until everything that was true when this was asked is applied here: what is read then is linearizable.
    ///
    /// # Errors
    ///
    /// No leader, or no quorum.
    pub async fn barrier(&self) -> Result<LogIndex, Error> {
        self.node.barrier().await
    }

    /// Now, as an entry proposed here would be stamped: what waits in the log's time is compared with this.
    #[must_use]
    pub fn log_time(&self) -> Timestamp {
        self.node.clock.wall()
    }

    /// Now, as a clock shows it that agrees with the majority's, as far as that can be told.
    #[must_use]
    pub fn wall_time(&self) -> Timestamp {
        self.node.clock.steady()
    }

    /// Up to where this node has applied the log, and when that moves.
    #[must_use]
    pub fn applied(&self) -> watch::Receiver<Applied> {
        self.node.ledger.view.applied()
    }

    /// The replicated state as applied here. Hold it briefly: nothing is applied meanwhile.
    pub fn state(&self) -> MappedRwLockReadGuard<'_, State> {
        self.node.ledger.view.state()
    }

    /// Looks at the state, and up to where it is applied: both of one moment. Briefly: nothing is applied meanwhile.
    pub fn look<R>(&self, look: impl FnOnce(&State, LogIndex) -> R) -> R {
        self.node.ledger.view.look(look)
    }

    /// The events.
    #[must_use]
    pub fn events(&self) -> &EventReader {
        &self.node.events
    }

    /// Searches the events on a thread where that may take long.
    ///
    /// # Errors
    ///
    /// More wait for that than may, or this node stops.
    pub async fn search<T: Send + 'static>(
        &self,
        turn: Turn,
        search: impl FnOnce(&EventReader) -> T + Send + 'static,
    ) -> Result<T, Error> {
        let events = self.node.events.clone();
        self.node.searches.run(turn, move |_| search(&events)).await
    }

    /// Which member this is.
    #[must_use]
    pub fn me(&self) -> NodeId {
        self.node.me()
    }

    /// The node's name, as a member.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.node.identity.name
    }

    /// Which cluster.
    #[must_use]
    pub fn id(&self) -> ClusterId {
        self.node.identity.cluster
    }

    /// Where peers reach this node.
    #[must_use]
    pub fn peer_addr(&self) -> &str {
        &self.node.peer
    }

    /// Bytes of a chunk of the log, as the cluster was founded.
    #[must_use]
    pub fn chunk_bytes(&self) -> u64 {
        self.node.identity.chunk_bytes
    }

    /// This node's session. While there is none, handlers must not run.
    #[must_use]
    pub fn session(&self) -> watch::Receiver<Option<SessionId>> {
        self.node.session.subscribe()
    }

    /// Whether this node has this session, and its lease is not over. It is known here before the session is seen to
    /// be lost, as when the machine was suspended: to be asked before each event is handled.
    #[must_use]
    pub fn holds(&self, session: SessionId) -> bool {
        self.node.holds(session)
    }

    /// Who leads, and when that changes.
    #[must_use]
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.node.leadership.clone()
    }

    /// Whether this node leads, as far as it knows.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.node.leads()
    }

    /// Why this node has stopped; none while it has not.
    #[must_use]
    pub fn stopped(&self) -> watch::Receiver<Option<String>> {
        self.node.stopped.subscribe()
    }

    /// Whether it has stopped because it is a member no more.
    #[must_use]
    pub fn was_removed(&self) -> bool {
        self.node.removed.get().is_some()
    }

    /// How this node stands.
    #[must_use]
    pub fn status(&self) -> Status {
        let node = &self.node;
        let standing = node.engine.standing();
        let applied = *node.ledger.view.applied().borrow();
        let learners = standing.seats.keys().filter(|seat| !standing.voters.contains(seat)).copied().collect();
        let voteless = {
            let state = node.ledger.view.state();
            let why = |who: &NodeId| Some((*who, voteless(*who, &standing, &state, node.config.voters_max)?));
            state.members.keys().chain([&node.me()]).filter_map(why).collect()
        };
        let stopped = node.stopped.borrow().clone();
        Status {
            cluster: node.identity.cluster,
            node: node.me(),
            name: node.identity.name.clone(),
            peer: node.peer.clone(),
            http: node.config.http.clone(),
            role: if stopped.is_some() { Role::Stopped } else { standing.role },
            term: standing.term,
            leader: standing.leader,
            voters: standing.sure,
            learners,
            voteless,
            last: standing.last,
            committed: standing.committed,
            applied: applied.index,
            durable: node.journal.durable(),
            head: applied.head,
            session: *node.session.borrow(),
            proposing: node.proposer.depth(),
            matched: standing.matched,
            lack: node.lack.borrow().clone(),
            clock_ahead_ms: *node.ahead.lock(),
            log_ahead: node.clock.log_ahead(),
            disk: *node.disk_room.borrow(),
            append_refusal: node.append_refusal(),
            stopped,
        }
    }

    /// Waits until this holds. It is looked at whenever something moves that this node's
    /// status tells.
    pub async fn until(&self, holds: impl Fn() -> bool) {
        let mut raft = self.node.engine.moves();
        let (mut applied, mut session, mut leadership) = (self.applied(), self.session(), self.leadership());
        loop {
            // Seen before it is looked: what moves meanwhile is not missed.
            raft.seen();
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

    /// Passes leadership on to a voter. It is tried, not promised: see [`Cluster::leadership`].
    ///
    /// # Errors
    ///
    /// The node does not vote, or no leader could be asked.
    pub async fn transfer(&self, to: NodeId) -> Result<(), Error> {
        self.node.transfer(to).await
    }

    /// Takes a member out of the cluster for ever: a dead one, or this one by [`Cluster::leave`].
    ///
    /// # Errors
    ///
    /// There is no such member, or it is the last one.
    pub async fn remove(&self, node: NodeId) -> Result<(), Error> {
        match self.node.propose(&Command::Remove(node)).await? {
            Outcome::Not(why) => Err(why.into()),
            _ => Ok(()),
        }
    }

    /// Since when a member whose session has just ended was missed, as far as this node can tell: since the socket to
    /// it closed, or, where it did not close, for a whole lease.
    #[must_use]
    pub fn missed_since(&self, who: NodeId) -> Instant {
        let lease = self.node.config.lease;
        let now = Instant::now();
        self.node.links.closed(who, lease).unwrap_or_else(|| now.checked_sub(lease).unwrap_or(now))
    }

    /// Waits until so many voters' processes are gone that nothing can be decided. What a node that ends has to say
    /// to the others then reaches nobody.
    pub async fn forsaken(&self) {
        self.node.forsaken().await;
    }
}

/// How often the watermark of the log is synced while it moves: so old it may be after a power cut.
const WATERMARK_SYNC: Duration = Duration::from_secs(1);

/// Tells who leads, whenever that changes.
fn follow_leadership(engine: &Engine, stop: CancellationToken) -> watch::Receiver<Leadership> {
    let (sender, receiver) = watch::channel(Leadership::default());
    let mut news = engine.news();
    tokio::spawn(async move {
        let following = async {
            loop {
                let (term, leader) = news.now();
                let now = Leadership { term, leader };
                sender.send_if_modified(|known| std::mem::replace(known, now) != now);
                if !news.changed().await {
                    return;
                }
            }
        };
        let _ = stop.run_until_cancelled(following).await;
        // The channel stays open as long as somebody may look at it.
        sender.closed().await;
    });
    receiver
}

#[cfg(test)]
mod tests;
