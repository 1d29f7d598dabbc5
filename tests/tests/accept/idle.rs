//! A cluster without work writes nothing.

use std::time::Duration;

use evener_tests::town::Town;

use super::{EVENER, RECORD};

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_cluster_writes_nothing_to_its_log() {
    let town = Town::of_three(EVENER, &[]).await;
    let folder = town.new_folder("seen");
    town.tell(&["processor", "create", "p", "--exec", &format!("exec {RECORD} {}", folder.display())]).await;
    for nth in 0..20 {
        let (stream, data) = (format!("s{nth}"), format!("{{\"n\":{nth}}}"));
        town.tell(&["append", &stream, "--type", "t.v1", "--data", &data]).await;
    }
    town.wait_passed("p").await;
    // Tokens that passed foreign events may follow within a second.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let applied =
        |cluster: evener::engine::Cluster| cluster.members.iter().map(|member| member.applied).collect::<Vec<_>>();
    let before = applied(town.cluster().await);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(applied(town.cluster().await), before, "the last Raft index stands still");
}
