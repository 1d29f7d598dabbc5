//! Limits on what one host may hold of a shared resource.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;

/// The number of units that each host holds.
#[derive(Clone)]
pub(super) struct HostLimit {
    limit: &'static str,
    max: usize,
    held: Arc<Mutex<BTreeMap<String, usize>>>,
}

/// One unit held by a host, until it is dropped.
pub(super) struct HostPermit {
    host_limit: HostLimit,
    host: String,
}

impl HostLimit {
    /// Allows at most `max` units per host; `limit` is the name of that setting.
    pub(super) fn new(limit: &'static str, max: usize) -> Self {
        Self { limit, max, held: Arc::default() }
    }

    /// Takes one more unit for the host of this address, or returns the limit that forbids it. The port is ignored,
    /// as the peer chooses it freely.
    pub(super) fn take(&self, from: &str) -> Result<HostPermit, &'static str> {
        let host = from.rsplit_once(':').map_or(from, |(host, _)| host).to_owned();
        let mut held = self.held.lock();
        let count = held.entry(host.clone()).or_default();
        if *count >= self.max {
            return Err(self.limit);
        }
        *count += 1;
        drop(held);
        Ok(HostPermit { host_limit: self.clone(), host })
    }
}

impl Drop for HostPermit {
    fn drop(&mut self) {
        let mut held = self.host_limit.held.lock();
        let Some(count) = held.get_mut(&self.host) else { return };
        *count -= 1;
        // Hosts without a unit take no memory.
        if *count == 0 {
            held.remove(&self.host);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p10_a_host_is_limited_to_its_share_across_all_its_ports() {
        let host_limit = HostLimit::new("some_max", 2);
        let _first = host_limit.take("10.0.0.1:1").unwrap_or_else(|limit| panic!("{limit}"));
        let second = host_limit.take("10.0.0.1:2").unwrap_or_else(|limit| panic!("{limit}"));
        assert_eq!(host_limit.take("10.0.0.1:3").err(), Some("some_max"));
        let other = host_limit.take("[::1]:3");
        assert!(other.is_ok(), "other hosts have their own share");
        drop(second);
        assert!(host_limit.take("10.0.0.1:4").is_ok(), "a returned unit can be taken again");
        drop(other);
        assert_eq!(host_limit.held.lock().len(), 1, "a host without a unit takes no memory");
    }
}
