//! The status that members report to each other.

use bytes::Bytes;
use futures::future::pending;

use super::*;
use crate::{message::Kind, status::STATUS_BYTES_MAX};

/// How long the tests wait for a status.
const WITHIN: Duration = Duration::from_millis(500);

impl TestCluster {
    /// Sets a provider that answers with a status of `bytes` bytes.
    fn provide(&self, nth: u64, bytes: usize) {
        self.nodes[&nth].provide_status(Box::new(move || Box::pin(async move { Some(vec![7; bytes].into()) })));
    }

    /// Requests the status of one node through another, and returns its size or the error message. Asserts that neither
    /// takes longer than the deadline.
    async fn status_of(&self, from: u64, of: u64) -> Result<usize, String> {
        let begun = Instant::now();
        let answer = self.nodes[&from].member_status(NodeId(of), WITHIN).await;
        assert!(begun.elapsed() <= WITHIN + Duration::from_millis(2), "the request took {:?}", begun.elapsed());
        answer.map(|status| status.len()).map_err(|error| error.message)
    }
}

#[track_caller]
fn refused(answer: Result<usize, String>, why: &str) {
    let message = answer.expect_err("the request fails");
    assert!(message.contains(why), "{message}");
}

#[tokio::test(start_paused = true)]
async fn p10_a_status_arrives_whole_up_to_its_limit() {
    let cluster = TestCluster::founded(71, 3).await;
    for (nth, bytes) in [(1, 0), (2, STATUS_BYTES_MAX), (3, STATUS_BYTES_MAX + 1)] {
        cluster.provide(nth, bytes);
    }
    assert_eq!(cluster.status_of(3, 1).await, Ok(0));
    assert_eq!(cluster.status_of(3, 2).await, Ok(STATUS_BYTES_MAX));
    refused(cluster.status_of(1, 3).await, "and status_bytes_max is 1048576");
    assert_eq!(cluster.status_of(3, 1).await, Ok(0), "the link still works");
}

#[tokio::test(start_paused = true)]
async fn a_status_request_to_an_unavailable_member_fails_in_time() {
    let mut cluster = TestCluster::founded(72, 3).await;
    refused(cluster.status_of(1, 2).await, "starting or stopping");
    cluster.nodes[&2].provide_status(Box::new(|| Box::pin(async { None })));
    refused(cluster.status_of(1, 2).await, "starting or stopping");
    cluster.nodes[&3].provide_status(Box::new(|| Box::pin(pending())));
    refused(cluster.status_of(1, 3).await, "no answer to status");
    refused(cluster.status_of(1, 9).await, "no connection to node 9 is open");
    // A member of an older build refuses an unknown request at once.
    let older = cluster.nodes[&1].links.ask_connected(NodeId(2), Kind(200), Bytes::new(), WITHIN).await;
    assert!(older.unwrap_err().to_string().contains("this version does not know kind 200"));

    cluster.provide(1, 10);
    cluster.net.partition(&["n1"], &["n2", "n3"]);
    refused(cluster.status_of(2, 1).await, "no answer to status");
    cluster.net.heal();
    assert_eq!(cluster.status_of(2, 1).await, Ok(10));
    cluster.kill(1).await;
    pass(Duration::from_millis(10)).await;
    assert!(cluster.status_of(2, 1).await.is_err());
}
