//! The servers a client knows, and whose turn it is.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::{codes, error::ApiError};

/// Servers of one cluster. A clone is the same list.
#[derive(Clone, Debug)]
pub struct Servers(Arc<Mutex<List>>);

#[derive(Debug)]
struct List {
    urls: Vec<String>,
    turn: usize,
    answered: bool,
}

/// Servers that are remembered, those named and those that were hinted at together.
const SERVERS_MAX: usize = 64;

impl Servers {
    /// Reads `URL[,URL…]`; `host:port` is short for `http://host:port`.
    pub fn parse(urls: &str) -> Result<Self, ApiError> {
        let urls: Vec<String> =
            urls.split(',').map(str::trim).filter(|url| !url.is_empty()).map(server).collect::<Result<_, _>>()?;
        if urls.is_empty() {
            return Err(wrong("no server is named"));
        }
        Ok(Self(Arc::new(Mutex::new(List { urls, turn: 0, answered: false }))))
    }

    /// Whose turn it is.
    pub fn current(&self) -> String {
        let list = self.0.lock();
        list.urls[list.turn].clone()
    }

    /// All of them.
    pub fn all(&self) -> Vec<String> {
        self.0.lock().urls.clone()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.lock().urls.len()
    }

    /// One has failed so: the turn of who is said to lead, else of the next.
    pub fn failed(&self, error: &ApiError) {
        match &error.leader {
            Some(leader) => self.go_to(leader),
            None => self.go_on(),
        }
    }

    /// The next one's turn.
    pub fn go_on(&self) {
        let mut list = self.0.lock();
        list.turn = (list.turn + 1) % list.urls.len();
    }

    /// The turn of the one that leads; it is remembered.
    pub fn go_to(&self, leader: &str) {
        let Ok(leader) = server(leader) else { return self.go_on() };
        let mut list = self.0.lock();
        match list.urls.iter().position(|url| *url == leader) {
            // It was asked and failed: somebody else may know better by now.
            Some(place) if place == list.turn => list.turn = (list.turn + 1) % list.urls.len(),
            Some(place) => list.turn = place,
            None if list.urls.len() < SERVERS_MAX => {
                list.urls.push(leader);
                list.turn = list.urls.len() - 1;
            }
            None => list.turn = (list.turn + 1) % list.urls.len(),
        }
    }

    /// One has answered.
    pub fn answered(&self) {
        self.0.lock().answered = true;
    }

    /// Whether one ever has.
    pub fn ever_answered(&self) -> bool {
        self.0.lock().answered
    }
}

fn server(url: &str) -> Result<String, ApiError> {
    let url = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
    if url.starts_with("https://") {
        return Err(ApiError::not_yet("a server over https").hint("use http:// inside a trusted network"));
    }
    let parsed = reqwest::Url::parse(&url).map_err(|error| wrong(&format!("'{url}' is no address: {error}")))?;
    let plain =
        parsed.scheme() == "http" && parsed.host().is_some() && parsed.path() == "/" && parsed.query().is_none();
    if !plain {
        return Err(wrong(&format!("'{url}' is no server: it must be like http://127.0.0.1:4750")));
    }
    Ok(url.trim_end_matches('/').to_owned())
}

fn wrong(message: &str) -> ApiError {
    ApiError::new(&codes::USAGE, message).hint("name servers with --server URL[,URL…] or EVENER_SERVER")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_go_round_and_follow_hints() {
        let servers = Servers::parse("http://a:1/, b:2").unwrap();
        assert_eq!(servers.current(), "http://a:1");
        servers.go_on();
        assert_eq!(servers.current(), "http://b:2");
        servers.go_on();
        assert_eq!(servers.current(), "http://a:1");
        servers.go_to("http://c:3");
        assert_eq!((servers.current().as_str(), servers.len()), ("http://c:3", 3));
        servers.go_to("http://c:3");
        assert_eq!(servers.current(), "http://a:1", "a hint that was followed and failed leads nowhere");
    }

    #[test]
    fn what_is_no_server_is_refused() {
        let code = |urls| Servers::parse(urls).unwrap_err().code.into_owned();
        assert_eq!(code(""), "EV0600");
        assert_eq!(code("ftp://a:1"), "EV0600");
        assert_eq!(code("http://a:1/events"), "EV0600");
        assert_eq!(code("https://a:1"), "EV0900");
    }
}
