//! What must hold between settings before a node starts with them.

use std::time::Duration;

use super::{
    Settings,
    value::{Address, Size},
};
use crate::{codes, error::ApiError};

/// A chunk must hold the largest entry, with room for what stands around it.
const CHUNK_BYTES_MIN: u64 = 64 << 10;
/// A chunk's places are counted in 32 bits.
const CHUNK_BYTES_MAX: u64 = 1 << 30;

impl Settings {
    /// Refuses what cannot work, or would open the node to others unasked.
    pub fn check(&self) -> Result<(), ApiError> {
        self.check_address("--listen", &self.listen, "--advertise", self.advertise.as_ref())?;
        self.check_address("--peer-listen", &self.peer_listen, "--peer-advertise", self.peer_advertise.as_ref())?;
        if self.listen == self.peer_listen && self.listen.port() != 0 {
            return Err(bad(format!(
                "--listen and --peer-listen are both {}: clients and the other nodes need a port each",
                self.listen
            )));
        }
        self.check_times()?;
        if let Some(Size(bytes)) =
            self.chunk_bytes.filter(|size| !(CHUNK_BYTES_MIN..=CHUNK_BYTES_MAX).contains(&size.0))
        {
            return Err(bad(format!("store.chunk_bytes is {bytes}: it must be 64KiB to 1GiB")));
        }
        if self.name.len() > 64 || self.name.contains(|c: char| c.is_control() || c.is_whitespace() || c == ',') {
            return Err(bad(format!("node.name is '{}': it must be one word of at most 64 bytes", self.name)));
        }
        Ok(())
    }

    /// Threads for handlers.
    #[must_use]
    pub fn handler_threads(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(2, std::num::NonZero::get).max(2);
        self.handler_threads.map_or_else(cores, |threads| threads.get() as usize)
    }

    fn check_address(
        &self,
        flag: &str,
        listen: &Address,
        advertise_flag: &str,
        advertise: Option<&Address>,
    ) -> Result<(), ApiError> {
        if !listen.is_loopback() && !self.insecure_listen {
            let message = format!("{flag} {listen} can be reached by others, and nothing protects it");
            return Err(ApiError::new(&codes::OPEN_ADDRESS, message));
        }
        if listen.is_wildcard() && advertise.is_none_or(Address::is_wildcard) {
            let message = format!("{flag} {listen} means every address of this machine: {advertise_flag} is missing");
            return Err(ApiError::new(&codes::WILDCARD, message));
        }
        Ok(())
    }

    fn check_times(&self) -> Result<(), ApiError> {
        if self.heartbeat < Duration::from_millis(10) || self.heartbeat * 2 > self.election {
            let (heartbeat, election) = (self.heartbeat, self.election);
            return Err(bad(format!(
                "cluster.heartbeat is {heartbeat:?}: it must be 10ms to half of cluster.election ({election:?})"
            )));
        }
        if self.lease < self.heartbeat * 4 {
            let (lease, heartbeat) = (self.lease, self.heartbeat);
            return Err(bad(format!(
                "cluster.lease is {lease:?}: it must be at least four times cluster.heartbeat ({heartbeat:?})"
            )));
        }
        Ok(())
    }
}

fn bad(message: String) -> ApiError {
    ApiError::new(&codes::BAD_SETTING, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Value;

    fn code(change: impl FnOnce(&mut Settings)) -> Option<String> {
        let mut settings = Settings::default();
        change(&mut settings);
        settings.check().err().map(|error| error.code.into_owned())
    }

    fn address(text: &str) -> Address {
        Address::parse(text).unwrap()
    }

    #[test]
    fn an_open_address_must_be_asked_for_by_name() {
        assert_eq!(code(|_| ()), None);
        assert_eq!(code(|s| s.listen = address("10.0.0.1:4750")).as_deref(), Some("EV0503"));
        assert_eq!(code(|s| s.peer_listen = address("10.0.0.1:4751")).as_deref(), Some("EV0503"));
        let open = |s: &mut Settings| (s.listen, s.insecure_listen) = (address("10.0.0.1:4750"), true);
        assert_eq!(code(open), None);
    }

    #[test]
    fn a_wildcard_needs_an_address_to_tell() {
        let wildcard = |s: &mut Settings| (s.listen, s.insecure_listen) = (address("0.0.0.0:4750"), true);
        assert_eq!(code(wildcard).as_deref(), Some("EV0504"));
        let told = |s: &mut Settings| {
            wildcard(s);
            s.advertise = Some(address("10.0.0.1:4750"));
        };
        assert_eq!(code(told), None);
    }

    #[test]
    fn clients_and_peers_have_a_port_each() {
        assert_eq!(code(|s| s.peer_listen = s.listen.clone()).as_deref(), Some("EV0501"));
        assert_eq!(code(|s| (s.listen, s.peer_listen) = (address("127.0.0.1:0"), address("127.0.0.1:0"))), None);
    }

    #[test]
    fn sizes_and_times_that_cannot_work_are_refused() {
        assert_eq!(code(|s| s.chunk_bytes = Some(Size(1))).as_deref(), Some("EV0501"));
        assert_eq!(code(|s| s.chunk_bytes = Some(Size(64 << 10))), None);
        assert_eq!(code(|s| s.heartbeat = Duration::from_secs(1)).as_deref(), Some("EV0501"));
        assert_eq!(code(|s| s.lease = Duration::from_millis(500)).as_deref(), Some("EV0501"));
        assert_eq!(code(|s| s.name = "two words".into()).as_deref(), Some("EV0501"));
    }
}
