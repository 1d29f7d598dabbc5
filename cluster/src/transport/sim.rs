//! The simulated wire: byte streams between named hosts in virtual time, slow, cut or silent on demand.
//!
//! It behaves as TCP does to those who use it. Bytes arrive in order, late; what is sent into a cut waits, and
//! arrives when the cut is mended, unless either end has given the connection up before. A process that is killed
//! closes its connections; a machine that loses its power says nothing, and is only missed.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{Notify, mpsc},
    time::{Instant, Sleep, sleep, sleep_until},
};

use super::{BoxFuture, BoxedStream, Listener, Transport, tcp::UNACKNOWLEDGED_MAX};

/// Bytes under way in one direction of a connection; a writer waits beyond.
pub const UNDER_WAY_BYTES_MAX: usize = 256 << 10;
/// Connections that wait to be accepted.
const BACKLOG_MAX: usize = 1_024;

/// Draws the time that something takes from one host to another.
pub type Latency = Box<dyn FnMut(&str, &str) -> Duration + Send>;

/// A network. Clones are the same network.
#[derive(Clone)]
pub struct SimNet(Arc<Shared>);

struct Shared {
    net: Mutex<Net>,
    changed: Notify,
}

struct Net {
    latency: Latency,
    /// From whom nothing reaches whom.
    cuts: BTreeSet<(String, String)>,
    /// Hosts without power.
    dark: BTreeSet<String>,
    listeners: BTreeMap<String, (u64, mpsc::Sender<(BoxedStream, String)>)>,
    pipes: Vec<Weak<Pipe>>,
    lives: u64,
    held_back: u64,
}

/// One direction of a connection.
struct Pipe {
    from: Place,
    to: Place,
    state: Mutex<PipeState>,
}

/// One end of a connection: a process on a host.
#[derive(Clone, PartialEq, Eq)]
struct Place {
    host: String,
    life: u64,
}

#[derive(Default)]
struct PipeState {
    chunks: VecDeque<(Instant, Bytes)>,
    bytes: usize,
    /// The writer will send nothing more; the reader reads to the end.
    ended: Option<Instant>,
    /// The connection is broken for both.
    broken: bool,
    wakers: Vec<Waker>,
}

impl SimNet {
    /// A network on which everything takes the time that `latency` draws.
    #[must_use]
    pub fn new(latency: Latency) -> Self {
        let net = Net {
            latency,
            cuts: BTreeSet::new(),
            dark: BTreeSet::new(),
            listeners: BTreeMap::new(),
            pipes: Vec::new(),
            lives: 0,
            held_back: 0,
        };
        Self(Arc::new(Shared { net: Mutex::new(net), changed: Notify::new() }))
    }

    /// A process begins on `host`: its addresses are `host:PORT`. The machine has power from now on.
    #[must_use]
    pub fn start(&self, host: &str) -> Arc<SimTransport> {
        let mut net = self.0.net.lock();
        net.lives += 1;
        let life = net.lives;
        net.dark.remove(host);
        drop(net);
        self.wake();
        Arc::new(SimTransport { net: self.clone(), place: Place { host: host.into(), life } })
    }

    /// The process on `host` is killed: its connections are closed, its listeners gone.
    pub fn kill(&self, host: &str) {
        self.0.net.lock().listeners.retain(|addr, _| host_of(addr) != host);
        self.break_where(|pipe| pipe.from.host == host || pipe.to.host == host);
    }

    /// The machine loses its power: nobody is told. Its peers give their connections up in their own time, or when
    /// the machine is back and does not know them.
    pub fn darken(&self, host: &str) {
        let mut net = self.0.net.lock();
        net.listeners.retain(|addr, _| host_of(addr) != host);
        net.dark.insert(host.into());
        let lives = net.lives;
        drop(net);
        let (net, host) = (self.clone(), host.to_string());
        tokio::spawn(async move {
            tokio::select! {
                () = sleep(UNACKNOWLEDGED_MAX) => {}
                () = net.until(|net| !net.dark.contains(&host)) => {}
            }
            net.break_where(|pipe| {
                [&pipe.from, &pipe.to].iter().any(|place| place.host == host && place.life <= lives)
            });
        });
    }

    /// Nothing from `from` reaches `to` any more. Connections that cannot deliver for long are given up.
    pub fn cut(&self, from: &str, to: &str) {
        let cut = (from.to_string(), to.to_string());
        self.0.net.lock().cuts.insert(cut.clone());
        let net = self.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = sleep(UNACKNOWLEDGED_MAX) => {}
                () = net.until(|net| !net.cuts.contains(&cut)) => return,
            }
            let (from, to) = &cut;
            let goes = |pipe: &Pipe, from: &String, to: &String| pipe.from.host == *from && pipe.to.host == *to;
            net.break_where(|pipe| goes(pipe, from, to) || goes(pipe, to, from));
        });
    }

    /// All cuts are mended. Hosts without power stay dark.
    pub fn mend(&self) {
        self.0.net.lock().cuts.clear();
        self.wake();
    }

    /// How often something was to be delivered and could not be.
    #[must_use]
    pub fn held_back(&self) -> u64 {
        self.0.net.lock().held_back
    }

    fn wake(&self) {
        let pipes: Vec<_> = {
            let mut net = self.0.net.lock();
            net.pipes.retain(|pipe| pipe.strong_count() > 0);
            net.pipes.iter().filter_map(Weak::upgrade).collect()
        };
        for pipe in pipes {
            pipe.state.lock().wake();
        }
        self.0.changed.notify_waiters();
    }

    fn break_where(&self, which: impl Fn(&Pipe) -> bool) {
        let pipes: Vec<_> = self.0.net.lock().pipes.iter().filter_map(Weak::upgrade).collect();
        for pipe in pipes.iter().filter(|pipe| which(pipe)) {
            pipe.state.lock().broken = true;
        }
        self.wake();
    }

    async fn until(&self, holds: impl Fn(&Net) -> bool) {
        loop {
            let changed = self.0.changed.notified();
            if holds(&self.0.net.lock()) {
                return;
            }
            changed.await;
        }
    }

    fn connection(&self, near: &Place, far: &Place) -> (SimStream, SimStream) {
        let pipe =
            |from: &Place, to: &Place| Arc::new(Pipe { from: from.clone(), to: to.clone(), state: Mutex::default() });
        let (there, back) = (pipe(near, far), pipe(far, near));
        self.0.net.lock().pipes.extend([Arc::downgrade(&there), Arc::downgrade(&back)]);
        let stream = |reads: &Arc<Pipe>, writes: &Arc<Pipe>| SimStream {
            net: self.clone(),
            reads: reads.clone(),
            writes: writes.clone(),
            timer: None,
        };
        (stream(&back, &there), stream(&there, &back))
    }
}

impl Net {
    fn passes(&self, from: &str, to: &str) -> bool {
        !self.dark.contains(from) && !self.dark.contains(to) && !self.cuts.contains(&(from.into(), to.into()))
    }
}

impl PipeState {
    fn wake(&mut self) {
        self.wakers.drain(..).for_each(Waker::wake);
    }

    fn wait(&mut self, cx: &Context<'_>) {
        if !self.wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
            self.wakers.push(cx.waker().clone());
        }
    }
}

fn host_of(addr: &str) -> &str {
    addr.rsplit_once(':').map_or(addr, |(host, _)| host)
}

fn reset() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "the connection was reset")
}

/// One process's access to the network.
pub struct SimTransport {
    net: SimNet,
    place: Place,
}

impl Transport for SimTransport {
    fn connect<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<BoxedStream>> {
        Box::pin(async move {
            let (near, far) = (self.place.host.as_str(), host_of(addr));
            // Two ways: there and back.
            for (from, to) in [(near, far), (far, near)] {
                let takes = (self.net.0.net.lock().latency)(from, to);
                sleep(takes).await;
                self.net.until(|net| net.passes(from, to)).await;
            }
            let listener = self.net.0.net.lock().listeners.get(addr).cloned();
            let (life, listener) = listener.ok_or(io::ErrorKind::ConnectionRefused)?;
            let place = Place { host: far.into(), life };
            let (mine, theirs) = self.net.connection(&self.place, &place);
            let from = format!("{near}:0");
            listener.try_send((Box::new(theirs), from)).map_err(|_| io::ErrorKind::ConnectionRefused)?;
            Ok(Box::new(mine) as BoxedStream)
        })
    }

    fn bind<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            if host_of(addr) != self.place.host {
                return Err(io::ErrorKind::AddrNotAvailable.into());
            }
            let (sender, receiver) = mpsc::channel(BACKLOG_MAX);
            let mut net = self.net.0.net.lock();
            if net.listeners.get(addr).is_some_and(|(_, listener)| !listener.is_closed()) {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            net.listeners.insert(addr.into(), (self.place.life, sender));
            Ok(Box::new(SimListener { addr: addr.into(), receiver }) as Box<dyn Listener>)
        })
    }
}

struct SimListener {
    addr: String,
    receiver: mpsc::Receiver<(BoxedStream, String)>,
}

impl Listener for SimListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxedStream, String)>> {
        Box::pin(async move {
            match self.receiver.recv().await {
                Some(arrived) => Ok(arrived),
                // The process is dead and does not know it: nothing will ever arrive.
                None => std::future::pending().await,
            }
        })
    }

    fn local_addr(&self) -> io::Result<String> {
        Ok(self.addr.clone())
    }
}

/// One end of a connection.
struct SimStream {
    net: SimNet,
    reads: Arc<Pipe>,
    writes: Arc<Pipe>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl AsyncRead for SimStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let pipe = self.reads.clone();
            let mut state = pipe.state.lock();
            if state.broken {
                return Poll::Ready(Err(reset()));
            }
            let due = state.chunks.front().map(|(at, _)| *at).or(state.ended);
            let Some(due) = due else {
                state.wait(cx);
                return Poll::Pending;
            };
            if due > Instant::now() {
                state.wait(cx);
                drop(state);
                let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
                if timer.deadline() != due {
                    timer.as_mut().reset(due);
                }
                ready!(timer.as_mut().poll(cx));
                continue;
            }
            let mut net = self.net.0.net.lock();
            if !net.passes(&pipe.from.host, &pipe.to.host) {
                net.held_back += 1;
                state.wait(cx);
                return Poll::Pending;
            }
            drop(net);
            // All that has arrived.
            while buf.remaining() > 0 {
                let Some((at, chunk)) = state.chunks.front_mut().filter(|(at, _)| *at <= Instant::now()) else { break };
                let _ = at;
                let taken = chunk.len().min(buf.remaining());
                buf.put_slice(&chunk[..taken]);
                chunk.advance(taken);
                let empty = chunk.is_empty();
                state.bytes -= taken;
                if empty {
                    state.chunks.pop_front();
                }
            }
            state.wake();
            return Poll::Ready(Ok(()));
        }
    }
}

impl AsyncWrite for SimStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let pipe = &self.writes;
        let takes = (self.net.0.net.lock().latency)(&pipe.from.host, &pipe.to.host);
        let mut state = pipe.state.lock();
        if state.broken || state.ended.is_some() {
            return Poll::Ready(Err(reset()));
        }
        let room = UNDER_WAY_BYTES_MAX.saturating_sub(state.bytes);
        if room == 0 {
            state.wait(cx);
            return Poll::Pending;
        }
        let taken = room.min(buf.len());
        let after = state.chunks.back().map_or_else(Instant::now, |(at, _)| *at);
        let at = after.max(Instant::now() + takes);
        state.chunks.push_back((at, Bytes::copy_from_slice(&buf[..taken])));
        state.bytes += taken;
        state.wake();
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.end();
        Poll::Ready(Ok(()))
    }
}

impl SimStream {
    fn end(&self) {
        let pipe = &self.writes;
        let takes = (self.net.0.net.lock().latency)(&pipe.from.host, &pipe.to.host);
        let mut state = pipe.state.lock();
        if state.ended.is_none() {
            let after = state.chunks.back().map_or_else(Instant::now, |(at, _)| *at);
            state.ended = Some(after.max(Instant::now() + takes));
            state.wake();
        }
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        self.end();
        // Whoever still writes to it learns that nobody reads.
        let mut state = self.reads.state.lock();
        state.broken = true;
        state.wake();
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        time::timeout,
    };

    use super::*;

    const SOON: Duration = Duration::from_secs(1);

    fn net() -> SimNet {
        SimNet::new(Box::new(|_, _| Duration::from_millis(3)))
    }

    async fn connected(net: &SimNet) -> (BoxedStream, BoxedStream) {
        let (a, b) = (net.start("a"), net.start("b"));
        let mut listener = b.bind("b:1").await.unwrap();
        let (near, far) = tokio::join!(a.connect("b:1"), listener.accept());
        (near.unwrap(), far.unwrap().0)
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_arrive_in_order_and_late() {
        let (mut near, mut far) = connected(&net()).await;
        let before = Instant::now();
        near.write_all(b"ab").await.unwrap();
        near.write_all(b"cd").await.unwrap();
        let mut got = [0; 4];
        far.read_exact(&mut got).await.unwrap();
        assert_eq!((&got, before.elapsed()), (b"abcd", Duration::from_millis(3)));
        drop(near);
        assert_eq!(far.read(&mut got).await.unwrap(), 0, "the end is told after what was sent");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_sent_into_a_cut_arrives_when_it_is_mended_soon_and_never_later() {
        let net = net();
        let (mut near, mut far) = connected(&net).await;
        let mut got = [0; 1];
        net.cut("a", "b");
        near.write_all(b"x").await.unwrap();
        assert!(timeout(SOON, far.read_exact(&mut got)).await.is_err());
        far.write_all(b"y").await.unwrap();
        near.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"y", "the other way is open");
        net.mend();
        far.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"x");
        assert!(net.held_back() > 0);
        net.cut("a", "b");
        assert!(near.read_exact(&mut got).await.is_err(), "given up");
    }

    #[tokio::test(start_paused = true)]
    async fn a_killed_process_is_noticed_and_a_dark_machine_is_missed() {
        let net = net();
        let (mut near, far) = connected(&net).await;
        let mut got = [0; 1];
        net.kill("b");
        assert!(timeout(Duration::from_millis(1), near.read_exact(&mut got)).await.unwrap().is_err());
        drop(far);
        let (mut near, _far) = connected(&net).await;
        net.darken("b");
        assert!(timeout(SOON, near.read_exact(&mut got)).await.is_err(), "silence");
        let back = net.start("b");
        assert!(near.read_exact(&mut got).await.is_err(), "the machine is back and does not know the connection");
        let refused = net.start("a").connect("b:1").await.err().unwrap();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        back.bind("b:1").await.unwrap();
    }
}
