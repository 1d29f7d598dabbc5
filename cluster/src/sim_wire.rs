//! A network in memory, for nodes that live in one paused current-thread runtime: same seed, same run.
//!
//! It keeps what TCP promises and takes away what TCP does not. Within a live connection no byte is lost, doubled
//! or overtaken: it comes late. A *stall* is a packet that was lost and sent again; a *partition* holds everything
//! until it heals, and a connection that is cut off for longer than `break_after` breaks at both ends. A killed
//! host's sockets close: its peers get what was on its way, or not, and then an end or a reset, as the dice fall.
//! Connecting to a host without a listener is refused after a round trip; to one that is cut off it hangs. Nothing
//! limits bandwidth, but a socket holds only so many bytes.
//!
//! ```
//! use evener_cluster::sim_wire::{Settings, SimNet};
//! use evener_cluster::transport::Transport;
//! # use tokio::io::{AsyncReadExt, AsyncWriteExt};
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let net = SimNet::new(Settings::seeded(7));
//! let mut listener = net.host("n2").bind("n2:7000").await.unwrap();
//! let mut near = net.host("n1").connect("n2:7000").await.unwrap();
//! let (mut far, _) = listener.accept().await.unwrap();
//! near.write_all(b"hey").await.unwrap();
//! net.partition(&["n1"], &["n2"]); // the bytes wait
//! net.heal();
//! let mut got = [0; 3];
//! far.read_exact(&mut got).await.unwrap();
//! net.kill("n1");
//! assert_eq!(far.read(&mut got).await.unwrap_or(0), 0);
//! # }
//! ```

mod clock;
mod host;
mod net;
mod rng;
mod stream;

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;

use self::net::Net;
pub use self::{clock::SimClock, host::SimHost};

/// How the network behaves.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// All dice follow from it.
    pub seed: u64,
    /// The least time that a packet takes.
    pub latency_min: Duration,
    /// The most, unless it stalls.
    pub latency_max: Duration,
    /// Of 1,000 packets so many stall.
    pub stalls_per_mille: u32,
    /// How much later a packet comes that stalled.
    pub stall: Duration,
    /// A write takes at most so many bytes, and of 1,000 writes so many take fewer than they were given.
    pub short_writes_per_mille: u32,
    /// Bytes on their way, per connection and direction. More wait at the writer.
    pub socket_bytes_max: usize,
    /// A connection that is cut off for this long breaks.
    pub break_after: Duration,
}

impl Settings {
    /// A quiet local network with now and then a lost packet.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self {
            seed,
            latency_min: Duration::from_micros(50),
            latency_max: Duration::from_millis(1),
            stalls_per_mille: 2,
            stall: Duration::from_millis(200),
            short_writes_per_mille: 50,
            socket_bytes_max: 256 << 10,
            break_after: Duration::from_secs(5),
        }
    }
}

/// The network. A clone is the same one.
#[derive(Clone)]
pub struct SimNet(Arc<Mutex<Net>>);

impl SimNet {
    /// A network without hosts; a host exists as soon as it is named.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self(Arc::new(Mutex::new(Net::new(settings))))
    }

    /// The transport of one host. Its addresses are `name:port`.
    #[must_use]
    pub fn host(&self, name: &str) -> SimHost {
        SimHost::new(self.0.clone(), name)
    }

    /// Ends the host's process: its sockets close, its listeners are gone.
    pub fn kill(&self, host: &str) {
        self.0.lock().kill(host);
    }

    /// Holds all bytes from one host to another, in this direction only.
    pub fn block(&self, from: &str, to: &str) {
        self.0.lock().block(from, to);
    }

    /// Lets them pass again.
    pub fn unblock(&self, from: &str, to: &str) {
        self.0.lock().unblock(from, to);
    }

    /// Holds all bytes between the hosts of one side and those of the other.
    pub fn partition(&self, one: &[&str], other: &[&str]) {
        let mut net = self.0.lock();
        for (a, b) in one.iter().flat_map(|a| other.iter().map(move |b| (a, b))) {
            net.block(a, b);
            net.block(b, a);
        }
    }

    /// Ends all blocks and partitions.
    pub fn heal(&self) {
        self.0.lock().heal();
    }

    /// From now on a packet takes at least and at most so long.
    pub fn set_latency(&self, min: Duration, max: Duration) {
        let mut net = self.0.lock();
        (net.settings.latency_min, net.settings.latency_max) = (min, max);
    }

    /// Breaks all connections between two hosts, now and at both ends.
    pub fn cut(&self, a: &str, b: &str) {
        self.0.lock().cut(a, b);
    }

    /// Connections of which an end is open.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.0.lock().connections()
    }

    /// A hash over everything that happened: what was delivered when to whom, what opened and what broke.
    #[must_use]
    pub fn trace(&self) -> u64 {
        self.0.lock().trace()
    }
}

#[cfg(test)]
mod tests;
