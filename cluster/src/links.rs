//! This node's links to the other members: opened when they are needed, kept, and opened again. And their
//! silence: a socket that closes and cannot be opened again says that a process is gone, long before a lease ends.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    pin::pin,
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use evener_core::id::{NodeId, SessionId};
use futures::{
    StreamExt,
    future::BoxFuture,
    stream::{BoxStream, FuturesUnordered},
};
use parking_lot::Mutex;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{
    handshake::{Admission, HandshakeError, Purpose, Reason, initiate},
    link::{CallError, Link},
    message::Kind,
    raft::{Answers, Call, ConnectionClass, Peers},
    transport::Transport,
    view::StateView,
};

/// To open a connection.
const CONNECT_WAIT: Duration = Duration::from_secs(1);
/// Between two tries to reach a member that is not there.
const CONNECT_PAUSE: Duration = Duration::from_millis(250);
/// After a connection that broke before anything was said: a process that is ending takes one more, and is gone a
/// moment later. Waited for longer, the first voter would ask for votes at the same time as the second.
const BROKEN_PAUSE: Duration = Duration::from_millis(20);
/// So often in a row; then it is a member that is not there.
const BROKEN_TRIES_MAX: u32 = 10;

/// Events that wait for the task that acts on them. A few for each of the members that a cluster may have.
const EVENTS_MAX: usize = 256;

/// What becomes of the connections to the other members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerEvent {
    /// One to this member is open.
    Connected(NodeId),
    /// It closed.
    Lost {
        /// To which member.
        node: NodeId,
        /// It had no session any more: its process has ended in good order.
        shut_down: bool,
    },
    /// None can be opened. Emitted for every try.
    Unreachable {
        /// To which member.
        node: NodeId,
        /// Where it was looked for; none if it is no member any more.
        at: Option<String>,
        /// Why.
        why: String,
    },
    /// Nobody listens where it should be: its process is gone. Emitted for every try.
    Exited {
        /// Which member.
        node: NodeId,
        /// The session that it had before it was looked for: a process that has begun meanwhile is another.
        session: Option<SessionId>,
    },
    /// A member says that this node was removed, in these words.
    Removed(String),
}

/// Why a member was not reached.
#[derive(Clone, Debug, thiserror::Error)]
#[error("failed to reach {who}: {why}")]
pub struct ConnectError {
    who: String,
    why: String,
    /// Nobody listens where it should be: its process is gone.
    pub refused: bool,
    /// It is there, and not ready yet.
    pub is_starting: bool,
    /// The connection broke while it was made, or before anything was said.
    broken: bool,
    /// It says that this node was removed, in these words.
    removed: Option<String>,
    when: Instant,
}

impl ConnectError {
    /// Until it is tried again.
    const fn pause(&self) -> Duration {
        if self.broken { BROKEN_PAUSE } else { CONNECT_PAUSE }
    }
}

/// The links of one node.
pub struct Links {
    transport: Arc<dyn Transport>,
    admission: Arc<dyn Admission>,
    log: OnceLock<MemberDirectory>,
    events: mpsc::Sender<PeerEvent>,
    slots: Mutex<BTreeMap<(NodeId, bool), Arc<Slot>>>,
    /// Where members say they are, and where the log said they were when they said so.
    reported: Mutex<BTreeMap<NodeId, (String, Option<String>)>>,
    /// When the socket to each member last closed, and whether there has been another since.
    closed: Mutex<BTreeMap<NodeId, (Instant, bool)>>,
    /// Members whose process is gone: nobody listens where it was.
    exited: watch::Sender<BTreeSet<NodeId>>,
    stop: CancellationToken,
}

/// What the log says of the members, once this node is one.
struct MemberDirectory {
    me: NodeId,
    view: Arc<StateView>,
    /// Where a member is by the group's membership, which is known before the log is applied.
    raft_address: RaftAddress,
}

type RaftAddress = Box<dyn Fn(NodeId) -> Option<String> + Send + Sync>;

/// Where one link is kept.
#[derive(Default)]
struct Slot(tokio::sync::Mutex<SlotState>);

#[derive(Default)]
struct SlotState {
    link: Option<(String, Link)>,
    failed: Option<(String, Instant, ConnectError)>,
}

impl SlotState {
    /// Returns the link, if there is one.
    fn open(&self) -> Option<Link> {
        self.link.as_ref().map(|(_, link)| link.clone())
    }
}

impl Links {
    /// Links of a node that is no member yet, and what becomes of them later.
    pub fn new(
        transport: Arc<dyn Transport>,
        admission: Arc<dyn Admission>,
        stop: CancellationToken,
    ) -> (Arc<Self>, mpsc::Receiver<PeerEvent>) {
        let (events, receiver) = mpsc::channel(EVENTS_MAX);
        let (log, slots, reported, closed) = (OnceLock::new(), Mutex::default(), Mutex::default(), Mutex::default());
        let exited = watch::Sender::default();
        (Arc::new(Self { transport, admission, log, events, slots, reported, closed, exited, stop }), receiver)
    }

    /// From now on members are found where the log says they are, or their seats in the group.
    pub fn open(&self, me: NodeId, view: Arc<StateView>, raft_address: RaftAddress) {
        let _ = self.log.set(MemberDirectory { me, view, raft_address });
    }

    /// A member says where it is.
    pub fn set_reported_address(&self, who: NodeId, address: &str) {
        let known = self.known_address(who);
        self.reported.lock().insert(who, (address.to_owned(), known));
    }

    /// Members whose process is known to be gone, and when that changes.
    pub fn exited(&self) -> watch::Receiver<BTreeSet<NodeId>> {
        self.exited.subscribe()
    }

    /// When the socket to a member closed, of which one knows that it has ended: for good, or not longer ago than this
    /// and one that has begun anew was reached.
    pub fn disconnected_since(&self, who: NodeId, within: Duration) -> Option<Instant> {
        let (at, reached) = *self.closed.lock().get(&who)?;
        (!reached || at.elapsed() < within).then_some(at)
    }

    /// Where a member is: as it says, until the log says something new.
    fn address(&self, of: NodeId) -> Option<String> {
        let known = self.known_address(of);
        match self.reported.lock().get(&of) {
            Some((address, then)) if *then == known => Some(address.clone()),
            _ => known,
        }
    }

    /// As the state says, or the group's membership, which is known sooner.
    fn known_address(&self, of: NodeId) -> Option<String> {
        let log = self.log.get()?;
        let known = log.view.state().members.get(&of).map(|member| member.peer.clone());
        known.or_else(|| (log.raft_address)(of))
    }

    /// A link to a member: the one there is, or a new one.
    async fn link(&self, to: NodeId, class: ConnectionClass) -> Result<Link, ConnectError> {
        let unknown = || ConnectError {
            who: format!("node {to}"),
            why: "its address is not known".into(),
            refused: false,
            is_starting: false,
            broken: false,
            removed: None,
            when: Instant::now(),
        };
        let address = self.address(to).ok_or_else(unknown)?;
        let slot = self.slots.lock().entry((to, class == ConnectionClass::Urgent)).or_default().clone();
        let mut kept = slot.0.lock().await;
        if let Some((at, link)) = &kept.link
            && *at == address
            && !link.is_closed()
        {
            return Ok(link.clone());
        }
        if let Some((at, when, why)) = &kept.failed
            && *at == address
            && when.elapsed() < why.pause()
        {
            return Err(why.clone());
        }
        kept.link = None;
        match self.connect(&address, Purpose::Peer, Some(to)).await {
            Ok(link) => {
                kept.failed = None;
                kept.link = Some((address, link.clone()));
                Ok(link)
            }
            Err(why) => {
                kept.failed = Some((address, Instant::now(), why.clone()));
                Err(why)
            }
        }
    }

    async fn connect(&self, address: &str, purpose: Purpose, wanted: Option<NodeId>) -> Result<Link, ConnectError> {
        let failed = |why: String, refused| {
            let who = wanted.map_or_else(|| address.to_owned(), |node| format!("node {node} at {address}"));
            ConnectError { who, why, refused, is_starting: false, broken: false, removed: None, when: Instant::now() }
        };
        let connected = timeout(CONNECT_WAIT, self.transport.connect(address)).await;
        let mut connection = match connected {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => {
                let (refused, broken) = match error.kind() {
                    io::ErrorKind::ConnectionRefused => (true, false),
                    io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted => (false, true),
                    _ => (false, false),
                };
                return Err(ConnectError { broken, ..failed(error.to_string(), refused) });
            }
            Err(_) => return Err(failed(format!("no connection within {CONNECT_WAIT:?}"), false)),
        };
        let them = initiate(&mut connection, &*self.admission, purpose, wanted, address).await;
        let them = them.map_err(|error| {
            let refused_as = |reason| error.refused().filter(|refused| refused.reason == reason);
            // It has applied this node's removal, which will never be let in again.
            let removed = refused_as(Reason::NotAMember).map(|refused| refused.text.clone());
            if let Some(text) = &removed {
                // If the queue is full, another try says the same.
                let _ = self.events.try_send(PeerEvent::Removed(text.clone()));
            }
            let is_starting = refused_as(Reason::NotReady).is_some();
            let broken = matches!(error, HandshakeError::Broken { .. });
            ConnectError { is_starting, broken, removed, ..failed(error.to_string(), false) }
        });
        Ok(Link::start(connection, them?))
    }

    /// Asks a member.
    pub async fn request(
        &self,
        to: NodeId,
        kind: Kind,
        payload: Bytes,
        within: Duration,
    ) -> Result<Bytes, RequestError> {
        let deadline = Instant::now() + within;
        let link = match timeout(within, self.link(to, ConnectionClass::Urgent)).await {
            Ok(link) => link.map_err(|error| RequestError::not_sent(&error))?,
            Err(_) => {
                return Err(RequestError { may_have_happened: false, why: format!("node {to} cannot be reached") });
            }
        };
        let left = deadline.saturating_duration_since(Instant::now());
        link.call(kind, payload, left).await.map_err(|error| RequestError::from(&error))
    }

    /// Takes groups of commands to the leader, and waits for what became of each.
    pub async fn forward(&self, to: NodeId, groups: Bytes, within: Duration) -> Result<Bytes, RequestError> {
        let link = self.link(to, ConnectionClass::Bulk).await.map_err(|error| RequestError::not_sent(&error))?;
        link.call(Kind::PROPOSE, groups, within).await.map_err(|error| RequestError::from(&error))
    }

    /// Asks a member if there is a link to it: opens none, so that a failure to open one is seen by those who look for
    /// the end of a process.
    pub async fn request_if_open(&self, to: NodeId, kind: Kind, payload: Bytes, within: Duration) -> Option<Bytes> {
        let slot = self.slots.lock().get(&(to, true)).cloned()?;
        let link = slot.0.try_lock().ok()?.open()?;
        link.call(kind, payload, within).await.ok()
    }

    /// Asks a member over the link that [`Self::watch`] keeps to it, and waits for that where it is just being opened.
    /// Opens none itself, as [`Self::ask_if_open`].
    pub async fn ask_connected(
        &self,
        to: NodeId,
        kind: Kind,
        payload: Bytes,
        within: Duration,
    ) -> Result<Bytes, RequestError> {
        let deadline = Instant::now() + within;
        let slot = self.slots.lock().get(&(to, true)).cloned();
        let link = match slot {
            Some(slot) => timeout_at(deadline, slot.0.lock()).await.ok().and_then(|kept| kept.open()),
            None => None,
        };
        let link = link.ok_or_else(|| RequestError {
            may_have_happened: false,
            why: format!("no connection to node {to} is open"),
        })?;
        let left = deadline.saturating_duration_since(Instant::now());
        link.call(kind, payload, left).await.map_err(|error| RequestError::from(&error))
    }

    /// Asks whoever is at an address, as a stranger.
    pub async fn inquire(&self, at: &str, kind: Kind, payload: Bytes, within: Duration) -> Result<Bytes, String> {
        let link = self.connect(at, Purpose::Inquiry, None).await.map_err(|error| error.to_string())?;
        link.call(kind, payload, within).await.map_err(|error| error.to_string())
    }

    /// Says hello to every other member, as far as they answer at once: one of them may know that this node was
    /// removed. Returns its words then.
    pub async fn removal_notice_from_peers(&self) -> Option<String> {
        let others: FuturesUnordered<_> =
            self.others().into_iter().map(|who| self.link(who, ConnectionClass::Urgent)).collect();
        let removed = others.filter_map(async |link| link.err()?.removed);
        timeout(CONNECT_WAIT, pin!(removed).next()).await.ok().flatten()
    }

    /// Keeps a connection to every other member, so that its closing is seen. Runs as long as the node does.
    pub async fn watch(self: Arc<Self>) {
        let Some(mut applied) = self.log.get().map(|log| log.view.applied()) else { return };
        let mut watched: BTreeMap<NodeId, CancellationToken> = BTreeMap::new();
        loop {
            let changed = applied.borrow_and_update().changed;
            let others = self.others();
            watched.retain(|who, stop| {
                let stays = others.contains(who);
                if !stays {
                    stop.cancel();
                }
                stays
            });
            for who in others {
                watched.entry(who).or_insert_with(|| {
                    let (links, stop) = (self.clone(), self.stop.child_token());
                    let until = stop.clone();
                    tokio::spawn(async move { until.run_until_cancelled(links.watch_peer(who)).await });
                    stop
                });
            }
            if applied.wait_for(|applied| applied.changed != changed).await.is_err() {
                return;
            }
        }
    }

    /// Keeps a connection to one member, and emits what becomes of it.
    async fn watch_peer(&self, who: NodeId) {
        let mut broken = 0;
        loop {
            let session = self.session_of(who);
            let since = Instant::now();
            match self.link(who, ConnectionClass::Urgent).await {
                Ok(link) => {
                    broken = 0;
                    self.exited.send_if_modified(|exited| exited.remove(&who));
                    self.closed.lock().entry(who).and_modify(|(_, reached)| *reached = true);
                    self.emit(PeerEvent::Connected(who)).await;
                    link.closed().await;
                    self.closed.lock().insert(who, (Instant::now(), false));
                    // RequestError at once: the session of a process that was killed ends a moment later.
                    self.emit(PeerEvent::Lost { node: who, shut_down: self.session_of(who).is_none() }).await;
                    // At once after a long life; one that dies young must not be reborn in a circle.
                    if since.elapsed() < CONNECT_PAUSE {
                        sleep(CONNECT_PAUSE).await;
                    }
                }
                Err(error) if error.broken && broken < BROKEN_TRIES_MAX => {
                    broken += 1;
                    sleep(BROKEN_PAUSE).await;
                }
                Err(error) => {
                    // What others found out earlier says nothing of a process that has begun since.
                    let exited = error.refused && error.when >= since;
                    if exited {
                        self.exited.send_if_modified(|exited| exited.insert(who));
                    }
                    // One that begins answers soon, and says itself what it waits for.
                    if !error.is_starting {
                        self.emit(PeerEvent::Unreachable { node: who, at: self.address(who), why: error.why }).await;
                    }
                    if exited {
                        self.emit(PeerEvent::Exited { node: who, session }).await;
                    }
                    sleep(CONNECT_PAUSE).await;
                }
            }
        }
    }

    async fn emit(&self, event: PeerEvent) {
        // The receiver is gone if the node has ended.
        let _ = self.events.send(event).await;
    }

    /// The other members, as far as the log is applied here.
    fn others(&self) -> BTreeSet<NodeId> {
        let Some(log) = self.log.get() else { return BTreeSet::new() };
        let state = log.view.state();
        state.members.keys().copied().filter(|who| *who != log.me).collect()
    }

    fn session_of(&self, who: NodeId) -> Option<SessionId> {
        self.log.get()?.view.state().sessions.get(&who).map(|live| live.session)
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{why}")]
pub struct RequestError {
    /// It may have been done all the same.
    pub may_have_happened: bool,
    /// In words.
    pub why: String,
}

impl RequestError {
    fn not_sent(error: &ConnectError) -> Self {
        Self { may_have_happened: false, why: error.to_string() }
    }
}

impl From<&CallError> for RequestError {
    fn from(error: &CallError) -> Self {
        Self { may_have_happened: error.may_have_happened(), why: error.to_string() }
    }
}

impl Peers for Links {
    fn request(
        self: Arc<Self>,
        to: NodeId,
        class: ConnectionClass,
        call: Call,
        body: Bytes,
    ) -> BoxFuture<'static, io::Result<Bytes>> {
        Box::pin(async move {
            let link = self.link(to, class).await.map_err(io::Error::other)?;
            // Raft sets the deadline, by dropping this.
            link.call(call.kind(), body, Duration::from_secs(60)).await.map_err(io::Error::other)
        })
    }

    fn stream(self: Arc<Self>, to: NodeId, call: Call, mut questions: BoxStream<'static, Bytes>) -> Answers {
        Box::pin(async move {
            let link = self.link(to, ConnectionClass::Bulk).await.map_err(io::Error::other)?;
            let opened = link.open(call.kind(), Bytes::new()).await;
            let (mut sender, receiver) = opened.map_err(io::Error::other)?;
            // RequestError on while answers come. Ends with either side: the answers' end drops the receiver, which
            // stops the sender.
            let asking = tokio::spawn(async move {
                while let Some(question) = questions.next().await {
                    if sender.send(question).await.is_err() {
                        return;
                    }
                }
            });
            let asking = AbortOnDrop(asking);
            let answers = receiver.map(move |answer| {
                let _held = &asking;
                answer.map_err(io::Error::other)
            });
            Ok(answers.boxed())
        })
    }
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
