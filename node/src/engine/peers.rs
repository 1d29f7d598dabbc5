//! The status of other members, for requests to this one: their progress and their stalled segments.
//! It is requested on demand, with a short timeout, and cached for a moment, so that many requests cost the members no
//! more than one. A member that does not answer is left out: the applied state of it is shown.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use evener_cluster::{Cluster, status::STATUS_BYTES_MAX};
use evener_core::id::NodeId;
use futures::future::join_all;
use tokio::{sync::Mutex, time::Instant};

use super::Status;

/// Time for which a status is cached: the page's refresh interval.
const REMEMBERED: Duration = Duration::from_secs(1);
/// The longest wait for an answer. A healthy member needs a few milliseconds.
const ANSWER_WAIT: Duration = Duration::from_millis(500);

/// See the [module](self).
#[derive(Debug, Default)]
pub(crate) struct Peers {
    answers: Mutex<BTreeMap<NodeId, Answer>>,
}

/// The last status of a member, if it answered.
#[derive(Debug)]
struct Answer {
    at: Instant,
    status: Option<Arc<Status>>,
}

impl Peers {
    /// Returns the status of these members.
    pub(crate) async fn ask(&self, cluster: &Cluster, members: Vec<NodeId>) -> BTreeMap<NodeId, Arc<Status>> {
        // Requests that arrive meanwhile wait for the same answers.
        let mut answers = self.answers.lock().await;
        let now = Instant::now();
        answers.retain(|_, answer| now.duration_since(answer.at) < REMEMBERED);
        let unknown = members.iter().copied().filter(|node| !answers.contains_key(node));
        let asked = join_all(unknown.map(async |node| (node, status(cluster, node).await))).await;
        for (node, status) in asked {
            answers.insert(node, Answer { at: Instant::now(), status: status.map(Arc::new) });
        }
        members.into_iter().filter_map(|node| Some((node, answers.get(&node)?.status.clone()?))).collect()
    }
}

/// Requests the status of a member; none if it does not answer, or its answer is malformed.
async fn status(cluster: &Cluster, node: NodeId) -> Option<Status> {
    read(&cluster.member_status(node, ANSWER_WAIT).await.ok()?)
}

/// Parses what [`write`] of this version or another one has written.
pub(crate) fn read(status: &[u8]) -> Option<Status> {
    serde_json::from_slice(status).ok()
}

/// Encodes the status for another member: without the actors, which are most of it and which no member uses. If there
/// are more standstills than fit the limit, the last ones are left out: otherwise none would be shown.
pub(crate) fn write(mut status: Status) -> Bytes {
    status.actors.clear();
    loop {
        let json = serde_json::to_vec(&status).expect("a status is plain values");
        if json.len() <= STATUS_BYTES_MAX || status.standstills.is_empty() {
            return json.into();
        }
        status.standstills.truncate(status.standstills.len() / 2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        engine::{
            node_status,
            tests::{alone, joined},
        },
        status::{ActorStatus, Standstill},
    };

    fn still(segment: u32) -> Standstill {
        Standstill { processor: "p".into(), segment, ..Standstill::default() }
    }

    #[tokio::test]
    async fn p10_the_status_for_a_member_has_only_what_it_uses_and_fits_the_limit() {
        let engine = alone().await;
        engine.board().publish(ActorStatus { name: "p/3".into(), ..ActorStatus::default() });
        engine.board().set_standstills("p/3", vec![still(3)]);
        let status = node_status::status(&engine);
        let sent = read(&write(status.clone())).unwrap();
        assert_eq!((status.actors.len(), sent.actors.len()), (1, 0));
        assert_eq!(sent, Status { actors: Vec::new(), ..status.clone() });

        let many = Status { standstills: (0..100_000).map(still).collect(), ..status };
        let written = write(many.clone());
        let kept = read(&written).unwrap().standstills;
        assert!((STATUS_BYTES_MAX / 2 - 1_000..=STATUS_BYTES_MAX).contains(&written.len()), "{}", written.len());
        assert_eq!(kept[..], many.standstills[..kept.len()]);
    }

    /// As a member of this version writes it: others read it while a cluster is upgraded.
    #[test]
    fn a_golden_status_is_read() {
        let golden = r#"{"node":"n2","version":"0.1.0","uptime_s":7,"role":"follower","term":3,"leader":"n1","head":5,
            "applied":9,"durable":9,"disk":{"free_bytes":1,"total_bytes":2,"reserve_bytes":0,"log_bytes":1,
            "appends_refused":null},"state_hash":{"index":9,"hash":"00000000000000ff"},"log_ahead_ms":0,"actors":[],
            "standstills":[{"processor":"p","segment":3,"epoch":4,"state":"flooded","reason":"r","retry_at":8}],
            "segments_wanted":[{"processor":"p","stored":4,"wanted":5}]}"#;
        let status = read(golden.as_bytes()).unwrap();
        assert_eq!((status.node.as_str(), status.applied, status.standstills[0].epoch), ("n2", 9, 4));
        assert_eq!(write(status), golden.split_whitespace().collect::<String>());
        assert!(read(b"").is_none() && read(b"{}").is_none());
    }

    #[tokio::test]
    async fn a_member_reports_its_progress_and_standstills() {
        let (engine, other) = joined().await;
        let node = other.cluster().me();
        other.board().set_standstills("p/3", vec![still(3)]);
        let peers = Peers::default();
        let members = vec![node, NodeId(9)];
        let answers = peers.ask(engine.cluster(), members.clone()).await;
        assert_eq!(answers.keys().collect::<Vec<_>>(), [&node], "a member that does not answer is left out");
        assert_eq!(answers[&node].standstills, [still(3)]);
        assert!(answers[&node].applied > 0);
        other.board().remove("p/3");
        let again = peers.ask(engine.cluster(), members).await;
        assert_eq!(again[&node].standstills.len(), 1, "it is cached for a moment");
    }
}
