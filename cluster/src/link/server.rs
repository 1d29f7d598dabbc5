//! The serving side of a link.

use std::{collections::BTreeMap, io, pin::Pin, sync::Arc, task::Poll, time::Duration};

use bytes::Bytes;
use futures::{
    StreamExt,
    stream::{AbortHandle, Abortable, FuturesUnordered},
};
use tokio::{
    io::{AsyncRead, split},
    select,
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::sleep,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, info, warn};

use super::{
    CloseReason, LINK_HANDLERS_BYTES_MAX, LINK_HANDLERS_MAX,
    host_limit::{HostLimit, HostPermit},
    message_reader::MessageReader,
    outbox::{Outbox, outbox},
    refusal::{Code, Refusal},
    stream::{StreamReceiver, StreamSender, Streams},
};
use crate::{
    handshake::{Admission, PeerIdentity, Reason, respond},
    message::{Kind, Message, PAYLOAD_BYTES_MAX, Role},
    transport::{BoxFuture, BoxedStream, Listener},
};

/// The maximum connections served at once: a few per member, and unidentified peers.
pub(super) const ACCEPTED_MAX: usize = 512;
/// The maximum handshakes at once. Further connections wait to be accepted.
pub const HANDSHAKES_MAX: usize = 64;
/// The maximum served connections, and handshakes, per host: a host that opens more is refused, so that the others
/// are still accepted. A member needs four, so thirty members can share one address.
pub(super) const ACCEPTED_PER_HOST_MAX: usize = 128;
/// See [`ACCEPTED_PER_HOST_MAX`]. A peer that sends nothing occupies its place for
/// [`HANDSHAKE_WAIT`](crate::handshake::HANDSHAKE_WAIT).
pub(super) const HANDSHAKES_PER_HOST_MAX: usize = 16;
/// The delay after a failed accept (probably no more file descriptors), which avoids a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The requests that a node serves for its peers. A returned future runs in the task of its link and is dropped when
/// the link closes or its caller stops waiting: work that must continue is spawned.
pub trait Service: Send + Sync + 'static {
    /// Answers a call, or handles a cast, whose answer is dropped. An answer over the limit becomes a refusal.
    fn handle(&self, kind: Kind, from: Arc<PeerIdentity>, payload: Bytes)
    -> BoxFuture<'static, Result<Bytes, Refusal>>;

    /// Serves a stream until both halves are dropped; `payload` is what it was opened with.
    fn stream(
        &self,
        kind: Kind,
        from: Arc<PeerIdentity>,
        payload: Bytes,
        sender: StreamSender,
        receiver: StreamReceiver,
    ) -> BoxFuture<'static, ()> {
        let _ = (from, payload, receiver);
        Box::pin(async move { sender.refuse(&Refusal::unknown(kind)).await })
    }
}

/// Serves one connection whose handshake is done, until it closes or `stop` is signalled. Everything that it started
/// has ended when it returns.
pub async fn serve(
    connection: BoxedStream,
    peer: PeerIdentity,
    service: Arc<dyn Service>,
    stop: CancellationToken,
) -> CloseReason {
    let stop = stop.child_token();
    let _on_drop = stop.clone().drop_guard();
    let (reading, mut writing) = split(connection);
    let (outbox, mut queue) = outbox();
    let mut writer = tokio::spawn({
        let stop = stop.clone();
        async move {
            let written = stop.run_until_cancelled(queue.write(&mut writing)).await;
            drop(queue.into_unwritten()); // fails the senders that wait for room
            written.and_then(Result::err)
        }
    });
    let mut link = ServedLink {
        reading: MessageReader::new(reading),
        streams: Streams::new(outbox.clone()),
        outbox,
        peer: Arc::new(peer),
        service,
        running: FuturesUnordered::new(),
        held: BTreeMap::new(),
        held_bytes: 0,
        stream_tasks: JoinSet::new(),
    };
    let (why, written) = select! {
        biased; // no randomness: the simulator must be able to repeat a run
        why = link.run() => (why, false),
        written = &mut writer => (written.ok().flatten().unwrap_or(CloseReason::ByThisNode), true),
        () = stop.cancelled() => (CloseReason::ByThisNode, false),
    };
    link.end().await;
    stop.cancel();
    if !written {
        let _ = writer.await;
    }
    why
}

/// The call that an answer is for.
#[derive(Clone, Copy)]
struct Caller {
    role: Role,
    kind: Kind,
    id: u64,
}

type Handler = Pin<Box<dyn Future<Output = (Caller, Result<Bytes, Refusal>)> + Send>>;

struct ServedLink<R> {
    reading: MessageReader<R>,
    outbox: Outbox,
    streams: Streams,
    peer: Arc<PeerIdentity>,
    service: Arc<dyn Service>,
    running: FuturesUnordered<Abortable<Handler>>,
    /// The running handlers, and the payload bytes of each.
    held: BTreeMap<u64, (AbortHandle, usize)>,
    held_bytes: usize,
    stream_tasks: JoinSet<()>,
}

impl<R: AsyncRead + Unpin> ServedLink<R> {
    async fn run(&mut self) -> CloseReason {
        loop {
            match self.step().await {
                Ok(()) => {}
                Err(why) => return why,
            }
        }
    }

    /// Sends answers first: finished calls make room for new ones.
    async fn step(&mut self) -> Result<(), CloseReason> {
        if let Some(message) = self.reading.ready()? {
            return self.take(message).await;
        }
        select! {
            biased;
            Some(done) = self.running.next(), if !self.running.is_empty() => {
                if let Ok((caller, answer)) = done {
                    self.release(caller.id);
                    self.answer(caller, answer).await?;
                }
                Ok(())
            }
            Some(ended) = self.stream_tasks.join_next(), if !self.stream_tasks.is_empty() => {
                if let Err(error) = ended && error.is_panic() {
                    warn!(peer = self.peer.name(), "a stream's handler panicked");
                }
                Ok(())
            }
            more = self.reading.more() => more,
        }
    }

    async fn take(&mut self, message: Message) -> Result<(), CloseReason> {
        match message.role {
            Role::Call | Role::Cast => self.call(message).await,
            Role::Cancel => {
                self.cancel(message.id);
                Ok(())
            }
            Role::Open => self.open(message).await,
            Role::Item | Role::End | Role::Stop | Role::Credit => self.streams.take(message),
            Role::Answer | Role::Refusal => Err(CloseReason::ProtocolViolation("the calling side sent an answer")),
        }
    }

    /// Most calls finish at their first poll: those never leave this function.
    async fn call(&mut self, message: Message) -> Result<(), CloseReason> {
        let Message { kind, role, id, payload } = message;
        let caller = Caller { role, kind, id };
        let bytes = payload.len();
        if let Some(limit) = self.full(bytes) {
            return self.answer(caller, Err(Refusal::overloaded(limit))).await;
        }
        if self.held.contains_key(&id) {
            return Err(CloseReason::ProtocolViolation("two calls have the same id"));
        }
        let mut handler = self.service.handle(kind, self.peer.clone(), payload);
        if let Poll::Ready(answer) = futures::poll!(&mut handler) {
            return self.answer(caller, answer).await;
        }
        let (abort, registration) = AbortHandle::new_pair();
        let handler: Handler = Box::pin(async move { (caller, handler.await) });
        self.running.push(Abortable::new(handler, registration));
        self.held.insert(id, (abort, bytes));
        self.held_bytes += bytes;
        Ok(())
    }

    fn cancel(&mut self, id: u64) {
        if let Some((running, _)) = self.held.get(&id) {
            running.abort();
            self.release(id);
        }
    }

    fn full(&self, bytes: usize) -> Option<&'static str> {
        if self.held.len() >= LINK_HANDLERS_MAX {
            return Some("link_handlers_max");
        }
        (self.held_bytes + bytes > LINK_HANDLERS_BYTES_MAX).then_some("link_handlers_bytes_max")
    }

    fn release(&mut self, id: u64) {
        if let Some((_, bytes)) = self.held.remove(&id) {
            self.held_bytes -= bytes;
        }
    }

    async fn open(&mut self, message: Message) -> Result<(), CloseReason> {
        let Message { kind, role, id, payload } = message;
        let Some((sender, receiver)) = self.streams.begin(id, kind) else {
            return self.answer(Caller { role, kind, id }, Err(Refusal::overloaded("link_streams_max"))).await;
        };
        self.stream_tasks.spawn(self.service.stream(kind, self.peer.clone(), payload, sender, receiver));
        Ok(())
    }

    async fn answer(&mut self, caller: Caller, answer: Result<Bytes, Refusal>) -> Result<(), CloseReason> {
        let Caller { role, kind, id } = caller;
        if role == Role::Cast {
            if let Err(refusal) = answer {
                debug!(peer = self.peer.name(), %kind, %refusal, "refused a message");
            }
            return Ok(());
        }
        let (role, payload) = match answer {
            Ok(answer) if answer.len() <= PAYLOAD_BYTES_MAX => (Role::Answer, answer),
            Ok(answer) => (Role::Refusal, too_long(kind, answer.len()).encode()),
            Err(refusal) => (Role::Refusal, refusal.encode()),
        };
        self.outbox.put(Message { kind, role, id, payload }).await.map_err(|_| CloseReason::ByThisNode)
    }

    /// Drops the running handlers.
    async fn end(mut self) {
        self.running.clear();
        self.streams.shut();
        self.stream_tasks.shutdown().await;
    }
}

fn too_long(kind: Kind, bytes: usize) -> Refusal {
    let text = format!("the answer to {kind} has {bytes} bytes, and a message carries at most {PAYLOAD_BYTES_MAX}");
    Refusal::new(Code::Failed, text)
}

/// Accepts connections, and serves each admitted one.
pub struct Server {
    addr: String,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Server {
    /// Starts on the current runtime.
    pub fn start(
        listener: Box<dyn Listener>,
        admission: Arc<dyn Admission>,
        service: Arc<dyn Service>,
    ) -> io::Result<Self> {
        let server = Self { addr: listener.local_addr()?, stop: CancellationToken::new(), tasks: TaskTracker::new() };
        let acceptor = Acceptor {
            admission,
            service,
            handshakes: Arc::new(Semaphore::new(HANDSHAKES_MAX)),
            handshaking: HostLimit::new("handshakes_per_host_max", HANDSHAKES_PER_HOST_MAX),
            accepted: HostLimit::new("accepted_per_host_max", ACCEPTED_PER_HOST_MAX),
            stop: server.stop.clone(),
            tasks: server.tasks.clone(),
        };
        server.tasks.spawn(acceptor.run(listener));
        Ok(server)
    }

    /// Returns the address it listens on.
    #[must_use]
    pub fn addr(&self) -> &str {
        &self.addr
    }

    /// Closes the listener and all connections, and waits until everything has ended.
    pub async fn shutdown(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

struct Acceptor {
    admission: Arc<dyn Admission>,
    service: Arc<dyn Service>,
    handshakes: Arc<Semaphore>,
    handshaking: HostLimit,
    accepted: HostLimit,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Acceptor {
    async fn run(self, mut listener: Box<dyn Listener>) {
        let stop = self.stop.clone();
        stop.run_until_cancelled(self.accept(&mut *listener)).await;
    }

    async fn accept(&self, listener: &mut dyn Listener) {
        loop {
            let turn = self.handshakes.clone().acquire_owned().await.expect("the semaphore is never closed");
            match listener.accept().await {
                // One of the tasks is the acceptor's own.
                Ok((_, from)) if self.tasks.len() > ACCEPTED_MAX => {
                    warn!(from, "refused a connection: accepted_max is reached");
                }
                Ok((connection, from)) => match (self.handshaking.take(&from), self.accepted.take(&from)) {
                    (Ok(greets), Ok(stays)) => {
                        self.tasks.spawn(self.serve_connection(connection, from, (turn, greets), stays));
                    }
                    (Err(limit), _) | (_, Err(limit)) => debug!(from, "refused a connection: {limit} is reached"),
                },
                Err(error) => {
                    warn!(%error, "failed to accept a connection; trying again");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn serve_connection(
        &self,
        mut connection: BoxedStream,
        from: String,
        turn: (OwnedSemaphorePermit, HostPermit),
        stays: HostPermit,
    ) -> impl Future<Output = ()> + Send + 'static {
        let (admission, service, stop) = (self.admission.clone(), self.service.clone(), self.stop.clone());
        async move {
            let admitted = stop.run_until_cancelled(respond(&mut connection, &*admission, &from)).await;
            drop(turn);
            let _stays = stays;
            match admitted {
                Some(Ok(peer)) => {
                    let name = peer.name();
                    let why = serve(connection, peer, service, stop).await;
                    debug!(peer = name, %why, "a link closed");
                }
                // Members connect as soon as the log names this node, which may be before it knows that it is a
                // member.
                Some(Err(error)) if error.refused().is_some_and(|refused| refused.reason == Reason::NotReady) => {
                    debug!(%error, "refused a connection: not ready yet");
                }
                Some(Err(error)) => info!(%error, "refused a connection"),
                None => {}
            }
        }
    }
}
