//! A running node in this process: its parts, its start, and its shutdown.

use std::{sync::Arc, time::Duration};

use evener_cluster::{Cluster, StartError, error::StartRefusal};
use evener_core::processor::Definition;
use tokio::{task::JoinHandle, time::timeout};
use uuid::Uuid;

use super::{
    Inner, Node, RETRY_TIME,
    client_listener::ClientListener,
    environment::{self, Environment, config, not_opened},
};
use crate::{
    actors::{Actors, Embedded, NodeServices},
    codes,
    engine::{Change, Engine, EngineCell, OperationState, Reply, Request, What, segments_wanted, watch_unowned},
    error::ApiError,
    handler::Handlers,
    logs::Log,
    metrics::Metrics,
    open_files,
    settings::{Settings, Size, Value},
    status::StatusBoard,
    thread_progress::ThreadProgress,
    threads::Threads,
};

/// Threads for Raft, links and sessions: one can respond while another computes.
const CLUSTER_THREADS: usize = 2;
/// Threads for requests and actors: as above.
const NODE_THREADS: usize = 2;
/// How long a starting node waits for its promotion to a voter, if one is due.
const PROMOTION_WAIT: Duration = Duration::from_secs(30);
/// The time that actors need to stop, in addition to waiting for handlers.
const DRAIN_MARGIN: Duration = Duration::from_secs(2);

/// A running node. If it has its own threads, dropping it is equivalent to killing its process.
pub(super) struct RunningNode {
    pub(super) cluster: Cluster,
    pub(super) engine: Engine,
    pub(super) name: String,
    pub(super) listener: Option<ClientListener>,
    actors: Actors,
    /// The tasks that watch for blocked handlers and for segments without an owner.
    watching: [JoinHandle<()>; 2],
    /// None if everything runs on one runtime, whose time may be simulated.
    progress: Option<JoinHandle<()>>,
    drain_wait: Duration,
    /// The last field, so that the other fields are dropped first.
    _threads: [Threads; 2],
}

/// Assembles a node and starts it.
pub(super) async fn start(
    settings: Settings,
    standalone: bool,
    environment: Option<Environment>,
    embedded: Vec<Embedded>,
    log: Option<Log>,
) -> Result<Node, ApiError> {
    let owns_threads = environment.is_none();
    if owns_threads && let Some(few) = open_files::raise() {
        tracing::warn!(node = settings.name, "{few}");
    }
    let (threads, handlers) = threads(&settings, owns_threads)
        .map_err(|error| ApiError::new(&codes::START, format!("failed to start the node's threads: {error}")))?;
    let [cluster_threads, node_threads] = &threads;
    let (cell, metrics) = (EngineCell::default(), Metrics::default());
    let progress = owns_threads.then(|| ThreadProgress::of(node_threads));
    let listener = match &progress {
        Some(progress) => {
            let health = progress.clone().add_check_to(cell.health());
            Some(ClientListener::open(&settings, node_threads, cell.clone(), health, metrics.clone()).await?)
        }
        None => None,
    };
    let environment = match environment {
        Some(environment) => environment,
        None => Environment::of_machine(&settings, standalone, node_threads).await?,
    };
    let http = listener.as_ref().map(|listener| listener.url().to_owned()).unwrap_or_default();
    let (version, data, peer) = (env!("CARGO_PKG_VERSION"), settings.data.display(), &settings.peer_listen);
    tracing::info!(version, node = settings.name, %data, http, %peer, "starting");
    let config = config(&settings, standalone, http, environment.seed, &embedded);
    let random_id = config.random_id;

    let starting = Cluster::start(config, environment.disk, environment.transport, environment.clock.clone());
    let cluster = cluster_threads.spawn(starting).await.map_err(start_panicked)?.map_err(not_started)?;
    if let Some(notice) = settings.chunk_bytes.and_then(|asked| chunk_size_notice(asked, cluster.chunk_bytes())) {
        tracing::warn!(node = settings.name, "{notice}");
    }
    let board = StatusBoard::default();
    let engine = Engine::new(cluster.clone(), board.clone(), metrics.clone(), settings.allow_exec);
    engine.answer_members(node_threads.handle());
    cell.set(engine.clone());
    let watch = handlers.watch().clone().watch(board.clone(), environment.clock.clone());
    let watching = [node_threads.spawn(watch), node_threads.spawn(watch_unowned(engine.clone()))];
    let progress = progress.map(|progress| cluster_threads.spawn(progress.watch(cluster.clone())));

    // Embedded processors must exist in the log before the actors read it.
    let asking = Node::over(Arc::new(engine.clone()), &settings.name, RETRY_TIME);
    for (definition, _) in &embedded {
        create(&asking, definition, random_id).await?;
        board.set_segments_wanted(&definition.name, definition.segments);
    }
    let differing = segments_wanted(&cluster.state(), &board);
    for differs in differing {
        tracing::warn!(node = settings.name, processor = differs.processor, "{}", differs.text());
    }
    let services = NodeServices::new(cluster.clone(), environment.clock, handlers, board, metrics, environment.seed);
    let notice = environment::actors(&settings);
    let starting = async move { Actors::start(services, embedded, notice).await };
    let actors = node_threads.spawn(starting).await.map_err(start_panicked)?;
    let actors = actors.map_err(|why| ApiError::new(&codes::START, why))?;
    let drain_wait = settings.hand_over_wait + DRAIN_MARGIN;
    let running = RunningNode {
        cluster,
        engine,
        name: settings.name,
        listener,
        actors,
        watching,
        drain_wait,
        progress,
        _threads: threads,
    };
    // Bounded, since the promotion may take long and the process supervisor is waiting.
    if timeout(PROMOTION_WAIT, running.ready()).await.is_err() {
        let why = running.not_ready_reason().unwrap_or_default();
        tracing::warn!(node = running.name, "not ready after {PROMOTION_WAIT:?}, and serving all the same: {why}");
    }
    if let Some(note) = running.engine.note() {
        tracing::warn!(node = running.name, "{note}");
    }
    let (answers, source) = (Arc::new(running.engine.clone()), asking.0.source.clone());
    Ok(Node(Arc::new(Inner { answers, source, retry_time: RETRY_TIME, running: Some(running), _log: log })))
}

/// Returns a notice if the configured chunk size differs from the cluster's. This does not prevent the start: the
/// cluster's size applies.
fn chunk_size_notice(asked: Size, chunk_bytes: u64) -> Option<String> {
    (asked.0 != chunk_bytes).then(|| {
        let (asked, there) = (asked.show(), Size(chunk_bytes).show());
        format!(
            "chunks of {asked} were asked for, and the cluster has chunks of {there}, as it was founded: these are \
             taken; leave out --chunk-bytes"
        )
    })
}

fn threads(settings: &Settings, owns_threads: bool) -> std::io::Result<([Threads; 2], Handlers)> {
    if !owns_threads {
        return Ok(([Threads::current(), Threads::current()], Handlers::current()));
    }
    let threads = [Threads::new("cluster", CLUSTER_THREADS)?, Threads::new("node", NODE_THREADS)?];
    Ok((threads, Handlers::new(settings.handler_threads())?))
}

/// Creates an embedded processor in the log. Waits for a majority without a timeout.
async fn create(node: &Node, definition: &Definition, random_id: Uuid) -> Result<(), ApiError> {
    let what = What::Create(Box::new(definition.clone()));
    let name = &definition.name;
    let reason = Some("a node that runs it has started".to_owned());
    let change =
        Change { operation: Uuid::new_v5(&random_id, name.as_bytes()), principal: None, reason, dry_run: false, what };
    loop {
        match node.ask(Request::Change(change.clone())).await {
            Ok(Reply::Operation(done)) if done.state != OperationState::Refused => return Ok(()),
            Ok(Reply::Operation(refused)) => {
                let why = refused.why.unwrap_or_else(|| "it was refused".to_owned());
                return Err(ApiError::new(&codes::INVALID_CHANGE, format!("failed to create processor {name}: {why}")));
            }
            Ok(_) => return Err(super::unexpected_reply()),
            Err(error) if error.may_repeat() => {
                tracing::warn!(processor = name, "waiting for a majority of the cluster: {error}");
            }
            Err(error) => return Err(error.doing(format!("failed to create processor {name}"))),
        }
    }
}

impl RunningNode {
    /// Waits until it is ready, or has failed.
    pub(super) async fn ready(&self) {
        let stopped = self.cluster.stopped();
        self.cluster.until(|| self.not_ready_reason().is_none() || stopped.borrow().is_some()).await;
    }

    /// Returns why the node is not ready. A voter is always ready: the voters form the majority, and each must have
    /// started before there is one.
    pub(super) fn not_ready_reason(&self) -> Option<String> {
        let standing = self.cluster.status();
        let learns = !standing.voters.contains(&standing.node);
        learns.then(|| self.engine.trouble()).flatten()
    }

    /// Hands over its segments, waits for handlers, transfers leadership, and stores a checkpoint.
    pub(super) async fn stop(&self) {
        self.actors.drain(self.drain_wait).await;
        self.actors.stop().await;
        self.cluster.shutdown().await;
        self.close().await;
    }

    /// Stops as [`Self::stop`] does, and leaves the cluster.
    pub(super) async fn leave(&self) -> Result<(), ApiError> {
        self.actors.drain(self.drain_wait).await;
        self.actors.stop().await;
        let left = self.cluster.leave().await;
        self.close().await;
        left.map_err(|error| ApiError::from(error).doing("failed to leave the cluster"))
    }

    fn end_watches(&self) {
        self.watching.iter().chain(&self.progress).for_each(JoinHandle::abort);
    }

    async fn close(&self) {
        self.end_watches();
        if let Some(listener) = &self.listener {
            listener.close().await;
        }
    }
}

impl Drop for RunningNode {
    /// The watch tasks hold the node, which would otherwise outlive its last handle.
    fn drop(&mut self) {
        self.end_watches();
    }
}

fn start_panicked(error: tokio::task::JoinError) -> ApiError {
    ApiError::new(&codes::BUG, format!("the node died while it started: {error}"))
}

/// The hint if the directory belongs to another node.
const NAMED_HINT: &str = "look at --name and --data: one of them is another node's; a node that is new has an empty \
                          --data and a --name that no member has";

/// Converts the error of starting a node.
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
