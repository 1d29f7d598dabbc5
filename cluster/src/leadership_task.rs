//! The task that judges which node leads and whether anything can be decided, publishes the result, and acts on it: it
//! logs changes, fails requests that wait for a majority that has been missing for long, and replaces a leader that
//! does not answer a majority of the voters.

use std::mem;

use evener_core::id::{NodeId, Term};
use tokio::{
    task::JoinHandle,
    time::{Instant, timeout},
};

use crate::{
    cluster::Cluster,
    leader_duties::campaign,
    leadership::{Judge, Leadership, NoDecision, NoDecisionReason, Observed},
    raft::{LeaderChanges, RaftStatus},
};

/// Runs until the node stops. A leader change reported by Raft is published at once; the rest is judged twice per
/// heartbeat interval.
pub(crate) async fn run(node: Cluster) {
    let (me, raft) = (node.me(), node.config.raft);
    let mut changes = node.consensus.leader_changes();
    let mut judge = Judge::new(me, raft.election_max, Instant::now());
    let mut election = Election { awake: Instant::now(), judged: Instant::now(), running: None };
    loop {
        let (term, leader) = changes.current();
        let raft_status = RaftStatus { term, leader, ..node.consensus.status() };
        let (exited, now) = (node.links.exited().borrow().clone(), Instant::now());
        let answer_ages =
            if leader == Some(me) { raft_status.answer_ages.clone() } else { node.heartbeats.answer_ages() };
        let leadership =
            judge.judge(Observed { raft_status: &raft_status, answer_ages: &answer_ages, exited: &exited }, now);
        let before = node.leadership.borrow().no_decision.clone();
        log_change(&node, before.as_ref(), leadership.no_decision.as_ref());
        if let Some(no_decision) = leadership.lasting_no_decision() {
            node.proposer.fail_waiting(no_decision);
        }
        publish(&node, leadership);
        election.replace_unresponsive_leader(&node, &raft_status, now);
        if timeout(raft.heartbeat / 2, led_otherwise(&mut changes, (term, leader))).await == Ok(false) {
            return;
        }
    }
}

/// Waits until another node leads, or leads in another term. Returns false if Raft has ended.
async fn led_otherwise(changes: &mut LeaderChanges, known: (Term, Option<NodeId>)) -> bool {
    while changes.changed().await {
        if changes.current() != known {
            return true;
        }
    }
    false
}

fn publish(node: &Cluster, now: Leadership) {
    node.leadership.send_if_modified(|known| {
        let changed = *known != now;
        *known = now;
        changed
    });
}

/// Logs that a majority or a leader is missing, or is available again.
fn log_change(node: &Cluster, before: Option<&NoDecision>, now: Option<&NoDecision>) {
    match (before, now) {
        (None, Some(no_decision)) => {
            let (why, unresponsive) = (no_decision.describe(), node.names_of(&no_decision.unresponsive).join(", "));
            match no_decision.reason {
                NoDecisionReason::NoMajority => {
                    tracing::warn!("{why}; writes are refused until a majority answers; no answer from {unresponsive}")
                }
                NoDecisionReason::NoLeader(_) if unresponsive.is_empty() => {
                    tracing::warn!("{why}; writes are refused on this node")
                }
                NoDecisionReason::NoLeader(_) => {
                    tracing::warn!("{why}; writes are refused on this node; no answer from {unresponsive}");
                }
            }
        }
        (Some(before), None) => {
            let what = if before.reason == NoDecisionReason::NoMajority { "a majority" } else { "a leader" };
            tracing::info!("{what} answers again, after {} s", before.since.elapsed().as_secs());
        }
        _ => {}
    }
}

/// The election that this node starts if the leader does not answer.
struct Election {
    /// When this node was last seen to resume: time before it does not count as time without an answer.
    awake: Instant,
    judged: Instant,
    running: Option<JoinHandle<()>>,
}

impl Election {
    /// Asks for votes if the leader does not answer a majority of the voters; one campaign at a time.
    fn replace_unresponsive_leader(&mut self, node: &Cluster, raft_status: &RaftStatus, now: Instant) {
        let timeout_ = node.config.raft.no_answer_timeout();
        if now.saturating_duration_since(mem::replace(&mut self.judged, now)) > timeout_ / 2 {
            self.awake = now;
        }
        if self.running.as_ref().is_some_and(|running| !running.is_finished()) {
            return;
        }
        if let Some(leader) = node.heartbeats.unresponsive_leader(node.me(), raft_status, timeout_, self.awake, now) {
            tracing::info!("the leader {} does not answer a majority of the voters", node.name_of(leader));
            self.running = Some(tokio::spawn(campaign_until_stopped(node.clone(), leader)));
        }
    }
}

async fn campaign_until_stopped(node: Cluster, leader: NodeId) {
    let stop = node.stop.clone();
    let _ = stop.run_until_cancelled(campaign(&node, leader)).await;
}
