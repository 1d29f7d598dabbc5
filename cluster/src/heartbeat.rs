//! Heartbeats: every node requests one from every other member several times a second. A heartbeat carries the member's
//! wall clock and how long ago the leader answered it.
//!
//! A frozen process keeps its sockets open and only stops answering. Raft's own election timeouts detect an
//! unresponsive leader too late: the owners of segments stop their handlers before, because their sessions are not
//! renewed. Therefore voters compare: if the leader has not answered a majority of them, one of them asks for votes at
//! once. A leader that only one node cannot reach (a broken link), or a machine on which everything is slow, starts no
//! election.
//!
//! ```text
//!  0         1              9              17            21
//!  +---------+--------------+--------------+-------------+----------+------ - -
//!  | version | wall clock   | leader       | answer age  | disk low | later versions
//!  +---------+--------------+--------------+-------------+----------+------ - -
//!   u8        u64 LE         u64 LE, or 0   u32 LE        u8, 0 or 1; may be missing
//! ```
//!
//! The answer age is the time since the leader's last answer, in milliseconds. A decoder ignores bytes after the fields
//! that it knows, so that later versions can add fields.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use evener_core::{id::NodeId, time::Timestamp};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::raft::RaftStatus;

const VERSION: u8 = 1;
/// The length of the fields that every version has, in bytes.
const HEARTBEAT_BYTES: usize = 21;

/// The state that a node reports about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Heartbeat {
    /// The node's wall clock.
    pub wall: Timestamp,
    /// The leader, as far as the node knows.
    pub leader: Option<NodeId>,
    /// How long ago that leader answered the node.
    pub since_leader_answer: Duration,
    /// Whether the node's disk has less free space than its reserve, see [`crate::disk_reserve`].
    pub disk_low: bool,
}

impl Heartbeat {
    /// Encodes the heartbeat.
    pub(crate) fn encode(&self) -> Bytes {
        let mut to = BytesMut::with_capacity(HEARTBEAT_BYTES + 1);
        to.put_u8(VERSION);
        to.put_u64_le(self.wall.0);
        to.put_u64_le(self.leader.map_or(0, |leader| leader.0));
        to.put_u32_le(u32::try_from(self.since_leader_answer.as_millis()).unwrap_or(u32::MAX));
        to.put_u8(u8::from(self.disk_low));
        to.freeze()
    }

    /// Decodes a heartbeat; returns `None` if the bytes are malformed.
    pub(crate) fn decode(mut from: &[u8]) -> Option<Self> {
        if from.len() < HEARTBEAT_BYTES || from.get_u8() < VERSION {
            return None;
        }
        let (wall, leader) = (Timestamp(from.get_u64_le()), from.get_u64_le());
        let since_leader_answer = Duration::from_millis(u64::from(from.get_u32_le()));
        let disk_low = from.first().is_some_and(|low| *low != 0);
        Some(Self { wall, leader: (leader != 0).then_some(NodeId(leader)), since_leader_answer, disk_low })
    }
}

/// The last answer of one member.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    /// When the request was sent.
    pub sent: Instant,
    /// How many milliseconds the member's wall clock is ahead of this node's, corrected by half the round-trip time.
    pub offset_ms: i64,
    /// The heartbeat in the answer.
    pub heartbeat: Heartbeat,
}

/// The last answers of all members.
#[derive(Debug, Default)]
pub(crate) struct Heartbeats(Mutex<BTreeMap<NodeId, Answer>>);

impl Heartbeats {
    /// Records a member's heartbeat that has just arrived, in answer to a request sent at `sent`, when this node's wall
    /// clock showed `wall`.
    pub(crate) fn record(&self, member: NodeId, heartbeat: Heartbeat, sent: Instant, wall: Timestamp) {
        let offset_ms = offset(wall.after(sent.elapsed() / 2), heartbeat.wall);
        self.0.lock().insert(member, Answer { sent, offset_ms, heartbeat });
    }

    /// Removes the answers of nodes that are not in `members`.
    pub(crate) fn retain(&self, members: &BTreeSet<NodeId>) {
        self.0.lock().retain(|member, _| members.contains(member));
    }

    /// Returns for each member how long ago the last request that it answered was sent.
    pub(crate) fn answer_ages(&self) -> BTreeMap<NodeId, Duration> {
        self.0.lock().iter().map(|(member, heard)| (*member, heard.sent.elapsed())).collect()
    }

    /// Returns the members whose disks were low when they last answered, and those that have not answered within
    /// `answer_timeout`.
    pub(crate) fn low_disks(&self, answer_timeout: Duration) -> (BTreeSet<NodeId>, BTreeSet<NodeId>) {
        let heard = self.0.lock();
        let those = |which: &dyn Fn(&Answer) -> bool| {
            heard.iter().filter(|(_, heard)| which(heard)).map(|(member, _)| *member).collect::<BTreeSet<_>>()
        };
        let unresponsive = |heard: &Answer| heard.sent.elapsed() > answer_timeout;
        (those(&|heard| heard.heartbeat.disk_low && !unresponsive(heard)), those(&unresponsive))
    }

    /// Returns how long ago the last request that a member answered was sent, if it ever answered.
    pub(crate) fn since_answer(&self, of: NodeId) -> Option<Duration> {
        self.0.lock().get(&of).map(|heard| heard.sent.elapsed())
    }

    /// Returns how far the wall clocks of these members are ahead of this node's, in milliseconds, for each member that
    /// has answered a request sent after `since`.
    pub(crate) fn offsets(&self, of: &[NodeId], since: Instant) -> BTreeMap<NodeId, i64> {
        let heard = self.0.lock();
        let lately = |member: &NodeId| heard.get(member).filter(|heard| heard.sent > since);
        of.iter().filter_map(|member| Some((*member, lately(member)?.offset_ms))).collect()
    }

    /// Returns the leader if it has not answered a majority of the voters: this one within `timeout`, the others, which
    /// must have answered recently, within half of it. Time before `awake` does not count.
    pub(crate) fn unresponsive_leader(
        &self,
        me: NodeId,
        raft_status: &RaftStatus,
        timeout: Duration,
        awake: Instant,
        now: Instant,
    ) -> Option<NodeId> {
        let heard = self.0.lock();
        let leader = raft_status.leader.filter(|leader| *leader != me && raft_status.voters.contains(&me))?;
        let unanswered_for = |sent: Instant| now.saturating_duration_since(sent.max(awake));
        // A leader that has never answered is not unresponsive: an older version does not know the request.
        heard.get(&leader).filter(|last| unanswered_for(last.sent) >= timeout)?;
        let misses = |voter: &NodeId| match heard.get(voter) {
            _ if *voter == me => true,
            _ if *voter == leader => false,
            Some(Answer { sent, heartbeat, .. }) => {
                let fresh = now.saturating_duration_since(*sent) <= timeout / 2;
                fresh && heartbeat.leader == Some(leader) && heartbeat.since_leader_answer >= timeout / 2
            }
            None => false,
        };
        let agree = |quorum: &BTreeSet<NodeId>| quorum.iter().filter(|voter| misses(voter)).count() * 2 > quorum.len();
        raft_status.quorums.iter().all(agree).then_some(leader)
    }
}

/// Returns by how many milliseconds `theirs` is ahead of `ours`.
fn offset(ours: Timestamp, theirs: Timestamp) -> i64 {
    let millis = |ahead: Duration| i64::try_from(ahead.as_millis()).unwrap_or(i64::MAX);
    millis(theirs.since(ours)) - millis(ours.since(theirs))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_millis(1_500);

    #[test]
    fn a_heartbeat_has_the_documented_layout_and_a_longer_one_can_be_decoded() {
        let since_leader_answer = Duration::from_millis(0x0405);
        let heartbeat =
            Heartbeat { wall: Timestamp(0x0102), leader: Some(NodeId(3)), since_leader_answer, disk_low: true };
        let golden = [1, 2, 1, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 5, 4, 0, 0, 1];
        assert_eq!(heartbeat.encode()[..], golden);
        let later: Vec<u8> = golden.iter().copied().chain([9, 9]).collect();
        assert_eq!(Heartbeat::decode(&later), Some(heartbeat));
        assert_eq!(
            Heartbeat::decode(&golden[..HEARTBEAT_BYTES]),
            Some(Heartbeat { disk_low: false, ..heartbeat }),
            "a heartbeat of an older version"
        );
        for cut in 0..HEARTBEAT_BYTES {
            assert_eq!(Heartbeat::decode(&golden[..cut]), None);
        }
        let without_leader = Heartbeat { leader: None, ..heartbeat };
        assert_eq!(Heartbeat::decode(&without_leader.encode()), Some(without_leader));
    }

    /// Checks whether node 2 finds leader 1 unresponsive. `heard` lists for each other node the age of its last answer
    /// and the time since the leader answered it, in milliseconds.
    #[track_caller]
    fn check(voters: &[u64], heard: &[(u64, u64, u64)], unresponsive: bool) {
        let voters: Vec<_> = voters.iter().copied().map(NodeId).collect();
        let quorums = vec![voters.iter().copied().collect()];
        let raft_status = RaftStatus { leader: Some(NodeId(1)), voters, quorums, ..RaftStatus::default() };
        let awake = Instant::now();
        let now = awake + Duration::from_secs(60);
        let heard_of = |(member, age, since_leader_answer): &(u64, u64, u64)| {
            let since_leader_answer = Duration::from_millis(*since_leader_answer);
            let heartbeat =
                Heartbeat { wall: Timestamp(0), leader: Some(NodeId(1)), since_leader_answer, disk_low: false };
            (NodeId(*member), Answer { sent: now - Duration::from_millis(*age), offset_ms: 0, heartbeat })
        };
        let heartbeats = Heartbeats(Mutex::new(heard.iter().map(heard_of).collect()));
        let found = heartbeats.unresponsive_leader(NodeId(2), &raft_status, TIMEOUT, awake, now);
        assert_eq!(found.is_some(), unresponsive, "{heard:?}");
        let just_awake = heartbeats.unresponsive_leader(NodeId(2), &raft_status, TIMEOUT, now - TIMEOUT / 2, now);
        assert_eq!(just_awake, None, "time during which this node was frozen does not count");
    }

    #[test]
    fn a_leader_is_unresponsive_if_it_answers_no_majority() {
        let three = &[1, 2, 3];
        check(three, &[(1, 1_500, 0), (3, 200, 1_000)], true);
        check(three, &[(1, 1_400, 0), (3, 200, 1_000)], false);
        check(three, &[(1, 9_000, 0), (3, 200, 100)], false);
        check(three, &[(1, 9_000, 0), (3, 900, 1_000)], false);
        check(three, &[(1, 9_000, 0)], false);
        check(three, &[(3, 200, 9_000)], false);
        let five = &[1, 2, 3, 4, 5];
        check(five, &[(1, 2_000, 0), (3, 100, 2_000), (4, 9_000, 0)], false);
        check(five, &[(1, 2_000, 0), (3, 100, 2_000), (4, 100, 2_000)], true);
        check(&[1, 3, 4], &[(1, 2_000, 0), (3, 100, 2_000), (4, 100, 2_000)], false);
    }
}
