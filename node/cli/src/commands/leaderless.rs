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

/// Asks what is answered from what one server has.
pub async fn ask(client: &Client, request: &Request) -> Result<Reply, ApiError> {
    let reply = client.ask(request).await?;
    let Ok(Some(node)) = lone_node(client).await else { return Ok(reply) };
    if let Some(second) = ask_another(client, request).await {
        return Ok(second);
    }
    eprintln!("nobody leads, as far as {node} knows: this is what it has, and may be old (see: evener cluster status)");
    Ok(reply)
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
async fn lone_node(client: &Client) -> Result<Option<String>, ApiError> {
    let client = client.clone().with_patience(Duration::ZERO);
    match client.ask(&Request::Status).await? {
        Reply::Status(status) => Ok(status.leader.is_none().then_some(status.node)),
        _ => unreachable!("the status is answered with the status"),
    }
}

#[cfg(test)]
mod tests {
    use axum::{Json, Router, routing::get};
    use tokio::net::TcpListener;

    use super::*;
    use evener::engine::{Processor, SetAside, StateHash, Status};

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
            trouble: None,
            clock_ahead_ms: None,
            log_ahead_ms: 0,
            actors: Vec::new(),
            standstills: Vec::new(),
            segments_wanted: Vec::new(),
        }
    }

    fn named(name: &str) -> Processor {
        Processor {
            name: name.into(),
            version: 1,
            state: "running".into(),
            display_state: String::new(),
            head: 0,
            segments: Vec::new(),
            set_aside: SetAside::default(),
            definition: serde_json::Value::Null,
            skipped: 0,
            room: evener::engine::Room::default(),
            segments_wanted: Vec::new(),
            history: Vec::new(),
        }
    }

    async fn check(servers: &[String], expected: &str) {
        let client = Client::connect(&servers.join(",")).unwrap();
        let Ok(Reply::Processors(shown)) = ask(&client, &Request::Processors).await else { panic!("it is shown") };
        assert_eq!(shown[0].name, expected, "{servers:?}");
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
