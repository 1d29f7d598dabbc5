//! Describes which members vote, which do not yet and why, and which failures the cluster survives.
//!
//! Voters stay odd, so learners are promoted in pairs. A node that is ready may therefore have no vote for long,
//! and operators must be able to see it.

use evener_cluster::{Cluster, NonVoterReason, Status};
use evener_core::{id::NodeId, state::State};

use crate::health::Check;

/// Whether a member without a vote does its work all the same, or is about to be promoted.
pub(super) fn check(cluster: &Cluster) -> Check {
    let standing = cluster.status();
    let state = cluster.state();
    let mut check = Check { name: "vote", vital: false, trouble: None, note: None };
    match standing.non_voters.get(&standing.node) {
        None => {}
        Some(voteless @ (NonVoterReason::AdmissionNotApplied | NonVoterReason::CatchingUp)) => {
            check.trouble = Some(why(*voteless).to_owned())
        }
        Some(voteless) => check.note = Some(format!("learner: {}{}", why(*voteless), stake(&standing, &state))),
    }
    check
}

/// Why a member has no vote.
pub(super) fn why(voteless: NonVoterReason) -> &'static str {
    match voteless {
        NonVoterReason::AdmissionNotApplied => "this node has not heard of its admission yet",
        NonVoterReason::CatchingUp => {
            "a pair of learners is there, and votes as soon as both have caught up with the log"
        }
        NonVoterReason::WaitsForPair => "it waits for a second learner, as voters stay odd",
        NonVoterReason::VotersMaxReached => "as many members vote as may",
    }
}

/// What hangs on a voter that is alone.
fn stake(standing: &Status, state: &State) -> String {
    match standing.voters[..] {
        [only] => format!("; only {} votes, and the cluster stops when it does", state.name_of(only)),
        _ => String::new(),
    }
}

/// What is to be known of the votes once this member has left: voters stay odd, so with one of three a second goes.
pub(super) fn without(standing: &Status, state: &State, node: NodeId) -> Option<String> {
    let now = standing.voters.len();
    let stays = |who: &&NodeId| state.sessions.get(who).is_some_and(|session| !session.draining);
    let learners = standing.learners.iter().filter(stays);
    let rest = standing.voters.iter().chain(learners).filter(|who| **who != node).count();
    // The greatest odd number that is not greater.
    let then = rest.min(now).saturating_sub(1) / 2 * 2 + 1;
    (then < now).then(|| {
        let (all, may_lose) = (state.members.len() - 1, may_lose(then as u64, then as u64));
        let stake = match then {
            1 => "the cluster stops if that one does, and what it alone has stored counts as stored".to_owned(),
            _ => format!("{may_lose} of them may be lost, and the cluster goes on"),
        };
        format!(
            "voters stay odd, so of {all} members {then} will vote: {stake}; start another node, and {now} vote again"
        )
    })
}

/// Returns how many more voters may fail without stopping the cluster.
pub(super) const fn may_lose(voters: u64, alive: u64) -> u64 {
    alive.saturating_sub(voters / 2 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_lost_already_is_counted() {
        let cases = [(1, 1, 0), (3, 3, 1), (3, 2, 0), (3, 1, 0), (5, 5, 2), (5, 4, 1), (5, 3, 0)];
        for (voters, alive, more) in cases {
            assert_eq!(may_lose(voters, alive), more, "{alive} of {voters}");
        }
    }
}
