//! The wire and the clock: the two mouths through which this crate meets the world.
//!
//! A [`Transport`] gives byte streams and nothing else: framing, handshake, multiplexing and reconnecting are
//! written above it, so that all of it also runs over the simulated wire. [`tcp`] is the real one. Monotonic
//! time needs no mouth of its own: it is tokio's, which a simulator pauses; a [`Clock`] tells the wall's.

pub mod tcp;

use std::io;

use evener_core::time::Timestamp;
pub use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};

pub use self::tcp::TcpTransport;

/// Anything that bytes go into at one end and come out of, in order, at the other.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + ?Sized> ByteStream for T {}

/// One end of a connection.
pub type BoxedStream = Box<dyn ByteStream>;

/// Connects, and is connected to. Addresses are `host:port`.
pub trait Transport: Send + Sync + 'static {
    /// Opens a connection. Waits as long as the network lets it: the caller sets the deadline.
    fn connect<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<BoxedStream>>;

    /// Listens. The error says which address could not be had, and what to do.
    fn bind<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>>;
}

/// Where connections arrive.
pub trait Listener: Send {
    /// The next one, and the address it came from (for people: the port is the caller's own choice). May be
    /// dropped while it waits without losing a connection.
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxedStream, String)>>;

    /// Where it listens: the port that was given where port 0 was asked for.
    fn local_addr(&self) -> io::Result<String>;
}

/// The wall clock: stamped into entries by the leader and shown to people, never asked in a decision that
/// safety hangs on (P9).
pub trait Clock: Send + Sync + 'static {
    /// Now.
    fn wall(&self) -> Timestamp;
}

/// The machine's own clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn wall(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}
