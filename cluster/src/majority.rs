//! Whether a majority of the voters still answers the node that leads. Raft's leader leads on without one: what it
//! proposes then waits in its log, neither done nor undone, and so does whoever asked for it. It is better to say so
//! and to begin nothing.
//!
//! No safety hangs on this, only how soon an answer comes: what is decided is decided by Raft alone.

use std::{collections::BTreeSet, time::Duration};

use evener_core::id::{NodeId, Term};
use tokio::time::Instant;

use crate::raft::Standing;

/// That a leader has no majority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lack {
    /// How many voters answer, this node among them.
    pub answer: usize,
    /// How many there are.
    pub voters: usize,
    /// Those that do not answer.
    pub silent: Vec<NodeId>,
    /// When a majority last answered.
    pub since: Instant,
}

impl Lack {
    /// In words.
    pub fn told(&self) -> String {
        let Self { answer, voters, since, .. } = self;
        let answers = if *answer == 1 { "answers" } else { "answer" };
        let lasts = match since.elapsed().as_secs() {
            0 => String::new(),
            seconds => format!(" for {seconds} s"),
        };
        format!("no majority{lasts}: {answer} of {voters} voters {answers}")
    }
}

/// Looks whether there is a majority; several times in its patience.
pub struct Lookout {
    me: NodeId,
    patience: Duration,
    /// In which term this node leads, and whose majorities it needs.
    reign: Option<(Term, Vec<BTreeSet<NodeId>>)>,
    /// Nobody's silence is counted from before.
    begun: Instant,
    looked: Instant,
    lacks: bool,
}

impl Lookout {
    /// A leader's who waits so long for a voter's answer.
    pub fn new(me: NodeId, patience: Duration, now: Instant) -> Self {
        Self { me, patience, reign: None, begun: now, looked: now, lacks: false }
    }

    /// What a node that leads lacks. Who has not looked for long was frozen, and has not listened either: the silence
    /// that it then sees is its own.
    pub fn look(&mut self, standing: &Standing, gone: &BTreeSet<NodeId>, now: Instant) -> Option<Lack> {
        let since = now.saturating_duration_since(std::mem::replace(&mut self.looked, now));
        let frozen = since > self.patience / 2 && !self.lacks;
        let reign = Some((standing.term, standing.quorums.clone()));
        if frozen || self.reign != reign {
            (self.reign, self.begun) = (reign, now);
        }
        let lack = self.judge(standing, gone, now);
        self.lacks = lack.is_some();
        lack
    }

    fn judge(&self, standing: &Standing, gone: &BTreeSet<NodeId>, now: Instant) -> Option<Lack> {
        let heard = |voter: &NodeId| match standing.heard.get(voter) {
            _ if *voter == self.me => now,
            Some(age) => now.checked_sub(*age).map_or(self.begun, |heard| heard.max(self.begun)),
            None => self.begun,
        };
        let answers = |voter: &NodeId| {
            *voter == self.me || (!gone.contains(voter) && now.duration_since(heard(voter)) <= self.patience)
        };
        let agree = |quorum: &BTreeSet<NodeId>| quorum.iter().filter(|voter| answers(voter)).count() * 2 > quorum.len();
        if standing.quorums.iter().all(agree) {
            return None;
        }
        let since = standing.quorums.iter().filter_map(|quorum| last_agreed(quorum.iter().map(heard))).min();
        let (answer, silent): (Vec<_>, Vec<_>) = standing.voters.iter().partition(|voter| answers(voter));
        Some(Lack { answer: answer.len(), voters: standing.voters.len(), silent, since: since.unwrap_or(self.begun) })
    }
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

    const PATIENCE: Duration = Duration::from_secs(2);

    /// A leader, 1, that heard each of the others so many seconds ago.
    fn standing(quorums: &[&[u64]], heard: &[(u64, u64)]) -> Standing {
        let quorums: Vec<BTreeSet<_>> =
            quorums.iter().map(|quorum| quorum.iter().map(|voter| NodeId(*voter)).collect()).collect();
        let voters: BTreeSet<_> = quorums.iter().flatten().copied().collect();
        let heard = heard.iter().map(|(voter, age)| (NodeId(*voter), Duration::from_secs(*age))).collect();
        Standing { term: Term(1), voters: voters.into_iter().collect(), quorums, heard, ..Standing::default() }
    }

    /// A lookout that has looked all the time, for a minute, and the end of that minute.
    fn awake(standing: &Standing) -> (Lookout, Instant) {
        let start = Instant::now();
        let mut lookout = Lookout::new(NodeId(1), PATIENCE, start);
        let _ = lookout.look(standing, &BTreeSet::new(), start);
        let now = start + Duration::from_secs(60);
        (Lookout { looked: now, ..lookout }, now)
    }

    #[track_caller]
    fn check(quorums: &[&[u64]], heard: &[(u64, u64)], gone: &[u64], lack: Option<(usize, u64)>) {
        let standing = standing(quorums, heard);
        let (mut lookout, now) = awake(&standing);
        let gone = gone.iter().map(|voter| NodeId(*voter)).collect();
        let found = lookout.look(&standing, &gone, now);
        let found = found.map(|lack| (lack.answer, now.duration_since(lack.since).as_secs()));
        assert_eq!(found, lack, "of {quorums:?}, heard {heard:?} s ago, {gone:?} gone");
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
        let lack = |answer, voters| Lack { answer, voters, silent: Vec::new(), since: Instant::now() };
        let (one, two) = (lack(1, 3), lack(2, 5));
        assert_eq!(one.told(), "no majority: 1 of 3 voters answers");
        tokio::time::advance(Duration::from_millis(12_300)).await;
        assert_eq!(two.told(), "no majority for 12 s: 2 of 5 voters answer");
    }

    #[test]
    fn whose_process_is_gone_does_not_answer_however_lately_it_did() {
        check(&[&[1, 2, 3]], &[(2, 0), (3, 0)], &[3], None);
        check(&[&[1, 2, 3]], &[(2, 0), (3, 0)], &[2, 3], Some((1, 0)));
    }

    #[test]
    fn silence_counts_from_the_beginning_of_a_reign() {
        let start = Instant::now();
        let mut lookout = Lookout::new(NodeId(1), PATIENCE, start);
        let nobody = BTreeSet::new();
        let at = |millis| start + Duration::from_millis(millis);
        let mut standing = standing(&[&[1, 2, 3]], &[]);
        for millis in (0..=2_000).step_by(200) {
            assert_eq!(lookout.look(&standing, &nobody, at(millis)), None, "{millis}");
        }
        let lack = lookout.look(&standing, &nobody, at(2_200)).unwrap();
        assert_eq!((lack.since, lack.silent), (start, vec![NodeId(2), NodeId(3)]));
        standing.term = Term(5);
        assert_eq!(lookout.look(&standing, &nobody, at(2_400)), None);
    }

    #[test]
    fn who_was_frozen_takes_its_own_silence_for_nobody_elses() {
        let standing = standing(&[&[1, 2, 3]], &[(2, 30), (3, 30)]);
        let (mut lookout, now) = awake(&standing);
        let woke = now + Duration::from_secs(30);
        assert_eq!(lookout.look(&standing, &BTreeSet::new(), woke), None);
    }
}
