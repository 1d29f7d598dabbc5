//! What other members say of themselves, for those who ask this one: how far they are, and what stands still there.
//! They are asked when somebody wants to know, for a short time, and remembered for a moment, so that many who ask
//! cost them no more than one. A member that does not answer is passed over: what the log knows of it is shown.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
    time::Duration,
};

use evener_core::id::NodeId;
use futures::future::join_all;
use http_body_util::{BodyExt, Limited};
use tokio::{sync::Mutex, time::Instant};

use super::Status;

/// As long as the page waits between two looks.
const REMEMBERED: Duration = Duration::from_secs(1);
/// Whoever asks waits no longer for it. A member that is well needs a few milliseconds.
const ANSWER_WAIT: Duration = Duration::from_millis(500);
/// And takes no more of a member's answer: rows of some ten thousand actors. Who says more is passed over, like one
/// that does not answer.
pub const STATUS_BYTES_MAX: usize = 4 << 20;

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Peers {
    http: OnceLock<reqwest::Client>,
    told: Mutex<BTreeMap<NodeId, Told>>,
}

/// What a member said when it was asked, if it said anything.
#[derive(Debug)]
struct Told {
    at: Instant,
    url: String,
    status: Option<Arc<Status>>,
}

impl Peers {
    /// What these members, each with the URL where clients reach it, say of themselves.
    pub async fn ask(&self, members: Vec<(NodeId, String)>) -> BTreeMap<NodeId, Arc<Status>> {
        // Who comes meanwhile waits for the same answers.
        let mut told = self.told.lock().await;
        let now = Instant::now();
        told.retain(|_, told| now.duration_since(told.at) < REMEMBERED);
        let fresh = |(node, url): &&(NodeId, String)| told.get(node).is_some_and(|told| told.url == *url);
        let unknown = members.iter().filter(|member| !fresh(member) && !member.1.is_empty());
        let answers = join_all(unknown.map(async |(node, url)| (*node, url.clone(), self.status(url).await))).await;
        for (node, url, status) in answers {
            told.insert(node, Told { at: Instant::now(), url, status: status.map(Arc::new) });
        }
        let known = members.iter().filter_map(|(node, _)| Some((*node, told.get(node)?.status.clone()?)));
        known.collect()
    }

    async fn status(&self, url: &str) -> Option<Status> {
        let http = self.http.get_or_init(|| {
            let http = reqwest::Client::builder().no_proxy();
            http.build().expect("without TLS there is nothing that could be missing")
        });
        let asked = http.get(format!("{url}/status")).timeout(ANSWER_WAIT).send().await;
        read(asked.ok()?.error_for_status().ok()?.into()).await
    }
}

/// What a member said; nothing if that is too long or makes no sense.
async fn read(answer: reqwest::Body) -> Option<Status> {
    let answer = Limited::new(answer, STATUS_BYTES_MAX).collect().await.ok()?;
    serde_json::from_slice(&answer.to_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::{
        engine::{look, tests::alone},
        http::{Api, CONNECTIONS_MAX, serve},
        metrics::Metrics,
        status::Standstill,
    };

    #[tokio::test]
    async fn p10_no_more_of_an_answer_is_held_than_the_limit_allows() {
        let mut status = serde_json::to_vec(&look::status(&alone().await)).unwrap();
        status.resize(STATUS_BYTES_MAX, b' ');
        assert!(read(status.clone().into()).await.is_some());
        status.push(b' ');
        assert!(read(status.into()).await.is_none());
    }

    #[tokio::test]
    async fn a_member_says_how_far_it_is_and_what_stands_still_there() {
        let engine = alone().await;
        let still = Standstill { processor: "p".into(), segment: 3, ..Standstill::default() };
        engine.board().stand_still("p/3", vec![still.clone()]);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router =
            Api::new(Arc::new(engine.clone()), Metrics::default(), Arc::new(Vec::new), crate::http::Hosts::default())
                .router();
        tokio::spawn(serve(listener, router, CONNECTIONS_MAX, Metrics::default(), CancellationToken::new()));

        let peers = Peers::default();
        let nobody = "http://127.0.0.1:1".to_owned();
        let members = vec![(NodeId(2), url), (NodeId(3), nobody), (NodeId(4), String::new())];
        let told = peers.ask(members.clone()).await;
        assert_eq!(told.keys().collect::<Vec<_>>(), [&NodeId(2)], "who does not answer is passed over");
        assert_eq!(told[&NodeId(2)].standstills, [still]);
        assert!(told[&NodeId(2)].applied > 0);
        engine.board().remove("p/3");
        assert_eq!(peers.ask(members).await[&NodeId(2)].standstills.len(), 1, "it is remembered for a moment");
    }
}
