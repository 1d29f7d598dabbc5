//! Sessions and their leases. Each node has one lease, renewed by messages that the leader keeps in memory; only the
//! beginning and the end of a session are entries in the log.
//!
//! A suspended machine's steady clock stops, so an owner also measures its lease by a clock that does not stop.
//!
//! Two nodes measure the same lease independently: the owner counts from when it *sent* the renewal and stops its
//! handlers after two thirds of the lease; the leader counts from when it *received* it, and ends the session after the
//! whole lease. A leader without an answer from a quorum for a third of the lease renews no session: its successor may
//! be counting leases already.

use std::{collections::BTreeMap, time::Duration};

use evener_core::{
    id::{NodeId, SessionId, Term},
    session::Session,
};
use tokio::time::Instant;

use crate::messages::Renewed;

/// The leases of all sessions, as counted by the leader.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    term: Option<Term>,
    heard: BTreeMap<NodeId, (SessionId, Instant)>,
    /// When the leader last checked for expired leases.
    looked: Option<Instant>,
}

impl Leases {
    /// Starts counting as the leader of `term`, of which an entry is applied: every session gets a full lease.
    pub(crate) fn begin_term(&mut self, term: Term) {
        if self.term != Some(term) {
            *self = Self { term: Some(term), ..Self::default() };
        }
    }

    /// Stops counting: this node no longer leads.
    pub(crate) fn end_term(&mut self) {
        *self = Self::default();
    }

    /// Renews the lease of a node's session. `live` is the node's session in the log.
    pub(crate) fn renew(&mut self, node: NodeId, session: SessionId, live: Option<SessionId>, now: Instant) -> Renewed {
        if self.term.is_none() {
            return Renewed::NotLeader;
        }
        if live != Some(session) {
            return Renewed::SessionEnded;
        }
        self.heard.insert(node, (session, now));
        Renewed::Kept
    }

    /// Returns the sessions that have not been renewed for a whole lease. A session that is seen for the first time has
    /// a full lease. Must be called several times per lease: a leader that has not called it for a third of a lease was
    /// frozen and may have missed renewals, so every session gets a full lease.
    pub(crate) fn expired(
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
        let expired = sessions.values().filter(|live| {
            let (_, heard) = *self.heard.entry(live.node).or_insert((live.session, now));
            now.saturating_duration_since(heard) >= lease
        });
        expired.map(|live| (live.node, live.session)).collect()
    }
}

/// The lease of a session, as counted by its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    /// The session.
    pub session: SessionId,
    /// When the last renewal that was answered was sent.
    pub sent: Instant,
    /// The time since the start of the machine at that moment.
    pub boot: Duration,
}

impl Lease {
    /// Returns when the owner must have stopped.
    pub(crate) fn ends(&self, lease: Duration) -> Instant {
        self.sent + lease * 2 / 3
    }

    /// Returns whether the owner must have stopped, by either clock: the one that stops while the machine is suspended,
    /// or the one that does not.
    pub(crate) fn is_over(&self, lease: Duration, now: Instant, boot: Duration) -> bool {
        now >= self.ends(lease) || boot.saturating_sub(self.boot) >= lease * 2 / 3
    }
}

/// Detects that this machine was suspended: the time since its start is then ahead of tokio's clock.
#[derive(Debug)]
pub(crate) struct SuspendDetector {
    start: Instant,
    ahead: Duration,
    woke: Option<Instant>,
}

/// The smallest difference that counts as a suspend: two clocks that are read one after the other also differ by the
/// time that the thread was preempted in between.
const SUSPEND_MIN: Duration = Duration::from_millis(100);

impl SuspendDetector {
    /// Returns a detector that starts at `now`.
    pub(crate) fn new(now: Instant, boot: Duration) -> Self {
        Self { start: now, ahead: boot, woke: None }
    }

    /// Returns when the machine was last seen to have resumed, if it ever was suspended.
    pub(crate) fn last_resumed(&mut self, now: Instant, boot: Duration) -> Option<Instant> {
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

    /// Checks for expired sessions ten times per lease, as the leader does, from one time to another.
    fn expired_between(
        leases: &mut Leases,
        sessions: &BTreeMap<NodeId, Session>,
        from: Instant,
        to: Instant,
    ) -> Vec<(NodeId, SessionId)> {
        let looks = (0..).map(|nth| from + LEASE / 10 * nth).take_while(|at| *at <= to);
        looks.flat_map(|at| leases.expired(sessions, LEASE, at)).collect()
    }

    #[test]
    fn a_session_without_renewals_expires_after_a_whole_lease() {
        let (mut leases, sessions, start) = (Leases::default(), live(2, 7), Instant::now());
        leases.begin_term(Term(1));
        assert_eq!(expired_between(&mut leases, &sessions, start, start + LEASE / 2), []);
        let renewed = leases.renew(NodeId(2), SessionId(7), Some(SessionId(7)), start + LEASE / 2);
        assert_eq!(renewed, Renewed::Kept);
        assert_eq!(expired_between(&mut leases, &sessions, start + LEASE / 2, start + LEASE * 7 / 5), []);
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
        assert_eq!(expired_between(&mut leases, &sessions, start + LEASE * 9, start + LEASE * 99 / 10), []);
        assert_eq!(leases.expired(&sessions, LEASE, start + LEASE * 10), [(NodeId(2), SessionId(7))]);
    }

    #[test]
    fn a_leader_that_was_frozen_grants_full_leases() {
        let (mut leases, sessions, start) = (Leases::default(), live(2, 7), Instant::now());
        leases.begin_term(Term(1));
        assert_eq!(leases.expired(&sessions, LEASE, start), []);
        let woke = start + LEASE * 6;
        assert_eq!(expired_between(&mut leases, &sessions, woke, woke + LEASE * 9 / 10), []);
        assert_eq!(leases.expired(&sessions, LEASE, woke + LEASE), [(NodeId(2), SessionId(7))]);
    }

    #[test]
    fn a_later_session_has_a_lease_of_its_own() {
        let (mut leases, start) = (Leases::default(), Instant::now());
        leases.begin_term(Term(1));
        leases.expired(&live(2, 7), LEASE, start);
        assert_eq!(expired_between(&mut leases, &live(2, 7), start, start + LEASE * 9 / 10), []);
        assert_eq!(leases.expired(&live(2, 8), LEASE, start + LEASE), []);
        assert_eq!(leases.renew(NodeId(2), SessionId(7), Some(SessionId(8)), start), Renewed::SessionEnded);
    }

    #[test]
    fn the_owner_stops_before_the_leader_may_end_its_session() {
        // However late the renewal arrived, handlers have a third of the lease to stop.
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
