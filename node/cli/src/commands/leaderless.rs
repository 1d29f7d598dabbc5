//! Replies from one server's own data. They may be stale if the server knows no leader: then the request goes to
//! another server, and if that knows none either, the reply is marked.

use std::time::Duration;

use evener::{
    client::Client,
    engine::{Reply, Request},
    error::ApiError,
};

/// The timeout of the second server: a reply of the first is available already.
const SECOND_SERVER_TIMEOUT: Duration = Duration::from_secs(2);

/// A reply from one server's own data.
pub(super) struct MarkedReply {
    /// The reply.
    pub reply: Reply,
    /// The node that replied, if it knows no leader.
    pub leaderless: Option<LeaderlessNode>,
}

/// A node that knows no leader.
pub(super) struct LeaderlessNode {
    node: String,
    trouble: Option<String>,
}

impl LeaderlessNode {
    /// Creates it from the node's name, and its reason why nothing can be decided.
    pub(super) fn new(node: impl Into<String>, trouble: Option<&str>) -> Self {
        Self { node: node.into(), trouble: trouble.map(str::to_owned) }
    }

    /// Warns on stderr that a reply of this node may be stale.
    pub(super) fn warn(&self) {
        let node = &self.node;
        eprintln!("{node} knows no leader: this is its own data and may be stale (see: evener cluster status)");
    }

    /// Returns the note below a table of owners: why they may be outdated.
    pub(super) fn owners_note(&self) -> String {
        let trouble = self.trouble.as_deref().unwrap_or("no leader is known");
        format!("{trouble}\nthe owners are the last known to {}, and are not processing now\n", self.node)
    }
}

/// Sends a request that is answered from one server's own data, and warns if the reply may be stale.
pub(super) async fn request(client: &Client, request: &Request) -> Result<Reply, ApiError> {
    let MarkedReply { reply, leaderless } = request_marked(client, request).await?;
    if let Some(leaderless) = leaderless {
        leaderless.warn();
    }
    Ok(reply)
}

/// Sends a request that is answered from one server's own data.
pub(super) async fn request_marked(client: &Client, request: &Request) -> Result<MarkedReply, ApiError> {
    let reply = client.ask(request).await?;
    let Ok(Some(leaderless)) = leaderless_node(client).await else {
        return Ok(MarkedReply { reply, leaderless: None });
    };
    if let Some(reply) = ask_another(client, request).await {
        return Ok(MarkedReply { reply, leaderless: None });
    }
    Ok(MarkedReply { reply, leaderless: Some(leaderless) })
}

/// Returns the next server's reply, if there are several servers and the next one knows a leader.
async fn ask_another(client: &Client, request: &Request) -> Option<Reply> {
    let first = client.server();
    client.use_next_server();
    if client.server() == first {
        return None;
    }
    let limited = client.clone().within(SECOND_SERVER_TIMEOUT);
    let reply = limited.ask(request).await.ok()?;
    matches!(leaderless_node(&limited).await, Ok(None)).then_some(reply)
}

/// Returns the current server's node, if it knows no leader.
async fn leaderless_node(client: &Client) -> Result<Option<LeaderlessNode>, ApiError> {
    let client = client.clone().with_retry_time(Duration::ZERO);
    match client.ask(&Request::Status).await? {
        Reply::Status(status) => {
            let leaderless = LeaderlessNode::new(status.node, status.trouble.as_deref());
            Ok(status.leader.is_none().then_some(leaderless))
        }
        _ => unreachable!("a status request is answered with the status"),
    }
}

#[cfg(test)]
mod tests {
    use axum::{Json, Router, routing::get};
    use tokio::net::TcpListener;

    use super::*;
    use evener::engine::{Processor, StateHash, Status};

    /// Starts a server that knows this leader and this processor.
    async fn server(leader: Option<&str>, processor: &str) -> String {
        let (status, processors) = (status(leader), vec![named(processor)]);
        let routes = Router::new()
            .route("/status", get(|| async { Json(status) }))
            .route("/processors", get(|| async { Json(processors) }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        url
    }

    fn status(leader: Option<&str>) -> Status {
        Status {
            node: "n1".into(),
            version: String::new(),
            uptime_s: 0,
            role: "follower".into(),
            term: 1,
            leader: leader.map(str::to_owned),
            head: 0,
            applied: 0,
            durable: 0,
            disk: evener::engine::Disk::default(),
            state_hash: StateHash { index: 0, hash: String::new() },
            trouble: leader.is_none().then(|| "no majority for 7 s".to_owned()),
            clock_ahead_ms: None,
            log_ahead_ms: 0,
            actors: Vec::new(),
            standstills: Vec::new(),
            segments_wanted: Vec::new(),
        }
    }

    fn named(name: &str) -> Processor {
        Processor { name: name.into(), state: "running".into(), ..Processor::default() }
    }

    async fn check(servers: &[String], expected: &str) {
        let client = Client::connect(&servers.join(",")).unwrap();
        let Ok(MarkedReply { reply: Reply::Processors(shown), leaderless }) =
            request_marked(&client, &Request::Processors).await
        else {
            panic!("a reply is returned")
        };
        assert_eq!(shown[0].name, expected, "{servers:?}");
        assert_eq!(leaderless.is_some(), expected.starts_with("old"), "{servers:?}");
        let note = leaderless.map(|leaderless| leaderless.owners_note()).unwrap_or_default();
        assert_eq!(note.starts_with("no majority for 7 s\n"), expected.starts_with("old"), "{note}");
    }

    #[tokio::test]
    async fn a_leaderless_nodes_data_is_shown_if_no_other_knows_a_leader() {
        let (leaderless, lonely) = (server(None, "old").await, server(None, "as old").await);
        let (led, gone) = (server(Some("n2"), "new").await, "http://127.0.0.1:1".to_owned());
        check(&[leaderless.clone(), led.clone()], "new").await;
        check(&[led, leaderless.clone()], "new").await;
        check(&[leaderless.clone(), lonely], "old").await;
        check(&[leaderless.clone(), gone], "old").await;
        check(&[leaderless], "old").await;
    }
}
