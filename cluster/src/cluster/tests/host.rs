//! A host on the simulated network on which an exiting process accepts connections that it does not serve.

use std::{collections::BTreeMap, io, sync::Arc};

use parking_lot::Mutex;

use crate::{
    sim_wire::SimHost,
    transport::{BoxFuture, BoxedStream, Listener, Transport},
};

/// For each node, how many more of its connections to exited processes are accepted and then break.
#[derive(Clone, Default)]
pub(super) struct BrokenConnections(pub Arc<Mutex<BTreeMap<u64, u32>>>);

impl BrokenConnections {
    pub(super) fn takes(&self, nth: u64) -> bool {
        self.take(nth) > 0
    }

    fn take(&self, nth: u64) -> u32 {
        self.0.lock().get_mut(&nth).map_or(0, |left| std::mem::replace(left, left.saturating_sub(1)))
    }
}

/// A host on the simulated network on which an exiting process accepts connections that it does not serve.
pub(super) struct Host {
    pub nth: u64,
    pub wire: SimHost,
    pub broken_connections: BrokenConnections,
}

impl Transport for Host {
    fn connect<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<BoxedStream>> {
        Box::pin(async move {
            match self.wire.connect(addr).await {
                Err(refused) if refused.kind() == io::ErrorKind::ConnectionRefused => {
                    match self.broken_connections.take(self.nth) {
                        0 => Err(refused),
                        // The connection may also break while it is being opened.
                        odd if odd % 2 == 1 => Err(io::ErrorKind::ConnectionReset.into()),
                        _ => Ok(Box::new(tokio::io::duplex(1).0) as BoxedStream),
                    }
                }
                connected => connected,
            }
        })
    }

    fn bind<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        self.wire.bind(addr)
    }
}
