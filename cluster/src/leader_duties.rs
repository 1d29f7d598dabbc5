//! What a node does as the leader, and what a voter does when the leader is gone. The leader counts the leases, lets
//! the Raft group follow the members, and raises the feature level.

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

/// Waits so long, or until this node does not lead in this term any more.
async fn pause(node: &Cluster, term: Term, wait: Duration) {
    let mut leadership = node.leadership();
    let lost = leadership.wait_for(|now| !now.is_led_by(node.me(), term));
    let _ = tokio::time::timeout(wait, lost).await;
}

/// Counts leases while this node leads. Runs as long as the node does.
pub async fn count_leases(node: Cluster) {
    loop {
        let term = until_leading(&node).await;
        node.leases.lock().begin_term(term);
        tracing::info!(%term, "this node leads");
        while node.leads_in(term) {
            for (who, session) in expired(&node) {
                let (name, lease) = (node.name_of(who), node.config.lease);
                tracing::warn!(%session, "{name} was not heard of for {lease:?}: what it had goes to others");
                // Judged at its place in the log: whatever goes wrong here, the next round sees what is.
                if let Err(error) = node.expire(who, session).await {
                    tracing::debug!(%error, "failed to expire a session");
                }
            }
            pause(&node, term, node.config.lease / 10).await;
        }
        node.leases.lock().end_term();
    }
}

/// Whose leases are over. Without a majority no session can be ended, and the leader renews none, not even its own:
/// whoever lives when there is one again has a whole lease.
fn expired(node: &Cluster) -> Vec<(NodeId, SessionId)> {
    if node.cannot_decide() {
        return Vec::new();
    }
    let state = node.applied_state.view.state();
    node.leases.lock().expired(&state.sessions, node.config.lease, Instant::now())
}

/// Waits until this node leads and has applied an entry of its own term: then it knows every session there is.
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

/// Lets the group follow the members while this node leads. Runs as long as the node does.
pub async fn reconcile(node: Cluster) {
    loop {
        let term = until_leading(&node).await;
        let mut applied = node.applied_state.view.applied();
        while node.leads_in(term) {
            applied.mark_unchanged();
            let seen = *applied.borrow_and_update();
            match step(&node).await {
                Ok(true) => {}
                // Nothing to do. What can change that stands in the log, or a learner catches up.
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

/// Does one thing, if there is one to do.
async fn step(node: &Cluster) -> Result<bool, String> {
    // Before it is founded there is nobody to follow, and without a majority nothing comes of it.
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

/// A member's socket closed and cannot be opened again: its process is gone. Ends its session, if this node
/// leads; asks for votes, if it was the leader.
///
/// `session` is the one that it had before it was looked for: a process that has begun meanwhile is another.
pub async fn on_peer_exit(node: Cluster, who: NodeId, session: Option<SessionId>) {
    if node.leads() {
        // It is looked for again, and ended once it can be.
        if node.cannot_decide() {
            return;
        }
        let live = node.applied_state.view.state().sessions.get(&who).map(|live| live.session);
        if let Some(session) = session.filter(|session| live == Some(*session)) {
            tracing::info!(%session, "the process of {} is gone: what it had goes to others", node.name_of(who));
            let _ = node.expire(who, session).await;
        }
        return;
    }
    tracing::debug!("the process of {} is gone", node.name_of(who));
    campaign(&node, who).await;
}

/// Asks for votes if this node votes and that one, which is gone or silent, leads: without waiting for Raft's clocks.
pub async fn campaign(node: &Cluster, who: NodeId) {
    let raft_status = node.consensus.status();
    if raft_status.leader != Some(who) || !raft_status.voters.contains(&node.me()) {
        return;
    }
    // One after the other, so that they do not take votes from each other; the first that can win does.
    let rank = raft_status.voters.iter().filter(|voter| **voter != who && **voter < node.me()).count();
    let rank = u32::try_from(rank).unwrap_or(u32::MAX);
    let heartbeat = node.config.raft.heartbeat;
    sleep(heartbeat * rank).await;
    if node.consensus.status().leader != Some(who) {
        return;
    }
    tracing::info!("{}, which led, is gone or silent: asking for votes", node.name_of(who));
    // One whose log is too short to win gives its own vote to itself all the same, and uses up a term of which the
    // others do not hear: each before this one may have done so.
    for _ in 0..=rank {
        node.consensus.campaign().await;
        sleep(heartbeat / 5).await;
        if node.consensus.status().leader.is_some() {
            return;
        }
    }
}
