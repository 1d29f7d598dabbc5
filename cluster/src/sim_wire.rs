//! A network in memory, for nodes that run in one paused current-thread runtime: the same seed gives the same run.
//!
//! It keeps the guarantees of TCP and nothing more. Within an open connection no byte is lost, duplicated or
//! reordered: it is delayed. A *stall* is a packet that was lost and retransmitted; a *partition* holds everything
//! until it heals, and a connection that is cut off for longer than `break_after` breaks at both ends. A killed
//! host's sockets close: its peers receive the data in flight, or not, and then an end or a reset, at random.
//! Connecting to a host without a listener is refused after a round trip; connecting to a host that is cut off hangs.
//! Bandwidth is unlimited, but the buffer of a socket is bounded.
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

/// The behaviour of the network.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The seed of all randomness.
    pub seed: u64,
    /// The minimum latency of a packet.
    pub latency_min: Duration,
    /// The maximum latency, unless the packet stalls.
    pub latency_max: Duration,
    /// The number of packets per 1,000 that stall.
    pub stalls_per_mille: u32,
    /// The additional latency of a stalled packet.
    pub stall: Duration,
    /// The maximum bytes that a write takes, and the number of writes per 1,000 that take fewer than given.
    pub short_writes_per_mille: u32,
    /// The maximum bytes in flight, per connection and direction. Writers of more wait.
    pub socket_bytes_max: usize,
    /// A connection that is cut off for this long breaks.
    pub break_after: Duration,
}

impl Settings {
    /// Returns a quiet local network that rarely loses a packet.
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

/// The network. A clone is the same network.
#[derive(Clone)]
pub struct SimNet(Arc<Mutex<Net>>);

impl SimNet {
    /// Creates a network without hosts; a host exists as soon as it is named.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self(Arc::new(Mutex::new(Net::new(settings))))
    }

    /// Returns the transport of one host. Its addresses are `name:port`.
    #[must_use]
    pub fn host(&self, name: &str) -> SimHost {
        SimHost::new(self.0.clone(), name)
    }

    /// Ends the host's process: closes its sockets and listeners.
    pub fn kill(&self, host: &str) {
        self.0.lock().kill(host);
    }

    /// Holds all bytes from one host to another, in this direction only.
    pub fn block(&self, from: &str, to: &str) {
        self.0.lock().block(from, to);
    }

    /// Ends a block.
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

    /// Sets the minimum and maximum latency of later packets.
    pub fn set_latency(&self, min: Duration, max: Duration) {
        let mut net = self.0.lock();
        (net.settings.latency_min, net.settings.latency_max) = (min, max);
    }

    /// Breaks all connections between two hosts, now and at both ends.
    pub fn cut(&self, a: &str, b: &str) {
        self.0.lock().cut(a, b);
    }

    /// Returns the number of connections with an open end.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.0.lock().connections()
    }

    /// Returns a hash of the history: what was delivered when and where, and which connections opened and broke.
    #[must_use]
    pub fn trace(&self) -> u64 {
        self.0.lock().trace()
    }
}

#[cfg(test)]
mod tests;
