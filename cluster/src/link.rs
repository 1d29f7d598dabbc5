//! A link: one connection over which one side asks and the other serves, many conversations at once.
//!
//! Whoever connects holds a [`Link`] and asks: [`Link::call`] for one answer, [`Link::cast`] for none,
//! [`Link::open`] for a stream of messages both ways. Whoever accepts serves ([`serve`], or a whole [`Server`]) by a
//! [`Service`]. A node that must ask back has a link of its own the other way, so that two nodes full of each
//! other's requests never wait for each other.
//!
//! ```text
//!  call ──► outbox ──► writer ═══ connection ═══► reader ──► handler ──► outbox ──► writer
//!    ▲   (bytes_max)  (one flush for                        (at most link_handlers_max)  ║
//!    └──────────── reader ◄══════ all that waits) ═══════════════════════════════════════╝
//! ```
//!
//! Nothing waits behind a slow reader: answers are matched by id, and a stream has a window of its own, in bytes,
//! which its reader gives back. A link that closes fails every call: [`CallError::NotSent`] did not happen, all that
//! was written may have.

mod client;
mod host_limit;
mod message_reader;
mod outbox;
mod refusal;
mod server;
mod stream;

use std::{io, time::Duration};

pub use self::{
    client::Link,
    refusal::{Code, Refusal},
    server::{HANDSHAKES_MAX, Server, Service, serve},
    stream::{StreamError, StreamReceiver, StreamSender},
};
use crate::message::{MalformedMessage, PAYLOAD_BYTES_MAX};

/// Bytes that wait to be written, per link and side. Four of the longest messages.
pub const LINK_QUEUE_BYTES_MAX: usize = 16 << 20;
/// Calls of one link that wait for an answer. More than 1,024 writers and what goes with them.
pub const LINK_CALLS_MAX: usize = 4_096;
/// Handlers that run at once for one link. Beyond it calls are refused, not queued: their caller knows best what to
/// do instead.
pub const LINK_HANDLERS_MAX: usize = 4_096;
/// Bytes of the payloads of the handlers that run at once for one link.
pub const LINK_HANDLERS_BYTES_MAX: usize = 32 << 20;
/// Streams that one link carries at once.
pub const LINK_STREAMS_MAX: usize = 64;
/// Bytes of a stream that are sent and not yet taken, per direction. Both sides keep to it: it belongs to the
/// protocol version.
pub const STREAM_WINDOW_BYTES: usize = 8 << 20;
/// What a message costs at least, of a queue or a window: it takes memory though it be empty.
pub const MESSAGE_COST_MIN: usize = 256;
/// What a refused caller is told to wait where the service is full.
pub const OVERLOADED_RETRY_AFTER: Duration = Duration::from_millis(50);

/// Why a call has no answer. What the caller needs to know is whether it may have happened all the same.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// It never left this node: it did not happen.
    #[error("failed to send {what} to {peer}: {why}")]
    NotSent {
        /// What was asked.
        what: String,
        /// Whom.
        peer: String,
        /// Why.
        why: String,
    },
    /// A queue is full: it did not happen.
    #[error("failed to send {what} to {peer}: {limit} is reached; try again shortly")]
    Overloaded {
        /// What was asked.
        what: String,
        /// Whom.
        peer: String,
        /// The queue's name.
        limit: &'static str,
    },
    /// Longer than a message may be: it did not happen.
    #[error("failed to send {what}: {bytes} bytes, and a message carries at most {PAYLOAD_BYTES_MAX}")]
    TooLong {
        /// What was asked.
        what: String,
        /// How long it is.
        bytes: usize,
    },
    /// The other side says no: it did not happen.
    #[error("{peer} refused {what}: {refusal}")]
    Refused {
        /// What was asked.
        what: String,
        /// Whom.
        peer: String,
        /// Its words.
        refusal: Refusal,
    },
    /// No answer in time: it may have happened.
    #[error("no answer to {what} from {peer} within {within:?}: it may have happened")]
    TimedOut {
        /// What was asked.
        what: String,
        /// Whom.
        peer: String,
        /// How long it was waited for.
        within: Duration,
    },
    /// The link closed after it was written: it may have happened.
    #[error("lost {peer} while waiting for the answer to {what}: {why}: it may have happened")]
    Closed {
        /// What was asked.
        what: String,
        /// Whom.
        peer: String,
        /// How the link ended.
        why: CloseReason,
    },
}

impl CallError {
    /// False: it certainly did not happen, and may be asked of somebody else.
    #[must_use]
    pub fn may_have_happened(&self) -> bool {
        matches!(self, Self::TimedOut { .. } | Self::Closed { .. })
    }
}

/// How a link ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    /// This side closed it.
    #[error("closed by this node")]
    ByThisNode,
    /// The other side closed it.
    #[error("closed by the other node")]
    ByPeer,
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// The other side says what cannot be understood.
    #[error("{0}")]
    Malformed(MalformedMessage),
    /// The other side broke a rule of the protocol.
    #[error("the other node broke the protocol: {0}")]
    ProtocolViolation(&'static str),
}

impl From<io::Error> for CloseReason {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::ByPeer,
            _ => Self::Broken(error.to_string()),
        }
    }
}

impl From<MalformedMessage> for CloseReason {
    fn from(garbage: MalformedMessage) -> Self {
        Self::Malformed(garbage)
    }
}

#[cfg(test)]
mod tests;
