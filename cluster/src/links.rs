//! This node's links to the other members: opened on demand, kept open, and reopened. They also detect exited
//! processes: a socket that closes and cannot be reopened shows that a process has exited, long before a lease ends.

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

/// The timeout for opening a connection.
const CONNECT_WAIT: Duration = Duration::from_secs(1);
/// The delay between two attempts to reach an unreachable member.
const CONNECT_PAUSE: Duration = Duration::from_millis(250);
/// The delay after a connection that broke before the handshake: an exiting process accepts one more connection and
/// exits a moment later. A longer delay would let the first and the second voter campaign at the same time.
const BROKEN_PAUSE: Duration = Duration::from_millis(20);
/// The maximum number of such attempts in a row; after them the member counts as unreachable.
const BROKEN_TRIES_MAX: u32 = 10;

/// The maximum queued events: a few for each of the members that a cluster may have.
const EVENTS_MAX: usize = 256;

/// A change of the connection to another member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PeerEvent {
    /// A connection to this member is open.
    Connected(NodeId),
    /// It closed.
    Lost {
        /// The member.
        node: NodeId,
        /// It had no session any more: its process exited normally.
        shut_down: bool,
    },
    /// No connection can be opened. Emitted on every attempt.
    Unreachable {
        /// The member.
        node: NodeId,
        /// The address that was tried; none if it is no longer a member.
        at: Option<String>,
        /// The reason.
        why: String,
    },
    /// Nothing listens at its address: its process has exited. Emitted on every attempt.
    Exited {
        /// The member.
        node: NodeId,
        /// Its session before the attempt: a process that has started since then is another one.
        session: Option<SessionId>,
    },
    /// A member reports that this node was removed, with this notice.
    Removed(String),
}

/// The reason why a member was not reached.
#[derive(Clone, Debug, thiserror::Error)]
#[error("failed to reach {peer}: {why}")]
pub(crate) struct ConnectError {
    peer: String,
    why: String,
    /// Nothing listens at its address: its process has exited.
    pub refused: bool,
    /// It is up, but not ready yet.
    pub is_starting: bool,
    /// The connection broke while it was opened, or before the handshake.
    broken: bool,
    /// It reports that this node was removed, with this notice.
    removed: Option<String>,
    when: Instant,
}

impl ConnectError {
    /// Returns the delay before the next attempt.
    const fn pause(&self) -> Duration {
        if self.broken { BROKEN_PAUSE } else { CONNECT_PAUSE }
    }
}

/// The links of one node.
pub(crate) struct Links {
    transport: Arc<dyn Transport>,
    admission: Arc<dyn Admission>,
    log: OnceLock<MemberDirectory>,
    events: mpsc::Sender<PeerEvent>,
    slots: Mutex<BTreeMap<(NodeId, bool), Arc<Slot>>>,
    /// The addresses that members reported, and the addresses in the log at that time.
    reported: Mutex<BTreeMap<NodeId, (String, Option<String>)>>,
    /// The time at which the socket to each member last closed, and whether there has been another since.
    closed: Mutex<BTreeMap<NodeId, (Instant, bool)>>,
    /// Members whose process has exited: nothing listens at their address.
    exited: watch::Sender<BTreeSet<NodeId>>,
    stop: CancellationToken,
}

/// The members by the log, once this node is a member.
struct MemberDirectory {
    me: NodeId,
    view: Arc<StateView>,
    /// A member's address by the group's membership, which is known before the log is applied.
    raft_address: RaftAddress,
}

type RaftAddress = Box<dyn Fn(NodeId) -> Option<String> + Send + Sync>;

/// The place of one link.
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
    /// Creates the links of a node that is not a member yet, and the receiver of their events.
    pub(crate) fn new(
        transport: Arc<dyn Transport>,
        admission: Arc<dyn Admission>,
        stop: CancellationToken,
    ) -> (Arc<Self>, mpsc::Receiver<PeerEvent>) {
        let (events, receiver) = mpsc::channel(EVENTS_MAX);
        let (log, slots, reported, closed) = (OnceLock::new(), Mutex::default(), Mutex::default(), Mutex::default());
        let exited = watch::Sender::default();
        (Arc::new(Self { transport, admission, log, events, slots, reported, closed, exited, stop }), receiver)
    }

    /// Starts looking up members in the log, or in the group's membership.
    pub(crate) fn open(&self, me: NodeId, view: Arc<StateView>, raft_address: RaftAddress) {
        let _ = self.log.set(MemberDirectory { me, view, raft_address });
    }

    /// Records the address that a member reports.
    pub(crate) fn set_reported_address(&self, node: NodeId, address: &str) {
        let known = self.known_address(node);
        self.reported.lock().insert(node, (address.to_owned(), known));
    }

    /// Returns the members whose process is known to have exited, and notifies of changes.
    pub(crate) fn exited(&self) -> watch::Receiver<BTreeSet<NodeId>> {
        self.exited.subscribe()
    }

    /// Returns when the socket to a member closed, if its process is known to have exited: for good, or not longer
    /// ago than `within` and followed by a restart.
    pub(crate) fn disconnected_since(&self, node: NodeId, within: Duration) -> Option<Instant> {
        let (at, reached) = *self.closed.lock().get(&node)?;
        (!reached || at.elapsed() < within).then_some(at)
    }

    /// Returns a member's address: the reported one, until the log has a newer one.
    fn address(&self, of: NodeId) -> Option<String> {
        let known = self.known_address(of);
        match self.reported.lock().get(&of) {
            Some((address, then)) if *then == known => Some(address.clone()),
            _ => known,
        }
    }

    /// Returns the address by the state, or by the group's membership, which is known sooner.
    fn known_address(&self, of: NodeId) -> Option<String> {
        let log = self.log.get()?;
        let known = log.view.state().members.get(&of).map(|member| member.peer.clone());
        known.or_else(|| (log.raft_address)(of))
    }

    /// Returns the link to a member: the existing one, or a new one.
    async fn link(&self, to: NodeId, class: ConnectionClass) -> Result<Link, ConnectError> {
        let unknown = || ConnectError {
            peer: format!("node {to}"),
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
            let peer = wanted.map_or_else(|| address.to_owned(), |node| format!("node {node} at {address}"));
            ConnectError { peer, why, refused, is_starting: false, broken: false, removed: None, when: Instant::now() }
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
            // It has applied the removal of this node, which is never admitted again.
            let removed = refused_as(Reason::NotAMember).map(|refused| refused.text.clone());
            if let Some(text) = &removed {
                // If the queue is full, the next attempt reports the same.
                let _ = self.events.try_send(PeerEvent::Removed(text.clone()));
            }
            let is_starting = refused_as(Reason::NotReady).is_some();
            let broken = matches!(error, HandshakeError::Broken { .. });
            ConnectError { is_starting, broken, removed, ..failed(error.to_string(), false) }
        });
        Ok(Link::start(connection, them?))
    }

    /// Sends a request to a member.
    pub(crate) async fn request(
        &self,
        to: NodeId,
        kind: Kind,
        payload: Bytes,
        within: Duration,
    ) -> Result<Bytes, RequestError> {
        self.request_over(ConnectionClass::Urgent, to, kind, payload, within).await
    }

    /// Sends groups of commands to the leader, and waits for their outcomes.
    pub(crate) async fn forward(&self, to: NodeId, groups: Bytes, within: Duration) -> Result<Bytes, RequestError> {
        self.request_over(ConnectionClass::Bulk, to, Kind::PROPOSE, groups, within).await
    }

    /// Sends a request to a member over a link of this class; opening the link is part of the time.
    async fn request_over(
        &self,
        class: ConnectionClass,
        to: NodeId,
        kind: Kind,
        payload: Bytes,
        within: Duration,
    ) -> Result<Bytes, RequestError> {
        let deadline = Instant::now() + within;
        let link = match timeout_at(deadline, self.link(to, class)).await {
            Ok(link) => link.map_err(|error| RequestError::not_sent(&error))?,
            Err(_) => {
                return Err(RequestError { may_have_happened: false, why: format!("node {to} is unreachable") });
            }
        };
        call_until(deadline, &link, kind, payload).await
    }

    /// Sends a request to a member if there is a link to it. Opens none, so that a failure to open one is seen by
    /// [`Self::watch`], which detects exited processes.
    pub(crate) async fn request_if_open(
        &self,
        to: NodeId,
        kind: Kind,
        payload: Bytes,
        within: Duration,
    ) -> Option<Bytes> {
        let slot = self.slots.lock().get(&(to, true)).cloned()?;
        let link = slot.0.try_lock().ok()?.open()?;
        link.call(kind, payload, within).await.ok()
    }

    /// Sends a request to a member over the link that [`Self::watch`] keeps to it, and waits if that link is being
    /// opened. Opens none itself, like [`Self::request_if_open`].
    pub(crate) async fn ask_connected(
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
        call_until(deadline, &link, kind, payload).await
    }

    /// Sends a request to the node at an address, as an unidentified peer.
    pub(crate) async fn inquire(
        &self,
        at: &str,
        kind: Kind,
        payload: Bytes,
        within: Duration,
    ) -> Result<Bytes, String> {
        let link = self.connect(at, Purpose::Inquiry, None).await.map_err(|error| error.to_string())?;
        link.call(kind, payload, within).await.map_err(|error| error.to_string())
    }

    /// Connects to every other member that answers at once, because one of them may know that this node was removed.
    /// Returns its removal notice then.
    pub(crate) async fn removal_notice_from_peers(&self) -> Option<String> {
        let others: FuturesUnordered<_> =
            self.others().into_iter().map(|node| self.link(node, ConnectionClass::Urgent)).collect();
        let removed = others.filter_map(async |link| link.err()?.removed);
        timeout(CONNECT_WAIT, pin!(removed).next()).await.ok().flatten()
    }

    /// Keeps a connection to every other member, so that its closing is noticed. Runs as long as the node does.
    pub(crate) async fn watch(self: Arc<Self>) {
        let Some(mut applied) = self.log.get().map(|log| log.view.applied()) else { return };
        let mut watched: BTreeMap<NodeId, CancellationToken> = BTreeMap::new();
        loop {
            let changed = applied.borrow_and_update().changed;
            let others = self.others();
            watched.retain(|node, stop| {
                let stays = others.contains(node);
                if !stays {
                    stop.cancel();
                }
                stays
            });
            for node in others {
                watched.entry(node).or_insert_with(|| {
                    let (links, stop) = (self.clone(), self.stop.child_token());
                    let until = stop.clone();
                    tokio::spawn(async move { until.run_until_cancelled(links.watch_peer(node)).await });
                    stop
                });
            }
            if applied.wait_for(|applied| applied.changed != changed).await.is_err() {
                return;
            }
        }
    }

    /// Keeps a connection to one member, and emits its changes.
    async fn watch_peer(&self, node: NodeId) {
        let mut broken = 0;
        loop {
            let session = self.session_of(node);
            let since = Instant::now();
            match self.link(node, ConnectionClass::Urgent).await {
                Ok(link) => {
                    broken = 0;
                    self.exited.send_if_modified(|exited| exited.remove(&node));
                    self.closed.lock().entry(node).and_modify(|(_, reached)| *reached = true);
                    self.emit(PeerEvent::Connected(node)).await;
                    link.closed().await;
                    self.closed.lock().insert(node, (Instant::now(), false));
                    // Reconnect at once: the session of a killed process ends a moment later.
                    self.emit(PeerEvent::Lost { node, shut_down: self.session_of(node).is_none() }).await;
                    // Without a delay after a long-lived connection; short-lived ones must not be reopened in a busy
                    // loop.
                    if since.elapsed() < CONNECT_PAUSE {
                        sleep(CONNECT_PAUSE).await;
                    }
                }
                Err(error) if error.broken && broken < BROKEN_TRIES_MAX => {
                    broken += 1;
                    sleep(BROKEN_PAUSE).await;
                }
                Err(error) => {
                    // What other nodes found earlier does not apply to a process that has started since.
                    let exited = error.refused && error.when >= since;
                    if exited {
                        self.exited.send_if_modified(|exited| exited.insert(node));
                    }
                    // A starting process answers soon, and reports itself why it is not ready.
                    if !error.is_starting {
                        self.emit(PeerEvent::Unreachable { node, at: self.address(node), why: error.why }).await;
                    }
                    if exited {
                        self.emit(PeerEvent::Exited { node, session }).await;
                    }
                    sleep(CONNECT_PAUSE).await;
                }
            }
        }
    }

    async fn emit(&self, event: PeerEvent) {
        // The receiver is dropped if the node has ended.
        let _ = self.events.send(event).await;
    }

    /// Returns the other members, as far as the log is applied here.
    fn others(&self) -> BTreeSet<NodeId> {
        let Some(log) = self.log.get() else { return BTreeSet::new() };
        let state = log.view.state();
        state.members.keys().copied().filter(|node| *node != log.me).collect()
    }

    fn session_of(&self, node: NodeId) -> Option<SessionId> {
        self.log.get()?.view.state().sessions.get(&node).map(|live| live.session)
    }
}

/// Sends a request over a link, and waits for its answer until the deadline.
async fn call_until(deadline: Instant, link: &Link, kind: Kind, payload: Bytes) -> Result<Bytes, RequestError> {
    let left = deadline.saturating_duration_since(Instant::now());
    link.call(kind, payload, left).await.map_err(|error| RequestError::from(&error))
}

/// The reason why there is no answer.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{why}")]
pub(crate) struct RequestError {
    /// The request may have had an effect.
    pub may_have_happened: bool,
    /// The reason, for people.
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
            // Raft sets the deadline by dropping this future.
            link.call(call.kind(), body, Duration::from_secs(60)).await.map_err(io::Error::other)
        })
    }

    fn stream(self: Arc<Self>, to: NodeId, call: Call, mut questions: BoxStream<'static, Bytes>) -> Answers {
        Box::pin(async move {
            let link = self.link(to, ConnectionClass::Bulk).await.map_err(io::Error::other)?;
            let opened = link.open(call.kind(), Bytes::new()).await;
            let (mut sender, receiver) = opened.map_err(io::Error::other)?;
            // Send requests while answers arrive. Ends with either side: the end of the answers drops the receiver,
            // which stops the sender.
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

#[cfg(test)]
mod tests {
    use evener_core::id::{FeatureLevel, Incarnation};

    use super::*;
    use crate::{
        handshake::{Identity, PeerIdentity, Refused},
        transport::{BoxedStream, Listener},
    };

    /// A network in which no connection is ever established.
    struct HangingTransport;

    impl Transport for HangingTransport {
        fn connect<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<BoxedStream>> {
            Box::pin(std::future::pending())
        }

        fn bind<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
            unreachable!("nothing listens at {addr}")
        }
    }

    struct AdmitAll;

    impl Admission for AdmitAll {
        fn me(&self) -> Identity {
            Identity { cluster: None, node: None, incarnation: Incarnation::default(), level: FeatureLevel::CURRENT }
        }

        fn admit(&self, _: &PeerIdentity) -> Result<(), Refused> {
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn connecting_is_part_of_the_time_of_a_request() {
        let stop = CancellationToken::new();
        let (links, _events) = Links::new(Arc::new(HangingTransport), Arc::new(AdmitAll), stop);
        let (member, within) = (NodeId(2), CONNECT_WAIT / 10);
        links.set_reported_address(member, "n2:7000");
        let start = Instant::now();
        assert!(!links.forward(member, Bytes::new(), within).await.unwrap_err().may_have_happened);
        assert_eq!(start.elapsed(), within);
        let requested = Links::request(&links, member, Kind::RENEW, Bytes::new(), within).await;
        assert!(!requested.unwrap_err().may_have_happened);
        assert_eq!(start.elapsed(), within * 2);
    }
}
