//! The status of this node, and of the cluster as seen from it.

use std::collections::BTreeMap;

use evener_cluster::Role;
use evener_core::{
    claim::{Bar, BarCause},
    id::{ContextId, LogIndex, NodeId},
    processor::{Handler, Processor, Share},
    state::State,
};

use super::{Cluster, Disk, Member, StateHash, Status, Unowned, leader, local::Engine, votes};
use crate::{
    describe::time_text,
    status::{SegmentsWanted, StatusBoard},
};

/// Returns the status of this node.
pub(super) fn status(engine: &Engine) -> Status {
    let (standing, (index, chain)) =
        (engine.cluster().status(), engine.cluster().with_state(|state, index| (index, state.chain)));
    let (state, leader) = (engine.cluster().state(), standing.leadership.deciding_leader());
    let trouble = leader::trouble_of(&standing.leadership, &state);
    Status {
        trouble,
        clock_ahead_ms: standing.clock_ahead_ms,
        log_ahead_ms: u64::try_from(standing.log_ahead.as_millis()).unwrap_or(u64::MAX),
        node: standing.name,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        uptime_s: engine.uptime().as_secs(),
        role: role_word(standing.role, leader.is_some()).to_owned(),
        term: standing.leadership.term.0,
        leader: leader.map(|leader| state.name_of(leader)),
        head: standing.head.0,
        applied: standing.applied.0,
        durable: standing.durable.map_or(0, |index| index.0),
        disk: Disk {
            free_bytes: standing.disk.free,
            total_bytes: standing.disk.total,
            reserve_bytes: standing.disk.reserve,
            log_bytes: standing.disk.log,
            appends_refused: standing.append_refusal,
        },
        state_hash: StateHash { index: index.0, hash: format!("{chain:016x}") },
        actors: engine.board().list(),
        standstills: engine.board().standstills(),
        segments_wanted: segments_wanted(&state, engine.board()),
    }
}

/// The processors of which the program of this node asks for other segments than they were created with.
pub(crate) fn segments_wanted(state: &State, board: &StatusBoard) -> Vec<SegmentsWanted> {
    let differs = |(processor, wanted): (String, u32)| {
        let stored = state.processor(&processor)?.definition.segments;
        (stored != wanted).then_some(SegmentsWanted { processor, stored, wanted })
    };
    board.segments_wanted().into_iter().filter_map(differs).collect()
}

/// A leader without a majority is no more than any other voter.
fn role_word(role: Role, led: bool) -> &'static str {
    match role {
        Role::Leader if led => "leader",
        Role::Leader | Role::Follower | Role::Candidate => "follower",
        Role::Learner => "learner",
        Role::Stopped => "stopped",
    }
}

/// What the cluster looks like from here.
pub(super) async fn cluster(engine: &Engine) -> Cluster {
    let reported = engine.status_of(|_, _| true).await;
    let standing = engine.cluster().status();
    let voters = standing.voters.len();
    let leader = standing.leadership.deciding_leader();
    let state = engine.cluster().state();
    // Without a leader the sessions of failed nodes do not end: then only the nodes that answer are alive.
    let answers = |node| node == standing.node || reported.contains_key(&node);
    let silent = |node| standing.leadership.no_decision.as_ref().is_some_and(|lack| lack.unresponsive.contains(&node));
    let alive =
        |node: &NodeId| state.sessions.contains_key(node) && !silent(*node) && (leader.is_some() || answers(*node));
    let live = standing.voters.iter().filter(|voter| alive(voter)).count();
    let mut owned: BTreeMap<NodeId, u64> = BTreeMap::new();
    let shares = || state.processors.values().flat_map(|processor| processor.segments.values());
    for owner in shares().filter_map(|share| share.claim.owner) {
        *owned.entry(owner).or_default() += 1;
    }
    let members = state.members.values().map(|member| {
        let node = member.node;
        let session = state.sessions.get(&node);
        let role = match () {
            () if leader == Some(node) => "leader",
            () if standing.voters.contains(&node) => "follower",
            () => "learner",
        };
        let here = (node == standing.node).then_some(standing.applied);
        let there = reported.get(&node).map(|status| LogIndex(status.applied));
        Member {
            name: member.name.clone(),
            id: node.0,
            role: role.to_owned(),
            why: standing.non_voters.get(&node).map(|voteless| votes::why(*voteless).to_owned()),
            peer: member.peer.clone(),
            http: member.http.clone(),
            alive: alive(&node),
            applied: here.or(there).or(standing.matched.get(&node).copied().flatten()).map(|index| index.0),
            capabilities: session.map(|session| session.capabilities.keys().cloned().collect()).unwrap_or_default(),
            segments: owned.get(&node).copied().unwrap_or(0),
        }
    });
    Cluster {
        cluster: standing.cluster.to_string(),
        leader: leader.map(|leader| state.name_of(leader)),
        head: state.head(ContextId::DEFAULT).0,
        trouble: leader::trouble_of(&standing.leadership, &state),
        voters: voters as u64,
        may_lose: leader.map_or(0, |_| votes::may_lose(voters as u64, live as u64)),
        members: members.collect(),
        unowned: unowned(&state),
        limits: state.limits,
    }
}

/// Lists the segments without an owner.
pub(super) fn unowned(state: &State) -> Vec<Unowned> {
    let mut list = Vec::new();
    for processor in state.processors.values() {
        for (id, share) in processor.segments.iter().filter(|(_, share)| share.claim.owner.is_none()) {
            let (name, reason) = (processor.definition.name.clone(), why_unowned(state, processor, share));
            list.push(Unowned { processor: name, segment: id.0, reason });
        }
    }
    list
}

/// Returns why a segment has no owner.
pub(super) fn why_unowned(state: &State, processor: &Processor, share: &Share) -> String {
    let able: Vec<NodeId> = state.sessions.keys().copied().filter(|node| state.can_run(*node, processor)).collect();
    if able.is_empty() {
        return match processor.definition.handler {
            Handler::Embedded => "no active node has its handlers in its program".to_owned(),
            Handler::Exec(_) | Handler::Webhook(_) => "no active node (all are down or draining)".to_owned(),
        };
    }
    let now = state.recorded;
    let barred = |node: &NodeId| share.claim.bars.iter().find(|bar| bar.node == *node && now < bar.until);
    let bars: Vec<&Bar> = able.iter().filter_map(barred).collect();
    if bars.len() == able.len() {
        return why_barred(state, &bars);
    }
    "it waits for the next plan of the balancer".to_owned()
}

/// Why none of the nodes that could have a segment may have it now.
fn why_barred(state: &State, bars: &[&Bar]) -> String {
    let mut causes = BTreeMap::<BarCause, Vec<String>>::new();
    for bar in bars {
        causes.entry(bar.cause).or_default().push(state.name_of(bar.node));
    }
    let why = causes.into_iter().map(|(cause, nodes)| {
        let nodes = nodes.join(", ");
        match cause {
            BarCause::Released => format!("it was released from {nodes}"),
            BarCause::Failed => format!("the event that it waits with failed on {nodes}"),
            BarCause::Unable => format!("its handler could not be asked on {nodes}"),
        }
    });
    let why: Vec<String> = why.collect();
    let until = bars.iter().map(|bar| bar.until).min().map_or_else(String::new, time_text);
    format!("{}; it may return from {until} on", why.join("; "))
}

#[cfg(test)]
mod tests {
    use evener_core::time::Timestamp;

    use super::*;

    #[test]
    fn a_bar_says_what_it_is_for() {
        let bar = |node, cause, until| Bar { node: NodeId(node), until: Timestamp(until), cause };
        let why = |bars: &[Bar]| why_barred(&State::default(), &bars.iter().collect::<Vec<_>>());
        let (first, later) = (1_000, 2_000);
        let unable = why(&[bar(1, BarCause::Unable, later), bar(2, BarCause::Unable, first)]);
        let until = time_text(Timestamp(first));
        let nodes = [1, 2].map(|node| State::default().name_of(NodeId(node))).join(", ");
        assert_eq!(unable, format!("its handler could not be asked on {nodes}; it may return from {until} on"));
        let both = why(&[bar(1, BarCause::Unable, first), bar(2, BarCause::Released, later)]);
        assert!(both.starts_with("it was released from ") && both.contains("; its handler could not be asked on "));
        assert!(!unable.contains("released"), "{unable}");
        assert!(why(&[bar(1, BarCause::Failed, first)]).starts_with("the event that it waits with failed on "));
    }
}
