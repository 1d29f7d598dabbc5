//! A node at work in this process: what it is made of, how that is put together, and how it ends.

use std::{io::ErrorKind, sync::Arc, time::Duration};

use evener_cluster::{Cluster, StartError, error::StartRefusal};
use evener_core::processor::Definition;
use evener_store::error::OpenError;
use tokio::{task::JoinHandle, time::timeout};
use uuid::Uuid;

use super::{
    Inner, Node, PATIENCE,
    door::Door,
    start::{self, Outside, config},
};
use crate::{
    actors::{Actors, Embedded, World},
    codes,
    engine::{Change, Engine, Late, OperationState, Reply, Request, What, segments_wanted, watch_unowned},
    error::ApiError,
    handler::Handlers,
    logs::Log,
    metrics::Metrics,
    open_files,
    pulse::Pulse,
    settings::{Settings, Size, Value},
    status::StatusBoard,
    threads::Threads,
};

/// Threads for Raft, links and sessions: one may compute while another answers.
const CLUSTER_THREADS: usize = 2;
/// Threads for requests and actors: as above.
const NODE_THREADS: usize = 2;
/// A node that starts waits so long for its promotion to a voter, where one is due.
const PROMOTION_WAIT: Duration = Duration::from_secs(30);
/// What an actor does at its end takes no longer than this, beside the handlers that it waits for.
const DRAIN_MORE: Duration = Duration::from_secs(2);

/// A node at work. With threads of its own, dropping it is as if its process had died.
pub(super) struct House {
    pub(super) cluster: Cluster,
    pub(super) engine: Engine,
    pub(super) name: String,
    pub(super) door: Option<Door>,
    actors: Actors,
    /// What looks at handlers that block, and at segments without an owner.
    watching: [JoinHandle<()>; 2],
    /// Not if all runs on one runtime, whose time may be simulated.
    pulse: Option<JoinHandle<()>>,
    drain_wait: Duration,
    /// Last, so that everything else is dropped on them.
    _threads: [Threads; 2],
}

/// Puts a node together and starts it.
pub(super) async fn start(
    settings: Settings,
    alone: bool,
    outside: Option<Outside>,
    embedded: Vec<Embedded>,
    log: Option<Log>,
) -> Result<Node, ApiError> {
    let own = outside.is_none();
    if own && let Some(few) = open_files::raise() {
        tracing::warn!(node = settings.name, "{few}");
    }
    let (threads, handlers) = threads(&settings, own)
        .map_err(|error| ApiError::new(&codes::START, format!("failed to start the node's threads: {error}")))?;
    let [cluster_threads, node_threads] = &threads;
    let (late, metrics) = (Late::default(), Metrics::default());
    let pulse = own.then(|| Pulse::of(node_threads));
    let door = match &pulse {
        Some(pulse) => {
            let health = pulse.clone().checked(late.health());
            Some(Door::open(&settings, node_threads, late.clone(), health, metrics.clone()).await?)
        }
        None => None,
    };
    let outside = match outside {
        Some(outside) => outside,
        None => Outside::machine(&settings, alone, node_threads).await?,
    };
    let http = door.as_ref().map(|door| door.url().to_owned()).unwrap_or_default();
    let (version, data, peer) = (env!("CARGO_PKG_VERSION"), settings.data.display(), &settings.peer_listen);
    tracing::info!(version, node = settings.name, %data, http, %peer, "starting");
    let config = config(&settings, alone, http, outside.seed, &embedded);
    let draw = config.random_id;

    let starting = Cluster::start(config, outside.disk, outside.transport, outside.clock.clone());
    let cluster = cluster_threads.spawn(starting).await.map_err(died)?.map_err(not_started)?;
    if let Some(told) = settings.chunk_bytes.and_then(|asked| other_chunks(asked, cluster.chunk_bytes())) {
        tracing::warn!(node = settings.name, "{told}");
    }
    let board = StatusBoard::default();
    let engine = Engine::new(cluster.clone(), board.clone(), metrics.clone(), settings.allow_exec);
    engine.answer_members(node_threads.handle());
    late.arrive(engine.clone());
    let watch = handlers.watch().clone().watch(board.clone(), outside.clock.clone());
    let watching = [node_threads.spawn(watch), node_threads.spawn(watch_unowned(engine.clone()))];
    let pulse = pulse.map(|pulse| cluster_threads.spawn(pulse.watch(cluster.clone())));

    // What asks for it must be known to the log before the actors look there.
    let asking = Node::over(Arc::new(engine.clone()), &settings.name, PATIENCE);
    for (definition, _) in &embedded {
        create(&asking, definition, draw).await?;
        board.want_segments(&definition.name, definition.segments);
    }
    let differing = segments_wanted(&cluster.state(), &board);
    for differs in differing {
        tracing::warn!(node = settings.name, processor = differs.processor, "{}", differs.text());
    }
    let world = World::new(cluster.clone(), outside.clock, handlers, board, metrics, outside.seed);
    let told = start::actors(&settings);
    let starting = async move { Actors::start(world, embedded, told).await };
    let actors = node_threads.spawn(starting).await.map_err(died)?;
    let actors = actors.map_err(|why| ApiError::new(&codes::START, why))?;
    let drain_wait = settings.hand_over_wait + DRAIN_MORE;
    let house =
        House { cluster, engine, name: settings.name, door, actors, watching, drain_wait, pulse, _threads: threads };
    // What it waits for may be far behind, and whoever supervises this process waits, too.
    if timeout(PROMOTION_WAIT, house.ready()).await.is_err() {
        let why = house.trouble().unwrap_or_default();
        tracing::warn!(node = house.name, "not ready after {PROMOTION_WAIT:?}, and serving all the same: {why}");
    }
    if let Some(note) = house.engine.note() {
        tracing::warn!(node = house.name, "{note}");
    }
    let (answers, source) = (Arc::new(house.engine.clone()), asking.0.source.clone());
    Ok(Node(Arc::new(Inner { answers, source, patience: PATIENCE, house: Some(house), _log: log })))
}

/// What is said where another size of chunks was asked for than the cluster has. Not a reason to stay away: the
/// size is one thing of the cluster's, and what was asked for does no harm.
fn other_chunks(asked: Size, chunk_bytes: u64) -> Option<String> {
    (asked.0 != chunk_bytes).then(|| {
        let (asked, there) = (asked.show(), Size(chunk_bytes).show());
        format!(
            "chunks of {asked} were asked for, and the cluster has chunks of {there}, as it was founded: these are \
             taken; leave out --chunk-bytes"
        )
    })
}

fn threads(settings: &Settings, own: bool) -> std::io::Result<([Threads; 2], Handlers)> {
    if !own {
        return Ok(([Threads::current(), Threads::current()], Handlers::current()));
    }
    let threads = [Threads::new("cluster", CLUSTER_THREADS)?, Threads::new("node", NODE_THREADS)?];
    Ok((threads, Handlers::new(settings.handler_threads())?))
}

/// Has an embedded processor known to the log. Waits for a majority as long as that takes.
async fn create(node: &Node, definition: &Definition, draw: Uuid) -> Result<(), ApiError> {
    let what = What::Create(Box::new(definition.clone()));
    let name = &definition.name;
    let reason = Some("a node that runs it has started".to_owned());
    let change =
        Change { operation: Uuid::new_v5(&draw, name.as_bytes()), principal: None, reason, dry_run: false, what };
    loop {
        match node.ask(Request::Change(change.clone())).await {
            Ok(Reply::Operation(done)) if done.state != OperationState::Refused => return Ok(()),
            Ok(Reply::Operation(refused)) => {
                let why = refused.why.unwrap_or_else(|| "it was refused".to_owned());
                return Err(ApiError::new(&codes::INVALID_CHANGE, format!("failed to create processor {name}: {why}")));
            }
            Ok(_) => return Err(super::odd()),
            Err(error) if error.may_repeat() => {
                tracing::warn!(processor = name, "waiting for a majority of the cluster: {error}");
            }
            Err(error) => return Err(error.doing(format!("failed to create processor {name}"))),
        }
    }
}

impl House {
    /// Waits until it is ready, or has failed.
    pub(super) async fn ready(&self) {
        let stopped = self.cluster.stopped();
        self.cluster.until(|| self.trouble().is_none() || stopped.borrow().is_some()).await;
    }

    /// Why it is not ready. A voter is, whoever else is there: together they are a majority, and each of them must
    /// have started before there is one.
    pub(super) fn trouble(&self) -> Option<String> {
        let standing = self.cluster.status();
        let learns = !standing.voters.contains(&standing.node);
        learns.then(|| self.engine.trouble()).flatten()
    }

    /// Hands over what it has, lets handlers end, leaves leadership to another, and writes down where it stands.
    pub(super) async fn stop(&self) {
        self.actors.drain(self.drain_wait).await;
        self.actors.stop().await;
        self.cluster.shutdown().await;
        self.close().await;
    }

    /// As [`Self::stop`], and it is a member no more.
    pub(super) async fn leave(&self) -> Result<(), ApiError> {
        self.actors.drain(self.drain_wait).await;
        self.actors.stop().await;
        let left = self.cluster.leave().await;
        self.close().await;
        left.map_err(|error| ApiError::from(error).doing("failed to leave the cluster"))
    }

    fn end_watches(&self) {
        self.watching.iter().chain(&self.pulse).for_each(JoinHandle::abort);
    }

    async fn close(&self) {
        self.end_watches();
        if let Some(door) = &self.door {
            door.close().await;
        }
    }
}

impl Drop for House {
    /// Its watches hold the node, which would otherwise outlive its last handle.
    fn drop(&mut self) {
        self.end_watches();
    }
}

fn died(error: tokio::task::JoinError) -> ApiError {
    ApiError::new(&codes::BUG, format!("the node died while it started: {error}"))
}

/// Why a data directory was not opened, as people are told.
pub(super) fn not_opened(error: OpenError) -> ApiError {
    let code = match &error {
        OpenError::Locked { .. } => &codes::DATA_LOCKED,
        OpenError::Damaged(_) => &codes::DAMAGED,
        OpenError::ChunkBytes { .. } | OpenError::Setting(_) => &codes::BAD_SETTING,
        OpenError::Io { .. } => &codes::START,
    };
    let told = ApiError::new(code, error.to_string());
    match &error {
        OpenError::Io { source, .. } => match disk_hint(source.kind()) {
            Some(hint) => told.hint(hint),
            None => told,
        },
        _ => told,
    }
}

/// What to do about a disk that refuses.
fn disk_hint(kind: ErrorKind) -> Option<&'static str> {
    match kind {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            Some("make room there, or give a directory on a larger disk with --data; a chunk of the log needs its size")
        }
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            Some("give the node's user the right to write there, or another directory with --data")
        }
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists | ErrorKind::NotFound => {
            Some("give a directory with --data that is there or can be made, and is no file")
        }
        _ => None,
    }
}

/// What to do where the directory is another node's.
const NAMED_HINT: &str = "look at --name and --data: one of them is another node's; a node that is new has an empty \
                          --data and a --name that no member has";

/// Why a node did not start, as people are told.
fn not_started(error: StartError) -> ApiError {
    match error {
        StartError::Open(error) => not_opened(error),
        StartError::Network(why) => ApiError::new(&codes::PORT_IN_USE, why),
        StartError::Refused { reason: refusal, message: why } => {
            let code = match refusal {
                StartRefusal::OtherName => return ApiError::new(&codes::OTHER_CLUSTER, why).hint(NAMED_HINT),
                StartRefusal::OtherCluster => &codes::OTHER_CLUSTER,
                StartRefusal::EmptiedDirectory => &codes::EMPTIED,
                StartRefusal::ClusterAnswers => &codes::CLUSTER_ANSWERS,
                StartRefusal::NoCluster => &codes::NOTHING_TO_START,
                StartRefusal::Removed => &codes::REMOVED,
                StartRefusal::InvalidConfig => &codes::START,
            };
            ApiError::new(code, why)
        }
        StartError::Removed(why) => ApiError::new(&codes::REMOVED, why),
        StartError::Failed(why) => ApiError::new(&codes::START, why),
    }
}
