//! A link: one connection over which one side sends requests and the other serves them, many at once.
//!
//! The connecting side holds a [`Link`]: [`Link::call`] sends a request and waits for its answer, [`Link::cast`]
//! sends a message without an answer, and [`Link::open`] opens a stream of messages in both directions. The accepting
//! side serves by a [`Service`] ([`serve`] for one connection, [`Server`] for all). A node that sends requests in the
//! other direction opens its own link, so that two nodes full of each other's requests never wait for each other.
//!
//! ```text
//!  call ──► outbox ──► writer ═══ connection ═══► reader ──► handler ──► outbox ──► writer
//!    ▲   (bytes_max)  (one flush for                        (at most link_handlers_max)  ║
//!    └──────────── reader ◄══════ all messages) ════════════════════════════════════════╝
//! ```
//!
//! A slow reader delays nothing else: answers are matched by id, and each stream has its own window in bytes, whose
//! credit its reader returns. A link that closes fails every call: a call that fails with [`CallError::NotSent`] has
//! had no effect, and every written call may have had one.

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

/// The maximum bytes waiting to be written, per link and side: four of the longest messages.
pub const LINK_QUEUE_BYTES_MAX: usize = 16 << 20;
/// The maximum calls of one link that wait for an answer. More than 1,024 writers and their other requests.
pub const LINK_CALLS_MAX: usize = 4_096;
/// The maximum handlers running at once for one link. Calls beyond it are refused, not queued, because the caller
/// knows best what to do instead.
pub const LINK_HANDLERS_MAX: usize = 4_096;
/// The maximum payload bytes of the handlers running at once for one link.
pub const LINK_HANDLERS_BYTES_MAX: usize = 32 << 20;
/// The maximum streams open at once on one link.
pub const LINK_STREAMS_MAX: usize = 64;
/// The bytes of a stream that may be sent and not yet read, per direction. Both sides rely on it, so it belongs to
/// the protocol version.
pub const STREAM_WINDOW_BYTES: usize = 8 << 20;
/// The minimum cost of a message in a queue or window: even an empty message takes memory.
pub const MESSAGE_COST_MIN: usize = 256;
/// The retry delay given to a refused caller when the service is full.
pub const OVERLOADED_RETRY_AFTER: Duration = Duration::from_millis(50);

/// The reason why a call has no answer. It shows whether the call may have had an effect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// It was not sent: it had no effect.
    #[error("failed to send {what} to {peer}: {why}")]
    NotSent {
        /// The kind of message.
        what: String,
        /// The peer.
        peer: String,
        /// The reason.
        why: String,
    },
    /// A queue is full: the call had no effect.
    #[error("failed to send {what} to {peer}: {limit} is reached; try again shortly")]
    Overloaded {
        /// The kind of message.
        what: String,
        /// The peer.
        peer: String,
        /// The limit's name.
        limit: &'static str,
    },
    /// Longer than a message may be: the call had no effect.
    #[error("failed to send {what}: {bytes} bytes, and a message carries at most {PAYLOAD_BYTES_MAX}")]
    TooLong {
        /// The kind of message.
        what: String,
        /// Its length.
        bytes: usize,
    },
    /// The other side refused: the call had no effect.
    #[error("{peer} refused {what}: {refusal}")]
    Refused {
        /// The kind of message.
        what: String,
        /// The peer.
        peer: String,
        /// The refusal.
        refusal: Refusal,
    },
    /// No answer in time: it may have had an effect.
    #[error("no answer to {what} from {peer} within {within:?}: it may have happened")]
    TimedOut {
        /// The kind of message.
        what: String,
        /// The peer.
        peer: String,
        /// The time within which no answer came.
        within: Duration,
    },
    /// The link closed after the call was written: it may have had an effect.
    #[error("lost {peer} while waiting for the answer to {what}: {why}: it may have happened")]
    Closed {
        /// The kind of message.
        what: String,
        /// The peer.
        peer: String,
        /// The reason why the link closed.
        why: CloseReason,
    },
}

impl CallError {
    /// Returns false if the call certainly had no effect, so that it may be sent to another node.
    #[must_use]
    pub fn may_have_happened(&self) -> bool {
        matches!(self, Self::TimedOut { .. } | Self::Closed { .. })
    }
}

/// The reason why a link closed.
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
    /// The other side sent a malformed message.
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
    fn from(malformed: MalformedMessage) -> Self {
        Self::Malformed(malformed)
    }
}

#[cfg(test)]
mod tests;
