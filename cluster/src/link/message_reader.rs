//! Takes messages out of a connection, with memory that grows only as bytes arrive.

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::CloseReason;
use crate::message::Message;

/// Bytes that are read at once, at least.
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

    /// The next message that has arrived already.
    pub(super) fn ready(&mut self) -> Result<Option<Message>, CloseReason> {
        Ok(Message::take(&mut self.bytes)?)
    }

    /// Reads more. Dropped while it waits, it has lost nothing.
    pub(super) async fn more(&mut self) -> Result<(), CloseReason> {
        if self.bytes.capacity() - self.bytes.len() < READ_BYTES / 2 {
            // twice what has come of a long message: never what its sender merely announced
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
    async fn memory_follows_what_arrived_not_what_was_announced() {
        let announced = (3u32 << 20).to_le_bytes();
        let mut reading = MessageReader::new(&announced[..]);
        reading.more().await.unwrap();
        assert_eq!(reading.ready(), Ok(None));
        assert_eq!(reading.more().await, Err(CloseReason::ByPeer));
        assert!(reading.bytes.capacity() <= 2 * READ_BYTES);
    }
}
