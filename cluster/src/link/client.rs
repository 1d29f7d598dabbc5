//! The calling side of a link.

use std::{
    any::Any,
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, split},
    sync::oneshot,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{
    CallError, CloseReason, LINK_CALLS_MAX,
    message_reader::MessageReader,
    outbox::{LinkClosed, Outbox, Queue, outbox},
    refusal::Refusal,
    stream::{StreamReceiver, StreamSender, Streams},
};
use crate::{
    handshake::PeerIdentity,
    message::{Kind, Message, PAYLOAD_BYTES_MAX, Role},
    transport::BoxedStream,
};

/// The calling side of a connection. A clone is the same link; dropping the last one closes it.
#[derive(Clone)]
pub struct Link(Arc<CloseOnDrop>);

/// Closes the link when its last handle is dropped; its tasks hold only the shared state.
struct CloseOnDrop(Arc<LinkState>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.stop.cancel();
    }
}

struct LinkState {
    peer: PeerIdentity,
    ids: AtomicU64,
    outbox: Outbox,
    calls: Mutex<Calls>,
    streams: Streams,
    stop: CancellationToken,
    finished: CancellationToken,
    why: OnceLock<CloseReason>,
}

#[derive(Default)]
struct Calls {
    shut: bool,
    waiting: BTreeMap<u64, oneshot::Sender<Result<Bytes, CallFailure>>>,
}

/// The reason why a call ended without an answer.
enum CallFailure {
    NeverWritten,
    LinkClosed,
    Refused(Refusal),
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Link({})", self.peer().name())
    }
}

impl Link {
    /// Starts a link over a connection whose handshake is done, on the current runtime.
    #[must_use]
    pub fn start(connection: BoxedStream, peer: PeerIdentity) -> Self {
        let (outbox, queue) = outbox();
        let shared = Arc::new(LinkState {
            peer,
            ids: AtomicU64::new(1),
            streams: Streams::new(outbox.clone()),
            outbox,
            calls: Mutex::default(),
            stop: CancellationToken::new(),
            finished: CancellationToken::new(),
            why: OnceLock::new(),
        });
        tokio::spawn(run(connection, queue, shared.clone()));
        Self(Arc::new(CloseOnDrop(shared)))
    }

    /// Returns the peer.
    #[must_use]
    pub fn peer(&self) -> &PeerIdentity {
        &self.shared().peer
    }

    /// Sends a request and waits for the answer. If the future is dropped, the other side is notified.
    pub async fn call(&self, kind: Kind, payload: Bytes, within: Duration) -> Result<Bytes, CallError> {
        self.check_length(kind, &payload)?;
        let deadline = Instant::now() + within;
        let room = match timeout_at(deadline, self.shared().outbox.reserve(payload.len())).await {
            Ok(room) => room.map_err(|LinkClosed| self.not_sent(kind))?,
            Err(_) => return Err(self.full(kind, "link_queue_bytes_max")),
        };
        let mut pending = self.register(kind)?;
        let message = Message { kind, role: Role::Call, id: pending.id, payload };
        room.put(message).map_err(|LinkClosed| self.not_sent(kind))?;
        let what = kind.to_string();
        let peer = || self.peer().name();
        match timeout_at(deadline, pending.answer()).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(CallFailure::NeverWritten)) => Err(self.not_sent(kind)),
            Ok(Err(CallFailure::LinkClosed)) => Err(CallError::Closed { what, peer: peer(), why: self.shared().why() }),
            Ok(Err(CallFailure::Refused(refusal))) => Err(CallError::Refused { what, peer: peer(), refusal }),
            Err(_) => Err(CallError::TimedOut { what, peer: peer(), within }),
        }
    }

    /// Sends a message without an answer. Fails at once if the queue is full.
    pub fn cast(&self, kind: Kind, payload: Bytes) -> Result<(), CallError> {
        self.check_length(kind, &payload)?;
        let room = self.shared().outbox.try_reserve(payload.len()).map_err(|LinkClosed| self.not_sent(kind))?;
        let room = room.ok_or_else(|| self.full(kind, "link_queue_bytes_max"))?;
        let message = Message { kind, role: Role::Cast, id: self.shared().next_id(), payload };
        room.put(message).map_err(|LinkClosed| self.not_sent(kind))
    }

    /// Opens a stream; `payload` is passed to the other side's handler. Both halves keep the link open.
    pub async fn open(&self, kind: Kind, payload: Bytes) -> Result<(StreamSender, StreamReceiver), CallError> {
        self.check_length(kind, &payload)?;
        let room = self.shared().outbox.reserve(payload.len()).await.map_err(|LinkClosed| self.not_sent(kind))?;
        let id = self.shared().next_id();
        let Some((mut sender, mut receiver)) = self.shared().streams.begin(id, kind) else {
            return Err(if self.is_closed() { self.not_sent(kind) } else { self.full(kind, "link_streams_max") });
        };
        room.put(Message { kind, role: Role::Open, id, payload }).map_err(|LinkClosed| self.not_sent(kind))?;
        sender.hold(self.0.clone() as Arc<dyn Any + Send + Sync>);
        receiver.hold(self.0.clone() as Arc<dyn Any + Send + Sync>);
        Ok((sender, receiver))
    }

    /// Closes the link: messages that are not written yet are not sent.
    pub fn close(&self) {
        self.shared().stop.cancel();
    }

    /// Returns whether the link is closed or closing.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.shared().stop.is_cancelled()
    }

    /// Waits until the link is closed and every call has ended; returns why it closed.
    pub async fn closed(&self) -> CloseReason {
        self.shared().finished.cancelled().await;
        self.shared().why()
    }

    fn shared(&self) -> &LinkState {
        &self.0.0
    }

    fn register(&self, kind: Kind) -> Result<PendingCall<'_>, CallError> {
        let (sender, answer) = oneshot::channel();
        let id = self.shared().next_id();
        let mut calls = self.shared().calls.lock();
        if calls.shut {
            return Err(self.not_sent(kind));
        }
        if calls.waiting.len() >= LINK_CALLS_MAX {
            return Err(self.full(kind, "link_calls_max"));
        }
        calls.waiting.insert(id, sender);
        Ok(PendingCall { shared: self.shared(), kind, id, answer })
    }

    fn check_length(&self, kind: Kind, payload: &Bytes) -> Result<(), CallError> {
        if payload.len() > PAYLOAD_BYTES_MAX {
            return Err(CallError::TooLong { what: kind.to_string(), bytes: payload.len() });
        }
        Ok(())
    }

    fn not_sent(&self, kind: Kind) -> CallError {
        CallError::NotSent { what: kind.to_string(), peer: self.peer().name(), why: self.shared().why().to_string() }
    }

    fn full(&self, kind: Kind, limit: &'static str) -> CallError {
        CallError::Overloaded { what: kind.to_string(), peer: self.peer().name(), limit }
    }
}

/// A pending call. If it is dropped before its answer arrives, it is removed here and cancelled at the other side.
struct PendingCall<'a> {
    shared: &'a LinkState,
    kind: Kind,
    id: u64,
    answer: oneshot::Receiver<Result<Bytes, CallFailure>>,
}

impl PendingCall<'_> {
    async fn answer(&mut self) -> Result<Bytes, CallFailure> {
        (&mut self.answer).await.unwrap_or(Err(CallFailure::LinkClosed))
    }
}

impl Drop for PendingCall<'_> {
    fn drop(&mut self) {
        let unanswered = self.shared.calls.lock().waiting.remove(&self.id).is_some();
        if unanswered {
            self.shared.outbox.send_control(Role::Cancel, self.kind, self.id, Bytes::new());
        }
    }
}

impl LinkState {
    fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    fn why(&self) -> CloseReason {
        self.why.get().cloned().unwrap_or(CloseReason::ByThisNode)
    }

    fn take(&self, message: Message) -> Result<(), CloseReason> {
        match message.role {
            Role::Answer => self.answer(message.id, Ok(message.payload)),
            Role::Refusal if self.streams.has(message.id) => return self.streams.take(message),
            Role::Refusal => self.answer(message.id, Err(CallFailure::Refused(Refusal::decode(&message.payload)))),
            Role::Item | Role::End | Role::Stop | Role::Credit => return self.streams.take(message),
            Role::Call | Role::Cast | Role::Cancel | Role::Open => {
                return Err(CloseReason::ProtocolViolation("the serving side sent a request"));
            }
        }
        Ok(())
    }

    /// Drops the answer to a call that is no longer pending.
    fn answer(&self, id: u64, answer: Result<Bytes, CallFailure>) {
        let waiting = self.calls.lock().waiting.remove(&id);
        if let Some(waiting) = waiting {
            let _ = waiting.send(answer);
        }
    }

    fn fail_all(&self, never_written: Vec<Message>) {
        let waiting = {
            let mut calls = self.calls.lock();
            calls.shut = true;
            std::mem::take(&mut calls.waiting)
        };
        let mut waiting = waiting;
        for message in never_written.iter().filter(|message| message.role == Role::Call) {
            if let Some(call) = waiting.remove(&message.id) {
                let _ = call.send(Err(CallFailure::NeverWritten));
            }
        }
        for call in waiting.into_values() {
            let _ = call.send(Err(CallFailure::LinkClosed));
        }
        self.streams.shut();
    }
}

/// Runs a link: two tasks, of which this one ends last.
async fn run(connection: BoxedStream, mut queue: Queue, shared: Arc<LinkState>) {
    let (reading, mut writing) = split(connection);
    let writer = tokio::spawn({
        let shared = shared.clone();
        async move {
            let written = shared.stop.run_until_cancelled(queue.write(&mut writing)).await;
            end(&shared, written.and_then(Result::err));
            queue
        }
    });
    let read = shared.stop.run_until_cancelled(read_all(MessageReader::new(reading), &shared)).await;
    end(&shared, read);
    let never_written = writer.await.map(Queue::into_unwritten).unwrap_or_default();
    shared.fail_all(never_written);
    shared.finished.cancel();
}

fn end(shared: &LinkState, why: Option<CloseReason>) {
    let _ = shared.why.set(why.unwrap_or(CloseReason::ByThisNode)); // the first reason is the reason
    shared.stop.cancel();
}

async fn read_all<R: AsyncRead + Unpin>(mut reading: MessageReader<R>, shared: &LinkState) -> CloseReason {
    loop {
        match reading.ready() {
            Ok(Some(message)) => {
                if let Err(why) = shared.take(message) {
                    return why;
                }
            }
            Ok(None) => {
                if let Err(why) = reading.more().await {
                    return why;
                }
            }
            Err(why) => return why,
        }
    }
}
