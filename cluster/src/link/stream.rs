//! A stream: ordered messages in both directions, beside the other conversations of its link.
//!
//! Each direction has a window of [`STREAM_WINDOW_BYTES`]. Sending takes from it; the bytes that the reader consumes
//! return in [`Role::Credit`] messages. So a slow reader delays only its own sender.

use std::{
    any::Any,
    collections::BTreeMap,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc};

use super::{
    CloseReason, LINK_STREAMS_MAX, STREAM_WINDOW_BYTES,
    outbox::{Outbox, cost},
    refusal::Refusal,
};
use crate::message::{Kind, Message, PAYLOAD_BYTES_MAX, Role};

/// Credit is returned in parts of this size, so that it takes few messages.
const CREDIT_BYTES_MIN: u32 = (STREAM_WINDOW_BYTES / 8) as u32;

/// The reason why a stream ended early.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// The link is closed: sent messages may have arrived.
    #[error("the link is down")]
    Closed,
    /// The other side has stopped reading.
    #[error("the other node has stopped reading")]
    Stopped,
    /// The other side refused.
    #[error("refused: {0}")]
    Refused(Refusal),
    /// Longer than a message may be.
    #[error("{0} bytes, and a message carries at most {PAYLOAD_BYTES_MAX}")]
    TooLong(usize),
}

type Arrived = Result<(Bytes, u32), StreamError>;

/// The streams of one link, on either side.
#[derive(Clone)]
pub(super) struct Streams {
    table: Arc<Mutex<StreamTable>>,
    outbox: Outbox,
}

#[derive(Default)]
struct StreamTable {
    shut: bool,
    open: BTreeMap<u64, OpenStream>,
}

struct OpenStream {
    /// None: this side has stopped reading.
    arrived: Option<mpsc::UnboundedSender<Arrived>>,
    window: Arc<Semaphore>,
    /// Bytes of the other side's window that were consumed and not returned yet.
    held: usize,
    ended_here: bool,
    ended_there: bool,
}

impl Streams {
    pub(super) fn new(outbox: Outbox) -> Self {
        Self { table: Arc::default(), outbox }
    }

    /// Returns none if the link is closed, has the maximum number of streams, or already has one with this id.
    pub(super) fn begin(&self, id: u64, kind: Kind) -> Option<(StreamSender, StreamReceiver)> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let window = Arc::new(Semaphore::new(STREAM_WINDOW_BYTES));
        let mut table = self.table.lock();
        if table.shut || table.open.len() >= LINK_STREAMS_MAX || table.open.contains_key(&id) {
            return None;
        }
        let open = OpenStream {
            arrived: Some(sender),
            window: window.clone(),
            held: 0,
            ended_here: false,
            ended_there: false,
        };
        table.open.insert(id, open);
        drop(table);
        let sender = StreamSender { id, kind, streams: self.clone(), window, ended: false, link: None };
        Some((sender, StreamReceiver { id, kind, streams: self.clone(), arrived: receiver, uncredited: 0, link: None }))
    }

    pub(super) fn has(&self, id: u64) -> bool {
        self.table.lock().open.contains_key(&id)
    }

    /// Handles an arrived message of a stream. A message of a stream that has ended is ignored.
    pub(super) fn take(&self, message: Message) -> Result<(), CloseReason> {
        let mut table = self.table.lock();
        let Some(open) = table.open.get_mut(&message.id) else { return Ok(()) };
        match message.role {
            Role::Item => open.item(message.payload)?,
            Role::End => open.end_there(None)?,
            Role::Refusal => open.end_there(Some(Refusal::decode(&message.payload)))?,
            Role::Stop => open.window.close(),
            Role::Credit => open.credit(&message.payload)?,
            Role::Call | Role::Answer | Role::Cast | Role::Cancel | Role::Open => {
                return Err(CloseReason::ProtocolViolation("a role that is not valid in a stream"));
            }
        }
        if open.ended_here && open.ended_there {
            table.open.remove(&message.id);
        }
        Ok(())
    }

    /// Ends all streams, as the link is closed.
    pub(super) fn shut(&self) {
        let open = {
            let mut table = self.table.lock();
            table.shut = true;
            std::mem::take(&mut table.open)
        };
        for open in open.into_values() {
            open.window.close();
            if let Some(arrived) = open.arrived.filter(|_| !open.ended_there) {
                let _ = arrived.send(Err(StreamError::Closed));
            }
        }
    }

    /// Records that this side sends no more.
    fn end_here(&self, id: u64) {
        let mut table = self.table.lock();
        let Some(open) = table.open.get_mut(&id) else { return };
        open.ended_here = true;
        if open.ended_there {
            table.open.remove(&id);
        }
    }

    fn stop_reading(&self, id: u64, kind: Kind) {
        let mut table = self.table.lock();
        let Some(open) = table.open.get_mut(&id) else { return };
        open.arrived = None;
        let more_to_come = !open.ended_there;
        drop(table);
        if more_to_come {
            self.outbox.send_control(Role::Stop, kind, id, Bytes::new());
        }
    }

    fn give_back(&self, id: u64, kind: Kind, bytes: u32) {
        let mut table = self.table.lock();
        let Some(open) = table.open.get_mut(&id) else { return };
        open.held = open.held.saturating_sub(bytes as usize);
        drop(table);
        self.outbox.send_control(Role::Credit, kind, id, Bytes::copy_from_slice(&bytes.to_le_bytes()));
    }

    fn is_shut(&self) -> bool {
        self.table.lock().shut
    }
}

impl OpenStream {
    fn item(&mut self, payload: Bytes) -> Result<(), CloseReason> {
        if self.ended_there {
            return Err(CloseReason::ProtocolViolation("a stream continued after its end"));
        }
        let cost = cost(payload.len());
        self.held += cost as usize;
        if self.held > STREAM_WINDOW_BYTES {
            return Err(CloseReason::ProtocolViolation("more was sent than stream_window_bytes allow"));
        }
        if let Some(arrived) = &self.arrived {
            let _ = arrived.send(Ok((payload, cost))); // its reader is being dropped
        }
        Ok(())
    }

    fn end_there(&mut self, refused: Option<Refusal>) -> Result<(), CloseReason> {
        if self.ended_there {
            return Err(CloseReason::ProtocolViolation("a stream ended twice"));
        }
        self.ended_there = true;
        let arrived = self.arrived.take();
        if let Some(refusal) = refused {
            self.window.close(); // a side that refuses has stopped reading
            let _ = arrived.map(|arrived| arrived.send(Err(StreamError::Refused(refusal))));
        }
        Ok(())
    }

    fn credit(&mut self, payload: &[u8]) -> Result<(), CloseReason> {
        let bytes: [u8; 4] =
            payload.try_into().map_err(|_| CloseReason::ProtocolViolation("a credit that is not four bytes long"))?;
        let bytes = u32::from_le_bytes(bytes) as usize;
        if bytes > STREAM_WINDOW_BYTES.saturating_sub(self.window.available_permits()) {
            return Err(CloseReason::ProtocolViolation("more credit than was taken"));
        }
        self.window.add_permits(bytes);
        Ok(())
    }
}

/// Sends into a stream. Dropping it ends the stream normally in this direction.
pub struct StreamSender {
    id: u64,
    kind: Kind,
    streams: Streams,
    window: Arc<Semaphore>,
    ended: bool,
    link: Option<Arc<dyn Any + Send + Sync>>,
}

impl StreamSender {
    /// Sends the next message as soon as its reader has room for it. Cancel safe: a dropped future has sent nothing.
    pub async fn send(&mut self, payload: Bytes) -> Result<(), StreamError> {
        if payload.len() > PAYLOAD_BYTES_MAX {
            return Err(StreamError::TooLong(payload.len()));
        }
        let room = match self.window.acquire_many(cost(payload.len())).await {
            Ok(room) => room,
            Err(_) if self.streams.is_shut() => return Err(StreamError::Closed),
            Err(_) => return Err(StreamError::Stopped),
        };
        let message = Message { kind: self.kind, role: Role::Item, id: self.id, payload };
        self.streams.outbox.put(message).await.map_err(|_| StreamError::Closed)?;
        room.forget();
        Ok(())
    }

    /// Ends the stream in this direction with a refusal.
    pub async fn refuse(mut self, refusal: &Refusal) {
        let message = Message { kind: self.kind, role: Role::Refusal, id: self.id, payload: refusal.encode() };
        let _ = self.streams.outbox.put(message).await; // a closed link has ended all its streams
        self.ended = true;
        self.streams.end_here(self.id);
    }

    pub(super) fn hold(&mut self, link: Arc<dyn Any + Send + Sync>) {
        self.link = Some(link);
    }
}

impl Drop for StreamSender {
    fn drop(&mut self) {
        if !self.ended {
            self.streams.outbox.send_control(Role::End, self.kind, self.id, Bytes::new());
            self.streams.end_here(self.id);
        }
    }
}

/// Reads from a stream. Dropping it notifies the other side, which stops sending.
pub struct StreamReceiver {
    id: u64,
    kind: Kind,
    streams: Streams,
    arrived: mpsc::UnboundedReceiver<Arrived>,
    uncredited: u32,
    link: Option<Arc<dyn Any + Send + Sync>>,
}

impl StreamReceiver {
    /// Returns the next message; none if the other side ended the stream normally. Cancel safe: a dropped future
    /// loses nothing.
    pub async fn recv(&mut self) -> Option<Result<Bytes, StreamError>> {
        std::future::poll_fn(|cx| self.poll_recv(cx)).await
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, StreamError>>> {
        let Some(arrived) = ready!(self.arrived.poll_recv(cx)) else { return Poll::Ready(None) };
        Poll::Ready(Some(arrived.map(|(payload, cost)| {
            self.uncredited += cost;
            if self.uncredited >= CREDIT_BYTES_MIN {
                self.streams.give_back(self.id, self.kind, std::mem::take(&mut self.uncredited));
            }
            payload
        })))
    }

    pub(super) fn hold(&mut self, link: Arc<dyn Any + Send + Sync>) {
        self.link = Some(link);
    }
}

impl futures::Stream for StreamReceiver {
    type Item = Result<Bytes, StreamError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_recv(cx)
    }
}

impl Drop for StreamReceiver {
    fn drop(&mut self) {
        self.streams.stop_reading(self.id, self.kind);
    }
}
