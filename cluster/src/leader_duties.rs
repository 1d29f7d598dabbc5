//! The duties of the leader, and what a voter does when the leader's process has exited. The leader counts the leases,
//! keeps the Raft group in step with the members, and raises the feature level.

use std::time::Duration;

use evener_core::{
    command::Command,
    id::{NodeId, SessionId, Term},
};
use tokio::time::{Instant, sleep};

use crate::{
    cluster::Cluster,
    membership::{self, MembershipStep},
};

/// Waits for `wait`, or until this node no longer leads in this term.
async fn pause(node: &Cluster, term: Term, wait: Duration) {
    let mut leadership = node.leadership();
    let lost = leadership.wait_for(|now| !now.is_led_by(node.me(), term));
    let _ = tokio::time::timeout(wait, lost).await;
}

/// Counts leases while this node leads, until the node stops.
pub(crate) async fn count_leases(node: Cluster) {
    loop {
        let term = until_leading(&node).await;
        node.leases.lock().begin_term(term);
        tracing::info!(%term, "this node leads");
        while node.leads_in(term) {
            for (member, session) in expired(&node) {
                let (name, lease) = (node.name_of(member), node.config.lease);
                tracing::warn!(%session, "no renewal from {name} for {lease:?}; reassigning its segments");
                // The command is validated at its place in the log. After a failure, the next round retries.
                if let Err(error) = node.expire(member, session).await {
                    tracing::debug!(%error, "failed to expire a session");
                }
            }
            pause(&node, term, node.config.lease / 10).await;
        }
        node.leases.lock().end_term();
    }
}

/// Returns the sessions whose leases are over. Without a majority no session can be ended and the leader renews none,
/// not even its own; when there is a majority again, every session gets a full lease.
fn expired(node: &Cluster) -> Vec<(NodeId, SessionId)> {
    if node.cannot_decide() {
        return Vec::new();
    }
    let state = node.applied_state.view.state();
    node.leases.lock().expired(&state.sessions, node.config.lease, Instant::now())
}

/// Waits until this node leads and has applied an entry of its own term, and thus knows every session.
async fn until_leading(node: &Cluster) -> Term {
    let mut leadership = node.leadership();
    loop {
        let led = leadership.wait_for(|now| now.leader == Some(node.me())).await.map(|now| now.term);
        // The channel closes when the node stops, and with it this task.
        let Ok(term) = led else { std::future::pending().await };
        let mut applied = node.applied_state.view.applied();
        tokio::select! {
            _ = applied.wait_for(|applied| applied.term >= term) => return term,
            _ = leadership.wait_for(|now| !now.is_led_by(node.me(), term)) => {}
        }
    }
}

/// Changes the Raft group to match the members while this node leads, until the node stops.
pub(crate) async fn reconcile(node: Cluster) {
    loop {
        let term = until_leading(&node).await;
        let mut applied = node.applied_state.view.applied();
        while node.leads_in(term) {
            applied.mark_unchanged();
            let seen = *applied.borrow_and_update();
            match step(&node).await {
                Ok(true) => {}
                // Nothing to do until an entry changes the state or a learner catches up.
                Ok(false) => {
                    let news = applied.wait_for(|applied| applied.changed != seen.changed);
                    let _ = tokio::time::timeout(node.config.raft.heartbeat * 2, news).await;
                }
                Err(error) => {
                    tracing::debug!(node = %node.me(), error, "failed to change the membership; trying again");
                    sleep(node.config.raft.heartbeat).await;
                }
            }
        }
    }
}

/// Does the next step, if there is one, and returns whether there was.
async fn step(node: &Cluster) -> Result<bool, String> {
    // Before the founding there are no members, and without a majority no step can succeed.
    if !node.is_founded() || node.cannot_decide() {
        return Ok(false);
    }
    let raft_status = node.consensus.status();
    let (step, least, level) = {
        let state = node.applied_state.view.state();
        let step = membership::plan(node.me(), &raft_status, &state, node.config.voters_max);
        (step, state.members.values().map(|member| member.level).min(), state.level)
    };
    if let Some(step) = step {
        tracing::info!("{}", step.describe(&raft_status));
        match step {
            MembershipStep::SetMembers(raft_members) => node.consensus.set_members(raft_members).await?,
            MembershipStep::SetVoters(voters) => node.consensus.set_voters(voters).await?,
            MembershipStep::RemoveMembers(nodes) => node.consensus.remove_members(nodes).await?,
        }
        return Ok(true);
    }
    if let Some(least) = least.filter(|least| *least > level) {
        node.propose(Command::RaiseLevel(least)).await.map_err(|error| error.to_string())?;
        return Ok(true);
    }
    Ok(false)
}

/// Handles the exit of a member's process, after its socket closed and could not be opened again. Ends its session if
/// this node leads; asks for votes if the member was the leader.
///
/// `session` is the session that it had before the check: a process that has started since has another one.
pub(crate) async fn on_peer_exit(node: Cluster, member: NodeId, session: Option<SessionId>) {
    if node.leads() {
        // The check is repeated, and the session is ended once there is a majority.
        if node.cannot_decide() {
            return;
        }
        let live = node.applied_state.view.state().sessions.get(&member).map(|live| live.session);
        if let Some(session) = session.filter(|session| live == Some(*session)) {
            tracing::info!(%session, "the process of {} has exited; reassigning its segments", node.name_of(member));
            let _ = node.expire(member, session).await;
        }
        return;
    }
    tracing::debug!("the process of {} has exited", node.name_of(member));
    campaign(&node, member).await;
}

/// Asks for votes without waiting for Raft's election timeout, if this node votes and `member`, which has exited or
/// does not answer, is the leader.
pub(crate) async fn campaign(node: &Cluster, member: NodeId) {
    let raft_status = node.consensus.status();
    if raft_status.leader != Some(member) || !raft_status.voters.contains(&node.me()) {
        return;
    }
    // Voters campaign one after the other, so that they do not split the vote; the first that can win does.
    let rank = raft_status.voters.iter().filter(|voter| **voter != member && **voter < node.me()).count();
    let rank = u32::try_from(rank).unwrap_or(u32::MAX);
    let heartbeat = node.config.raft.heartbeat;
    sleep(heartbeat * rank).await;
    if node.consensus.status().leader != Some(member) {
        return;
    }
    tracing::info!("the leader {} has exited or does not answer; asking for votes", node.name_of(member));
    // A voter whose log is too short to win still votes for itself and so uses a term that the others do not learn of.
    // Each voter before this one may have done so.
    for _ in 0..=rank {
        node.consensus.campaign().await;
        sleep(heartbeat / 5).await;
        if node.consensus.status().leader.is_some() {
            return;
        }
    }
}
