//! What one host may have of something that all share.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;

/// How much each host has of it.
#[derive(Clone)]
pub struct Shares {
    limit: &'static str,
    max: usize,
    held: Arc<Mutex<BTreeMap<String, usize>>>,
}

/// One of those that a host has, until it is dropped.
pub struct Share {
    shares: Shares,
    host: String,
}

impl Shares {
    /// At most `max` a host; `limit` is the name of that number.
    pub fn new(limit: &'static str, max: usize) -> Self {
        Self { limit, max, held: Arc::default() }
    }

    /// One more for the host of this address, or the limit that forbids it. The port is the caller's own choice.
    pub fn take(&self, from: &str) -> Result<Share, &'static str> {
        let host = from.rsplit_once(':').map_or(from, |(host, _)| host).to_owned();
        let mut held = self.held.lock();
        let count = held.entry(host.clone()).or_default();
        if *count >= self.max {
            return Err(self.limit);
        }
        *count += 1;
        drop(held);
        Ok(Share { shares: self.clone(), host })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut held = self.shares.held.lock();
        let Some(count) = held.get_mut(&self.host) else { return };
        *count -= 1;
        // Hosts that are gone take no memory.
        if *count == 0 {
            held.remove(&self.host);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p10_a_host_has_its_share_and_no_more_whatever_ports_it_comes_from() {
        let shares = Shares::new("some_max", 2);
        let _first = shares.take("10.0.0.1:1").unwrap_or_else(|limit| panic!("{limit}"));
        let second = shares.take("10.0.0.1:2").unwrap_or_else(|limit| panic!("{limit}"));
        assert_eq!(shares.take("10.0.0.1:3").err(), Some("some_max"));
        let other = shares.take("[::1]:3");
        assert!(other.is_ok(), "others have theirs");
        drop(second);
        assert!(shares.take("10.0.0.1:4").is_ok(), "what is given back can be had again");
        drop(other);
        assert_eq!(shares.held.lock().len(), 1, "who is gone is forgotten");
    }
}
