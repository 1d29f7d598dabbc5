//! How many questions a second a link answers over loopback TCP, both ends in this process, beside what the same
//! sockets do without any of it.
//!
//!     cargo run --release -p evener-cluster --example link_rate [seconds per line]

use std::{
    fs, io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use evener_cluster::{
    handshake::{Admission, Identity, PeerIdentity, Purpose, Refused, initiate},
    link::{Link, Refusal, Server, Service, StreamReceiver, StreamSender},
    message::Kind,
    transport::{BoxFuture, TcpTransport, Transport},
};
use evener_core::id::{FeatureLevel, Incarnation};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const PAYLOAD_BYTES: usize = 200;
const WITHIN: Duration = Duration::from_secs(10);
const ECHO: Kind = Kind(100);

struct Anybody;

impl Admission for Anybody {
    fn me(&self) -> Identity {
        Identity { cluster: None, node: None, incarnation: Incarnation::default(), level: FeatureLevel::CURRENT }
    }

    fn admit(&self, _: &PeerIdentity) -> Result<(), Refused> {
        Ok(())
    }
}

/// Answers each question by its length.
struct Echo;

fn answer(question: &Bytes) -> Bytes {
    Bytes::copy_from_slice(&question.len().to_le_bytes())
}

impl Service for Echo {
    fn handle(&self, _: Kind, _: Arc<PeerIdentity>, payload: Bytes) -> BoxFuture<'static, Result<Bytes, Refusal>> {
        Box::pin(async move { Ok(answer(&payload)) })
    }

    fn stream(
        &self,
        _: Kind,
        _: Arc<PeerIdentity>,
        _: Bytes,
        mut sender: StreamSender,
        mut receiver: StreamReceiver,
    ) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            while let Some(Ok(item)) = receiver.recv().await {
                if sender.send(answer(&item)).await.is_err() {
                    break;
                }
            }
        })
    }
}

/// Ticks of all processors since the machine started: (idle, all).
fn ticks() -> Option<(u64, u64)> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let line: Vec<u64> = stat.lines().next()?.split_whitespace().skip(1).filter_map(|word| word.parse().ok()).collect();
    Some((line.get(3)? + line.get(4)?, line.iter().take(8).sum()))
}

/// Microseconds of processor time that this process has taken: what a busy machine does not change.
fn cpu_micros() -> Option<u64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let after_name: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u64 = [11, 12].iter().map_while(|at| after_name.get(*at)?.parse::<u64>().ok()).sum();
    Some(ticks * 10_000)
}

struct Line {
    name: String,
    start: Instant,
    ticks: Option<(u64, u64)>,
    cpu: Option<u64>,
}

impl Line {
    fn begin(name: String) -> Self {
        Self { name, start: Instant::now(), ticks: ticks(), cpu: cpu_micros() }
    }

    fn end(self, count: u64, mut waits: Vec<Duration>) {
        let rate = count as f64 / self.start.elapsed().as_secs_f64();
        let idle = match (self.ticks, ticks()) {
            (Some((idle, all)), Some((idle_now, all_now))) if all_now > all => {
                format!("{:3.0} %", 100.0 * (idle_now - idle) as f64 / (all_now - all) as f64)
            }
            _ => "unknown".into(),
        };
        let cpu = self.cpu.zip(cpu_micros()).map_or(0.0, |(then, now)| (now - then) as f64 / count.max(1) as f64);
        print!("{:28} {rate:>10.0}/s   cpu {cpu:>6.2} us each   machine idle {idle}", self.name);
        waits.sort_unstable();
        if let (Some(middle), Some(high)) = (waits.get(waits.len() / 2), waits.get(waits.len() * 99 / 100)) {
            print!("   p50 {middle:.1?}   p99 {high:.1?}");
        }
        println!();
    }
}

/// The sockets alone: as many bytes there, as many back, one question at a time.
async fn ping_pong(seconds: f64) -> io::Result<()> {
    let mut listener = TcpTransport.bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await?;
        let mut question = [0; 14 + PAYLOAD_BYTES];
        while stream.read_exact(&mut question).await.is_ok() {
            stream.write_all(&question[..14 + 8]).await?;
        }
        io::Result::Ok(())
    });
    let mut stream = TcpTransport.connect(&addr).await?;
    let (line, mut waits) = (Line::begin("raw ping-pong".into()), Vec::new());
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    while Instant::now() < end {
        let asked = Instant::now();
        stream.write_all(&[7; 14 + PAYLOAD_BYTES]).await?;
        stream.read_exact(&mut [0; 14 + 8]).await?;
        waits.push(asked.elapsed());
    }
    line.end(waits.len() as u64, waits);
    Ok(())
}

async fn calls(link: &Link, in_flight: usize, seconds: f64) {
    let line = Line::begin(format!("calls, {in_flight} in flight"));
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    let callers: Vec<_> = (0..in_flight)
        .map(|_| {
            let link = link.clone();
            tokio::spawn(async move {
                let (question, mut waits) = (Bytes::from(vec![7; PAYLOAD_BYTES]), Vec::new());
                while Instant::now() < end {
                    let asked = Instant::now();
                    link.call(ECHO, question.clone(), WITHIN).await.expect("the link is open");
                    waits.push(asked.elapsed());
                }
                waits
            })
        })
        .collect();
    let mut waits = Vec::new();
    for caller in callers {
        waits.extend(caller.await.expect("a caller does not panic"));
    }
    line.end(waits.len() as u64, waits);
}

async fn stream(link: &Link, bytes: usize, seconds: f64) {
    let (mut sender, mut receiver) = link.open(ECHO, Bytes::new()).await.expect("the link is open");
    let line = Line::begin(format!("stream, {bytes} bytes each"));
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    let answered = Arc::new(AtomicU64::new(0));
    let count = answered.clone();
    let reading = tokio::spawn(async move {
        while let Some(answer) = receiver.recv().await {
            answer.expect("the link is open");
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    let question = Bytes::from(vec![7; bytes]);
    while Instant::now() < end {
        for _ in 0..16 {
            sender.send(question.clone()).await.expect("the link is open");
        }
    }
    drop(sender);
    reading.await.expect("the reader does not panic");
    line.end(answered.load(Ordering::Relaxed), Vec::new());
}

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let seconds = std::env::args().nth(1).map_or(Ok(2.0), |word| word.parse())?;
    ping_pong(seconds).await?;
    let server = Server::start(TcpTransport.bind("127.0.0.1:0").await?, Arc::new(Anybody), Arc::new(Echo))?;
    let mut connection = TcpTransport.connect(server.addr()).await?;
    let peer = initiate(&mut connection, &Anybody, Purpose::Inquiry, None, server.addr()).await?;
    let link = Link::start(connection, peer);
    for in_flight in [1, 64, 512] {
        calls(&link, in_flight, seconds).await;
    }
    for bytes in [PAYLOAD_BYTES, 1 << 20] {
        stream(&link, bytes, seconds).await;
    }
    link.close();
    server.shutdown().await;
    Ok(())
}
