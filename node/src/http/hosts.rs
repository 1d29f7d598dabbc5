//! The host names under which this server may be addressed. A page of another site can have its own name resolve to
//! this machine (DNS rebinding); a browser then sends that name as `Host` and takes the page and this server for one
//! origin. So a request is served only if it is addressed to a name of this node.

use std::{collections::BTreeSet, net::IpAddr};

use axum::http::{HeaderMap, Uri, header::HOST};

use crate::settings::{Address, Settings};

/// The names under which this server may be addressed, beside `localhost` and the loopback addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hosts {
    names: BTreeSet<String>,
    /// It listens on every address of the machine: any address may be one of them. A page cannot be served under
    /// an address that is not its server's, so that this admits no other site.
    any_address: bool,
}

impl Hosts {
    /// Returns the names of a node with these settings: its listen and advertised addresses and
    /// `http.allowed_hosts`.
    #[must_use]
    pub(crate) fn of(settings: &Settings) -> Self {
        let addresses = [Some(&settings.listen), settings.advertise.as_ref()];
        let own = addresses.into_iter().flatten().map(Address::host);
        let allowed = settings.allowed_hosts.iter().map(String::as_str);
        Self { names: own.chain(allowed).map(normal).collect(), any_address: settings.listen.is_wildcard() }
    }

    /// Returns the name that the request is addressed to if it is not one of this server's. The port does not count:
    /// it may be mapped. A request without any name does not come from a browser, and is served.
    #[must_use]
    pub(crate) fn foreign(&self, uri: &Uri, headers: &HeaderMap) -> Option<String> {
        let named = headers.get_all(HOST).iter().map(|host| host.to_str().unwrap_or("?"));
        named
            .chain(uri.authority().map(axum::http::uri::Authority::as_str))
            .find(|name| !self.has(name))
            .map(str::to_owned)
    }

    fn has(&self, authority: &str) -> bool {
        let name = normal(host_of(authority));
        if name == "localhost" || self.names.contains(&name) {
            return true;
        }
        name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback() || self.any_address)
    }
}

/// The host of `host:port`, `[address]:port` or either without a port.
fn host_of(authority: &str) -> &str {
    if let Some(rest) = authority.strip_prefix('[') {
        let is_port = |rest: &str| rest.is_empty() || rest.starts_with(':');
        return rest.split_once(']').map_or("", |(address, rest)| if is_port(rest) { address } else { "" });
    }
    authority.rsplit_once(':').map_or(authority, |(host, _)| host)
}

/// One spelling for names that are the same.
fn normal(name: &str) -> String {
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;
    use crate::settings::Value;

    fn foreign(hosts: &Hosts, host: &str) -> bool {
        let headers = HeaderMap::from_iter([(HOST, HeaderValue::from_str(host).unwrap())]);
        hosts.foreign(&Uri::from_static("/"), &headers).is_some()
    }

    fn hosts(change: impl FnOnce(&mut Settings)) -> Hosts {
        let mut settings = Settings::default();
        change(&mut settings);
        Hosts::of(&settings)
    }

    #[test]
    fn loopback_and_the_nodes_own_names_are_served_with_any_port() {
        let own = hosts(|settings| {
            settings.advertise = Some(Address::parse("Node-1.example:4750").unwrap());
            settings.allowed_hosts = vec!["events.example".into()];
        });
        for host in ["localhost", "LOCALHOST:1", "127.0.0.1:4750", "127.9.9.9", "[::1]:4750", "[::1]"] {
            assert!(!foreign(&own, host) && !foreign(&Hosts::default(), host), "{host}");
        }
        for host in ["node-1.example", "NODE-1.example.:80", "events.example:443"] {
            assert!(!foreign(&own, host) && foreign(&Hosts::default(), host), "{host}");
        }
    }

    #[test]
    fn another_name_is_not_served_however_it_is_written() {
        let own = hosts(|_| ());
        for host in [
            "evil.example:4750",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "10.0.0.1",
            "[::2]:4750",
            "evil.example:127.0.0.1",
            "",
            "[::1",
            "[localhost]evil.example",
            "localhost@evil.example",
        ] {
            assert!(foreign(&own, host), "{host}");
        }
        let both = HeaderMap::from_iter([(HOST, HeaderValue::from_static("localhost"))]);
        assert!(own.foreign(&Uri::from_static("http://evil.example/"), &both).is_some(), "the address counts too");
        assert!(own.foreign(&Uri::from_static("/"), &HeaderMap::new()).is_none(), "no browser leaves it out");
    }

    #[test]
    fn a_node_on_every_address_is_served_under_any_address_and_under_no_other_name() {
        let own = hosts(|settings| settings.listen = Address::parse("0.0.0.0:4750").unwrap());
        assert!(!foreign(&own, "10.0.0.1:4750"));
        assert!(foreign(&own, "evil.example:4750"));
    }
}
