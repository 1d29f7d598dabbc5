//! The leader, and whether the cluster can decide anything, as far as this node knows: whether a majority of the voters
//! answers it, and one of them leads. Raft's leader stays leader without a majority, and a follower that is cut off
//! keeps its leader: their proposals are neither committed nor rejected, and callers wait. It is better to report that
//! and to start nothing. This module has the one rule for that, which proposals, reads, sessions, health, status and
//! the page follow. One task judges it and publishes one [`Leadership`].
//!
//! | what | when | why then |
//! |---|---|---|
//! | voters compare answers of the leader | 1.5 `election_min` | a successor must renew sessions in time |
//! | the leader renews no session | no quorum for a third of `lease` | a successor may be counting leases already |
//! | a voter does not answer | no answer for `election_max` | a slow machine answers by then |
//! | the lack of a majority or a leader is lasting | missing for `election_max` | waiting requests fail |
//! | there is no leader | none answers for 1.5 `election_max` | an election takes that long |
//!
//! Safety does not depend on this, only response times: Raft alone decides. The second line is the exception: it keeps
//! the handlers of two sessions from running at the same time, see `crate::sessions`. It therefore depends on the lease
//! alone, and is checked with Raft when a session is renewed.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use evener_core::id::{NodeId, Term};
use tokio::time::Instant;

use crate::raft::RaftStatus;

/// The leader and whether the cluster can decide anything, as far as this node knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The Raft term, which grows with every election.
    pub term: Term,
    /// The leader according to Raft; `None` during an election.
    pub leader: Option<NodeId>,
    /// Why nothing can be decided; `None` if it can be, or may be soon.
    pub no_decision: Option<NoDecision>,
}

impl Leadership {
    /// Returns the leader, unless it is known that nothing can be decided: no majority answers, or the leader does not
    /// answer this node.
    #[must_use]
    pub fn deciding_leader(&self) -> Option<NodeId> {
        self.leader.filter(|_| self.no_decision.is_none())
    }

    /// Returns why nothing can be decided if that has lasted so long that requests should not wait for its end.
    #[must_use]
    pub fn lasting_no_decision(&self) -> Option<&NoDecision> {
        self.no_decision.as_ref().filter(|no_decision| no_decision.lasting)
    }

    /// Returns whether this node leads in this term.
    pub(crate) fn is_led_by(&self, node: NodeId, term: Term) -> bool {
        self.leader == Some(node) && self.term == term
    }
}

/// What is missing for a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoDecisionReason {
    /// No majority of the voters answers.
    NoMajority,
    /// No leader answers; holds the last leader, if one was known.
    NoLeader(Option<NodeId>),
}

/// The state in which nothing can be decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoDecision {
    /// What is missing.
    pub reason: NoDecisionReason,
    /// The number of voters that answer, including this node if it votes.
    pub answering: usize,
    /// The number of voters.
    pub voters: usize,
    /// The voters that do not answer.
    pub unresponsive: Vec<NodeId>,
    /// When the missing majority or leader was last available.
    pub since: Instant,
    /// Whether this has lasted so long that requests should not wait for its end.
    pub lasting: bool,
}

impl NoDecision {
    /// Describes what is missing.
    pub fn describe(&self) -> String {
        let Self { reason, answering, voters, since, .. } = self;
        let lasts = match since.elapsed().as_secs() {
            0 => String::new(),
            seconds => format!(" for {seconds} s"),
        };
        let answers = if *answering == 1 { "answers" } else { "answer" };
        match reason {
            NoDecisionReason::NoMajority => format!("no majority{lasts}: {answering} of {voters} voters {answers}"),
            NoDecisionReason::NoLeader(Some(_)) => format!("no leader{lasts}: the node that led does not answer"),
            NoDecisionReason::NoLeader(None) => format!("no leader{lasts}: {answering} of {voters} voters {answers}"),
        }
    }
}

/// What a node observes of the other nodes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Observed<'a> {
    /// The status of the node's Raft.
    pub raft_status: &'a RaftStatus,
    /// For each other node, how long ago the last request that it answered was sent.
    pub answer_ages: &'a BTreeMap<NodeId, Duration>,
    /// The members whose process has exited.
    pub exited: &'a BTreeSet<NodeId>,
}

/// Two values of `since` that differ by less than this are considered equal.
const SINCE_JITTER: Duration = Duration::from_millis(50);

/// Judges whether there is a majority and a leader. It must run several times per `timeout`.
pub(crate) struct Judge {
    me: NodeId,
    timeout: Duration,
    /// The sets of voters whose majorities are needed, and the term while this node leads.
    counted: Option<(Option<Term>, Vec<BTreeSet<NodeId>>)>,
    /// When counting began: time before it does not count as time without an answer.
    begun: Instant,
    /// When a leader last answered, and which one.
    led: (Instant, Option<NodeId>),
    judged: Instant,
    /// The last judgement of what is missing.
    no_decision: Option<NoDecision>,
}

impl Judge {
    /// Returns a judge that waits for a voter's answer for `timeout`.
    pub(crate) fn new(me: NodeId, timeout: Duration, now: Instant) -> Self {
        Self { me, timeout, counted: None, begun: now, led: (now, None), judged: now, no_decision: None }
    }

    /// Returns the leader and what is missing now. A node that has not judged for long was frozen and has received no
    /// answers meanwhile: that time does not count against the others.
    pub(crate) fn judge(&mut self, observed: Observed<'_>, now: Instant) -> Leadership {
        let raft_status = observed.raft_status;
        let since = now.saturating_duration_since(std::mem::replace(&mut self.judged, now));
        let frozen = since > self.timeout / 2 && self.no_decision.is_none();
        let leads = raft_status.leader == Some(self.me);
        let counted = Some((leads.then_some(raft_status.term), raft_status.quorums.clone()));
        if frozen {
            self.led.0 = now;
        }
        if frozen || self.counted != counted {
            (self.counted, self.begun) = (counted, now);
        }
        let no_decision = self.majority(observed, now).or_else(|| self.leader(observed, now));
        self.no_decision = no_decision.map(|no_decision| steady(no_decision, self.no_decision.as_ref()));
        Leadership { term: raft_status.term, leader: raft_status.leader, no_decision: self.no_decision.clone() }
    }

    /// Returns when the last request that a voter answered was sent.
    fn heard(&self, voter: NodeId, observed: Observed<'_>, now: Instant) -> Instant {
        match observed.answer_ages.get(&voter) {
            _ if voter == self.me => now,
            Some(age) => now.checked_sub(*age).map_or(self.begun, |heard| heard.max(self.begun)),
            None => self.begun,
        }
    }

    fn answers(&self, voter: NodeId, observed: Observed<'_>, now: Instant) -> bool {
        let heard = self.heard(voter, observed, now);
        voter == self.me || (!observed.exited.contains(&voter) && now.duration_since(heard) <= self.timeout)
    }

    fn majority(&self, observed: Observed<'_>, now: Instant) -> Option<NoDecision> {
        let quorums = &observed.raft_status.quorums;
        let answers = |voter: &NodeId| self.answers(*voter, observed, now);
        let agree = |quorum: &BTreeSet<NodeId>| quorum.iter().filter(|voter| answers(voter)).count() * 2 > quorum.len();
        if quorums.iter().all(agree) {
            return None;
        }
        let heard = |voter: &NodeId| self.heard(*voter, observed, now);
        let since = quorums.iter().filter_map(|quorum| last_agreed(quorum.iter().map(heard))).min();
        Some(self.no_decision(NoDecisionReason::NoMajority, since.unwrap_or(self.begun), observed, now))
    }

    /// Returns that the leader is missing, if it is. An election takes time, so the limit is longer than for a voter.
    fn leader(&mut self, observed: Observed<'_>, now: Instant) -> Option<NoDecision> {
        let leader = observed.raft_status.leader;
        if let Some(leader) = leader.filter(|leader| self.answers(*leader, observed, now)) {
            self.led = (self.heard(leader, observed, now), Some(leader));
            return None;
        }
        let (since, led) = self.led;
        let reason = NoDecisionReason::NoLeader(leader.or(led));
        let is_missing = now.saturating_duration_since(since) > self.timeout * 3 / 2;
        is_missing.then(|| self.no_decision(reason, since, observed, now))
    }

    fn no_decision(
        &self,
        reason: NoDecisionReason,
        since: Instant,
        observed: Observed<'_>,
        now: Instant,
    ) -> NoDecision {
        let voters = &observed.raft_status.voters;
        let (answering, unresponsive): (Vec<_>, Vec<_>) =
            voters.iter().partition(|voter| self.answers(**voter, observed, now));
        let lasting = now.saturating_duration_since(since) >= self.timeout;
        NoDecision { reason, answering: answering.len(), voters: voters.len(), unresponsive, since, lasting }
    }
}

/// Keeps the previous `since` if it differs only by jitter, so that an unchanged state compares equal: the ages of
/// answers are measured at each judgement.
fn steady(no_decision: NoDecision, before: Option<&NoDecision>) -> NoDecision {
    let near = |before: &&NoDecision| {
        let apart = no_decision.since.max(before.since).duration_since(no_decision.since.min(before.since));
        no_decision.reason == before.reason && apart < SINCE_JITTER
    };
    let since = before.filter(near).map_or(no_decision.since, |before| before.since);
    NoDecision { since, ..no_decision }
}

/// Returns when more than half of the voters had last answered, from the times of the voters' last answers.
fn last_agreed(heard: impl Iterator<Item = Instant>) -> Option<Instant> {
    let mut heard: Vec<_> = heard.collect();
    heard.sort();
    heard.reverse();
    heard.get(heard.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(2);

    /// Returns the status of leader 1. `heard` lists the age of each other voter's last answer in seconds.
    fn raft_status(quorums: &[&[u64]], heard: &[(u64, u64)]) -> RaftStatus {
        let quorums: Vec<BTreeSet<_>> =
            quorums.iter().map(|quorum| quorum.iter().map(|voter| NodeId(*voter)).collect()).collect();
        let voters: BTreeSet<_> = quorums.iter().flatten().copied().collect();
        let answer_ages = heard.iter().map(|(voter, age)| (NodeId(*voter), Duration::from_secs(*age))).collect();
        let (term, leader, voters) = (Term(1), Some(NodeId(1)), voters.into_iter().collect());
        RaftStatus { term, leader, voters, quorums, answer_ages, ..RaftStatus::default() }
    }

    fn look(
        judge: &mut Judge,
        raft_status: &RaftStatus,
        exited: &BTreeSet<NodeId>,
        now: Instant,
    ) -> Option<NoDecision> {
        judge.judge(Observed { raft_status, answer_ages: &raft_status.answer_ages, exited }, now).no_decision
    }

    /// Returns a judge that has judged regularly for a minute, and the end of that minute.
    fn awake(raft_status: &RaftStatus) -> (Judge, Instant) {
        let start = Instant::now();
        let mut judge = Judge::new(NodeId(1), TIMEOUT, start);
        let _ = look(&mut judge, raft_status, &BTreeSet::new(), start);
        let now = start + Duration::from_secs(60);
        (Judge { judged: now, ..judge }, now)
    }

    #[track_caller]
    fn check(quorums: &[&[u64]], heard: &[(u64, u64)], exited: &[u64], no_decision: Option<(usize, u64)>) {
        let raft_status = raft_status(quorums, heard);
        let (mut judge, now) = awake(&raft_status);
        let exited = exited.iter().map(|voter| NodeId(*voter)).collect();
        let found = look(&mut judge, &raft_status, &exited, now);
        let found = found.map(|no_decision| (no_decision.answering, now.duration_since(no_decision.since).as_secs()));
        assert_eq!(found, no_decision, "of {quorums:?}, heard {heard:?} s ago, {exited:?} exited");
    }

    #[test]
    fn more_than_half_must_answer_of_each_set_of_voters() {
        check(&[&[1]], &[], &[], None);
        check(&[&[1, 2, 3]], &[(2, 0), (3, 50)], &[], None);
        check(&[&[1, 2, 3]], &[(2, 9), (3, 50)], &[], Some((1, 9)));
        check(&[&[1, 2, 3]], &[(2, 2), (3, 3)], &[], None);
        check(&[&[1, 2, 3, 4, 5]], &[(2, 1), (3, 7), (4, 8)], &[], Some((2, 7)));
        check(&[&[1], &[1, 2, 3]], &[(2, 8), (3, 9)], &[], Some((1, 8)));
        check(&[&[1, 2, 3], &[2, 3, 4]], &[(2, 0), (3, 9), (4, 9)], &[], Some((2, 9)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_missing_majority_is_described_with_numbers() {
        let no_decision = |answering, voters| NoDecision {
            reason: NoDecisionReason::NoMajority,
            answering,
            voters,
            unresponsive: Vec::new(),
            since: Instant::now(),
            lasting: false,
        };
        let (one, two) = (no_decision(1, 3), no_decision(2, 5));
        assert_eq!(one.describe(), "no majority: 1 of 3 voters answers");
        tokio::time::advance(Duration::from_millis(12_300)).await;
        assert_eq!(two.describe(), "no majority for 12 s: 2 of 5 voters answer");
    }

    #[test]
    fn an_exited_process_does_not_count_as_answering() {
        check(&[&[1, 2, 3]], &[(2, 0), (3, 0)], &[3], None);
        check(&[&[1, 2, 3]], &[(2, 0), (3, 0)], &[2, 3], Some((1, 0)));
    }

    #[test]
    fn missing_answers_count_from_the_beginning_of_a_term() {
        let start = Instant::now();
        let mut judge = Judge::new(NodeId(1), TIMEOUT, start);
        let none_exited = BTreeSet::new();
        let at = |millis| start + Duration::from_millis(millis);
        let mut raft_status = raft_status(&[&[1, 2, 3]], &[]);
        for millis in (0..=2_000).step_by(200) {
            assert_eq!(look(&mut judge, &raft_status, &none_exited, at(millis)), None, "{millis}");
        }
        let no_decision = look(&mut judge, &raft_status, &none_exited, at(2_200)).unwrap();
        assert_eq!((no_decision.since, no_decision.unresponsive), (start, vec![NodeId(2), NodeId(3)]));
        raft_status.term = Term(5);
        assert_eq!(look(&mut judge, &raft_status, &none_exited, at(2_400)), None);
    }

    #[test]
    fn a_frozen_node_does_not_blame_the_others() {
        let raft_status = raft_status(&[&[1, 2, 3]], &[(2, 30), (3, 30)]);
        let (mut judge, now) = awake(&raft_status);
        let woke = now + Duration::from_secs(30);
        assert_eq!(look(&mut judge, &raft_status, &BTreeSet::new(), woke), None);
    }

    /// Returns the status of a follower of node 1 in a group of three.
    fn follower(leader: Option<u64>, heard: &[(u64, u64)]) -> RaftStatus {
        RaftStatus { leader: leader.map(NodeId), ..raft_status(&[&[1, 2, 3]], heard) }
    }

    /// Returns what is missing for node 2, which has judged regularly and last had a leader `led_s` seconds ago.
    fn lack_of_follower(raft_status: &RaftStatus, led_s: u64) -> Option<NoDecisionReason> {
        let start = Instant::now();
        let now = start + Duration::from_secs(60);
        let mut judge = Judge::new(NodeId(2), TIMEOUT, start);
        let _ = look(&mut judge, raft_status, &BTreeSet::new(), start);
        judge.led = (now - Duration::from_secs(led_s), Some(NodeId(1)));
        judge.judged = now;
        look(&mut judge, raft_status, &BTreeSet::new(), now).map(|no_decision| no_decision.reason)
    }

    #[test]
    fn a_follower_without_its_leader_waits_as_long_as_an_election_takes() {
        let lost = Some(NoDecisionReason::NoLeader(Some(NodeId(1))));
        assert_eq!(lack_of_follower(&follower(Some(1), &[(1, 1), (3, 9)]), 1), None);
        assert_eq!(lack_of_follower(&follower(Some(1), &[(1, 3), (3, 0)]), 3), None, "the others may elect another");
        assert_eq!(lack_of_follower(&follower(Some(1), &[(1, 4), (3, 0)]), 4), lost);
        assert_eq!(lack_of_follower(&follower(None, &[(1, 0), (3, 0)]), 4), lost);
    }

    #[test]
    fn a_follower_without_any_answers_does_not_wait() {
        assert_eq!(lack_of_follower(&follower(Some(1), &[(1, 3), (3, 3)]), 3), Some(NoDecisionReason::NoMajority));
    }
}
