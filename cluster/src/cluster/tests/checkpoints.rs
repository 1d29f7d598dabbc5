//! Starts with checkpoints that this build cannot read: the log is applied again instead, with the same result.

use bytes::Bytes;
use evener_store::{checkpoint::with_image, disk::Op};

use super::*;

const FILES: [&str; 2] = ["checkpoint", "checkpoint.previous"];

impl TestCluster {
    /// Replaces the images in the checkpoint files of a node that is down; the files stay valid.
    fn replace_images(&mut self, nth: u64, files: &[&str], image: impl Fn(&Bytes) -> Bytes) {
        let mut disk = self.disks[&nth].image();
        for name in files {
            let len = disk.len(name).unwrap_or_else(|| panic!("n{nth} has a {name}"));
            let file = with_image(&disk.read(name, 0, len as usize).unwrap(), &image);
            let file_of = |name: &str| name.to_owned();
            disk.perform(Op::Truncate { file: file_of(name), len: 0 }).unwrap();
            disk.perform(Op::Write { file: file_of(name), offset: 0, bytes: file }).unwrap();
            disk.perform(Op::SyncData { file: file_of(name) }).unwrap();
        }
        self.disks.insert(nth, disk_of(disk));
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_with_an_undecodable_checkpoint_replays_the_log() {
    let mut cluster = TestCluster::founded(41, 3).await;
    for id in 0..60 {
        cluster.append(1, id).await.unwrap();
    }
    cluster.same().await;
    let other_forms: [fn(&Bytes) -> Bytes; 3] = [
        |_| Bytes::from_static(b"\xffanother form of the state"),
        |image| image.slice(..image.len() - 1),
        |image| [&image[..], &[0]].concat().into(),
    ];
    for (nth, (files, form)) in (1..).zip([&FILES[..1], &FILES, &FILES].into_iter().zip(other_forms)) {
        cluster.kill(nth).await;
        cluster.replace_images(nth, files, form);
        cluster.revive(nth).await;
        // The log is applied from its beginning, or from the previous checkpoint, and all nodes have the same state.
        cluster.settle().await;
        assert_eq!(cluster.append(nth, 1).await.unwrap(), Position(1), "a repeated append is recognized");
        assert_eq!(cluster.append(nth, 100 + u128::from(nth)).await.unwrap(), Position(59 + nth));
        cluster.same().await;
    }
    // The next checkpoint replaces the bad one.
    for id in 200..230 {
        cluster.append(1, id).await.unwrap();
    }
    for nth in 1..=3 {
        cluster.kill(nth).await;
    }
    for nth in 1..=3 {
        cluster.revive(nth).await;
    }
    cluster.settle().await;
    assert_eq!(cluster.append(2, 300).await.unwrap(), Position(93));
}

/// Tests checkpoints of a shorter and of a longer log: without the check, the first would be accepted as this
/// log's, and the second would look like lost frames.
#[tokio::test(start_paused = true)]
async fn a_start_with_another_clusters_checkpoint_replays_the_log() {
    for events in [45, 150] {
        let mut other = TestCluster::new(43);
        let config = other.config(1);
        let cluster = Some(ClusterId(Uuid::from_u128(7)));
        other.start(Config { bootstrap: true, cluster, ..config }).await.unwrap();
        other.settle().await;
        for id in 0..events {
            other.append(1, 1000 + id).await.unwrap();
        }
        other.kill(1).await;
        let theirs = other.disks[&1].image();

        let mut cluster = TestCluster::founded(44, 1).await;
        for id in 0..60 {
            cluster.append(1, id).await.unwrap();
        }
        cluster.kill(1).await;
        let mut disk = cluster.disks[&1].image();
        assert!(theirs.len("checkpoint").is_some());
        for name in FILES {
            let _ = disk.perform(Op::Remove { file: name.into() });
            let Some(len) = theirs.len(name) else { continue };
            let bytes = theirs.read(name, 0, len as usize).unwrap().into();
            disk.perform(Op::Create { file: name.into(), preallocate: 0 }).unwrap();
            disk.perform(Op::Write { file: name.into(), offset: 0, bytes }).unwrap();
            disk.perform(Op::SyncData { file: name.into() }).unwrap();
        }
        disk.perform(Op::SyncDir { dir: String::new() }).unwrap();
        cluster.disks.insert(1, disk_of(disk));
        cluster.revive(1).await;
        cluster.settle().await;
        assert_eq!(cluster.append(1, 1).await.unwrap(), Position(1), "a repeated append is recognized");
        assert_eq!(cluster.append(1, 100).await.unwrap(), Position(60), "no other events are stored");
        assert_eq!(cluster.nodes[&1].state().cluster, cluster.nodes[&1].id());
    }
}
