//! The engine of a node: answers every request from the cluster's log, the replicated state as applied here,
//! and what the actors publish.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use evener_cluster::Cluster;
use evener_core::{
    append::{self, Appended},
    event::Event,
    id::NodeId,
    limits::Limits,
    state::State,
    time::Timestamp,
};
use futures::future::{BoxFuture, join_all};
use tokio::{
    runtime::Handle,
    time::{Instant, timeout},
};
use uuid::Uuid;

use super::{
    Answers, Reply, Request, Status, change, lag, leader, letters, look, operations,
    peers::{self, Peers},
    read, votes,
};
use crate::{
    cloudevent, codes,
    error::{ApiError, Class},
    health::Check,
    log_writer,
    metrics::Metrics,
    status::{SegmentsWanted, Standstill, StatusBoard},
};

/// Changes answer within this time: with what came of them, or with what they wait for.
pub(super) const ANSWER_WAIT: Duration = Duration::from_secs(2);

/// Answers requests. A clone is the same engine.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

struct Inner {
    cluster: Cluster,
    board: StatusBoard,
    metrics: Metrics,
    peers: Peers,
    /// Whether processors that run programs may be created here.
    allows_exec: bool,
    begun: Instant,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("node", &self.0.cluster.me()).finish_non_exhaustive()
    }
}

/// What nodes say of processors, and the log does not know.
#[derive(Debug, Default)]
pub(super) struct OfProcessors {
    /// Segments that are stalled.
    pub(super) standstills: Vec<Standstill>,
    /// Nodes by name, and the processors of which their programs ask for other segments.
    pub(super) segments_wanted: Vec<(String, SegmentsWanted)>,
}

impl Engine {
    /// The engine of this member. `allows_exec`: whether processors that run programs may be created here.
    #[must_use]
    pub fn new(cluster: Cluster, board: StatusBoard, metrics: Metrics, allows_exec: bool) -> Self {
        let peers = Peers::default();
        Self(Arc::new(Inner { cluster, board, metrics, peers, allows_exec, begun: Instant::now() }))
    }

    /// Answers other members that ask for this node's status in a task on these threads: those of the cluster, which
    /// renew sessions and leadership, must not write it.
    pub fn answer_members(&self, threads: Handle) {
        let inner = Arc::downgrade(&self.0);
        self.cluster().provide_status(Box::new(move || {
            let inner = inner.clone();
            let written = threads.spawn(async move { Some(peers::write(look::status(&Self(inner.upgrade()?)))) });
            Box::pin(async move { written.await.ok().flatten() })
        }));
    }

    /// Answers one request.
    pub async fn call(&self, request: Request) -> Result<Reply, ApiError> {
        match request {
            Request::Append(request) => self.append(request).await.map(Reply::Appended),
            Request::AppendMany(requests) => {
                let answers = requests.into_iter().map(|request| self.append(request));
                Ok(Reply::Many(join_all(answers).await))
            }
            Request::Read(request) => read::read(self, &request).await.map(Reply::Page),
            Request::Tail(request) => read::tail(self, &request).await.map(Reply::Page),
            Request::Processors => Ok(Reply::Processors(lag::processors(self, &self.reported_by_owners(None).await))),
            Request::Processor(name) => {
                let reported = self.reported_by_owners(Some(&name)).await;
                let mut found = self.found(|| lag::processor(self, &name, &reported)).await?;
                found.history = operations::history(self, &name);
                Ok(Reply::Processor(found))
            }
            Request::DeadLetters(name) => self.found(|| letters::list(self, &name)).await.map(Reply::DeadLetters),
            Request::Status => Ok(Reply::Status(Box::new(look::status(self)))),
            Request::ClusterStatus => Ok(Reply::Cluster(Box::new(look::cluster(self).await))),
            Request::Operations(filter) => {
                operations::check(&filter)?;
                self.found(|| operations::list(self, &filter)).await.map(Reply::Operations)
            }
            Request::Operation(id) => self.found(|| operations::one(self, id)).await.map(Reply::Operation),
            Request::Change(request) => change::change(self, request).await.map(Reply::Operation),
        }
    }

    /// Whether this node can do its work.
    #[must_use]
    pub fn health(&self) -> Vec<Check> {
        let cluster = self.cluster();
        let stopped = cluster.stopped().borrow().clone();
        let session = *cluster.session().borrow();
        let disk = Check {
            name: "disk",
            vital: false,
            trouble: None,
            // Reads, progress and operations go on, so it keeps no request away.
            note: cluster.status().append_refusal.map(|why| format!("appends are refused: {why}")),
        };
        // Dropped log lines do not make it refuse requests.
        let log = Check { name: "log", vital: false, trouble: None, note: log_writer::trouble() };
        let check = |name, vital, trouble| Check { name, vital, trouble, note: None };
        vec![
            check("node", true, stopped.map(|why| format!("it has stopped: {why}"))),
            check("leader", false, leader::trouble(cluster)),
            check("session", false, session.is_none().then(|| "this node has no session with the leader".to_owned())),
            votes::check(cluster),
            leader::clock_check(cluster),
            disk,
            log,
        ]
    }

    /// Why this node cannot do its work, in one line; none if it can.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.health().into_iter().find_map(|check| Some(format!("{}: {}", check.name, check.trouble?)))
    }

    /// What one should know of it even if it can.
    #[must_use]
    pub fn note(&self) -> Option<String> {
        self.health().into_iter().find_map(|check| check.note)
    }

    /// Ends when this node was asked to leave the cluster; its program then drains it and leaves.
    pub async fn asked_to_leave(&self) {
        let mut applied = self.cluster().applied();
        let mut seen = None;
        loop {
            let changed = applied.borrow_and_update().changed;
            if seen.replace(changed) != Some(changed) {
                let me = self.cluster().me();
                if self.cluster().state().members.get(&me).is_some_and(|member| member.leaving) {
                    return;
                }
            }
            if applied.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    pub(super) fn cluster(&self) -> &Cluster {
        &self.0.cluster
    }

    pub(super) fn allows_exec(&self) -> bool {
        self.0.allows_exec
    }

    pub(super) fn board(&self) -> &StatusBoard {
        &self.0.board
    }

    /// What this node counts.
    #[cfg(test)]
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    pub(super) fn uptime(&self) -> Duration {
        self.0.begun.elapsed()
    }

    /// What the other members that live and are meant say of themselves, as far as they can be asked.
    pub(super) async fn status_of(&self, meant: impl Fn(&State, NodeId) -> bool) -> BTreeMap<NodeId, Arc<Status>> {
        let me = self.cluster().me();
        let others = {
            let state = self.cluster().state();
            let meant = |node: &&NodeId| **node != me && meant(&state, **node);
            let others = state.sessions.keys().filter(meant).filter(|node| state.members.contains_key(node));
            others.copied().collect()
        };
        self.0.peers.ask(self.cluster(), others).await
    }

    /// What nodes say of one processor, or of all.
    async fn reported_by_owners(&self, of: Option<&str>) -> OfProcessors {
        let reported = self.status_of(|state, node| {
            let processors = state.processors.values();
            let mut meant = processors.filter(|processor| of.is_none_or(|name| processor.definition.name == name));
            meant.any(|processor| processor.segments.values().any(|share| share.claim.owner == Some(node)))
        });
        let reported = reported.await;
        let wanted = look::segments_wanted(&self.cluster().state(), self.board());
        let here = (self.cluster().status().name, self.board().standstills(), wanted);
        let there =
            |status: &Arc<Status>| (status.node.clone(), status.standstills.clone(), status.segments_wanted.clone());
        let mut of = OfProcessors::default();
        for (node, standstills, wanted) in reported.values().map(there).chain([here]) {
            of.standstills.extend(standstills);
            of.segments_wanted.extend(wanted.into_iter().map(|wanted| (node.clone(), wanted)));
        }
        of
    }

    async fn append(&self, mut request: append::Request) -> Result<Appended, ApiError> {
        let (begun, metrics) = (Instant::now(), &self.0.metrics);
        // Nothing would judge them: what adds nothing takes no place in the log.
        if request.events.is_empty() && !(request.conditions.is_empty() && request.expect.is_empty()) {
            let why = "the append has conditions or expected revisions, and no event that they could guard";
            return Err(ApiError::new(&codes::INVALID_APPEND, why));
        }
        request.events.iter_mut().for_each(cloudevent::identify);
        let answer = self.cluster().append(&request).await;
        metrics.append_time.observe(begun.elapsed().as_secs_f64());
        match answer {
            Ok(appended) => {
                if !appended.repeated {
                    metrics.appended.inc_by(appended.next.0 - appended.first.0);
                }
                Ok(appended)
            }
            Err(error) => {
                metrics.refused.inc();
                Err(self.api_error(error).named(&given_ids(&request.events)))
            }
        }
    }

    /// Looks in the applied state first; what is missing may be in the part of the log that is not applied here yet.
    async fn found<T>(&self, look: impl Fn() -> Result<T, ApiError>) -> Result<T, ApiError> {
        let missing = match look() {
            Err(error) if error.class == Class::Invalid => error,
            answer => return answer,
        };
        match timeout(ANSWER_WAIT, self.cluster().barrier()).await {
            Ok(Ok(_)) => look(),
            // No leader can confirm it; this node reports that it does not exist.
            Ok(Err(_)) | Err(_) => Err(missing),
        }
    }

    /// An error of the cluster with the names that clients know.
    pub(super) fn api_error(&self, error: evener_cluster::Error) -> ApiError {
        let leader =
            error.leader.and_then(|leader| self.cluster().state().members.get(&leader).map(|m| m.http.clone()));
        ApiError::from(error).leader(leader)
    }
}

/// The events as their senders name them: by source and id.
fn given_ids(events: &[Event]) -> BTreeMap<Uuid, (String, String)> {
    let named = |event: &Event| Some((event.id, (event.source.clone(), event.given_id.clone()?)));
    events.iter().filter_map(named).collect()
}

impl Answers for Engine {
    fn call(&self, request: Request) -> BoxFuture<'_, Result<Reply, ApiError>> {
        Box::pin(self.call(request))
    }

    fn limits(&self) -> Limits {
        self.cluster().state().limits
    }
}

/// Now, in the log's time and on the wall: the log's may be ahead. To be looked at before the state is, which both
/// ask for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    pub(super) log: Timestamp,
    wall: Timestamp,
}

impl Now {
    pub(super) fn of(cluster: &Cluster) -> Self {
        Self { log: cluster.log_time(), wall: cluster.wall_time() }
    }

    /// When something that the log schedules is due, as a clock on the wall will show it.
    pub(super) fn due_text(&self, due: Timestamp) -> String {
        let passed = u64::try_from(self.log.since(due).as_millis()).unwrap_or(u64::MAX);
        time_text(Timestamp(self.wall.after(due.since(self.log)).0.saturating_sub(passed)))
    }
}

/// A time of the log as people read it: RFC 3339.
pub(crate) fn time_text(time: Timestamp) -> String {
    let millis = i64::try_from(time.0).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(millis).map_or_else(|_| time.0.to_string(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_is_told_as_a_clock_on_the_wall_will_show_it() {
        let hour = 3_600_000;
        let now = Now { log: Timestamp(10_000 + hour), wall: Timestamp(10_000) };
        assert_eq!(now.due_text(Timestamp(12_000 + hour)), "1970-01-01T00:00:12Z", "two seconds to wait");
        assert_eq!(now.due_text(Timestamp(9_000 + hour)), "1970-01-01T00:00:09Z", "due a second ago");
    }
}
