//! TCP as peers need it: small frames are sent at once, and a machine that vanishes silently is noticed.

use std::{io, net::SocketAddr, time::Duration};

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpSocket, TcpStream, lookup_host};

use super::{BoxFuture, BoxedStream, Listener, Transport};

/// A connection that has received nothing for this long is probed.
pub const KEEPALIVE_IDLE: Duration = Duration::from_secs(2);
/// The time between probes.
pub const KEEPALIVE_EVERY: Duration = Duration::from_secs(1);
/// The number of probes that may stay without an answer.
pub const KEEPALIVE_PROBES: u32 = 3;
/// A connection ends if the other machine has not acknowledged sent bytes for this long. The same 5 s as a session's
/// lease: after it no request waits for the answer any more.
pub const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(5);
/// The maximum connections that wait to be accepted.
pub const BACKLOG_MAX: u32 = 1_024;

/// The operating system's sockets.
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpTransport;

impl Transport for TcpTransport {
    fn connect<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<BoxedStream>> {
        Box::pin(async move {
            let stream = TcpStream::connect(addr).await?;
            prepare(&stream)?;
            Ok(Box::new(stream) as BoxedStream)
        })
    }

    fn bind<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let listener = listen(addr).await.map_err(|error| explain(addr, &error))?;
            Ok(Box::new(TcpAcceptor(listener)) as Box<dyn Listener>)
        })
    }
}

async fn listen(addr: &str) -> io::Result<TcpListener> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for place in lookup_host(addr).await? {
        match listen_at(place) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Listens with SO_REUSEADDR, so that a node restarted at once gets its port back despite connections in TIME_WAIT.
fn listen_at(place: SocketAddr) -> io::Result<TcpListener> {
    let socket = if place.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(place)?;
    socket.listen(BACKLOG_MAX)
}

/// Describes why listening failed, and the remedy.
#[must_use]
pub fn explain(addr: &str, error: &io::Error) -> io::Error {
    let way_out = match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another process has this port: stop it (`ss -ltnp` names it), or choose another address"
        }
        io::ErrorKind::PermissionDenied => "ports below 1024 need a privilege: choose a higher one",
        io::ErrorKind::AddrNotAvailable => "this machine has no such address: use one of its own, or 0.0.0.0",
        _ => "give it as `host:port`, with a host that is this machine's",
    };
    io::Error::new(error.kind(), format!("failed to listen on {addr}: {error}: {way_out}"))
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_EVERY);
    #[cfg(any(target_os = "linux", target_vendor = "apple"))]
    let keepalive = keepalive.with_retries(KEEPALIVE_PROBES);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX))?;
    Ok(())
}

struct TcpAcceptor(TcpListener);

impl Listener for TcpAcceptor {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxedStream, String)>> {
        Box::pin(async move {
            let (stream, from) = self.0.accept().await?;
            prepare(&stream)?;
            Ok((Box::new(stream) as BoxedStream, from.to_string()))
        })
    }

    fn local_addr(&self) -> io::Result<String> {
        self.0.local_addr().map(|addr| addr.to_string())
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn bytes_go_both_ways_and_the_assigned_port_is_returned() {
        let mut listener = TcpTransport.bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        assert!(!addr.ends_with(":0"));
        let (near, far) = tokio::join!(TcpTransport.connect(&addr), listener.accept());
        let (mut near, (mut far, _)) = (near.unwrap(), far.unwrap());
        let mut got = [0; 4];
        near.write_all(b"ping").await.unwrap();
        far.read_exact(&mut got).await.unwrap();
        far.write_all(b"pong").await.unwrap();
        near.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"pong");
    }

    #[tokio::test]
    async fn a_port_in_use_is_reported_with_a_hint() {
        let first = TcpTransport.bind("127.0.0.1:0").await.unwrap();
        let addr = first.local_addr().unwrap();
        let error = TcpTransport.bind(&addr).await.err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        let text = error.to_string();
        assert!(text.contains(&addr) && text.contains("another process has this port"), "{text}");
    }

    #[tokio::test]
    async fn a_connection_to_a_port_without_a_listener_is_refused_at_once() {
        let unused = TcpTransport.bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let error = TcpTransport.connect(&unused).await.err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
}
