//! Sessions: who lives. One lease a node, renewed by messages that the leader keeps in memory; only a beginning
//! and an end are entries.
//!
//! An owner that was suspended has missed the time meanwhile, so its lease is judged by the clock that has not, too.
//!
//! Two clocks count the same lease, and neither asks the other: the owner counts from when it *sent* the renewal
//! and stops its handlers at two thirds of the lease; the leader counts from when it *received* it, and ends the
//! session after all of it. A leader that has not heard of a quorum for a third of the lease keeps nobody alive:
//! its successor may be counting already.

use std::{collections::BTreeMap, time::Duration};

use evener_core::{
    id::{NodeId, SessionId, Term},
    session::Session,
};
use tokio::time::Instant;

use crate::messages::Renewed;

/// The leases as the leader counts them.
#[derive(Debug, Default)]
pub struct Leases {
    term: Option<Term>,
    heard: BTreeMap<NodeId, (SessionId, Instant)>,
    /// When it last looked who is silent.
    looked: Option<Instant>,
}

impl Leases {
    /// This node leads in `term`, and has applied an entry of it: everybody's lease begins anew.
    pub fn begin_term(&mut self, term: Term) {
        if self.term != Some(term) {
            *self = Self { term: Some(term), ..Self::default() };
        }
    }

    /// It does not lead.
    pub fn end_term(&mut self) {
        *self = Self::default();
    }

    /// A node says that it lives. `live` is its session in the log.
    pub fn renew(&mut self, node: NodeId, session: SessionId, live: Option<SessionId>, now: Instant) -> Renewed {
        if self.term.is_none() {
            return Renewed::NotLeader;
        }
        if live != Some(session) {
            return Renewed::SessionEnded;
        }
        self.heard.insert(node, (session, now));
        Renewed::Kept
    }

    /// Which of the log's sessions have not been renewed for a whole lease. One that is seen for the first time
    /// has all of it before it. To be asked several times a lease: a leader that has not looked for so long was
    /// frozen, and has not listened either, so that the silence it sees is its own. Then everybody has a whole lease.
    pub fn expired(
        &mut self,
        sessions: &BTreeMap<NodeId, Session>,
        lease: Duration,
        now: Instant,
    ) -> Vec<(NodeId, SessionId)> {
        if self.term.is_none() {
            return Vec::new();
        }
        if self.looked.replace(now).is_some_and(|looked| now.saturating_duration_since(looked) > lease / 3) {
            self.heard.clear();
        }
        self.heard.retain(|node, (session, _)| sessions.get(node).is_some_and(|live| live.session == *session));
        let silent = sessions.values().filter(|live| {
            let (_, heard) = *self.heard.entry(live.node).or_insert((live.session, now));
            now.saturating_duration_since(heard) >= lease
        });
        silent.map(|live| (live.node, live.session)).collect()
    }
}

/// A session as its owner counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Which.
    pub session: SessionId,
    /// When the last renewal that was answered had been sent,
    pub sent: Instant,
    /// and the time since the start of the machine then.
    pub boot: Duration,
}

impl Lease {
    /// When the owner has to have stopped.
    pub fn ends(&self, lease: Duration) -> Instant {
        self.sent + lease * 2 / 3
    }

    /// Whether the owner has to have stopped, by either clock: the one that stands still while the machine is
    /// suspended, and the one that does not.
    pub fn is_over(&self, lease: Duration, now: Instant, boot: Duration) -> bool {
        now >= self.ends(lease) || boot.saturating_sub(self.boot) >= lease * 2 / 3
    }
}

/// Tells when this machine was suspended: the time since its start then runs ahead of tokio's.
#[derive(Debug)]
pub struct SuspendDetector {
    start: Instant,
    ahead: Duration,
    woke: Option<Instant>,
}

/// Two clocks that are read one after the other differ by as much as the thread was kept waiting in between.
const SUSPEND_MIN: Duration = Duration::from_millis(100);

impl SuspendDetector {
    /// Nothing is known of before.
    pub fn new(now: Instant, boot: Duration) -> Self {
        Self { start: now, ahead: boot, woke: None }
    }

    /// When it was last seen to have woken, if it ever was suspended.
    pub fn last_resumed(&mut self, now: Instant, boot: Duration) -> Option<Instant> {
        let ahead = boot.saturating_sub(now.saturating_duration_since(self.start));
        if ahead > self.ahead + SUSPEND_MIN {
            (self.ahead, self.woke) = (ahead, Some(now));
        }
        self.woke
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(5);

    fn live(node: u64, session: u64) -> BTreeMap<NodeId, Session> {
        let live = Session {
            node: NodeId(node),
            session: SessionId(session),
            since: Default::default(),
            capabilities: BTreeMap::new(),
            weight: 1,
            nonce: Default::default(),
            draining: false,
        };
        BTreeMap::from([(NodeId(node), live)])
    }

    /// Looks ten times a lease, as the leader does, from one time to another.
    fn silent(
        leases: &mut Leases,
        sessions: &BTreeMap<NodeId, Session>,
        from: Instant,
        to: Instant,
    ) -> Vec<(NodeId, SessionId)> {
        let looks = (0..).map(|nth| from + LEASE / 10 * nth).take_while(|at| *at <= to);
        looks.flat_map(|at| leases.expired(sessions, LEASE, at)).collect()
    }

    #[test]
    fn who_is_silent_for_a_whole_lease_has_expired() {
        let (mut leases, sessions, start) = (Leases::default(), live(2, 7), Instant::now());
        leases.begin_term(Term(1));
        assert_eq!(silent(&mut leases, &sessions, start, start + LEASE / 2), []);
        let renewed = leases.renew(NodeId(2), SessionId(7), Some(SessionId(7)), start + LEASE / 2);
        assert_eq!(renewed, Renewed::Kept);
        assert_eq!(silent(&mut leases, &sessions, start + LEASE / 2, start + LEASE * 7 / 5), []);
        assert_eq!(leases.expired(&sessions, LEASE, start + LEASE * 3 / 2), [(NodeId(2), SessionId(7))]);
    }

    #[test]
    fn a_new_leader_grants_a_full_lease() {
        let (mut leases, sessions, start) = (Leases::default(), live(2, 7), Instant::now());
        leases.begin_term(Term(1));
        leases.expired(&sessions, LEASE, start);
        leases.end_term();
        assert_eq!(leases.expired(&sessions, LEASE, start + LEASE * 9), []);
        leases.begin_term(Term(3));
        assert_eq!(silent(&mut leases, &sessions, start + LEASE * 9, start + LEASE * 99 / 10), []);
        assert_eq!(leases.expired(&sessions, LEASE, start + LEASE * 10), [(NodeId(2), SessionId(7))]);
    }

    #[test]
    fn a_leader_that_was_frozen_takes_its_own_silence_for_nobody_elses() {
        let (mut leases, sessions, start) = (Leases::default(), live(2, 7), Instant::now());
        leases.begin_term(Term(1));
        assert_eq!(leases.expired(&sessions, LEASE, start), []);
        let woke = start + LEASE * 6;
        assert_eq!(silent(&mut leases, &sessions, woke, woke + LEASE * 9 / 10), []);
        assert_eq!(leases.expired(&sessions, LEASE, woke + LEASE), [(NodeId(2), SessionId(7))]);
    }

    #[test]
    fn a_later_session_has_a_lease_of_its_own() {
        let (mut leases, start) = (Leases::default(), Instant::now());
        leases.begin_term(Term(1));
        leases.expired(&live(2, 7), LEASE, start);
        assert_eq!(silent(&mut leases, &live(2, 7), start, start + LEASE * 9 / 10), []);
        assert_eq!(leases.expired(&live(2, 8), LEASE, start + LEASE), []);
        assert_eq!(leases.renew(NodeId(2), SessionId(7), Some(SessionId(8)), start), Renewed::SessionEnded);
    }

    #[test]
    fn the_owner_stops_before_the_leader_may_end_its_session() {
        // However late the renewal came: a third of the lease is left for handlers to stop in.
        let sent = Instant::now();
        assert!(Lease { session: SessionId(1), sent, boot: Duration::ZERO }.ends(LEASE) <= sent + LEASE - LEASE / 3);
    }

    #[test]
    fn a_lease_is_over_by_either_clock() {
        let (sent, boot) = (Instant::now(), Duration::from_secs(1_000));
        let lease = Lease { session: SessionId(1), sent, boot };
        let over = |awake: Duration, since_start: Duration| lease.is_over(LEASE, sent + awake, boot + since_start);
        assert!(!over(LEASE / 2, LEASE / 2));
        assert!(over(LEASE * 2 / 3, Duration::ZERO));
        assert!(over(Duration::ZERO, LEASE * 2 / 3));
    }
}
