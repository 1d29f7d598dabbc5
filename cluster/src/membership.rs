//! The membership of the Raft group: plans the leader's next change to its members and voters.
//!
//! The replicated state has the members of the cluster; the Raft group follows it, one step at a time. A member is
//! added to the group at once as a learner, and may vote when it has caught up. The number of voters stays odd, so
//! learners are promoted in pairs: an even number of voters tolerates no more failures than one less, and needs a
//! larger majority.

use std::collections::BTreeMap;

use evener_core::{
    id::{LogIndex, NodeId},
    member::Member,
    state::State,
};

use crate::raft::{RaftMember, RaftStatus};

/// A node that lacks at most this many entries of the log has caught up.
const CAUGHT_UP_ENTRIES: u64 = 1_000;

/// One step of a membership change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MembershipStep {
    /// Adds these members to the group, or updates their addresses.
    SetMembers(BTreeMap<NodeId, RaftMember>),
    /// Makes these nodes the only voters.
    SetVoters(Vec<NodeId>),
    /// Removes these nodes from the group.
    RemoveMembers(Vec<NodeId>),
}

impl MembershipStep {
    /// Describes the step.
    pub(crate) fn describe(&self, raft_status: &RaftStatus) -> String {
        let name = |node: &NodeId| {
            raft_status.raft_members.get(node).map_or_else(|| format!("node {node}"), |s| s.name.clone())
        };
        let names = |nodes: &[NodeId]| nodes.iter().map(name).collect::<Vec<_>>().join(", ");
        match self {
            Self::SetMembers(raft_members) => {
                let raft_members: Vec<_> = raft_members
                    .values()
                    .map(|raft_member| format!("{} at {}", raft_member.name, raft_member.peer))
                    .collect();
                format!("replicating the log to {}", raft_members.join(", "))
            }
            Self::SetVoters(voters) => format!("setting the voters to {}", names(voters)),
            Self::RemoveMembers(nodes) => format!("no longer replicating the log to {}", names(nodes)),
        }
    }
}

/// Returns the leader's next step, if there is one.
pub(crate) fn plan(me: NodeId, raft_status: &RaftStatus, state: &State, voters_max: usize) -> Option<MembershipStep> {
    let members = &state.members;
    let raft_members = members.iter().map(|(node, member)| (*node, raft_member(member)));
    let wrong: BTreeMap<_, _> =
        raft_members.filter(|(node, raft_member)| raft_status.raft_members.get(node) != Some(raft_member)).collect();
    if !wrong.is_empty() {
        return Some(MembershipStep::SetMembers(wrong));
    }
    let voters = voters(me, raft_status, state, voters_max);
    // A joint membership is left by a leader that exited before it completed the change.
    if !voters.is_empty() && (raft_status.joint || voters != raft_status.voters) {
        return Some(MembershipStep::SetVoters(voters));
    }
    let removed: Vec<_> = raft_status.raft_members.keys().filter(|node| !members.contains_key(node)).copied().collect();
    (!removed.is_empty()).then_some(MembershipStep::RemoveMembers(removed))
}

/// Returns the nodes that should vote: the current voters that are members, and members that are up and have caught up,
/// truncated to an odd number.
fn voters(me: NodeId, raft_status: &RaftStatus, state: &State, voters_max: usize) -> Vec<NodeId> {
    let members = &state.members;
    let end = raft_status.last.unwrap_or_default().0;
    let caught_up = |node: &NodeId| {
        let matched: Option<LogIndex> = raft_status.matched.get(node).copied().flatten();
        matched.is_some_and(|matched| matched.0 + CAUGHT_UP_ENTRIES >= end)
    };
    let member = |node: &&NodeId| members.contains_key(node);
    let mut ordered: Vec<NodeId> = raft_status.voters.iter().filter(member).copied().collect();
    // The leader comes first, so that it stays a voter.
    ordered.sort_by_key(|node| (*node != me, *node));
    // The position of an exited member stays known, and counts as caught up while the log does not grow. As a voter, it
    // would only enlarge the majority.
    let learners =
        members.keys().filter(|node| !raft_status.voters.contains(node) && stays(state, node) && caught_up(node));
    ordered.extend(learners.copied());
    let count = odd(ordered.len().min(voters_max).min(members.len()));
    ordered.truncate(count);
    ordered.sort();
    ordered
}

/// Returns the greatest odd number that is at most `count`, or 0 for 0.
const fn odd(count: usize) -> usize {
    if count.is_multiple_of(2) { count.saturating_sub(1) } else { count }
}

/// Returns whether a node has a session and is not draining.
fn stays(state: &State, node: &NodeId) -> bool {
    state.sessions.get(node).is_some_and(|session| !session.draining)
}

/// Why a member is not a voter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NonVoterReason {
    /// Its admission is not applied on this node yet.
    AdmissionNotApplied,
    /// A pair is complete: both vote when they have caught up.
    CatchingUp,
    /// It waits for a second learner, as the number of voters stays odd.
    WaitsForPair,
    /// The maximum number of voters is reached.
    VotersMaxReached,
}

/// Returns why this node is not a voter; `None` if it is one both before and after a pending membership change.
///
/// Members that are down do not count as candidates: the wait for them might never end.
pub(crate) fn non_voter_reason(
    node: NodeId,
    raft_status: &RaftStatus,
    state: &State,
    voters_max: usize,
) -> Option<NonVoterReason> {
    if raft_status.certain_voters.contains(&node) {
        return None;
    }
    if !state.members.contains_key(&node) {
        return Some(NonVoterReason::AdmissionNotApplied);
    }
    let votes = |node: &&NodeId| raft_status.certain_voters.contains(node);
    let voters = state.members.keys().filter(votes).count();
    // The node itself counts even if its session is not applied here yet.
    let counts = |other: &&NodeId| **other == node || stays(state, other);
    let learners = state.members.keys().filter(|node| !votes(node)).filter(counts).count();
    Some(match () {
        () if odd((voters + learners).min(voters_max)) > voters => NonVoterReason::CatchingUp,
        () if voters + 2 > voters_max => NonVoterReason::VotersMaxReached,
        () => NonVoterReason::WaitsForPair,
    })
}

/// Returns the Raft group's entry of a member.
pub(crate) fn raft_member(member: &Member) -> RaftMember {
    RaftMember {
        name: member.name.clone(),
        peer: member.peer.clone(),
        http: member.http.clone(),
        incarnation: member.incarnation,
    }
}

#[cfg(test)]
mod tests {
    use evener_core::session::Session;

    use super::*;
    use crate::raft::Role;

    fn members(nodes: &[u64]) -> BTreeMap<NodeId, Member> {
        nodes.iter().map(|node| (NodeId(*node), member(*node))).collect()
    }

    fn member(node: u64) -> Member {
        Member {
            node: NodeId(node),
            name: format!("n{node}"),
            incarnation: Default::default(),
            peer: format!("h:{node}"),
            http: String::new(),
            level: Default::default(),
            leaving: false,
        }
    }

    /// Applies all steps of the plan, and returns the voters and the members of the group.
    #[track_caller]
    fn settle(voters: &[u64], raft_members: &[u64], up: &[u64], now: &[u64]) -> (Vec<u64>, Vec<u64>) {
        settle_with(voters, raft_members, up, now, now)
    }

    /// Does the same as [`settle`], with only the nodes of `live` up.
    #[track_caller]
    fn settle_with(
        voters: &[u64],
        raft_members: &[u64],
        up: &[u64],
        now: &[u64],
        live: &[u64],
    ) -> (Vec<u64>, Vec<u64>) {
        let sessions = live.iter().map(|node| (NodeId(*node), session(*node))).collect();
        let state = State { members: members(now), sessions, ..State::default() };
        let mut raft_status = RaftStatus {
            role: Role::Leader,
            last: Some(LogIndex(5_000)),
            voters: voters.iter().copied().map(NodeId).collect(),
            raft_members: raft_members.iter().map(|node| (NodeId(*node), raft_member(&member(*node)))).collect(),
            matched: up.iter().map(|node| (NodeId(*node), Some(LogIndex(4_500)))).collect(),
            ..RaftStatus::default()
        };
        for _ in 0..10 {
            match plan(NodeId(1), &raft_status, &state, 5) {
                Some(MembershipStep::SetMembers(raft_members)) => raft_status.raft_members.extend(raft_members),
                Some(MembershipStep::SetVoters(voters)) => raft_status.voters = voters,
                Some(MembershipStep::RemoveMembers(nodes)) => {
                    raft_status.raft_members.retain(|node, _| !nodes.contains(node))
                }
                None => {
                    let plain = |nodes: Vec<NodeId>| nodes.into_iter().map(|node| node.0).collect();
                    return (plain(raft_status.voters), plain(raft_status.raft_members.into_keys().collect()));
                }
            }
        }
        panic!("the plan does not terminate: {raft_status:?}");
    }

    #[test]
    fn voters_stay_odd() {
        assert_eq!(settle(&[1], &[1], &[], &[1]), (vec![1], vec![1]));
        assert_eq!(settle(&[1], &[1], &[1, 2], &[1, 2]), (vec![1], vec![1, 2]));
        assert_eq!(settle(&[1], &[1], &[1, 2, 3], &[1, 2, 3]), (vec![1, 2, 3], vec![1, 2, 3]));
        assert_eq!(settle(&[1, 2, 3], &[1, 2, 3], &[1, 2, 3, 4], &[1, 2, 3, 4]), (vec![1, 2, 3], vec![1, 2, 3, 4]));
        let five = vec![1, 2, 3, 4, 5];
        assert_eq!(settle(&[1, 2, 3], &[1, 2, 3], &five, &five), (five.clone(), five));
    }

    #[test]
    fn a_non_voter_has_a_reason() {
        let check = |certain_voters: &[u64], now: &[u64], live: &[u64], node: u64, expect: Option<NonVoterReason>| {
            let sessions = live.iter().map(|node| (NodeId(*node), session(*node))).collect();
            let state = State { members: members(now), sessions, ..State::default() };
            let certain_voters = certain_voters.iter().copied().map(NodeId).collect();
            let raft_status = RaftStatus { certain_voters, ..RaftStatus::default() };
            assert_eq!(non_voter_reason(NodeId(node), &raft_status, &state, 5), expect, "of {now:?}, live {live:?}");
        };
        check(&[1], &[1], &[1], 1, None);
        check(&[1], &[1], &[1], 2, Some(NonVoterReason::AdmissionNotApplied));
        check(&[1], &[1, 2], &[1, 2], 2, Some(NonVoterReason::WaitsForPair));
        check(&[1], &[1, 2, 3], &[1, 2, 3], 3, Some(NonVoterReason::CatchingUp));
        check(&[1], &[1, 2, 3], &[1, 3], 3, Some(NonVoterReason::WaitsForPair));
        check(&[1], &[1, 2, 3], &[1, 2], 3, Some(NonVoterReason::CatchingUp));
        check(&[1, 2, 3], &[1, 2, 3, 4], &[1, 2, 3, 4], 4, Some(NonVoterReason::WaitsForPair));
        check(&[1, 2, 3], &[1, 2, 3, 4, 5, 6], &[4, 5, 6], 6, Some(NonVoterReason::CatchingUp));
        check(&[1, 2, 3, 4, 5], &[1, 2, 3, 4, 5, 6, 7], &[6, 7], 6, Some(NonVoterReason::VotersMaxReached));
    }

    fn session(node: u64) -> Session {
        Session {
            node: NodeId(node),
            session: Default::default(),
            since: Default::default(),
            capabilities: Default::default(),
            weight: 1,
            nonce: Default::default(),
            draining: false,
        }
    }

    #[test]
    fn a_step_is_described_with_names() {
        let raft_members = [1, 2].map(|node| (NodeId(node), raft_member(&member(node))));
        let raft_status = RaftStatus { raft_members: raft_members.clone().into(), ..RaftStatus::default() };
        assert_eq!(
            MembershipStep::SetMembers(raft_members.into()).describe(&raft_status),
            "replicating the log to n1 at h:1, n2 at h:2"
        );
        let voters = MembershipStep::SetVoters(vec![NodeId(1), NodeId(3)]);
        assert_eq!(voters.describe(&raft_status), "setting the voters to n1, node 3");
    }

    #[test]
    fn a_member_that_lags_does_not_vote() {
        assert_eq!(settle(&[1], &[1], &[1, 2], &[1, 2, 3]), (vec![1], vec![1, 2, 3]));
    }

    #[test]
    fn a_learner_that_is_down_completes_no_pair_and_another_replaces_it() {
        let (three, four) = ([1, 2, 3], [1, 2, 3, 4]);
        assert_eq!(settle_with(&[1], &[1], &three, &three, &[1, 3]).0, vec![1]);
        assert_eq!(settle_with(&[1], &[1], &four, &four, &[1, 3, 4]).0, vec![1, 3, 4]);
        assert_eq!(
            settle_with(&three, &three, &four, &four, &[1, 2]).0,
            vec![1, 2, 3],
            "a voter that is down stays a voter"
        );
    }

    #[test]
    fn the_number_of_voters_is_limited() {
        let seven = [1, 2, 3, 4, 5, 6, 7];
        assert_eq!(settle(&[1, 2, 3], &[1, 2, 3], &seven, &seven).0, vec![1, 2, 3, 4, 5]);
    }

    #[test]
    fn a_removed_voter_is_replaced_if_a_learner_is_available() {
        assert_eq!(settle(&[1, 2, 3], &[1, 2, 3], &[1, 2], &[1, 2]), (vec![1], vec![1, 2]));
        assert_eq!(settle(&[1, 2, 3], &[1, 2, 3, 4], &[1, 2, 4], &[1, 2, 4]), (vec![1, 2, 4], vec![1, 2, 4]));
    }

    #[test]
    fn a_leader_that_was_removed_does_not_stay_a_voter() {
        assert_eq!(settle(&[1, 2, 3], &[1, 2, 3, 4], &[2, 3, 4], &[2, 3, 4]), (vec![2, 3, 4], vec![2, 3, 4]));
    }
}
