//! What a server shows from what it has may be old where it knows no leader: then another one is asked, and where that
//! knows none either it is said.

use std::time::Duration;

use evener::{
    client::Client,
    engine::{Reply, Request},
    error::ApiError,
};

/// What a second server is waited for, where the first has answered already.
const SECOND_LOOK: Duration = Duration::from_secs(2);

/// An answer from what one server has.
pub struct Seen {
    /// The answer.
    pub reply: Reply,
    /// Who gave it, if nobody leads as far as that node knows.
    pub lone: Option<Lone>,
}

/// A node that knows no leader.
pub struct Lone {
    node: String,
    trouble: Option<String>,
}

impl Lone {
    /// A node of this name, and why nothing can be decided as far as it knows.
    pub fn new(node: impl Into<String>, trouble: Option<&str>) -> Self {
        Self { node: node.into(), trouble: trouble.map(str::to_owned) }
    }

    /// Says on standard error that an answer of this node may be old.
    pub fn tell(&self) {
        let node = &self.node;
        eprintln!(
            "nobody leads, as far as {node} knows: this is what it has, and may be old (see: evener cluster status)"
        );
    }

    /// Returns what a table of owners ends with: since when they may be others.
    pub fn of_owners(&self) -> String {
        let trouble = self.trouble.as_deref().unwrap_or("no leader is known");
        format!("{trouble}\nowners are those that {} last knew, and own nothing that goes on now\n", self.node)
    }
}

/// Asks what is answered from what one server has, and says if it may be old.
pub async fn ask(client: &Client, request: &Request) -> Result<Reply, ApiError> {
    let Seen { reply, lone } = look(client, request).await?;
    if let Some(lone) = lone {
        lone.tell();
    }
    Ok(reply)
}

/// Asks what is answered from what one server has.
pub async fn look(client: &Client, request: &Request) -> Result<Seen, ApiError> {
    let reply = client.ask(request).await?;
    let Ok(Some(lone)) = lone_node(client).await else { return Ok(Seen { reply, lone: None }) };
    if let Some(reply) = ask_another(client, request).await {
        return Ok(Seen { reply, lone: None });
    }
    Ok(Seen { reply, lone: Some(lone) })
}

/// What the next server answers, where several are named and that one knows a leader.
async fn ask_another(client: &Client, request: &Request) -> Option<Reply> {
    let first = client.server();
    client.go_on();
    if client.server() == first {
        return None;
    }
    let hasty = client.clone().within(SECOND_LOOK);
    let reply = hasty.ask(request).await.ok()?;
    matches!(lone_node(&hasty).await, Ok(None)).then_some(reply)
}

/// The node that was asked, where it knows no leader.
async fn lone_node(client: &Client) -> Result<Option<Lone>, ApiError> {
    let client = client.clone().with_patience(Duration::ZERO);
    match client.ask(&Request::Status).await? {
        Reply::Status(status) => {
            let lone = Lone::new(status.node, status.trouble.as_deref());
            Ok(status.leader.is_none().then_some(lone))
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
        let Ok(Seen { reply: Reply::Processors(shown), lone }) = look(&client, &Request::Processors).await else {
            panic!("it is shown")
        };
        assert_eq!(shown[0].name, expected, "{servers:?}");
        assert_eq!(lone.is_some(), expected.starts_with("old"), "{servers:?}");
        let told = lone.map(|lone| lone.of_owners()).unwrap_or_default();
        assert_eq!(told.starts_with("no majority for 7 s\n"), expected.starts_with("old"), "{told}");
    }

    #[tokio::test]
    async fn what_a_lone_node_has_is_shown_where_no_other_knows_a_leader() {
        let (lone, lonely) = (server(None, "old").await, server(None, "as old").await);
        let (led, gone) = (server(Some("n2"), "new").await, "http://127.0.0.1:1".to_owned());
        check(&[lone.clone(), led.clone()], "new").await;
        check(&[led, lone.clone()], "new").await;
        check(&[lone.clone(), lonely], "old").await;
        check(&[lone.clone(), gone], "old").await;
        check(&[lone], "old").await;
    }
}
