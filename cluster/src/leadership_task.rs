//! The one task that judges who leads and whether anything can be decided, publishes it for everybody, and acts on it:
//! people are told, those who wait for a majority that is long gone wait no more, and a leader that a majority of the
//! voters does not hear of is replaced.

use std::mem;

use evener_core::id::{NodeId, Term};
use tokio::{
    task::JoinHandle,
    time::{Instant, timeout},
};

use crate::{
    cluster::Cluster,
    leader_duties::campaign,
    leadership::{Judge, Lack, Leadership, Missing, Observed},
    raft::{News, Standing},
};

/// Runs as long as the node does. Raft's word of who leads is published at once; the rest is judged several times a
/// heartbeat.
pub async fn run(node: Cluster) {
    let (me, raft) = (node.me(), node.config.raft);
    let mut news = node.engine.news();
    let mut judge = Judge::new(me, raft.election_max, Instant::now());
    let mut election = Election { awake: Instant::now(), judged: Instant::now(), running: None };
    loop {
        let (term, leader) = news.now();
        let standing = Standing { term, leader, ..node.engine.standing() };
        let (gone, now) = (node.links.gone().borrow().clone(), Instant::now());
        let heard = if leader == Some(me) { standing.heard.clone() } else { node.pulses.heard() };
        let leadership = judge.judge(Observed { standing: &standing, heard: &heard, gone: &gone }, now);
        let before = node.leadership.borrow().lack.clone();
        log_change(&node, before.as_ref(), leadership.lack.as_ref());
        if let Some(lack) = leadership.lasting_lack() {
            node.proposer.fail_waiting(lack);
        }
        publish(&node, leadership);
        election.replace_silent_leader(&node, &standing, now);
        if timeout(raft.heartbeat / 2, led_otherwise(&mut news, (term, leader))).await == Ok(false) {
            return;
        }
    }
}

/// Waits until another node leads, or leads in another term. Returns false if Raft has ended.
async fn led_otherwise(news: &mut News, known: (Term, Option<NodeId>)) -> bool {
    while news.changed().await {
        if news.now() != known {
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

/// Tells people of a lack that begins or ends now.
fn log_change(node: &Cluster, before: Option<&Lack>, now: Option<&Lack>) {
    match (before, now) {
        (None, Some(lack)) => {
            let (why, silent) = (lack.describe(), node.names_of(&lack.silent).join(", "));
            match lack.missing {
                Missing::Majority => {
                    tracing::warn!("{why}, and nothing is changed until a majority does; no answer comes from {silent}")
                }
                Missing::Leader(_) if silent.is_empty() => tracing::warn!("{why}, and nothing is changed from here"),
                Missing::Leader(_) => {
                    tracing::warn!("{why}, and nothing is changed from here; no answer comes from {silent}");
                }
            }
        }
        (Some(before), None) => {
            let what = if before.missing == Missing::Majority { "a majority" } else { "a leader" };
            tracing::info!("{what} answers again, after {} s", before.since.elapsed().as_secs());
        }
        _ => {}
    }
}

/// The election that this node asks for if the leader is silent.
struct Election {
    /// Nobody's silence counts from before: this node was frozen.
    awake: Instant,
    judged: Instant,
    running: Option<JoinHandle<()>>,
}

impl Election {
    /// Asks for votes if a majority of the voters has not heard of the leader, one request at a time.
    fn replace_silent_leader(&mut self, node: &Cluster, standing: &Standing, now: Instant) {
        let silence = node.config.raft.silence();
        if now.saturating_duration_since(mem::replace(&mut self.judged, now)) > silence / 2 {
            self.awake = now;
        }
        if self.running.as_ref().is_some_and(|running| !running.is_finished()) {
            return;
        }
        if let Some(leader) = node.pulses.silent_leader(node.me(), standing, silence, self.awake, now) {
            tracing::info!("{}, which led, answers none of a majority of the voters", node.name_of(leader));
            self.running = Some(tokio::spawn(campaign_until_stopped(node.clone(), leader)));
        }
    }
}

async fn campaign_until_stopped(node: Cluster, leader: NodeId) {
    let stop = node.stop.clone();
    let _ = stop.run_until_cancelled(campaign(&node, leader)).await;
}
