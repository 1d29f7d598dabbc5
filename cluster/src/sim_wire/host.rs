//! The transport of one simulated host.

use std::{io, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout_at},
};

use super::net::{Arrival, Net};
use crate::transport::{BoxFuture, BoxedStream, Listener, Transport};

/// The time after which the operating system fails a hanging connect, as on Linux.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(127);

/// The transport of one host.
#[derive(Clone)]
pub struct SimHost {
    net: Arc<Mutex<Net>>,
    name: Arc<str>,
}

impl SimHost {
    pub(super) fn new(net: Arc<Mutex<Net>>, name: &str) -> Self {
        Self { net, name: name.into() }
    }

    async fn reach(&self, host: &str, port: u16) -> io::Result<BoxedStream> {
        let (mut changes, mut rng, settings) = {
            let mut net = self.net.lock();
            (net.changes(), net.rng(), net.settings)
        };
        let deadline = Instant::now() + CONNECT_TIMEOUT;
        loop {
            let there = rng.between(settings.latency_min, settings.latency_max);
            let back = rng.between(settings.latency_min, settings.latency_max);
            sleep(there + back).await;
            if !self.net.lock().cut_off(&self.name, host) {
                let stream = Net::connect(&self.net, &self.name, host, port)?;
                return Ok(Box::new(stream));
            }
            let changed = timeout_at(deadline, changes.changed()).await;
            let _ = changed.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?;
        }
    }
}

fn parse(addr: &str) -> io::Result<(&str, u16)> {
    let (host, port) = addr.rsplit_once(':').ok_or(io::ErrorKind::InvalidInput)?;
    Ok((host, port.parse().map_err(|_| io::ErrorKind::InvalidInput)?))
}

impl Transport for SimHost {
    fn connect<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<BoxedStream>> {
        Box::pin(async move {
            let (host, port) = parse(addr)?;
            self.reach(host, port).await
        })
    }

    fn bind<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let (host, port) = parse(addr)?;
            if host != &*self.name && host != "0.0.0.0" {
                let text = format!("failed to listen on {addr}: this host is {}", self.name);
                return Err(io::Error::new(io::ErrorKind::AddrNotAvailable, text));
            }
            let (port, number, arrivals) = self.net.lock().listen(&self.name, port)?;
            let listener = SimListener { host: self.clone(), port, number, arrivals };
            Ok(Box::new(listener) as Box<dyn Listener>)
        })
    }
}

struct SimListener {
    host: SimHost,
    port: u16,
    number: u64,
    arrivals: mpsc::Receiver<Arrival>,
}

impl Listener for SimListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxedStream, String)>> {
        Box::pin(async move {
            let arrival = self.arrivals.recv().await.ok_or(io::ErrorKind::ConnectionAborted)?;
            Ok((Box::new(arrival.0) as BoxedStream, arrival.1))
        })
    }

    fn local_addr(&self) -> io::Result<String> {
        Ok(format!("{}:{}", self.host.name, self.port))
    }
}

impl Drop for SimListener {
    fn drop(&mut self) {
        self.host.net.lock().unlisten(&self.host.name, self.port, self.number);
    }
}
