//! The wire and the clock: the two mouths through which this crate meets the world.
//!
//! A [`Transport`] gives byte streams and nothing else: framing, handshake, multiplexing and reconnecting are
//! written above it, so that all of it also runs over the simulated wire. [`tcp`] is the real one. Monotonic
//! time is tokio's, which a simulator pauses; a [`Clock`] tells the wall's, and the time since the machine started.

pub mod tcp;

use std::{io, time::Duration};

use evener_core::time::Timestamp;
pub use futures::future::BoxFuture;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Instant,
};

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

/// The machine's clocks, beside tokio's.
pub trait Clock: Send + Sync + 'static {
    /// The wall clock: stamped into entries by the leader and shown to people, never asked in a decision that safety
    /// hangs on (P9).
    fn wall(&self) -> Timestamp;

    /// Time since this machine was started, with the time in which it was suspended, in which tokio's clock stands
    /// still. Only differences count. Leases are judged by it as well as by tokio's.
    fn boot(&self) -> Duration;
}

/// The machine's own clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn wall(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    #[cfg(target_os = "linux")]
    fn boot(&self) -> Duration {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let (seconds, nanos) = (u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0));
        Duration::new(seconds, nanos)
    }

    /// Where there is no such clock it is the monotonic one.
    #[cfg(not(target_os = "linux"))]
    fn boot(&self) -> Duration {
        static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
        START.get_or_init(std::time::Instant::now).elapsed()
    }
}

/// The wall clock of this machine over tokio's time: for nodes whose time is paused or runs ahead, as in a test.
#[derive(Clone, Copy, Debug)]
pub struct PausableClock(Instant);

impl PausableClock {
    /// A clock that starts now. Within a runtime.
    #[must_use]
    pub fn start() -> Self {
        Self(Instant::now())
    }
}

impl Clock for PausableClock {
    fn wall(&self) -> Timestamp {
        SystemClock.wall()
    }

    fn boot(&self) -> Duration {
        self.0.elapsed()
    }
}
