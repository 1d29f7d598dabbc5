//! The observer: polls the cluster from outside, and records the owners of the segments over time.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, timeout},
};

use super::PROCESSOR;
use evener::{
    client::Client,
    engine::{Cluster, Processor, Reply, Request},
    error::ApiError,
};

/// How often the cluster is polled.
const POLL_INTERVAL: Duration = Duration::from_millis(25);

/// The state of the cluster at the last poll.
#[derive(Clone, Debug, Default)]
pub(super) struct Snapshot {
    /// The leader.
    pub leader: Option<String>,
    /// The members, each with the index up to which it is known to have the log.
    pub members: Vec<(String, Option<u64>)>,
    /// The position of the next event.
    pub head: u64,
    /// Each segment's owner and token.
    pub segments: BTreeMap<u32, (Option<String>, u64)>,
    /// The number of letters set aside.
    pub letters: u64,
}

/// The observations of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Observed {
    /// Changes of owner.
    pub moves: u64,
    /// The greatest difference between two nodes' numbers of segments, sampled after pauses without kills.
    pub spread_max: u64,
    /// The time from each kill until every segment had a running owner, in milliseconds.
    pub takeovers_ms: Vec<u64>,
    /// When nodes were killed, in milliseconds after the start.
    pub kills_ms: Vec<u64>,
}

/// A running observer.
pub(super) struct Observer {
    start: Instant,
    seen: watch::Receiver<Snapshot>,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct State {
    observed: Observed,
    owners: BTreeMap<u32, String>,
    /// The node killed last, and when, until all its segments have another owner.
    killed: Option<(String, Instant)>,
    down: Option<String>,
}

impl Snapshot {
    /// Returns the number of segments of each member.
    pub(super) fn counts(&self) -> BTreeMap<&str, u64> {
        let mut counts: BTreeMap<&str, u64> = self.members.iter().map(|(name, _)| (name.as_str(), 0)).collect();
        for owner in self.segments.values().filter_map(|(owner, _)| owner.as_deref()) {
            *counts.entry(owner).or_default() += 1;
        }
        counts
    }

    /// Returns the node with the most segments.
    pub(super) fn busiest(&self) -> Option<String> {
        self.counts().into_iter().max_by_key(|(_, count)| *count).map(|(name, _)| name.to_owned())
    }

    /// Returns the difference between the most and the fewest segments of a running node; none if a segment has no
    /// owner.
    fn spread(&self, down: Option<&str>) -> Option<u64> {
        if self.segments.is_empty() || self.segments.values().any(|(owner, _)| owner.is_none()) {
            return None;
        }
        let counts = self.counts();
        let running = counts.iter().filter(|(name, _)| Some(**name) != down).map(|(_, count)| *count);
        Some(running.clone().max()? - running.min()?)
    }
}

impl Observer {
    /// Starts polling. Times are measured from `start`.
    ///
    /// # Errors
    ///
    /// If a URL is malformed.
    pub(super) fn start(client: Client, nodes: &[(String, String)], start: Instant) -> Result<Self, String> {
        let state = Arc::<Mutex<State>>::default();
        let (sender, seen) = watch::channel(Snapshot::default());
        let clients = Clients::of(client, nodes).map_err(|error| error.to_string())?;
        let task = tokio::spawn(poll(clients, state.clone(), sender));
        Ok(Self { start, seen, state, task })
    }

    /// The state of the cluster at the last poll.
    pub(super) fn now(&self) -> Snapshot {
        self.seen.borrow().clone()
    }

    /// Records that this node is killed now.
    pub(super) fn killed(&self, name: &str) {
        let mut state = self.state.lock();
        state.observed.kills_ms.push(millis(self.start.elapsed()));
        state.killed = Some((name.into(), Instant::now()));
        state.down = Some(name.into());
    }

    /// Records that the killed node runs again.
    pub(super) fn restarted(&self, _name: &str) {
        self.state.lock().down = None;
    }

    /// Records the current spread, after a pause without kills.
    pub(super) fn sample_spread(&self) {
        let mut state = self.state.lock();
        // A segment without an owner counts as the worst spread.
        let spread = self.seen.borrow().spread(state.down.as_deref()).unwrap_or(u64::MAX);
        state.observed.spread_max = state.observed.spread_max.max(spread);
    }

    /// Waits until every segment has an owner and the numbers differ by at most one.
    pub(super) async fn wait_even(&self, wait: Duration) -> Result<(), String> {
        self.wait(wait, "the segments were not evenly distributed", |seen| {
            seen.spread(None).is_some_and(|spread| spread <= 1)
        })
        .await
    }

    /// Waits until all stored events are handled.
    pub(super) async fn wait_caught_up(&self, wait: Duration) -> Result<(), String> {
        self.wait(wait, "not everything was handled", |seen| {
            !seen.segments.is_empty()
                && seen.letters == 0
                && seen.segments.values().all(|(_, token)| *token == seen.head)
        })
        .await
    }

    async fn wait(&self, wait: Duration, what: &str, is: impl FnMut(&Snapshot) -> bool) -> Result<(), String> {
        let mut seen = self.seen.clone();
        match timeout(wait, seen.wait_for(is)).await {
            Ok(_) => Ok(()),
            Err(_) => Err(format!("{what} within {} s; last seen: {:?}", wait.as_secs(), self.now())),
        }
    }

    /// Stops polling, and returns the observations.
    pub(super) async fn end(self) -> Observed {
        self.sample_spread();
        self.task.abort();
        let _ = self.task.await;
        let state = self.state.lock();
        state.observed.clone()
    }
}

/// The observer's clients.
struct Clients {
    any: Client,
    each: BTreeMap<String, Client>,
    leader: Option<String>,
}

impl Clients {
    fn of(any: Client, nodes: &[(String, String)]) -> Result<Self, ApiError> {
        let alone =
            |(name, url): &(String, String)| Ok((name.clone(), Client::connect(url)?.with_retry_time(Duration::ZERO)));
        let each = nodes.iter().map(alone).collect::<Result<_, ApiError>>()?;
        Ok(Self { any: any.with_retry_time(Duration::from_secs(2)), each, leader: None })
    }

    /// Returns the cluster's status from the leader, which alone knows the progress of the others; if it does not
    /// answer, from any node.
    async fn cluster(&mut self) -> Option<Cluster> {
        let leader = self.leader.as_ref().and_then(|leader| self.each.get(leader));
        let reply = match leader {
            Some(leader) => leader.ask(&Request::ClusterStatus).await.ok(),
            None => None,
        };
        let reply = match reply {
            Some(reply) => Some(reply),
            None => self.any.ask(&Request::ClusterStatus).await.ok(),
        };
        let Some(Reply::Cluster(cluster)) = reply else { return None };
        self.leader.clone_from(&cluster.leader);
        Some(*cluster)
    }
}

async fn poll(mut clients: Clients, state: Arc<Mutex<State>>, sender: watch::Sender<Snapshot>) {
    loop {
        if let Ok(Reply::Processor(processor)) = clients.any.ask(&Request::Processor(PROCESSOR.into())).await
            && let Some(cluster) = clients.cluster().await
        {
            let seen = seen(&processor, &cluster);
            record(&mut state.lock(), &seen);
            if sender.send(seen).is_err() {
                return;
            }
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

fn seen(processor: &Processor, cluster: &Cluster) -> Snapshot {
    let segments = processor.segments.iter().map(|segment| (segment.id, (segment.owner.clone(), segment.token)));
    Snapshot {
        leader: cluster.leader.clone(),
        members: cluster.members.iter().map(|member| (member.name.clone(), member.applied)).collect(),
        head: processor.head,
        segments: segments.collect(),
        letters: processor.set_aside.letters,
    }
}

fn record(state: &mut State, seen: &Snapshot) {
    for (id, (owner, _)) in &seen.segments {
        let Some(owner) = owner else { continue };
        if let Some(before) = state.owners.insert(*id, owner.clone())
            && before != *owner
        {
            state.observed.moves += 1;
        }
    }
    if let Some((name, at)) = &state.killed
        && seen.segments.values().all(|(owner, _)| owner.as_ref().is_some_and(|owner| owner != name))
    {
        let took = millis(at.elapsed());
        state.observed.takeovers_ms.push(took);
        state.killed = None;
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
