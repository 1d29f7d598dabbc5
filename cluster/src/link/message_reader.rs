//! Reads messages from a connection, with memory that grows only as bytes arrive.

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::CloseReason;
use crate::message::Message;

/// The minimum bytes of one read.
const READ_BYTES: usize = 64 << 10;

/// The reading half of a connection.
pub(super) struct MessageReader<R> {
    connection: R,
    bytes: BytesMut,
}

impl<R: AsyncRead + Unpin> MessageReader<R> {
    pub(super) fn new(connection: R) -> Self {
        Self { connection, bytes: BytesMut::with_capacity(READ_BYTES) }
    }

    /// Returns the next message that has already arrived.
    pub(super) fn ready(&mut self) -> Result<Option<Message>, CloseReason> {
        Ok(Message::take(&mut self.bytes)?)
    }

    /// Reads more. Cancel safe: a dropped future loses nothing.
    pub(super) async fn more(&mut self) -> Result<(), CloseReason> {
        if self.bytes.capacity() - self.bytes.len() < READ_BYTES / 2 {
            // At most twice what has arrived of a long message: never the length that its sender merely announced.
            self.bytes.reserve(READ_BYTES.max(self.bytes.len()));
        }
        match self.connection.read_buf(&mut self.bytes).await? {
            0 => Err(CloseReason::ByPeer),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn memory_follows_the_arrived_not_the_announced_length() {
        let announced = (3u32 << 20).to_le_bytes();
        let mut reading = MessageReader::new(&announced[..]);
        reading.more().await.unwrap();
        assert_eq!(reading.ready(), Ok(None));
        assert_eq!(reading.more().await, Err(CloseReason::ByPeer));
        assert!(reading.bytes.capacity() <= 2 * READ_BYTES);
    }
}
