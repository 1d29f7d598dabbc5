//! What a server shows from what it has may be old where it knows no leader: then another one is asked, and where that
//! knows none either it is said.

use std::time::Duration;

use evener::{
    client::Client,
    engine::{Reply, Request},
    error::ApiError,
};

/// What a second server is waited for, where the first has answered already.
const SECOND_SERVER_TIMEOUT: Duration = Duration::from_secs(2);

/// An answer from what one server has.
pub struct MarkedReply {
    /// The answer.
    pub reply: Reply,
    /// Who gave it, if nobody leads as far as that node knows.
    pub leaderless: Option<LeaderlessNode>,
}

/// A node that knows no leader.
pub struct LeaderlessNode {
    node: String,
    trouble: Option<String>,
}

impl LeaderlessNode {
    /// A node of this name, and why nothing can be decided as far as it knows.
    pub fn new(node: impl Into<String>, trouble: Option<&str>) -> Self {
        Self { node: node.into(), trouble: trouble.map(str::to_owned) }
    }

    /// Says on standard error that an answer of this node may be old.
    pub fn warn(&self) {
        let node = &self.node;
        eprintln!(
            "nobody leads, as far as {node} knows: this is what it has, and may be old (see: evener cluster status)"
        );
    }

    /// Returns what a table of owners ends with: since when they may be others.
    pub fn owners_note(&self) -> String {
        let trouble = self.trouble.as_deref().unwrap_or("no leader is known");
        format!("{trouble}\nowners are those that {} last knew, and own nothing that goes on now\n", self.node)
    }
}

/// Asks what is answered from what one server has, and says if it may be old.
pub async fn request(client: &Client, request: &Request) -> Result<Reply, ApiError> {
    let MarkedReply { reply, leaderless } = request_marked(client, request).await?;
    if let Some(leaderless) = leaderless {
        leaderless.warn();
    }
    Ok(reply)
}

/// Asks what is answered from what one server has.
pub async fn request_marked(client: &Client, request: &Request) -> Result<MarkedReply, ApiError> {
    let reply = client.ask(request).await?;
    let Ok(Some(leaderless)) = leaderless_node(client).await else {
        return Ok(MarkedReply { reply, leaderless: None });
    };
    if let Some(reply) = ask_another(client, request).await {
        return Ok(MarkedReply { reply, leaderless: None });
    }
    Ok(MarkedReply { reply, leaderless: Some(leaderless) })
}

/// What the next server answers, where several are named and that one knows a leader.
async fn ask_another(client: &Client, request: &Request) -> Option<Reply> {
    let first = client.server();
    client.go_on();
    if client.server() == first {
        return None;
    }
    let limited = client.clone().within(SECOND_SERVER_TIMEOUT);
    let reply = limited.ask(request).await.ok()?;
    matches!(leaderless_node(&limited).await, Ok(None)).then_some(reply)
}

/// The node that was asked, where it knows no leader.
async fn leaderless_node(client: &Client) -> Result<Option<LeaderlessNode>, ApiError> {
    let client = client.clone().with_patience(Duration::ZERO);
    match client.ask(&Request::Status).await? {
        Reply::Status(status) => {
            let leaderless = LeaderlessNode::new(status.node, status.trouble.as_deref());
            Ok(status.leader.is_none().then_some(leaderless))
        }
        _ => unreachable!("the status is answered with the status"),
    }
}

#[cfg(test)]
mod tests {
    use axum::{Json, Router, routing::get};
    use tokio::net::TcpListener;

    use super::*;
    use evener::engine::{Processor, StateHash, Status};

    /// A node that knows this leader, and this one processor.
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
            panic!("it is shown")
        };
        assert_eq!(shown[0].name, expected, "{servers:?}");
        assert_eq!(leaderless.is_some(), expected.starts_with("old"), "{servers:?}");
        let told = leaderless.map(|leaderless| leaderless.owners_note()).unwrap_or_default();
        assert_eq!(told.starts_with("no majority for 7 s\n"), expected.starts_with("old"), "{told}");
    }

    #[tokio::test]
    async fn what_a_lone_node_has_is_shown_where_no_other_knows_a_leader() {
        let (leaderless, lonely) = (server(None, "old").await, server(None, "as old").await);
        let (led, gone) = (server(Some("n2"), "new").await, "http://127.0.0.1:1".to_owned());
        check(&[leaderless.clone(), led.clone()], "new").await;
        check(&[led, leaderless.clone()], "new").await;
        check(&[leaderless.clone(), lonely], "old").await;
        check(&[leaderless.clone(), gone], "old").await;
        check(&[leaderless], "old").await;
    }
}
