//! A host on the simulated wire, where a process that is ending takes connections that it will not serve.

use std::{collections::BTreeMap, io, sync::Arc};

use parking_lot::Mutex;

use crate::{
    sim_wire::SimHost,
    transport::{BoxFuture, BoxedStream, Listener, Transport},
};

/// How many connections a node still makes to processes that are gone, only to see them break.
#[derive(Clone, Default)]
pub struct Breaking(pub Arc<Mutex<BTreeMap<u64, u32>>>);

impl Breaking {
    pub fn takes(&self, nth: u64) -> bool {
        self.0.lock().get_mut(&nth).is_some_and(|left| std::mem::replace(left, left.saturating_sub(1)) > 0)
    }
}

/// A host on the simulated wire, where a process that is ending takes connections that it will not serve.
pub struct Host {
    pub nth: u64,
    pub wire: SimHost,
    pub breaking: Breaking,
}

impl Transport for Host {
    fn connect<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<BoxedStream>> {
        Box::pin(async move {
            match self.wire.connect(addr).await {
                Err(gone) if gone.kind() == io::ErrorKind::ConnectionRefused && self.breaking.takes(self.nth) => {
                    Ok(Box::new(tokio::io::duplex(1).0) as BoxedStream)
                }
                connected => connected,
            }
        })
    }

    fn bind<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        self.wire.bind(addr)
    }
}
