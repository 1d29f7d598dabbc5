//! The queue of messages to write: bounded in bytes, and written in one batch whenever the connection takes more.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    sync::{Semaphore, SemaphorePermit, TryAcquireError, mpsc},
};

use super::{CloseReason, LINK_QUEUE_BYTES_MAX, MESSAGE_COST_MIN};
use crate::message::{HEAD_BYTES, Kind, Message, Role};

/// The maximum messages that the writer takes at once.
const TAKEN_MAX: usize = 256;
/// The bytes gathered before they are given to the connection.
const GATHERED_BYTES: usize = 64 << 10;
/// A payload of at least this length is written without a copy.
const COPIED_BYTES_MAX: usize = 16 << 10;

/// The sending end of the queue. Cheap to clone.
#[derive(Clone)]
pub(super) struct Outbox {
    queue: mpsc::UnboundedSender<Message>,
    room: Arc<Semaphore>,
}

/// The link is closed.
#[derive(Debug)]
pub(super) struct LinkClosed;

/// The receiving end of the queue.
pub(super) struct Queue {
    queue: mpsc::UnboundedReceiver<Message>,
    room: Arc<Semaphore>,
}

pub(super) fn outbox() -> (Outbox, Queue) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let room = Arc::new(Semaphore::new(LINK_QUEUE_BYTES_MAX));
    (Outbox { queue: sender, room: room.clone() }, Queue { queue: receiver, room })
}

/// Returns the cost of a message in a queue or window.
pub(super) fn cost(payload_bytes: usize) -> u32 {
    u32::try_from((HEAD_BYTES + payload_bytes).max(MESSAGE_COST_MIN)).expect("a message is at most frame_bytes_max")
}

impl Outbox {
    /// Queues a message as soon as there is room. Cancel safe: a dropped future has queued nothing.
    pub(super) async fn put(&self, message: Message) -> Result<(), LinkClosed> {
        self.reserve(message.payload.len()).await?.put(message)
    }

    /// Waits for room.
    pub(super) async fn reserve(&self, payload_bytes: usize) -> Result<Reservation<'_>, LinkClosed> {
        let room = self.room.acquire_many(cost(payload_bytes)).await.map_err(|_| LinkClosed)?;
        Ok(Reservation { outbox: self, room })
    }

    /// Reserves room if there is some now.
    pub(super) fn try_reserve(&self, payload_bytes: usize) -> Result<Option<Reservation<'_>>, LinkClosed> {
        match self.room.try_acquire_many(cost(payload_bytes)) {
            Ok(room) => Ok(Some(Reservation { outbox: self, room })),
            Err(TryAcquireError::NoPermits) => Ok(None),
            Err(TryAcquireError::Closed) => Err(LinkClosed),
        }
    }

    /// Queues a control message without room: a few bytes, one or two for each conversation that had room.
    pub(super) fn send_control(&self, role: Role, kind: Kind, id: u64, payload: Bytes) {
        let message = Message { kind, role, id, payload };
        debug_assert_eq!(charge(&message), 0, "only control messages need no room");
        let _ = self.queue.send(message); // closed: there is no conversation left
    }
}

/// Room reserved for one message; returned if no message is queued.
pub(super) struct Reservation<'a> {
    outbox: &'a Outbox,
    room: SemaphorePermit<'a>,
}

impl Reservation<'_> {
    /// Queues the message that the room was reserved for. The writer returns the room.
    pub(super) fn put(self, message: Message) -> Result<(), LinkClosed> {
        debug_assert_eq!(
            charge(&message) as usize,
            self.room.num_permits(),
            "the room was reserved for another message"
        );
        self.outbox.queue.send(message).map_err(|_| LinkClosed)?;
        self.room.forget();
        Ok(())
    }
}

/// Returns the room that a message has taken.
fn charge(message: &Message) -> u32 {
    match message.role {
        Role::Cancel | Role::End | Role::Stop | Role::Credit => 0,
        Role::Call | Role::Answer | Role::Refusal | Role::Cast | Role::Open | Role::Item => cost(message.payload.len()),
    }
}

impl Queue {
    /// Writes messages until the connection breaks or all senders are dropped. Messages taken when the future is
    /// dropped count as written, because it is unknown whether they were.
    pub(super) async fn write(&mut self, connection: &mut (impl AsyncWrite + Unpin)) -> Result<(), CloseReason> {
        let mut taken = Vec::with_capacity(TAKEN_MAX);
        let mut gathered = BytesMut::with_capacity(GATHERED_BYTES);
        while self.queue.recv_many(&mut taken, TAKEN_MAX).await > 0 {
            loop {
                let mut charged = 0;
                for message in taken.drain(..) {
                    charged += charge(&message) as usize;
                    gather(message, &mut gathered, connection).await?;
                }
                self.room.add_permits(charged);
                if !self.take_ready(&mut taken) {
                    break;
                }
            }
            connection.write_all(&gathered).await?;
            gathered.clear();
            connection.flush().await?;
        }
        Ok(())
    }

    /// Takes the messages that were queued while the last batch was gathered.
    fn take_ready(&mut self, taken: &mut Vec<Message>) -> bool {
        while taken.len() < TAKEN_MAX
            && let Ok(message) = self.queue.try_recv()
        {
            taken.push(message);
        }
        !taken.is_empty()
    }

    /// Returns the messages that were never taken, and so never written.
    pub(super) fn into_unwritten(mut self) -> Vec<Message> {
        self.room.close();
        self.queue.close();
        std::iter::from_fn(|| self.queue.try_recv().ok()).collect()
    }
}

async fn gather(
    message: Message,
    gathered: &mut BytesMut,
    connection: &mut (impl AsyncWrite + Unpin),
) -> Result<(), CloseReason> {
    message.put_head(gathered);
    if message.payload.len() <= COPIED_BYTES_MAX {
        gathered.put_slice(&message.payload);
    } else {
        connection.write_all(gathered).await?;
        gathered.clear();
        connection.write_all(&message.payload).await?;
    }
    if gathered.len() >= GATHERED_BYTES {
        connection.write_all(gathered).await?;
        gathered.clear();
    }
    Ok(())
}
