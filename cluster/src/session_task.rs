//! Begins and renews this node's session, and reports its loss at once, so that handlers stop in time.

use evener_core::{
    command::{Begin, Command, Outcome, RefusalReason},
    id::{LogIndex, NodeId, SessionId, Term},
};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use crate::{
    cluster::Cluster,
    leadership::Leadership,
    messages::Renewed,
    sessions::Lease,
    unique_id::{IdPurpose, unique_id},
    view::Applied,
};

/// The number of renewals per lease. An election may take the part of the lease that the last renewal has left.
const RENEWALS: u32 = 10;

/// The reason to stop when the leader finds that this node has lost acknowledged entries.
const LOST_ENTRIES: &str = "it has lost entries that it had acknowledged: its data directory is an older copy, or \
                            another process runs with a copy of it; start it with the newest one, or let it leave and \
                            join again with an empty directory under another name";

/// Keeps a session until the node stops.
pub(crate) async fn run(node: Cluster) {
    for nth in 0.. {
        let lease = begin(&node, nth).await;
        node.lease.lock().replace(lease);
        node.session.send_replace(Some(lease.session));
        let why = renew_until_lost(&node, lease).await;
        // A node that is stopping has already taken its session; it begins no other.
        if node.session.send_replace(None) != Some(lease.session) {
            return;
        }
        // A removed node's session ends as requested; the refusal of a new one stops this node.
        if !node.is_removed() {
            tracing::warn!(session = %lease.session, why, "session lost; beginning a new one");
        }
    }
}

/// Begins a session; retries until the cluster can be reached.
async fn begin(node: &Cluster, nth: u64) -> Lease {
    let begin = Command::Begin(Begin {
        node: node.me(),
        incarnation: node.identity.incarnation,
        peer: node.peer.clone(),
        http: node.config.http.clone(),
        level: node.config.level,
        capabilities: node.config.capabilities.clone(),
        weight: node.config.weight,
        // The same for every attempt, so that only one session begins however often it is proposed.
        nonce: unique_id(node.config.random_id, IdPurpose::Session, nth),
    });
    let mut suspended = node.suspended.subscribe();
    loop {
        let _ = suspended.wait_for(|suspended| !suspended).await;
        let (sent, boot) = (Instant::now(), node.wall.boot());
        match node.propose(begin.clone()).await {
            Ok(Outcome::Begun(session)) => return Lease { session, sent, boot },
            // The refusal is final, except that the first node may propose this before its cluster is founded.
            Ok(Outcome::Refused(RefusalReason::NotFound(_))) if node.me() != NodeId(1) || node.is_founded() => {
                node.on_removed(node.removal_notice());
            }
            Ok(Outcome::Refused(why)) if node.me() != NodeId(1) || node.is_founded() => {
                let why = (node.config.describe)(&why);
                node.fail(format!("the cluster refused a session: {why}"));
            }
            Ok(other) => tracing::warn!(node = %node.me(), ?other, "no session for this node yet"),
            Err(error) => tracing::debug!(node = %node.me(), %error, "no session for this node yet"),
        }
        sleep(node.config.lease / 20).await;
    }
}

/// Renews the session until it is lost, and returns why.
async fn renew_until_lost(node: &Cluster, mut lease: Lease) -> &'static str {
    let length = node.config.lease;
    let mut next = Instant::now() + length / RENEWALS;
    let (mut applied, mut leadership) = (node.applied_state.view.applied(), node.leadership());
    let (mut changed, mut suspended) = (LogIndex(0), node.suspended.subscribe());
    loop {
        let known = led_by(&node.leadership.borrow());
        tokio::select! {
            biased;
            why = over(node, lease) => return why,
            _ = suspended.changed() => {}
            () = sleep_until(next), if !*node.suspended.borrow() => {
                let (sent, boot) = (Instant::now(), node.wall.boot());
                // The request to an unresponsive leader is abandoned once it has a successor.
                let renewed = tokio::select! {
                    renewed = node.renew(lease.session, length / 5) => Some(renewed),
                    () = led(&mut leadership, known) => None,
                    why = over(node, lease) => return why,
                };
                next = match renewed.unwrap_or(Renewed::NotLeader) {
                    Renewed::Kept => {
                        (lease.sent, lease.boot) = (sent, boot);
                        node.lease.lock().replace(lease);
                        sent + length / RENEWALS
                    }
                    Renewed::SessionEnded => return "the log ended it",
                    Renewed::LostEntries => {
                        node.fail(LOST_ENTRIES.into());
                        return "this node has lost acknowledged entries";
                    }
                    Renewed::NotLeader => sent.max(Instant::now()) + length / 50,
                };
            }
            () = led(&mut leadership, known) => next = Instant::now(),
            now = news(&mut applied, changed) => {
                changed = now;
                if !is_live(node, lease.session) {
                    return "the log ended it";
                }
            }
        }
    }
}

/// Waits until the lease is over, and returns why.
async fn over(node: &Cluster, lease: Lease) -> &'static str {
    let length = node.config.lease;
    loop {
        let now = Instant::now();
        if lease.is_over(length, now, node.wall.boot()) {
            return match now >= lease.ends(length) {
                true => "no leader renewed it for two thirds of the lease",
                false => "this machine was suspended for longer than two thirds of the lease",
            };
        }
        // Polled, because a timer does not fire for time during which the machine was suspended.
        sleep_until(lease.ends(length).min(now + length / 50)).await;
    }
}

/// Waits until another leader is known, or the same one leads in another term.
async fn led(leadership: &mut watch::Receiver<Leadership>, known: (Term, Option<NodeId>)) {
    if leadership.wait_for(|now| now.leader.is_some() && led_by(now) != known).await.is_err() {
        std::future::pending().await
    }
}

fn led_by(leadership: &Leadership) -> (Term, Option<NodeId>) {
    (leadership.term, leadership.leader)
}

/// Waits until something other than events and tokens has changed.
async fn news(applied: &mut watch::Receiver<Applied>, seen: LogIndex) -> LogIndex {
    match applied.wait_for(|applied| applied.changed != seen).await.map(|applied| applied.changed) {
        Ok(changed) => changed,
        Err(_) => std::future::pending().await,
    }
}

/// Returns whether the session has not ended in the log, as far as it is applied here.
fn is_live(node: &Cluster, session: SessionId) -> bool {
    let state = node.applied_state.view.state();
    // The beginning of the session may not be applied here yet.
    state.issued.session < session || state.sessions.get(&node.me()).is_some_and(|live| live.session == session)
}
