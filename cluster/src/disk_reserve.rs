//! The disk reserve: appends are refused before a disk is full, and progress, claims, sessions and operations go on
//! from what is left.
//!
//! Each node measures its file system several times a second and tells the others whether it is low ([`Heartbeat`]).
//! Appends stop on a node that is low, and everywhere as soon as less than a majority of the voters is known to have
//! more than its reserve: chunks end at the same entry on all nodes, so equal disks run full at the same moment. A
//! voter that is silent counts as low once another one is: the majority would need the low one.
//!
//! A disk that has no room at all stops no node: the store waits for space (see [`evener_store::Disk`]).
//!
//! [`Heartbeat`]: crate::heartbeat::Heartbeat

use std::{collections::BTreeSet, time::Duration};

use evener_core::id::NodeId;
use evener_store::disk::Space;

use crate::{
    error::{Class, Error},
    raft::RaftStatus,
};

/// What a refusal begins with, wherever it is read.
pub const REFUSAL: &str = "disk reserve reached";
/// When to try again: somebody has to free space first.
pub const RETRY_AFTER: Duration = Duration::from_secs(5);
/// Chunks that the default reserve has room for: the one being filled, the one that comes next, and one for the files
/// that are replaced by writing a new one.
const CHUNKS: u64 = 3;
/// Or this much, if that is more: small chunks leave no room for a checkpoint and its successor.
const BYTES_MIN: u64 = 16 << 20;
/// Or this part of the file system, if that is more,
const SHARE: u64 = 100;
/// but no more than this.
const SHARE_BYTES_MAX: u64 = 4 << 30;

/// The room on this node's disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskStatus {
    /// Bytes that are free.
    pub free: u64,
    /// Bytes of the file system.
    pub total: u64,
    /// Below this many free bytes appends are refused.
    pub reserve: u64,
    /// Bytes that the log takes.
    pub log: u64,
    /// Less than the reserve is free, or was and there is not a chunk more than that yet.
    pub low: bool,
}

impl DiskStatus {
    /// Returns the room after another measurement.
    pub fn measured(self, space: Space, setting: Option<u64>, chunk_bytes: u64) -> Self {
        let reserve = setting.unwrap_or_else(|| default_reserve(space.total, chunk_bytes));
        // Leaving takes more than entering, so that appends do not flicker around the limit.
        let enough = if self.low { reserve.saturating_add(chunk_bytes) } else { reserve };
        Self { free: space.free, total: space.total, reserve, log: self.log, low: space.free < enough && reserve > 0 }
    }
}

/// Returns the reserve of a node that is not told another one: the largest of 16 MiB, three chunks, and a hundredth of
/// the file system, the latter at most 4 GiB.
#[must_use]
pub fn default_reserve(total: u64, chunk_bytes: u64) -> u64 {
    (chunk_bytes * CHUNKS).max(BYTES_MIN).max((total / SHARE).min(SHARE_BYTES_MAX))
}

/// Returns the nodes whose disks stop appends: this one if it is low, or those without which there is no majority of
/// voters with room.
pub fn blocking(
    me: NodeId,
    raft_status: &RaftStatus,
    low: &BTreeSet<NodeId>,
    silent: &BTreeSet<NodeId>,
) -> BTreeSet<NodeId> {
    let has_room = |voter: &&NodeId| !low.contains(voter) && !silent.contains(voter);
    let enough = |quorum: &BTreeSet<NodeId>| quorum.iter().filter(has_room).count() * 2 > quorum.len();
    if low.contains(&me) || (!low.is_empty() && !raft_status.quorums.iter().all(enough)) {
        return low.clone();
    }
    BTreeSet::new()
}

/// Returns why no append is taken if the disks of the nodes with these names stop them, as a node with this room says
/// it.
pub fn refusal(names: &[String], room: DiskStatus) -> String {
    let mut message = format!("{REFUSAL}: too little space is free on the disks of {}", names.join(", "));
    if room.low {
        let (free, reserve) = (room.free >> 20, room.reserve >> 20);
        message += &format!(" ({free} MiB free on this one, reserve {reserve} MiB)");
    }
    message + "; nothing was written; free some space there, and appends go on by themselves"
}

/// Returns the error of an append for which there is no room.
pub fn refused(why: String) -> Error {
    Error::new(Class::Overloaded, why).retry_after(RETRY_AFTER)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNK: u64 = 64 << 20;

    #[test]
    fn the_default_is_three_chunks_or_a_hundredth_of_the_disk() {
        assert_eq!(default_reserve(1 << 30, CHUNK), 3 * CHUNK);
        assert_eq!(default_reserve(1 << 30, 64 << 10), BYTES_MIN);
        assert_eq!(default_reserve(100 << 30, CHUNK), 1 << 30);
        assert_eq!(default_reserve(100 << 40, CHUNK), SHARE_BYTES_MAX);
    }

    #[test]
    fn a_disk_is_low_below_its_reserve_until_a_chunk_more_than_it_is_free() {
        let room = |before: DiskStatus, free| before.measured(Space { free, total: 1000 }, Some(100), 10);
        assert!(!room(DiskStatus::default(), 100).low);
        let low = room(DiskStatus::default(), 99);
        assert!(low.low && room(low, 109).low && !room(low, 110).low);
        let none = DiskStatus::default().measured(Space { free: 0, total: 1000 }, Some(0), 10);
        assert!(!none.low, "a reserve of 0 refuses nothing");
    }

    #[test]
    fn appends_stop_while_a_majority_still_has_its_reserve() {
        let set = |nodes: &[u64]| nodes.iter().map(|node| NodeId(*node)).collect::<BTreeSet<_>>();
        let raft_status = RaftStatus { quorums: vec![set(&[1, 2, 3])], ..RaftStatus::default() };
        let check = |low: &[u64], silent: &[u64], expect: &[u64]| {
            assert_eq!(blocking(NodeId(1), &raft_status, &set(low), &set(silent)), set(expect), "{low:?} {silent:?}");
        };
        check(&[], &[], &[]);
        check(&[], &[2, 3], &[]);
        check(&[2], &[], &[]);
        check(&[1], &[], &[1]);
        check(&[2, 3], &[], &[2, 3]);
        check(&[2], &[3], &[2]);
    }
}
