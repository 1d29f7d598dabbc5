//! The disk reserve: appends are refused before a disk is full, and progress, claims, sessions and operations go on in
//! the reserved space.
//!
//! Each node measures its file system several times a second and reports to the others whether it is low
//! ([`Heartbeat`]). Appends are refused on a node with a low disk, and on all nodes if less than a majority of the
//! voters is known to have more free space than its reserve: chunks end at the same entry on all nodes, so equal disks
//! fill up at the same moment. If a disk is low, a voter that does not answer counts as low too: a majority without it
//! would need the low one.
//!
//! A full disk stops no node: the store waits for space (see [`evener_store::Disk`]).
//!
//! [`Heartbeat`]: crate::heartbeat::Heartbeat

use std::{collections::BTreeSet, time::Duration};

use evener_core::id::NodeId;
use evener_store::disk::Space;

use crate::{
    error::{Class, Error, ErrorReason},
    raft::RaftStatus,
};

/// What a refusal begins with: its reason is sent to other nodes as text.
pub(crate) const REFUSAL: &str = "disk reserve reached";
/// The delay before a retry: an operator must free space first.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(5);
/// The number of chunks that fit into the default reserve: the one being filled, the next one, and one for files that
/// are replaced by writing new ones.
const CHUNKS: u64 = 3;
/// The minimum of the default reserve: with small chunks it must still hold a checkpoint and its successor.
const BYTES_MIN: u64 = 16 << 20;
/// The default reserve is at least this fraction of the file system,
const SHARE: u64 = 100;
/// but this fraction counts for at most this many bytes.
const SHARE_BYTES_MAX: u64 = 4 << 30;

/// The free space on a node's disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskStatus {
    /// The number of free bytes.
    pub free: u64,
    /// The size of the file system, in bytes.
    pub total: u64,
    /// The number of free bytes below which appends are refused.
    pub reserve: u64,
    /// The size of the log, in bytes.
    pub log: u64,
    /// Whether the disk is low: less than the reserve is free, or was and one more chunk than the reserve is not free
    /// yet.
    pub low: bool,
}

impl DiskStatus {
    /// Returns the status after another measurement.
    pub fn measured(self, space: Space, setting: Option<u64>, chunk_bytes: u64) -> Self {
        let reserve = setting.unwrap_or_else(|| default_reserve(space.total, chunk_bytes));
        // Hysteresis: appends must not be refused and accepted in turn near the limit.
        let enough = if self.low { reserve.saturating_add(chunk_bytes) } else { reserve };
        Self { free: space.free, total: space.total, reserve, log: self.log, low: space.free < enough && reserve > 0 }
    }
}

/// Returns the reserve of a node that has no such setting: the largest of 16 MiB, three chunks, and a hundredth of the
/// file system, the last at most 4 GiB.
#[must_use]
pub(crate) fn default_reserve(total: u64, chunk_bytes: u64) -> u64 {
    (chunk_bytes * CHUNKS).max(BYTES_MIN).max((total / SHARE).min(SHARE_BYTES_MAX))
}

/// Returns the nodes whose disks are the reason to refuse appends: all low ones if this node is low or if no majority
/// of the voters has space; otherwise none.
pub(crate) fn blocking(
    me: NodeId,
    raft_status: &RaftStatus,
    low: &BTreeSet<NodeId>,
    unresponsive: &BTreeSet<NodeId>,
) -> BTreeSet<NodeId> {
    let has_room = |voter: &&NodeId| !low.contains(voter) && !unresponsive.contains(voter);
    let enough = |quorum: &BTreeSet<NodeId>| quorum.iter().filter(has_room).count() * 2 > quorum.len();
    if low.contains(&me) || (!low.is_empty() && !raft_status.quorums.iter().all(enough)) {
        return low.clone();
    }
    BTreeSet::new()
}

/// Returns the message that refuses an append because of the disks of the nodes with these names; `room` is this node's
/// own disk.
pub(crate) fn refusal(names: &[String], room: DiskStatus) -> String {
    let mut message = format!("{REFUSAL}: too little space is free on the disks of {}", names.join(", "));
    if room.low {
        let (free, reserve) = (room.free >> 20, room.reserve >> 20);
        message += &format!(" ({free} MiB free on this one, reserve {reserve} MiB)");
    }
    message + "; nothing was written; free some space there, and appends resume without further action"
}

/// Returns the error of an append that is refused because of the disk reserve.
pub(crate) fn refused(why: String) -> Error {
    Error::new(Class::Overloaded, why).reason(ErrorReason::DiskReserve).retry_after(RETRY_AFTER)
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
        let check = |low: &[u64], unresponsive: &[u64], expect: &[u64]| {
            assert_eq!(
                blocking(NodeId(1), &raft_status, &set(low), &set(unresponsive)),
                set(expect),
                "{low:?} {unresponsive:?}"
            );
        };
        check(&[], &[], &[]);
        check(&[], &[2, 3], &[]);
        check(&[2], &[], &[]);
        check(&[1], &[], &[1]);
        check(&[2, 3], &[], &[2, 3]);
        check(&[2], &[3], &[2]);
    }
}
