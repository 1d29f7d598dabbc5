use std::io;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, timeout},
};

use super::*;
use crate::transport::{BoxedStream, Listener, Transport};

struct ConnectedPair {
    net: SimNet,
    near: BoxedStream,
    far: BoxedStream,
    listener: Box<dyn Listener>,
}

/// Connects n1 to n2.
async fn connected_pair(settings: Settings) -> ConnectedPair {
    let net = SimNet::new(settings);
    let mut listener = net.host("n2").bind("n2:7000").await.unwrap();
    let near = net.host("n1").connect("n2:7000").await.unwrap();
    let (far, _) = listener.accept().await.unwrap();
    ConnectedPair { net, near, far, listener }
}

async fn read_some(stream: &mut BoxedStream) -> io::Result<Vec<u8>> {
    let mut got = vec![0; 1 << 16];
    let read = stream.read(&mut got).await?;
    got.truncate(read);
    Ok(got)
}

async fn connect(net: &SimNet, from: &str, to: &str) -> io::Result<BoxedStream> {
    net.host(from).connect(to).await
}

const LONG: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn bytes_arrive_delayed_complete_and_in_order() {
    let mut t =
        connected_pair(Settings { stalls_per_mille: 300, short_writes_per_mille: 900, ..Settings::seeded(1) }).await;
    let start = Instant::now();
    let sent: Vec<u8> = (0..1_000_000u32).map(|n| (n * 7 / 3) as u8).collect();
    let writing = async {
        t.near.write_all(&sent).await.unwrap();
        t.near.shutdown().await.unwrap();
    };
    let mut got = Vec::new();
    let (_, read) = tokio::join!(writing, t.far.read_to_end(&mut got));
    read.unwrap();
    assert!(got == sent);
    assert!(start.elapsed() >= Duration::from_millis(200), "nothing stalled");
}

#[tokio::test(start_paused = true)]
async fn the_buffer_of_a_socket_is_bounded() {
    let mut t = connected_pair(Settings { socket_bytes_max: 1_000, ..Settings::seeded(1) }).await;
    let writing = timeout(LONG, t.near.write_all(&[1; 1_001]));
    assert!(writing.await.is_err());
    assert_eq!(read_some(&mut t.far).await.unwrap().len(), 1_000);
    timeout(LONG, t.near.write_all(&[1; 900])).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn connecting_without_a_listener_is_refused_and_across_a_partition_hangs() {
    let t = connected_pair(Settings::seeded(1)).await;
    let error = connect(&t.net, "n1", "n2:7001").await.err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    for one_way in [["n1", "n2"], ["n2", "n1"]] {
        t.net.block(one_way[0], one_way[1]);
        assert!(timeout(LONG, connect(&t.net, "n1", "n2:7000")).await.is_err());
        let waiting = connect(&t.net, "n1", "n2:7000");
        let heal = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            t.net.heal();
        };
        let (connected, ()) = tokio::join!(waiting, heal);
        assert!(connected.is_ok());
    }
    t.net.partition(&["n1"], &["n2"]);
    let error = connect(&t.net, "n1", "n2:7000").await.err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
}

#[tokio::test(start_paused = true)]
async fn a_partition_holds_what_was_sent_and_loses_nothing() {
    let mut t = connected_pair(Settings::seeded(1)).await;
    t.near.write_all(b"before").await.unwrap();
    t.net.partition(&["n1"], &["n2", "n3"]);
    t.near.write_all(b"while").await.unwrap();
    assert!(timeout(Duration::from_secs(4), read_some(&mut t.far)).await.is_err());
    t.net.heal();
    let mut got = [0; 11];
    t.far.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"beforewhile");
}

#[tokio::test(start_paused = true)]
async fn a_block_in_one_direction_lets_the_other_pass() {
    let mut t = connected_pair(Settings::seeded(1)).await;
    t.net.block("n1", "n2");
    t.far.write_all(b"hey").await.unwrap();
    t.near.write_all(b"you").await.unwrap();
    assert_eq!(read_some(&mut t.near).await.unwrap(), b"hey");
    assert!(timeout(Duration::from_secs(1), read_some(&mut t.far)).await.is_err());
    t.net.unblock("n1", "n2");
    assert_eq!(read_some(&mut t.far).await.unwrap(), b"you");
}

#[tokio::test(start_paused = true)]
async fn a_connection_cut_off_for_long_breaks_at_both_ends() {
    let mut t = connected_pair(Settings::seeded(1)).await;
    let start = Instant::now();
    t.net.block("n1", "n2");
    let (near, far) = tokio::join!(read_some(&mut t.near), read_some(&mut t.far));
    assert_eq!(near.unwrap_err().kind(), io::ErrorKind::TimedOut);
    assert_eq!(far.unwrap_err().kind(), io::ErrorKind::TimedOut);
    assert_eq!(start.elapsed().as_secs(), 5);
    assert!(t.near.write_all(b"x").await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_killed_host_closes_its_sockets_by_an_end_or_a_reset() {
    let (mut whole, mut reset) = (0, 0);
    for seed in 0..20 {
        let mut t = connected_pair(Settings::seeded(seed)).await;
        t.near.write_all(b"last words").await.unwrap();
        t.net.kill("n1");
        assert!(t.near.write_all(b"ghost").await.is_err());
        let mut got = Vec::new();
        match timeout(Duration::from_secs(1), t.far.read_to_end(&mut got)).await.expect("the close comes at once") {
            Ok(_) => {
                assert_eq!(got, b"last words");
                whole += 1;
            }
            Err(error) => {
                assert_eq!((error.kind(), got.len()), (io::ErrorKind::ConnectionReset, 0));
                reset += 1;
            }
        }
    }
    assert!(whole > 0 && reset > 0, "{whole} {reset}");
}

#[tokio::test(start_paused = true)]
async fn a_killed_listener_refuses_and_its_port_is_free_again() {
    let t = connected_pair(Settings::seeded(1)).await;
    assert_eq!(t.net.host("n2").bind("n2:7000").await.err().unwrap().kind(), io::ErrorKind::AddrInUse);
    t.net.kill("n2");
    let error = connect(&t.net, "n1", "n2:7000").await.err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    let mut again = t.net.host("n2").bind("n2:7000").await.unwrap();
    drop(t.listener); // the listener of the killed process, which must not affect the new one
    let (near, far) = tokio::join!(connect(&t.net, "n1", "n2:7000"), again.accept());
    assert!(near.is_ok() && far.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_cut_breaks_both_ends_and_a_new_connection_works() {
    let mut t = connected_pair(Settings::seeded(1)).await;
    t.net.cut("n2", "n1");
    assert_eq!(read_some(&mut t.near).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(read_some(&mut t.far).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert!(connect(&t.net, "n1", "n2:7000").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn writing_to_a_closed_end_fails_after_a_round_trip() {
    let mut t = connected_pair(Settings::seeded(1)).await;
    drop(t.far);
    let mut written = 0;
    while t.near.write_all(b"x").await.is_ok() {
        written += 1;
        assert!(written < 1_000);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(written > 0);
    drop(t.near);
    assert_eq!(t.net.connections(), 0);
}

#[tokio::test(start_paused = true)]
async fn ports_and_hosts_are_distinguished() {
    let net = SimNet::new(Settings::seeded(1));
    let first = net.host("n1").bind("n1:0").await.unwrap();
    let second = net.host("n1").bind("0.0.0.0:0").await.unwrap();
    assert_ne!(first.local_addr().unwrap(), second.local_addr().unwrap());
    assert!(second.local_addr().unwrap().starts_with("n1:"));
    let error = net.host("n1").bind("n2:7000").await.err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
}

#[tokio::test(start_paused = true)]
async fn a_clock_follows_the_paused_one_and_may_be_wrong() {
    use evener_core::time::Timestamp;

    use crate::transport::Clock;
    let clock = SimClock::new(Timestamp(1_000));
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!(clock.wall(), Timestamp(3_000));
    clock.set_offset(-500);
    assert_eq!(clock.wall(), Timestamp(2_500));
    clock.set_offset(-9_000);
    assert_eq!(clock.wall(), Timestamp(0));
    clock.set_offset(500);
    assert_eq!(clock.clone().wall(), Timestamp(3_500));
}

/// Runs exchanges between three hosts under faults, and returns the trace.
fn run(seed: u64) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let net = SimNet::new(Settings { stalls_per_mille: 50, ..Settings::seeded(seed) });
        let mut talks = tokio::task::JoinSet::new();
        for name in ["n1", "n2", "n3"] {
            let mut listener = net.host(name).bind(&format!("{name}:1")).await.unwrap();
            talks.spawn(async move {
                while let Ok((mut stream, _)) = listener.accept().await {
                    tokio::spawn(async move {
                        let (mut read, mut write) = tokio::io::split(&mut stream);
                        let _ = tokio::io::copy(&mut read, &mut write).await;
                    });
                }
            });
        }
        for (from, to) in [("n1", "n2"), ("n2", "n3"), ("n3", "n1"), ("n1", "n3")] {
            let host = net.host(from);
            talks.spawn(async move {
                for nth in 0..20u32 {
                    let Ok(mut stream) = host.connect(&format!("{to}:1")).await else { continue };
                    for size in 0..nth as usize * 50 {
                        let mut echo = vec![0; size];
                        let _ = stream.write_all(&vec![nth as u8; size]).await;
                        if stream.read_exact(&mut echo).await.is_err() {
                            break;
                        }
                    }
                }
            });
        }
        for fault in 0..10u32 {
            tokio::time::sleep(Duration::from_millis(300)).await;
            match fault % 4 {
                0 => net.partition(&["n1"], &["n2", "n3"]),
                1 => net.heal(),
                2 => net.cut("n2", "n3"),
                _ => net.block("n3", "n1"),
            }
        }
        net.heal();
        tokio::time::sleep(Duration::from_secs(5)).await;
        talks.shutdown().await;
        net.trace()
    })
}

#[test]
fn the_same_seed_gives_the_same_trace_and_another_gives_another() {
    let traces: Vec<u64> = (0..4).map(run).collect();
    assert_eq!(traces, (0..4).map(run).collect::<Vec<_>>());
    assert!(traces.windows(2).all(|pair| pair[0] != pair[1]));
}
