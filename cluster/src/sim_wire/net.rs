//! The state of the network: listeners, connections, blocks, and packets in flight.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use super::{Settings, rng::Rng, stream::SimStream};

/// The maximum connections that wait to be accepted.
pub(super) const BACKLOG_MAX: usize = 1_024;

/// A connection and the address it comes from.
pub(super) type Arrival = (SimStream, String);

pub(super) struct Net {
    pub settings: Settings,
    start: Option<Instant>,
    listeners: BTreeMap<(String, u16), (u64, mpsc::Sender<Arrival>)>,
    blocked: BTreeMap<(String, String), Instant>,
    connections: BTreeMap<u64, Connection>,
    numbers: u64,
    ports: u16,
    changed: watch::Sender<()>,
    trace: u64,
}

/// A connection: two ends, and the packets in flight to each.
struct Connection {
    hosts: [String; 2],
    ends: [End; 2],
}

struct End {
    open: bool,
    /// Has closed its writing half.
    finished: bool,
    /// Has written to a closed end, and learns of it at this time.
    reset_at: Option<Instant>,
    broken: Option<io::ErrorKind>,
    arriving: VecDeque<(Instant, Packet)>,
    arriving_bytes: usize,
    /// The earliest arrival of the next packet, as nothing is reordered.
    last: Instant,
    rng: Rng,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

enum Packet {
    Bytes(Bytes),
    Fin,
    Reset,
}

/// The result of a read.
pub(super) enum ReadOutcome {
    Bytes(usize),
    End,
    /// Nothing yet. Read again at this time, or when woken.
    Nothing(Option<Instant>),
}

fn other(end: usize) -> usize {
    1 - end
}

impl End {
    fn new(rng: Rng) -> Self {
        Self {
            open: true,
            finished: false,
            reset_at: None,
            broken: None,
            arriving: VecDeque::new(),
            arriving_bytes: 0,
            last: Instant::now(),
            rng,
            reader: None,
            writer: None,
        }
    }

    fn wake(&mut self) {
        self.reader.take().into_iter().chain(self.writer.take()).for_each(Waker::wake);
    }

    fn break_with(&mut self, kind: io::ErrorKind) {
        self.broken.get_or_insert(kind);
        self.arriving.clear();
        self.arriving_bytes = 0;
        self.wake();
    }

    fn send(&mut self, packet: Packet, after: Duration) {
        self.last = self.last.max(Instant::now() + after);
        if let Packet::Bytes(bytes) = &packet {
            self.arriving_bytes += bytes.len();
        }
        self.arriving.push_back((self.last, packet));
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

impl Net {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            settings,
            start: None,
            listeners: BTreeMap::new(),
            blocked: BTreeMap::new(),
            connections: BTreeMap::new(),
            numbers: 0,
            ports: 49_151,
            changed: watch::Sender::new(()),
            trace: 0xCBF2_9CE4_8422_2325,
        }
    }

    pub(super) fn trace(&self) -> u64 {
        self.trace
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.len()
    }

    /// Notifies of every change of the network that may end a wait.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    pub(super) fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    pub(super) fn rng(&mut self) -> Rng {
        Rng::new(self.settings.seed, self.number())
    }

    fn record_trace(&mut self, what: &[u8], number: u64) {
        let start = *self.start.get_or_insert_with(Instant::now);
        let at = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        for byte in at.to_le_bytes().iter().chain(&number.to_le_bytes()).chain(what) {
            self.trace = (self.trace ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3);
        }
    }

    pub(super) fn kill(&mut self, host: &str) {
        self.record_trace(b"kill", 0);
        self.listeners.retain(|(name, _), _| name != host);
        for (number, connection) in &mut self.connections {
            let hosts = connection.hosts.clone();
            for end in (0..2).filter(|end| hosts[*end] == host) {
                connection.ends[end].break_with(io::ErrorKind::ConnectionAborted);
                let mut rng = Rng::new(self.settings.seed, *number);
                connection.end_of_process(end, &mut rng, &self.settings);
            }
        }
        self.changed.send_replace(());
    }

    pub(super) fn block(&mut self, from: &str, to: &str) {
        self.record_trace(b"block", 0);
        self.blocked.entry((from.to_owned(), to.to_owned())).or_insert_with(Instant::now);
        self.wake_between(from, to);
    }

    pub(super) fn unblock(&mut self, from: &str, to: &str) {
        self.record_trace(b"unblock", 0);
        self.blocked.remove(&(from.to_owned(), to.to_owned()));
        self.wake_between(from, to);
        self.changed.send_replace(());
    }

    pub(super) fn heal(&mut self) {
        while let Some((from, to)) = self.blocked.keys().next().cloned() {
            self.unblock(&from, &to);
        }
    }

    pub(super) fn cut(&mut self, a: &str, b: &str) {
        self.record_trace(b"cut", 0);
        for connection in self.connections.values_mut().filter(|connection| connection.between(a, b)) {
            connection.break_with(io::ErrorKind::ConnectionReset);
        }
    }

    fn wake_between(&mut self, a: &str, b: &str) {
        for connection in self.connections.values_mut().filter(|connection| connection.between(a, b)) {
            connection.ends.iter_mut().for_each(End::wake);
        }
    }

    /// Returns since when nothing passes from one host to the other.
    fn blocked(&self, from: &str, to: &str) -> Option<Instant> {
        if self.blocked.is_empty() {
            return None;
        }
        self.blocked.get(&(from.to_owned(), to.to_owned())).copied()
    }

    /// Returns whether no round trip between the two hosts is possible.
    pub(super) fn cut_off(&self, a: &str, b: &str) -> bool {
        self.blocked(a, b).is_some() || self.blocked(b, a).is_some()
    }

    /// Listens; port 0 chooses a free one.
    pub(super) fn listen(&mut self, host: &str, port: u16) -> io::Result<(u16, u64, mpsc::Receiver<Arrival>)> {
        let port = if port == 0 { self.free_port(host) } else { port };
        if self.listeners.contains_key(&(host.to_owned(), port)) {
            let text = format!("failed to listen on {host}:{port}: another process has this port");
            return Err(io::Error::new(io::ErrorKind::AddrInUse, text));
        }
        let (sender, receiver) = mpsc::channel(BACKLOG_MAX);
        let number = self.number();
        self.listeners.insert((host.to_owned(), port), (number, sender));
        Ok((port, number, receiver))
    }

    fn free_port(&mut self, host: &str) -> u16 {
        loop {
            self.ports = self.ports.checked_add(1).unwrap_or(49_152);
            if !self.listeners.contains_key(&(host.to_owned(), self.ports)) {
                return self.ports;
            }
        }
    }

    /// Stops listening, unless another process has listened there since.
    pub(super) fn unlisten(&mut self, host: &str, port: u16, number: u64) {
        let key = (host.to_owned(), port);
        if self.listeners.get(&key).is_some_and(|(present, _)| *present == number) {
            self.listeners.remove(&key);
        }
    }

    /// Connects, if there is a listener.
    pub(super) fn connect(net: &Arc<Mutex<Self>>, from: &str, to: &str, port: u16) -> io::Result<SimStream> {
        let mut this = net.lock();
        let refused = || io::Error::new(io::ErrorKind::ConnectionRefused, "connection refused");
        let (_, arrivals) = this.listeners.get(&(to.to_owned(), port)).ok_or_else(refused)?.clone();
        let number = this.number();
        let rng = |stream| Rng::new(this.settings.seed, stream);
        let ends = [End::new(rng(number << 1)), End::new(rng(number << 1 | 1))];
        this.connections.insert(number, Connection { hosts: [from.to_owned(), to.to_owned()], ends });
        this.record_trace(b"connect", number);
        let [near, far] = [0, 1].map(|end| SimStream::new(net.clone(), number, end));
        drop(this); // a connection that is not accepted is dropped, which closes it
        arrivals.try_send((far, format!("{from}:{number}"))).map_err(|_| refused())?;
        Ok(near)
    }

    pub(super) fn read(
        &mut self,
        number: u64,
        end: usize,
        cx: &Context<'_>,
        into: &mut [u8],
    ) -> io::Result<ReadOutcome> {
        let found = self.look(number, end, into)?;
        match found {
            ReadOutcome::Bytes(taken) => self.record_trace(&into[..taken], number << 1 | end as u64),
            ReadOutcome::End => self.record_trace(b"end", number << 1 | end as u64),
            ReadOutcome::Nothing(_) => self.end(number, end)?.reader = Some(cx.waker().clone()),
        }
        Ok(found)
    }

    fn look(&mut self, number: u64, end: usize, into: &mut [u8]) -> io::Result<ReadOutcome> {
        let connection = self.connections.get(&number).ok_or(io::ErrorKind::NotConnected)?;
        let (here, there) = (&connection.hosts[end], &connection.hosts[other(end)]);
        let inward = self.blocked(there, here);
        let breaks = inward.into_iter().chain(self.blocked(here, there)).min().map(|at| at + self.settings.break_after);
        let connection = self.connections.get_mut(&number).ok_or(io::ErrorKind::NotConnected)?;
        if let Some(kind) = connection.ends[end].broken {
            return Err(kind.into());
        }
        let now = Instant::now();
        if breaks.is_some_and(|breaks| breaks <= now) {
            connection.break_with(io::ErrorKind::TimedOut);
            self.record_trace(b"break", number);
            return Err(io::ErrorKind::TimedOut.into());
        }
        if inward.is_some() {
            return Ok(ReadOutcome::Nothing(breaks));
        }
        connection.take(end, now, into, breaks)
    }

    pub(super) fn write(&mut self, number: u64, end: usize, cx: &Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let settings = self.settings;
        let cut_off = self
            .connections
            .get(&number)
            .is_some_and(|connection| self.cut_off(&connection.hosts[0], &connection.hosts[1]));
        let Some(connection) = self.connections.get_mut(&number) else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        if connection.ends[end].broken.is_some() || connection.ends[end].finished {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let after = connection.ends[end].delay(&settings);
        if !connection.ends[other(end)].open {
            return Poll::Ready(connection.ends[end].write_to_closed_end(bytes.len(), after, cut_off));
        }
        let room = settings.socket_bytes_max.saturating_sub(connection.ends[other(end)].arriving_bytes);
        if room == 0 {
            connection.ends[end].writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let mut taken = bytes.len().min(room);
        let rng = &mut connection.ends[end].rng;
        if taken > 1 && rng.per_mille(settings.short_writes_per_mille) {
            taken = 1 + rng.below(taken as u64 - 1) as usize;
        }
        connection.ends[other(end)].send(Packet::Bytes(Bytes::copy_from_slice(&bytes[..taken])), after);
        Poll::Ready(Ok(taken))
    }

    /// Closes the writing half of this end.
    pub(super) fn finish(&mut self, number: u64, end: usize) {
        self.end_with(Packet::Fin, number, end);
    }

    fn end_with(&mut self, packet: Packet, number: u64, end: usize) {
        let settings = self.settings;
        let Some(connection) = self.connections.get_mut(&number) else { return };
        if !std::mem::replace(&mut connection.ends[end].finished, true) {
            let after = connection.ends[end].delay(&settings);
            connection.ends[other(end)].send(packet, after);
        }
    }

    /// Closes this end, as it is dropped. As in TCP, closing with unread bytes resets the connection.
    pub(super) fn close(&mut self, number: u64, end: usize) {
        let Some(connection) = self.connections.get(&number) else { return };
        let unread = connection.ends[end].arriving.iter().any(|(_, packet)| matches!(packet, Packet::Bytes(_)));
        self.end_with(if unread { Packet::Reset } else { Packet::Fin }, number, end);
        let Some(connection) = self.connections.get_mut(&number) else { return };
        connection.ends[end].open = false;
        connection.ends[end].arriving.clear();
        let far = &mut connection.ends[other(end)];
        far.wake();
        if !far.open {
            self.connections.remove(&number);
            self.record_trace(b"close", number);
        }
    }

    fn end(&mut self, number: u64, end: usize) -> io::Result<&mut End> {
        self.connections
            .get_mut(&number)
            .map(|connection| &mut connection.ends[end])
            .ok_or(io::ErrorKind::NotConnected.into())
    }
}

impl End {
    /// A machine that receives bytes for a closed socket answers with a reset: until that arrives, writes succeed.
    fn write_to_closed_end(&mut self, bytes: usize, after: Duration, cut_off: bool) -> io::Result<usize> {
        if self.reset_at.is_some_and(|reset_at| reset_at <= Instant::now()) && !cut_off {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if self.reset_at.is_none() {
            self.reset_at = Some(Instant::now() + after * 2);
            self.send(Packet::Reset, after * 2);
        }
        Ok(bytes)
    }

    fn delay(&mut self, settings: &Settings) -> Duration {
        let latency = self.rng.between(settings.latency_min, settings.latency_max);
        if self.rng.per_mille(settings.stalls_per_mille) { latency + settings.stall } else { latency }
    }
}

impl Connection {
    fn between(&self, a: &str, b: &str) -> bool {
        let [near, far] = &self.hosts;
        (near == a && far == b) || (near == b && far == a)
    }

    fn break_with(&mut self, kind: io::ErrorKind) {
        self.ends.iter_mut().for_each(|end| end.break_with(kind));
    }

    /// Delivers the end of a process to the other end: an end after all data in flight, or a reset instead of it.
    fn end_of_process(&mut self, end: usize, rng: &mut Rng, settings: &Settings) {
        let already = std::mem::replace(&mut self.ends[end].finished, true);
        let after = self.ends[end].delay(settings);
        let far = &mut self.ends[other(end)];
        if rng.below(2) == 0 {
            far.arriving.clear();
            far.arriving_bytes = 0;
            far.last = Instant::now();
            far.send(Packet::Reset, after);
        } else if !already {
            far.send(Packet::Fin, after);
        }
        far.wake();
    }

    fn take(&mut self, end: usize, now: Instant, into: &mut [u8], breaks: Option<Instant>) -> io::Result<ReadOutcome> {
        let here = &mut self.ends[end];
        let mut taken = 0;
        while taken < into.len()
            && let Some((at, packet)) = here.arriving.front_mut()
            && *at <= now
        {
            match packet {
                Packet::Bytes(bytes) => {
                    let part = bytes.split_to(bytes.len().min(into.len() - taken));
                    into[taken..taken + part.len()].copy_from_slice(&part);
                    taken += part.len();
                    if bytes.is_empty() {
                        here.arriving.pop_front();
                    }
                }
                _ if taken > 0 => break,
                Packet::Fin => return Ok(ReadOutcome::End), // for all later reads too
                Packet::Reset => {
                    here.break_with(io::ErrorKind::ConnectionReset);
                    return Err(io::ErrorKind::ConnectionReset.into());
                }
            }
        }
        if taken == 0 {
            let next = here.arriving.front().map(|(at, _)| *at);
            return Ok(ReadOutcome::Nothing(next.into_iter().chain(breaks).min()));
        }
        here.arriving_bytes -= taken;
        if let Some(writer) = self.ends[other(end)].writer.take() {
            writer.wake();
        }
        Ok(ReadOutcome::Bytes(taken))
    }
}
