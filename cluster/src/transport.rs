//! The transport and the clock: the two interfaces of this crate to the outside.
//!
//! A [`Transport`] provides byte streams and nothing else: framing, handshake, multiplexing and reconnecting are
//! built on top of it, so that all of it also runs over the simulated network. [`tcp`] is the real one. Monotonic
//! time is tokio's, which a simulator pauses; a [`Clock`] returns the wall-clock time, and the time since the machine
//! started.

pub mod tcp;

use std::{io, time::Duration};

use evener_core::time::Timestamp;
pub use futures::future::BoxFuture;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Instant,
};

pub use self::tcp::TcpTransport;

/// An ordered stream of bytes in both directions.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + ?Sized> ByteStream for T {}

/// One end of a connection.
pub type BoxedStream = Box<dyn ByteStream>;

/// Opens and accepts connections. Addresses are `host:port`.
pub trait Transport: Send + Sync + 'static {
    /// Opens a connection. Waits as long as the network does: the caller sets the deadline.
    fn connect<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<BoxedStream>>;

    /// Listens. The error names the address that is not available, and the remedy.
    fn bind<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>>;
}

/// Accepts connections.
pub trait Listener: Send {
    /// Accepts the next connection; returns it and the address it came from (for people: the peer chooses the port
    /// freely). Cancel safe: a dropped future loses no connection.
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxedStream, String)>>;

    /// Returns the address it listens on; for port 0, with the assigned port.
    fn local_addr(&self) -> io::Result<String>;
}

/// The machine's clocks, beside tokio's.
pub trait Clock: Send + Sync + 'static {
    /// Returns the wall-clock time. The leader stamps it into entries and people see it; no decision that affects
    /// safety uses it (P9).
    fn wall(&self) -> Timestamp;

    /// Returns the time since this machine was started, including the time in which it was suspended, when tokio's
    /// clock stops. Only differences are meaningful. Leases end by this clock or by tokio's.
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

    /// Without such a clock, returns the monotonic one.
    #[cfg(not(target_os = "linux"))]
    fn boot(&self) -> Duration {
        static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
        START.get_or_init(std::time::Instant::now).elapsed()
    }
}

/// The wall clock of this machine, advanced by tokio's time: for nodes whose time is paused or runs faster, as in a
/// test.
#[derive(Clone, Copy, Debug)]
pub struct PausableClock(Instant);

impl PausableClock {
    /// Starts a clock at the current time. Must be called within a runtime.
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
