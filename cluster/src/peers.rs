//! The links to the other members, and the news of who is there.
//!
//! Each member has three lanes, each a connection of its own, so that a heartbeat never waits behind a megabyte:
//! [`Lane::Control`] is kept open as long as the member is known; [`Lane::Append`] and [`Lane::Work`] are opened when
//! they are first asked for. A lane that is down is opened again by whoever asks next, one attempt at a time; after
//! a failure the others are told at once, until the back-off has passed.
//!
//! The control lane is also the fastest sign of death there is. A process that dies closes its sockets, so when the
//! lane closes it is opened again at once, and if nobody listens there any more, [`PeerEvent::Lost`] says
//! [`Sign::Gone`] within a round trip: long before a lease or an election timeout runs out.
//!
//! ```text
//!            connected                 closed, and connecting fails
//!  unknown ───────────► Up ◄───────────────────────────────────────► Lost(Gone | Silent | Rejected)
//! ```

use std::{collections::BTreeMap, fmt, io, sync::Arc, time::Duration};

use bytes::Bytes;
use evener_core::id::NodeId;
use parking_lot::Mutex;
use tokio::{
    sync::broadcast,
    time::{Instant, sleep_until, timeout, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, info, warn};

use crate::{
    handshake::{Admission, HandshakeError, Purpose, Reason, greet},
    link::{CallError, Link},
    message::Kind,
    transport::Transport,
};

/// Events that a reader may be behind. One that is further behind asks [`Peers::presence`].
pub const PEER_EVENTS_MAX: usize = 256;

/// Which of the connections to a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// Small and urgent: heartbeats, votes, renewals, reads of an index.
    Control,
    /// Raft's entries.
    Append,
    /// What is passed on to the leader.
    Work,
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Control => "control",
            Self::Append => "append",
            Self::Work => "work",
        })
    }
}

/// How long things are waited for.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// A connection must stand within this time: a network's round trip with a lost packet or two.
    pub connect_wait: Duration,
    /// After the first failure nobody tries again for this long.
    pub backoff_min: Duration,
    /// Doubling up to this.
    pub backoff_max: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connect_wait: Duration::from_secs(1),
            backoff_min: Duration::from_millis(50),
            backoff_max: Duration::from_secs(1),
        }
    }
}

/// What failing to reach a member tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// Its machine answers, and nobody listens there: the process has ended.
    Gone,
    /// No answer: it may live, cut off or overloaded.
    Silent,
    /// Somebody answers and says no, or is not the one.
    Rejected(Reason),
}

/// What is known of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It was not reached yet, nor missed.
    Unknown,
    /// Its control lane stands.
    Up,
    /// It cannot be reached.
    Lost(Sign),
}

/// News of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerEvent {
    /// Its control lane stands, perhaps again: it may be another process by now.
    Up(NodeId),
    /// Its control lane closed, or never stood, and connecting fails. Told once for each sign.
    Lost(NodeId, Sign),
}

/// Why there is no link.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to reach {who}: {why}")]
pub struct Unreached {
    /// Whom.
    pub who: String,
    /// In words.
    pub why: String,
    /// What it tells of the member; none where it was not tried.
    pub sign: Option<Sign>,
}

/// The links of one node. A clone is the same.
#[derive(Clone)]
pub struct Peers(Arc<Inner>);

struct Inner {
    transport: Arc<dyn Transport>,
    admission: Arc<dyn Admission>,
    settings: Settings,
    members: Mutex<BTreeMap<NodeId, Arc<Member>>>,
    events: broadcast::Sender<PeerEvent>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// One other member.
struct Member {
    node: NodeId,
    addr: String,
    lanes: [LaneState; 3],
    presence: Mutex<Presence>,
    stop: CancellationToken,
}

#[derive(Default)]
struct LaneState {
    link: Mutex<Option<Link>>,
    /// Held while a connection is made.
    attempts: tokio::sync::Mutex<Attempts>,
}

#[derive(Default)]
struct Attempts {
    failures: u32,
    failed: Option<(Instant, Unreached)>,
}

impl Peers {
    /// Links for a node that knows nobody yet. On the current runtime.
    #[must_use]
    pub fn new(transport: Arc<dyn Transport>, admission: Arc<dyn Admission>, settings: Settings) -> Self {
        Self(Arc::new(Inner {
            transport,
            admission,
            settings,
            members: Mutex::default(),
            events: broadcast::Sender::new(PEER_EVENTS_MAX),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }))
    }

    /// This member is at `addr`: from now on its control lane is kept open. Where it had another address, its links
    /// there are closed. Never this node itself.
    pub fn keep(&self, node: NodeId, addr: &str) {
        let mut members = self.0.members.lock();
        if self.0.stop.is_cancelled() || members.get(&node).is_some_and(|member| member.addr == addr) {
            return;
        }
        let member = Arc::new(Member::new(node, addr, self.0.stop.child_token()));
        if let Some(before) = members.insert(node, member.clone()) {
            before.let_go();
        }
        let inner = self.0.clone();
        self.0.tasks.spawn(async move {
            let stop = member.stop.clone();
            stop.run_until_cancelled(inner.keep_control(&member)).await;
        });
    }

    /// This one is no member any more.
    pub fn forget(&self, node: NodeId) {
        if let Some(member) = self.0.members.lock().remove(&node) {
            member.let_go();
        }
    }

    /// The members that are kept.
    #[must_use]
    pub fn kept(&self) -> Vec<NodeId> {
        self.0.members.lock().keys().copied().collect()
    }

    /// A link to a member: the one there is, or a new one.
    pub async fn link(&self, node: NodeId, lane: Lane) -> Result<Link, Unreached> {
        let member = self.0.members.lock().get(&node).cloned().ok_or_else(|| Unreached {
            who: format!("node {node}"),
            why: "it is no member that this node knows".into(),
            sign: None,
        })?;
        self.0.link(&member, lane).await
    }

    /// Asks a member; what `within` is left after connecting is waited for the answer.
    pub async fn call(
        &self,
        node: NodeId,
        lane: Lane,
        kind: Kind,
        payload: Bytes,
        within: Duration,
    ) -> Result<Bytes, CallError> {
        let deadline = Instant::now() + within;
        let not_sent = |why: String| CallError::NotSent { what: kind.to_string(), peer: format!("node {node}"), why };
        let link = match timeout_at(deadline, self.link(node, lane)).await {
            Ok(link) => link.map_err(|error| not_sent(error.to_string()))?,
            Err(_) => return Err(not_sent(format!("no connection within {within:?}"))),
        };
        link.call(kind, payload, deadline.saturating_duration_since(Instant::now())).await
    }

    /// A link to whoever is at `addr`, to ask who that is. Closed when it is dropped.
    pub async fn inquire(&self, addr: &str) -> Result<Link, Unreached> {
        self.0.connect(addr, Purpose::Inquiry, None).await
    }

    /// News of members from now on.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<PeerEvent> {
        self.0.events.subscribe()
    }

    /// What is known of a member now.
    #[must_use]
    pub fn presence(&self, node: NodeId) -> Presence {
        self.0.members.lock().get(&node).map_or(Presence::Unknown, |member| *member.presence.lock())
    }

    /// Closes all links and waits until every task has ended.
    pub async fn shutdown(&self) {
        self.0.stop.cancel();
        let members = std::mem::take(&mut *self.0.members.lock());
        members.values().for_each(|member| member.let_go());
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }
}

impl Member {
    fn new(node: NodeId, addr: &str, stop: CancellationToken) -> Self {
        let (lanes, presence) = (Default::default(), Mutex::new(Presence::Unknown));
        Self { node, addr: addr.to_owned(), lanes, presence, stop }
    }

    fn lane(&self, lane: Lane) -> &LaneState {
        &self.lanes[lane as usize]
    }

    fn let_go(&self) {
        self.stop.cancel();
        for link in self.lanes.iter().filter_map(|lane| lane.link.lock().take()) {
            link.close();
        }
    }
}

impl LaneState {
    fn open(&self) -> Option<Link> {
        self.link.lock().clone().filter(|link| !link.is_closed())
    }
}

impl Inner {
    async fn link(&self, member: &Member, lane: Lane) -> Result<Link, Unreached> {
        let state = member.lane(lane);
        if let Some(link) = state.open() {
            return Ok(link);
        }
        let mut attempts = state.attempts.lock().await;
        if let Some(link) = state.open() {
            return Ok(link); // whoever held the lock has made it
        }
        if let Some((when, why)) = &attempts.failed
            && when.elapsed() < self.backoff(attempts.failures)
        {
            return Err(why.clone());
        }
        let connecting = self.connect(&member.addr, Purpose::Peer, Some(member.node));
        match member.stop.run_until_cancelled(connecting).await {
            Some(Ok(link)) => {
                *attempts = Attempts::default();
                *state.link.lock() = Some(link.clone());
                if member.stop.is_cancelled() {
                    member.let_go(); // it was let go while this was connecting
                }
                debug!(node = %member.node, addr = member.addr, %lane, "a link stands");
                Ok(link)
            }
            Some(Err(why)) => {
                attempts.failures = attempts.failures.saturating_add(1);
                attempts.failed = Some((Instant::now(), why.clone()));
                Err(why)
            }
            None => Err(Unreached { who: member.addr.clone(), why: "this node has let it go".into(), sign: None }),
        }
    }

    fn backoff(&self, failures: u32) -> Duration {
        let doubled = self.settings.backoff_min.saturating_mul(1 << failures.saturating_sub(1).min(16));
        doubled.min(self.settings.backoff_max)
    }

    async fn connect(&self, addr: &str, purpose: Purpose, wanted: Option<NodeId>) -> Result<Link, Unreached> {
        let who = || wanted.map_or_else(|| addr.to_owned(), |node| format!("node {node} at {addr}"));
        let failed = |why: String, sign| Unreached { who: who(), why, sign: Some(sign) };
        let wait = self.settings.connect_wait;
        let mut connection = match timeout(wait, self.transport.connect(addr)).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return Err(failed(error.to_string(), sign_of(&error))),
            Err(_) => return Err(failed(format!("no connection within {wait:?}"), Sign::Silent)),
        };
        match greet(&mut connection, &*self.admission, purpose, wanted, addr).await {
            Ok(peer) => Ok(Link::start(connection, peer)),
            Err(error) => {
                let sign = match &error {
                    HandshakeError::Stranger { .. } => Sign::Rejected(Reason::Node),
                    error => error.refused().map_or(Sign::Silent, |refused| Sign::Rejected(refused.reason)),
                };
                Err(failed(error.to_string(), sign))
            }
        }
    }

    /// Keeps the control lane open, and tells how that goes.
    async fn keep_control(&self, member: &Member) {
        let mut short_lives = 0;
        loop {
            let calm = match self.link(member, Lane::Control).await {
                Ok(link) => {
                    self.tell(member, Presence::Up);
                    let since = Instant::now();
                    let why = link.closed().await;
                    info!(node = %member.node, addr = member.addr, %why, "the control lane closed; connecting again");
                    // at once after a long life; one that dies young must not be reborn in a circle
                    short_lives = if since.elapsed() > self.settings.backoff_max { 0 } else { short_lives + 1 };
                    Instant::now() + if short_lives > 1 { self.backoff(short_lives - 1) } else { Duration::ZERO }
                }
                Err(error) => {
                    if let Some(sign) = error.sign
                        && self.tell(member, Presence::Lost(sign))
                    {
                        warn!(%error, "a member cannot be reached");
                    }
                    let attempts = member.lane(Lane::Control).attempts.lock().await;
                    let failed = attempts.failed.as_ref().map_or_else(Instant::now, |(when, _)| *when);
                    failed + self.backoff(attempts.failures)
                }
            };
            sleep_until(calm).await;
        }
    }

    /// Whether it is news.
    fn tell(&self, member: &Member, now: Presence) -> bool {
        let before = std::mem::replace(&mut *member.presence.lock(), now);
        let event = match now {
            Presence::Up => PeerEvent::Up(member.node),
            Presence::Lost(sign) if before != now => PeerEvent::Lost(member.node, sign),
            Presence::Lost(_) | Presence::Unknown => return false,
        };
        let _ = self.events.send(event); // nobody listens: nobody needs to know
        true
    }
}

fn sign_of(error: &io::Error) -> Sign {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Sign::Gone,
        _ => Sign::Silent,
    }
}

#[cfg(test)]
mod tests;
