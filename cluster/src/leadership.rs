//! Who leads, and whether anything can be decided, as far as this node can tell: a majority of the voters answers it,
//! and one of them leads. Raft's leader leads on without a majority, and a follower that is cut off believes in its
//! leader: what they propose then is neither done nor undone, and whoever asked for it waits. It is better to say so
//! and to begin nothing. This is the one rule for that: proposals, reads, sessions, health, status and the page all
//! follow it. One task judges it and publishes one [`Leadership`].
//!
//! | what | when | why then |
//! |---|---|---|
//! | voters compare how long the leader is silent | 1.5 `election_min` | a successor must renew sessions in time |
//! | the leader renews no session | no quorum for a third of `lease` | a successor may be counting leases already |
//! | a voter does not answer | silent for `election_max` | a slow machine answers by then |
//! | a majority or a leader is missing, for good | missing for `election_max` | whoever waits is told so |
//! | there is no leader | none answers for 1.5 `election_max` | an election takes its time |
//!
//! No safety hangs on this, only how soon an answer comes: what is decided is decided by Raft alone. The second line is
//! the exception: it keeps two sessions' handlers apart, see `crate::sessions`, so it depends on the lease alone and is
//! asked of Raft when a session is to be renewed.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use evener_core::id::{NodeId, Term};
use tokio::time::Instant;

use crate::raft::RaftStatus;

/// Who leads, and whether anything can be decided, as this node knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// Grows with every election.
    pub term: Term,
    /// Who leads, as Raft knows it; none while that is being decided.
    pub leader: Option<NodeId>,
    /// Why nothing can be decided; none if something can, or may soon.
    pub no_decision: Option<NoDecision>,
}

impl Leadership {
    /// Returns the leader if it can decide: one that no majority answers cannot, whatever it believes, nor one that
    /// does not answer this node.
    #[must_use]
    pub fn deciding_leader(&self) -> Option<NodeId> {
        self.leader.filter(|_| self.no_decision.is_none())
    }

    /// Returns why nothing can be decided if that has lasted so long that nobody should wait for it.
    #[must_use]
    pub fn lasting_no_decision(&self) -> Option<&NoDecision> {
        self.no_decision.as_ref().filter(|no_decision| no_decision.lasting)
    }

    /// Whether this node leads in this term.
    pub(crate) fn is_led_by(&self, node: NodeId, term: Term) -> bool {
        self.leader == Some(node) && self.term == term
    }
}

/// What is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoDecisionReason {
    /// More than half of the voters.
    NoMajority,
    /// A leader that answers; this one led last. None is known if there was none.
    NoLeader(Option<NodeId>),
}

/// That nothing can be decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoDecision {
    /// What is missing.
    pub reason: NoDecisionReason,
    /// How many voters answer; this node is one of them if it votes.
    pub answering: usize,
    /// How many there are.
    pub voters: usize,
    /// Those that do not answer.
    pub unresponsive: Vec<NodeId>,
    /// When it was last there.
    pub since: Instant,
    /// It has lasted so long that nobody should wait for its end.
    pub lasting: bool,
}

impl NoDecision {
    /// Describes it in words.
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

/// What a node sees of the others.
#[derive(Clone, Copy, Debug)]
pub struct Observed<'a> {
    /// How its Raft stands.
    pub raft_status: &'a RaftStatus,
    /// How long ago what each other node has answered was sent.
    pub answer_ages: &'a BTreeMap<NodeId, Duration>,
    /// Members whose process is gone.
    pub exited: &'a BTreeSet<NodeId>,
}

/// Two judgements of when something was last there that differ by less are the same.
const SINCE_JITTER: Duration = Duration::from_millis(50);

/// Judges whether there is a majority and a leader; several times in its patience.
pub struct Judge {
    me: NodeId,
    timeout: Duration,
    /// Whose majorities are needed; while this node leads, in which term it does.
    counted: Option<(Option<Term>, Vec<BTreeSet<NodeId>>)>,
    /// Nobody's silence is counted from before.
    begun: Instant,
    /// When a leader that answers was last known, and which.
    led: (Instant, Option<NodeId>),
    judged: Instant,
    /// What was missing then.
    no_decision: Option<NoDecision>,
}

impl Judge {
    /// One that waits so long for a voter's answer.
    pub fn new(me: NodeId, timeout: Duration, now: Instant) -> Self {
        Self { me, timeout, counted: None, begun: now, led: (now, None), judged: now, no_decision: None }
    }

    /// Returns who leads and what is missing now. A node that has not judged for long was frozen, and has not listened
    /// either: the silence that it then sees is its own.
    pub fn judge(&mut self, observed: Observed<'_>, now: Instant) -> Leadership {
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

    /// When a voter last answered.
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

    /// An election takes its time, so a leader may be missing for longer than a voter.
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

/// The ages of answers are measured anew at each judgement; what has not changed is to be equal.
fn steady(no_decision: NoDecision, before: Option<&NoDecision>) -> NoDecision {
    let near = |before: &&NoDecision| {
        let apart = no_decision.since.max(before.since).duration_since(no_decision.since.min(before.since));
        no_decision.reason == before.reason && apart < SINCE_JITTER
    };
    let since = before.filter(near).map_or(no_decision.since, |before| before.since);
    NoDecision { since, ..no_decision }
}

/// When more than half were last heard, of whom each was last heard then.
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

    /// A leader, 1, that heard each of the others so many seconds ago.
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

    /// A judge that has judged all the time, for a minute, and the end of that minute.
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
    async fn a_lack_is_told_in_numbers() {
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
    fn whose_process_is_gone_does_not_answer_however_lately_it_did() {
        check(&[&[1, 2, 3]], &[(2, 0), (3, 0)], &[3], None);
        check(&[&[1, 2, 3]], &[(2, 0), (3, 0)], &[2, 3], Some((1, 0)));
    }

    #[test]
    fn silence_counts_from_the_beginning_of_a_reign() {
        let start = Instant::now();
        let mut judge = Judge::new(NodeId(1), TIMEOUT, start);
        let nobody = BTreeSet::new();
        let at = |millis| start + Duration::from_millis(millis);
        let mut raft_status = raft_status(&[&[1, 2, 3]], &[]);
        for millis in (0..=2_000).step_by(200) {
            assert_eq!(look(&mut judge, &raft_status, &nobody, at(millis)), None, "{millis}");
        }
        let no_decision = look(&mut judge, &raft_status, &nobody, at(2_200)).unwrap();
        assert_eq!((no_decision.since, no_decision.unresponsive), (start, vec![NodeId(2), NodeId(3)]));
        raft_status.term = Term(5);
        assert_eq!(look(&mut judge, &raft_status, &nobody, at(2_400)), None);
    }

    #[test]
    fn who_was_frozen_takes_its_own_silence_for_nobody_elses() {
        let raft_status = raft_status(&[&[1, 2, 3]], &[(2, 30), (3, 30)]);
        let (mut judge, now) = awake(&raft_status);
        let woke = now + Duration::from_secs(30);
        assert_eq!(look(&mut judge, &raft_status, &BTreeSet::new(), woke), None);
    }

    /// A follower of node 1, in a group of three.
    fn follower(leader: Option<u64>, heard: &[(u64, u64)]) -> RaftStatus {
        RaftStatus { leader: leader.map(NodeId), ..raft_status(&[&[1, 2, 3]], heard) }
    }

    /// What node 2 lacks, which has judged all the time and knew the leader a minute ago.
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
    fn a_follower_without_its_leader_waits_for_an_election_and_no_longer() {
        let lost = Some(NoDecisionReason::NoLeader(Some(NodeId(1))));
        assert_eq!(lack_of_follower(&follower(Some(1), &[(1, 1), (3, 9)]), 1), None);
        assert_eq!(lack_of_follower(&follower(Some(1), &[(1, 3), (3, 0)]), 3), None, "the others may elect another");
        assert_eq!(lack_of_follower(&follower(Some(1), &[(1, 4), (3, 0)]), 4), lost);
        assert_eq!(lack_of_follower(&follower(None, &[(1, 0), (3, 0)]), 4), lost);
    }

    #[test]
    fn a_follower_that_nobody_answers_does_not_wait() {
        assert_eq!(lack_of_follower(&follower(Some(1), &[(1, 3), (3, 3)]), 3), Some(NoDecisionReason::NoMajority));
    }
}
