//! The engine of a node: its member of the cluster, the status of its actors and of other members, and its health.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use evener_cluster::Cluster;
use evener_core::{
    append::{self, Appended},
    event::Event,
    id::NodeId,
    state::State,
    time::Timestamp,
};
use tokio::time::Instant;
use uuid::Uuid;

use super::{Status, leader, peers::Peers, votes};
use crate::{
    cloudevent, codes,
    describe::time_text,
    error::ApiError,
    health::Check,
    log_writer,
    metrics::Metrics,
    status::{SegmentsWanted, Standstill, StatusBoard},
};

/// Changes answer within this time: with their outcome, or with what they wait for.
pub(super) const ANSWER_WAIT: Duration = Duration::from_secs(2);

/// Answers requests. A clone is the same engine.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

/// A handle that does not keep the engine alive.
#[derive(Clone)]
pub(super) struct WeakEngine(Weak<Inner>);

impl WeakEngine {
    pub(super) fn upgrade(&self) -> Option<Engine> {
        self.0.upgrade().map(Engine)
    }
}

struct Inner {
    cluster: Cluster,
    board: StatusBoard,
    metrics: Metrics,
    peers: Peers,
    /// Whether clients may create processors that run programs here.
    allows_exec: bool,
    begun: Instant,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("node", &self.0.cluster.me()).finish_non_exhaustive()
    }
}

/// Reports of nodes on processors, which are not in the replicated state.
#[derive(Debug, Default)]
pub(super) struct OfProcessors {
    /// Segments that are stalled.
    pub(super) standstills: Vec<Standstill>,
    /// Nodes by name, and the processors for which their programs request another number of segments.
    pub(super) segments_wanted: Vec<(String, SegmentsWanted)>,
}

impl Engine {
    /// The engine of this member. `allows_exec`: whether processors that run programs may be created here.
    #[must_use]
    pub fn new(cluster: Cluster, board: StatusBoard, metrics: Metrics, allows_exec: bool) -> Self {
        let peers = Peers::default();
        Self(Arc::new(Inner { cluster, board, metrics, peers, allows_exec, begun: Instant::now() }))
    }

    /// Returns the health checks of this node.
    #[must_use]
    pub fn health(&self) -> Vec<Check> {
        let cluster = self.cluster();
        let stopped = cluster.stopped().borrow().clone();
        let session = *cluster.session().borrow();
        let disk = Check {
            name: "disk",
            vital: false,
            trouble: None,
            // Reads, progress and operations continue, so the node stays ready.
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

    /// Returns why this node is not ready, in one line; none if it is.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.health().into_iter().find_map(|check| Some(format!("{}: {}", check.name, check.trouble?)))
    }

    /// Returns the notes of all checks.
    #[must_use]
    pub fn note(&self) -> Option<String> {
        self.health().into_iter().find_map(|check| check.note)
    }

    /// Waits until this node was asked to leave the cluster; its program then drains it and leaves.
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

    /// Returns a handle that does not keep the engine alive.
    pub(super) fn downgrade(&self) -> WeakEngine {
        WeakEngine(Arc::downgrade(&self.0))
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

    /// Returns the metrics of this node.
    #[cfg(test)]
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    pub(super) fn uptime(&self) -> Duration {
        self.0.begun.elapsed()
    }

    /// Returns the status of the other active members among these, as far as they answer.
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

    pub(super) async fn append(&self, mut request: append::Request) -> Result<Appended, ApiError> {
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

    /// Converts an error of the cluster to one with the names that clients know.
    pub(super) fn api_error(&self, error: evener_cluster::Error) -> ApiError {
        let leader =
            error.leader.and_then(|leader| self.cluster().state().members.get(&leader).map(|m| m.http.clone()));
        ApiError::from(error).leader(leader)
    }
}

/// Returns the source and id that the sender gave each event.
fn given_ids(events: &[Event]) -> BTreeMap<Uuid, (String, String)> {
    let named = |event: &Event| Some((event.id, (event.source.clone(), event.given_id.clone()?)));
    events.iter().filter_map(named).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn due_times_are_shown_in_wall_clock_time() {
        let hour = 3_600_000;
        let now = Now { log: Timestamp(10_000 + hour), wall: Timestamp(10_000) };
        assert_eq!(now.due_text(Timestamp(12_000 + hour)), "1970-01-01T00:00:12Z", "two seconds to wait");
        assert_eq!(now.due_text(Timestamp(9_000 + hour)), "1970-01-01T00:00:09Z", "due a second ago");
    }
}
