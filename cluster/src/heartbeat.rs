//! What every node asks every other member several times a second: whether it answers, what its wall clock shows, and
//! how long it has not heard of the leader.
//!
//! A process that is frozen keeps its sockets, so only its silence tells. Raft waits for a silent leader until the last
//! of its clocks has run out; by then the owners of segments have stopped their handlers, as nobody renews their
//! sessions. So voters compare: if a majority of them has not heard of the leader, one of them asks for votes at once.
//! A voter that is silent for one node alone (a broken link) or on a machine that is slow for all is no reason to.
//!
//! ```text
//!  0         1              9              17            21
//!  +---------+--------------+--------------+-------------+----------+------ - -
//!  | version | wall clock   | leader       | silence, ms | disk low | later versions
//!  +---------+--------------+--------------+-------------+----------+------ - -
//!   u8        u64 LE         u64 LE, or 0   u32 LE        u8, 0 or 1; may be missing
//! ```
//!
//! A reader takes what it knows and ignores what follows, so that later versions can add fields.

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
/// Bytes that every version has.
const HEARTBEAT_BYTES: usize = 21;

/// What a node tells of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// Its wall clock.
    pub wall: Timestamp,
    /// Who leads, as far as it knows.
    pub leader: Option<NodeId>,
    /// How long ago that leader answered it.
    pub since_leader_answer: Duration,
    /// Its disk has less free space than its reserve, see [`crate::disk_reserve`].
    pub disk_low: bool,
}

impl Heartbeat {
    /// Writes it.
    pub fn encode(&self) -> Bytes {
        let mut to = BytesMut::with_capacity(HEARTBEAT_BYTES + 1);
        to.put_u8(VERSION);
        to.put_u64_le(self.wall.0);
        to.put_u64_le(self.leader.map_or(0, |leader| leader.0));
        to.put_u32_le(u32::try_from(self.since_leader_answer.as_millis()).unwrap_or(u32::MAX));
        to.put_u8(u8::from(self.disk_low));
        to.freeze()
    }

    /// Reads it; nothing if it is anything else.
    pub fn decode(mut from: &[u8]) -> Option<Self> {
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
pub struct Answer {
    /// When the question was sent.
    pub sent: Instant,
    /// How many milliseconds its wall clock is ahead of this node's: half the way there and back is taken off.
    pub offset_ms: i64,
    /// What it said.
    pub heartbeat: Heartbeat,
}

/// The last answers of all members.
#[derive(Debug, Default)]
pub struct Heartbeats(Mutex<BTreeMap<NodeId, Answer>>);

impl Heartbeats {
    /// Records what a member has answered just now to a question that was sent then, when this node's wall clock showed
    /// this.
    pub fn record(&self, who: NodeId, heartbeat: Heartbeat, sent: Instant, wall: Timestamp) {
        let offset_ms = offset(wall.after(sent.elapsed() / 2), heartbeat.wall);
        self.0.lock().insert(who, Answer { sent, offset_ms, heartbeat });
    }

    /// Forgets those that are no members any more.
    pub fn retain(&self, members: &BTreeSet<NodeId>) {
        self.0.lock().retain(|who, _| members.contains(who));
    }

    /// Returns how long ago what each member has answered was sent.
    pub fn answer_ages(&self) -> BTreeMap<NodeId, Duration> {
        self.0.lock().iter().map(|(who, heard)| (*who, heard.sent.elapsed())).collect()
    }

    /// Returns the members whose disks were low when they last answered, and those that have not answered for long.
    pub fn low_disks(&self, silent_after: Duration) -> (BTreeSet<NodeId>, BTreeSet<NodeId>) {
        let heard = self.0.lock();
        let those = |which: &dyn Fn(&Answer) -> bool| {
            heard.iter().filter(|(_, heard)| which(heard)).map(|(who, _)| *who).collect::<BTreeSet<_>>()
        };
        let silent = |heard: &Answer| heard.sent.elapsed() > silent_after;
        (those(&|heard| heard.heartbeat.disk_low && !silent(heard)), those(&silent))
    }

    /// Returns how long ago a member answered, if it ever did.
    pub fn since_answer(&self, of: NodeId) -> Option<Duration> {
        self.0.lock().get(&of).map(|heard| heard.sent.elapsed())
    }

    /// Returns how far the wall clocks of these members are ahead of this node's, in milliseconds, of each that has
    /// answered a question that was sent after `since`.
    pub fn offsets(&self, of: &[NodeId], since: Instant) -> BTreeMap<NodeId, i64> {
        let heard = self.0.lock();
        let lately = |who: &NodeId| heard.get(who).filter(|heard| heard.sent > since);
        of.iter().filter_map(|who| Some((*who, lately(who)?.offset_ms))).collect()
    }

    /// Returns the leader if a majority of the voters has not heard of it for long: this one for all of `patience`,
    /// the others, which must have answered lately, for half of it. Nobody's silence counts from before `awake`.
    pub fn unresponsive_leader(
        &self,
        me: NodeId,
        raft_status: &RaftStatus,
        timeout: Duration,
        awake: Instant,
        now: Instant,
    ) -> Option<NodeId> {
        let heard = self.0.lock();
        let leader = raft_status.leader.filter(|leader| *leader != me && raft_status.voters.contains(&me))?;
        let silent_for = |sent: Instant| now.saturating_duration_since(sent.max(awake));
        // One that has never answered says nothing by its silence: an older version does not know the question.
        heard.get(&leader).filter(|last| silent_for(last.sent) >= timeout)?;
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

/// By how many milliseconds `theirs` is ahead of `ours`.
fn offset(ours: Timestamp, theirs: Timestamp) -> i64 {
    let millis = |ahead: Duration| i64::try_from(ahead.as_millis()).unwrap_or(i64::MAX);
    millis(theirs.since(ours)) - millis(ours.since(theirs))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_millis(1_500);

    #[test]
    fn a_pulse_lies_as_it_is_drawn_and_a_longer_one_can_be_read() {
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
            "an older one"
        );
        for cut in 0..HEARTBEAT_BYTES {
            assert_eq!(Heartbeat::decode(&golden[..cut]), None);
        }
        let nobody = Heartbeat { leader: None, ..heartbeat };
        assert_eq!(Heartbeat::decode(&nobody.encode()), Some(nobody));
    }

    /// What node 2 makes of it in a group led by node 1: of each other the age of its last answer, and how long it
    /// says that the leader was silent, in milliseconds.
    #[track_caller]
    fn check(voters: &[u64], heard: &[(u64, u64, u64)], silent: bool) {
        let voters: Vec<_> = voters.iter().copied().map(NodeId).collect();
        let quorums = vec![voters.iter().copied().collect()];
        let raft_status = RaftStatus { leader: Some(NodeId(1)), voters, quorums, ..RaftStatus::default() };
        let awake = Instant::now();
        let now = awake + Duration::from_secs(60);
        let heard_of = |(who, age, since_leader_answer): &(u64, u64, u64)| {
            let since_leader_answer = Duration::from_millis(*since_leader_answer);
            let heartbeat =
                Heartbeat { wall: Timestamp(0), leader: Some(NodeId(1)), since_leader_answer, disk_low: false };
            (NodeId(*who), Answer { sent: now - Duration::from_millis(*age), offset_ms: 0, heartbeat })
        };
        let heartbeats = Heartbeats(Mutex::new(heard.iter().map(heard_of).collect()));
        let found = heartbeats.unresponsive_leader(NodeId(2), &raft_status, TIMEOUT, awake, now);
        assert_eq!(found.is_some(), silent, "{heard:?}");
        let just_awake = heartbeats.unresponsive_leader(NodeId(2), &raft_status, TIMEOUT, now - TIMEOUT / 2, now);
        assert_eq!(just_awake, None, "its own sleep is nobody else's silence");
    }

    #[test]
    fn a_leader_is_silent_if_a_majority_misses_it() {
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
