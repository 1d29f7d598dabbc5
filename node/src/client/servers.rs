//! The servers that a client knows, and the one that gets the next request.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{codes, error::ApiError};

/// Servers of one cluster. A clone is the same list.
#[derive(Clone, Debug)]
pub(super) struct Servers(Arc<Mutex<List>>);

#[derive(Debug)]
struct List {
    servers: Vec<Server>,
    current: usize,
    answered: bool,
}

#[derive(Debug)]
struct Server {
    url: String,
    /// When it last left a request without an answer.
    unresponsive_since: Option<Instant>,
}

/// Maximum number of servers in the list, from the command line and from leader hints together.
const SERVERS_MAX: usize = 64;
/// A server that left a request without an answer is skipped for this time, even if it is named as the leader:
/// another failed attempt would take seconds.
const SKIP_TIME: Duration = Duration::from_secs(10);

impl Servers {
    /// Reads `URL[,URL…]`; `host:port` is short for `http://host:port`.
    pub(super) fn parse(urls: &str) -> Result<Self, ApiError> {
        let urls = urls.split(',').map(str::trim).filter(|url| !url.is_empty());
        let servers: Vec<Server> = urls
            .map(|url| Ok(Server { url: server(url)?, unresponsive_since: None }))
            .collect::<Result<_, ApiError>>()?;
        if servers.is_empty() {
            return Err(invalid("no server is named"));
        }
        Ok(Self(Arc::new(Mutex::new(List { servers, current: 0, answered: false }))))
    }

    /// Returns the server for the next request.
    pub(super) fn current(&self) -> String {
        let list = self.0.lock();
        list.servers[list.current].url.clone()
    }

    /// Returns all servers.
    pub(super) fn all(&self) -> Vec<String> {
        self.0.lock().servers.iter().map(|server| server.url.clone()).collect()
    }

    /// Returns the number of servers.
    pub(super) fn len(&self) -> usize {
        self.0.lock().servers.len()
    }

    /// Selects the next server after a request to `url` failed: the leader that the error names, else the next one.
    pub(super) fn failed(&self, url: &str, error: &ApiError) {
        match &error.leader {
            Some(leader) => self.follow_hint(url, leader),
            None => self.advance(url),
        }
    }

    /// Selects the next server if `url` is still the current one: of many concurrent requests to it only the first
    /// failure advances.
    pub(super) fn advance(&self, url: &str) {
        let mut list = self.0.lock();
        if list.servers[list.current].url == url {
            list.current = list.next();
        }
    }

    /// Selects the leader that the server `url` named, and adds it to the list.
    pub(super) fn follow_hint(&self, url: &str, leader: &str) {
        let Ok(leader) = server(leader) else { return self.advance(url) };
        let mut list = self.0.lock();
        match list.servers.iter().position(|server| server.url == leader) {
            // It named itself and failed: another server may know a newer leader.
            Some(_) if leader == url => {}
            Some(place) if list.servers[place].is_skipped() => {}
            Some(place) => return list.current = place,
            None if list.servers.len() < SERVERS_MAX => {
                list.servers.push(Server { url: leader, unresponsive_since: None });
                return list.current = list.servers.len() - 1;
            }
            None => {}
        }
        drop(list);
        self.advance(url);
    }

    /// Records that this server left a request without an answer.
    pub(super) fn mark_unresponsive(&self, url: &str) {
        self.0.lock().mark(url, Some(Instant::now()));
    }

    /// Records that this server has answered.
    pub(super) fn mark_answered(&self, url: &str) {
        let mut list = self.0.lock();
        list.answered = true;
        list.mark(url, None);
    }

    /// Returns whether any server ever answered.
    pub(super) fn ever_answered(&self) -> bool {
        self.0.lock().answered
    }
}

impl List {
    /// Returns the index of the next server that is not skipped; if all are skipped, of the next one.
    fn next(&self) -> usize {
        let places = || (1..=self.servers.len()).map(|step| (self.current + step) % self.servers.len());
        let next = places().find(|place| !self.servers[*place].is_skipped());
        next.or_else(|| places().next()).unwrap_or(0)
    }

    fn mark(&mut self, url: &str, unresponsive_since: Option<Instant>) {
        if let Some(server) = self.servers.iter_mut().find(|server| server.url == url) {
            server.unresponsive_since = unresponsive_since;
        }
    }
}

impl Server {
    fn is_skipped(&self) -> bool {
        self.unresponsive_since.is_some_and(|unresponsive_since| unresponsive_since.elapsed() < SKIP_TIME)
    }
}

fn server(url: &str) -> Result<String, ApiError> {
    let url = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
    if url.starts_with("https://") {
        return Err(ApiError::not_yet("a server over https").hint("use http:// inside a trusted network"));
    }
    let parsed = reqwest::Url::parse(&url).map_err(|error| invalid(&format!("'{url}' is not an address: {error}")))?;
    let plain =
        parsed.scheme() == "http" && parsed.host().is_some() && parsed.path() == "/" && parsed.query().is_none();
    if !plain {
        return Err(invalid(&format!("'{url}' is not a server: expected a form like http://127.0.0.1:4750")));
    }
    Ok(url.trim_end_matches('/').to_owned())
}

fn invalid(message: &str) -> ApiError {
    ApiError::new(&codes::USAGE, message).hint("name servers with --server URL[,URL…] or EVENER_SERVER")
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "http://a:1";
    const B: &str = "http://b:2";
    const C: &str = "http://c:3";

    #[test]
    fn servers_are_used_in_turn_and_hints_are_followed() {
        let servers = Servers::parse("http://a:1/, b:2").unwrap();
        assert_eq!(servers.current(), A);
        servers.advance(A);
        assert_eq!(servers.current(), B);
        servers.advance(B);
        assert_eq!(servers.current(), A);
        servers.follow_hint(A, C);
        assert_eq!((servers.current().as_str(), servers.len()), (C, 3));
        servers.follow_hint(C, C);
        assert_eq!(servers.current(), A, "a server that names itself and fails is not tried again");
    }

    #[test]
    fn only_the_first_of_many_concurrent_failures_advances() {
        let servers = Servers::parse("a:1,b:2,c:3").unwrap();
        servers.advance(A);
        servers.advance(A);
        servers.follow_hint(A, A);
        assert_eq!(servers.current(), B);
    }

    #[tokio::test(start_paused = true)]
    async fn an_unresponsive_server_is_skipped_for_a_while() {
        let servers = Servers::parse("a:1,b:2,c:3").unwrap();
        servers.mark_unresponsive(A);
        servers.advance(A);
        servers.follow_hint(B, A);
        assert_eq!(servers.current(), C, "even if it is named as the leader");
        servers.advance(C);
        assert_eq!(servers.current(), B);
        tokio::time::advance(SKIP_TIME).await;
        servers.follow_hint(B, A);
        assert_eq!(servers.current(), A);
        servers.mark_unresponsive(A);
        servers.mark_answered(A);
        servers.advance(A);
        servers.follow_hint(B, A);
        assert_eq!(servers.current(), A, "a server that answers is not skipped");
    }

    #[tokio::test(start_paused = true)]
    async fn if_no_server_answers_all_are_tried_in_turn() {
        let servers = Servers::parse("a:1,b:2").unwrap();
        servers.mark_unresponsive(A);
        servers.mark_unresponsive(B);
        servers.advance(A);
        assert_eq!(servers.current(), B);
        servers.advance(B);
        assert_eq!(servers.current(), A);
    }

    #[test]
    fn an_invalid_server_is_refused() {
        let code = |urls| Servers::parse(urls).unwrap_err().code.into_owned();
        assert_eq!(code(""), "EV0600");
        assert_eq!(code("ftp://a:1"), "EV0600");
        assert_eq!(code("http://a:1/events"), "EV0600");
        assert_eq!(code("https://a:1"), "EV0900");
    }
}
