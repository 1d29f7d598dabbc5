//! Who has a seat in the Raft group, and who votes: what the leader does next, given what is.
//!
//! The replicated state says who is a member; the group follows it, one step at a time. A member gets a seat at
//! once and follows the log; it votes when it has caught up. Voters stay odd, so learners are promoted in pairs:
//! an even number of voters is no safer than one less, and needs one more to agree.

use std::collections::BTreeMap;

use evener_core::{
    id::{LogIndex, NodeId},
    member::Member,
    state::State,
};

use crate::raft::{RaftMember, RaftStatus};

/// A node this close to the end of the log has caught up.
const CAUGHT_UP_ENTRIES: u64 = 1_000;

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MembershipStep {
    /// Members without a seat get one; seats are brought up to date.
    SetMembers(BTreeMap<NodeId, RaftMember>),
    /// These vote from now on, and no others.
    SetVoters(Vec<NodeId>),
    /// These are no members any more.
    RemoveMembers(Vec<NodeId>),
}

impl MembershipStep {
    /// In words.
    pub fn describe(&self, raft_status: &RaftStatus) -> String {
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
                format!("the log is sent to {}", raft_members.join(", "))
            }
            Self::SetVoters(voters) => format!("from now on these vote: {}", names(voters)),
            Self::RemoveMembers(nodes) => format!("the log is not sent any more to {}", names(nodes)),
        }
    }
}

/// What the leader does next, if anything.
pub fn plan(me: NodeId, raft_status: &RaftStatus, state: &State, voters_max: usize) -> Option<MembershipStep> {
    let members = &state.members;
    let raft_members = members.iter().map(|(node, member)| (*node, raft_member(member)));
    let wrong: BTreeMap<_, _> =
        raft_members.filter(|(node, raft_member)| raft_status.raft_members.get(node) != Some(raft_member)).collect();
    if !wrong.is_empty() {
        return Some(MembershipStep::SetMembers(wrong));
    }
    let voters = voters(me, raft_status, state, voters_max);
    // A joint membership is one that a leader did not live to complete.
    if !voters.is_empty() && (raft_status.joint || voters != raft_status.voters) {
        return Some(MembershipStep::SetVoters(voters));
    }
    let removed: Vec<_> = raft_status.raft_members.keys().filter(|node| !members.contains_key(node)).copied().collect();
    (!removed.is_empty()).then_some(MembershipStep::RemoveMembers(removed))
}

/// Who should vote: those who do, as far as they are members, and those who live and have caught up, up to an odd
/// number.
fn voters(me: NodeId, raft_status: &RaftStatus, state: &State, voters_max: usize) -> Vec<NodeId> {
    let members = &state.members;
    let end = raft_status.last.unwrap_or_default().0;
    let caught_up = |node: &NodeId| {
        let matched: Option<LogIndex> = raft_status.matched.get(node).copied().flatten();
        matched.is_some_and(|matched| matched.0 + CAUGHT_UP_ENTRIES >= end)
    };
    let member = |node: &&NodeId| members.contains_key(node);
    let mut ordered: Vec<NodeId> = raft_status.voters.iter().filter(member).copied().collect();
    // The leader stays one if any does.
    ordered.sort_by_key(|node| (*node != me, *node));
    // How far one came that is gone stays known, and in a calm log that counts as caught up. With its vote one more
    // would be needed to agree, and it would help nobody.
    let learners =
        members.keys().filter(|node| !raft_status.voters.contains(node) && stays(state, node) && caught_up(node));
    ordered.extend(learners.copied());
    let count = odd(ordered.len().min(voters_max).min(members.len()));
    ordered.truncate(count);
    ordered.sort();
    ordered
}

/// The greatest odd number that is not greater; 0 for 0.
const fn odd(count: usize) -> usize {
    if count.is_multiple_of(2) { count.saturating_sub(1) } else { count }
}

/// Whether a node lives, and is not about to end.
fn stays(state: &State, node: &NodeId) -> bool {
    state.sessions.get(node).is_some_and(|session| !session.draining)
}

/// Why a member has no vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NonVoterReason {
    /// Its admission has not come to this node yet.
    AdmissionNotApplied,
    /// A pair is complete: it votes as soon as both have caught up.
    CatchingUp,
    /// It waits for a second one, as voters stay odd.
    WaitsForPair,
    /// As many vote as may.
    VotersMaxReached,
}

/// Why this node has no vote; none if it has one, whichever way a change of the membership ends.
///
/// Who does not live does not count: waiting for it would have no end.
pub fn non_voter_reason(
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
    // The node itself may know of its session before the log says so here.
    let counts = |who: &&NodeId| **who == node || stays(state, who);
    let learners = state.members.keys().filter(|node| !votes(node)).filter(counts).count();
    Some(match () {
        () if odd((voters + learners).min(voters_max)) > voters => NonVoterReason::CatchingUp,
        () if voters + 2 > voters_max => NonVoterReason::VotersMaxReached,
        () => NonVoterReason::WaitsForPair,
    })
}

/// The seat of a member.
pub fn raft_member(member: &Member) -> RaftMember {
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

    /// Does all steps until there is none; what then votes, and who has a seat.
    #[track_caller]
    fn settle(voters: &[u64], raft_members: &[u64], up: &[u64], now: &[u64]) -> (Vec<u64>, Vec<u64>) {
        settle_with(voters, raft_members, up, now, now)
    }

    /// As [`settle`], with only these alive.
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
        panic!("the plan does not come to rest: {raft_status:?}");
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
    fn who_does_not_vote_knows_why() {
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
    fn a_step_is_told_by_names() {
        let raft_members = [1, 2].map(|node| (NodeId(node), raft_member(&member(node))));
        let raft_status = RaftStatus { raft_members: raft_members.clone().into(), ..RaftStatus::default() };
        assert_eq!(
            MembershipStep::SetMembers(raft_members.into()).describe(&raft_status),
            "the log is sent to n1 at h:1, n2 at h:2"
        );
        let voters = MembershipStep::SetVoters(vec![NodeId(1), NodeId(3)]);
        assert_eq!(voters.describe(&raft_status), "from now on these vote: n1, node 3");
    }

    #[test]
    fn who_lags_does_not_vote_yet() {
        assert_eq!(settle(&[1], &[1], &[1, 2], &[1, 2, 3]), (vec![1], vec![1, 2, 3]));
    }

    #[test]
    fn a_dead_learner_completes_no_pair_and_a_third_takes_its_place() {
        let (three, four) = ([1, 2, 3], [1, 2, 3, 4]);
        assert_eq!(settle_with(&[1], &[1], &three, &three, &[1, 3]).0, vec![1]);
        assert_eq!(settle_with(&[1], &[1], &four, &four, &[1, 3, 4]).0, vec![1, 3, 4]);
        assert_eq!(settle_with(&three, &three, &four, &four, &[1, 2]).0, vec![1, 2, 3], "who votes goes on voting");
    }

    #[test]
    fn no_more_than_the_limit_vote() {
        let seven = [1, 2, 3, 4, 5, 6, 7];
        assert_eq!(settle(&[1, 2, 3], &[1, 2, 3], &seven, &seven).0, vec![1, 2, 3, 4, 5]);
    }

    #[test]
    fn who_leaves_votes_no_more_and_is_replaced_where_one_is_there() {
        assert_eq!(settle(&[1, 2, 3], &[1, 2, 3], &[1, 2], &[1, 2]), (vec![1], vec![1, 2]));
        assert_eq!(settle(&[1, 2, 3], &[1, 2, 3, 4], &[1, 2, 4], &[1, 2, 4]), (vec![1, 2, 4], vec![1, 2, 4]));
    }

    #[test]
    fn the_leader_that_leaves_is_not_asked_to_stay() {
        assert_eq!(settle(&[1, 2, 3], &[1, 2, 3, 4], &[2, 3, 4], &[2, 3, 4]), (vec![2, 3, 4], vec![2, 3, 4]));
    }
}
