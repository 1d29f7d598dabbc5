//! Nodes that join, leave, are removed, or come back with another directory.

use super::*;
use crate::join;

#[tokio::test(start_paused = true)]
async fn a_refused_join_reports_the_reason() {
    let mut cluster = TestCluster::founded(6, 1).await;
    cluster.join(2).await.unwrap();
    cluster.kill(2).await;
    cluster.disks.remove(&2);
    let error = cluster.join(2).await.unwrap_err().to_string();
    assert!(error.contains("Exists(MemberName(\"n2\"))"), "{error}");
    let at = cluster.nodes[&1].peer_addr().to_owned();
    let config = cluster.config(3);
    let foreign = Config { cluster: Some(ClusterId(Uuid::from_u128(9))), join: vec![at.clone()], ..config.clone() };
    let error = cluster.start(foreign).await.unwrap_err().to_string();
    assert!(error.contains("is configured"), "{error}");
    let error =
        cluster.start(Config { bootstrap: true, join: vec![at], ..config.clone() }).await.unwrap_err().to_string();
    assert!(error.contains("refused to found a cluster"), "{error}");
    let own = Config { join: vec!["n3:7000".into()], ..config.clone() };
    let error = cluster.start(own).await.unwrap_err().to_string();
    assert!(error.contains("this node's own, n3:7000") && error.contains("--bootstrap"), "{error}");
    let error = cluster.start(config).await.unwrap_err().to_string();
    assert!(error.contains("found a cluster with --bootstrap"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn the_directory_of_one_cluster_does_not_join_another() {
    let mut cluster = TestCluster::founded(16, 3).await;
    let mine = cluster.nodes[&1].id();
    let config = cluster.config(8);
    cluster.start(Config { bootstrap: true, ..config }).await.unwrap();
    let theirs = cluster.nodes[&8].id();
    cluster.kill(3).await;

    let config = cluster.config(3);
    let foreign = Config { join: vec!["n7:7000".into(), "n8:7000".into()], ..config.clone() };
    let error = cluster.start(foreign).await.unwrap_err().to_string();
    for word in [mine.to_string(), theirs.to_string(), "n8:7000".into(), "an empty directory".into()] {
        assert!(error.contains(&word), "the error should contain {word}: {error}");
    }
    // One address of the node's own cluster is enough.
    cluster.start(Config { join: vec!["n8:7000".into(), "n1:7000".into()], ..config }).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn all_members_restart_with_the_command_that_joined_them() {
    let mut cluster = TestCluster::founded(17, 3).await;
    for nth in 1..=3 {
        cluster.kill(nth).await;
    }
    for nth in [3, 2, 1] {
        let config = cluster.config(nth);
        cluster.start(Config { join: vec!["n1:7000".into(), "n2:7000".into()], ..config }).await.unwrap();
    }
    cluster.settle().await;
    assert_eq!(cluster.append(3, 1).await.unwrap(), Position(0));
}

#[tokio::test(start_paused = true)]
async fn a_removed_node_stops_and_reports_its_removal() {
    let mut cluster = TestCluster::founded(13, 4).await;
    cluster.kill(4).await;
    cluster.nodes[&2].remove(NodeId(4)).await.unwrap();
    cluster.until("node 4 is no learner any more", |cluster| cluster.nodes[&1].status().learners.is_empty()).await;
    let config = cluster.config(4);
    let error = cluster.start(config).await.unwrap_err();
    let notice = format!("node n4 was removed from cluster {}", cluster.nodes[&1].id());
    assert!(matches!(&error, StartError::Removed(why) if why.contains(&notice)), "{error}");
    assert!(error.to_string().contains(" at 2023-11-14T"), "the time recorded in the other nodes' log: {error}");

    // If no member answers, the node starts; it learns of its removal when a member answers.
    for nth in 1..=3 {
        cluster.kill(nth).await;
    }
    cluster.revive(4).await;
    assert!(!cluster.nodes[&4].was_removed());
    for nth in 1..=3 {
        cluster.revive(nth).await;
    }
    cluster.until("node 4 learns of its removal", |cluster| cluster.nodes[&4].stopped().borrow().is_some()).await;
    let why = cluster.nodes[&4].stopped().borrow().clone().unwrap();
    assert!(cluster.nodes[&4].was_removed() && why.contains(&notice), "{why}");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_left_refuses_its_next_start() {
    let mut cluster = TestCluster::founded(20, 4).await;
    cluster.nodes.remove(&4).unwrap().leave().await.unwrap();
    for nth in 1..=3 {
        cluster.kill(nth).await;
    }
    let config = cluster.config(4);
    let error = cluster.start(config).await.unwrap_err();
    assert!(matches!(error, StartError::Removed(_)), "{error}");
    assert!(error.to_string().contains(" at 2023-11-14T"), "the time recorded in its own log: {error}");
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_directory_lost_its_log_does_not_start() {
    let mut cluster = TestCluster::founded(14, 3).await;
    cluster.kill(2).await;
    let identity = evener_store::Identity::read(&cluster.disks[&2]).unwrap().unwrap();
    let emptied = disk();
    identity.write(&emptied).unwrap();
    cluster.disks.insert(2, emptied);
    let config = cluster.config(2);
    let error = cluster.start(config).await.unwrap_err().to_string();
    assert!(error.contains("holds no log"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_node_restored_from_an_older_copy_stops_and_the_leader_does_not() {
    let mut cluster = TestCluster::founded(16, 3).await;
    let leader = cluster.leader().unwrap();
    let restored = 1 + leader % 3;
    cluster.kill(restored).await;
    let older = cluster.disks[&restored].image();
    cluster.revive(restored).await;
    for id in 0..30 {
        cluster.append(leader, id).await.unwrap();
    }
    cluster.settle().await;
    cluster.kill(restored).await;
    let newest = cluster.disks.insert(restored, disk_of(older)).unwrap().image();
    cluster.revive(restored).await;
    cluster
        .until("the restored node has stopped", |cluster| cluster.nodes[&restored].stopped().borrow().is_some())
        .await;
    let why = cluster.nodes[&restored].stopped().borrow().clone().unwrap();
    assert!(why.contains("older copy") && why.contains("leave and join again"), "{why}");
    assert_eq!(cluster.leader(), Some(leader));
    assert_eq!(cluster.append(leader, 30).await.unwrap(), Position(30));

    // With its newest directory the node takes part again.
    cluster.kill(restored).await;
    cluster.disks.insert(restored, disk_of(newest));
    cluster.revive(restored).await;
    cluster.settle().await;
    pass(Duration::from_secs(20)).await;
    assert!(cluster.nodes[&restored].stopped().borrow().is_none());
    assert_eq!(cluster.append(restored, 31).await.unwrap(), Position(31));
}

#[tokio::test(start_paused = true)]
async fn an_interrupted_join_is_resumed() {
    let mut cluster = TestCluster::founded(15, 1).await;
    let at = cluster.nodes[&1].peer_addr().to_owned();
    let joining = Config { join: vec![at], ..cluster.config(2) };
    let disk = disk();
    // The node is admitted, but exits before it persists its identity.
    let incarnation = join::incarnation(&joining, &disk).unwrap();
    let admit = evener_core::command::Admit {
        name: "n2".into(),
        incarnation,
        peer: "n2:7000".into(),
        http: String::new(),
        level: joining.level,
    };
    cluster.nodes[&1].propose(Command::Admit(admit)).await.unwrap();
    cluster.disks.insert(2, disk);
    cluster.join(2).await.unwrap();
    assert_eq!(cluster.nodes[&2].me(), NodeId(2));
    cluster.settle().await;
}
