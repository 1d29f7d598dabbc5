//! What followers have said to hold, as their leader remembers it for its term. One that lacks some of that later
//! has lost what it acknowledged: an older copy of its data directory was put back, or another process runs with a
//! copy of it. Raft stands on its never happening, so it is not acknowledged: to Raft such a follower is out of reach.

use std::collections::BTreeMap;

use evener_core::id::{LogIndex, NodeId, Term};
use parking_lot::Mutex;

/// Of all followers.
#[derive(Debug, Default)]
pub struct AcknowledgedEntries(Mutex<BTreeMap<NodeId, Acknowledged>>);

/// Of one.
#[derive(Debug)]
struct Acknowledged {
    term: Term,
    holds: Option<LogIndex>,
    lost: bool,
}

impl AcknowledgedEntries {
    /// It holds everything up to here, as it says to the leader of this term.
    pub fn record_held(&self, node: NodeId, term: Term, index: Option<LogIndex>) {
        let mut all = self.0.lock();
        let acknowledged = Acknowledged::of(&mut all, node, term);
        if acknowledged.holds <= index {
            // Whoever lost and holds all of it again has its directory back.
            *acknowledged = Acknowledged { term, holds: index, lost: false };
        }
    }

    /// It lacks the entry at this place, as it says to the leader of this term. Whether it has held it.
    pub fn record_missing(&self, node: NodeId, term: Term, index: LogIndex) -> bool {
        let mut all = self.0.lock();
        let acknowledged = Acknowledged::of(&mut all, node, term);
        let loses = acknowledged.holds >= Some(index);
        if loses && !acknowledged.lost {
            let holds = acknowledged.holds.unwrap_or_default();
            tracing::error!(
                %node, %holds, lacks = %index,
                "a node has lost what it acknowledged: it runs with an older copy of its data directory, or twice; \
                 it takes no part until it is back with the newest, or has left and joined anew"
            );
        }
        acknowledged.lost |= loses;
        loses
    }

    /// Whether it has lost what it acknowledged to the leader of this term.
    pub fn has_lost_entries(&self, node: NodeId, term: Term) -> bool {
        self.0.lock().get(&node).is_some_and(|acknowledged| acknowledged.term == term && acknowledged.lost)
    }
}

impl Acknowledged {
    /// What is remembered of a node in a term. Between terms logs may rightly get shorter.
    fn of(all: &mut BTreeMap<NodeId, Self>, node: NodeId, term: Term) -> &mut Self {
        let acknowledged = all.entry(node).or_insert(Self { term, holds: None, lost: false });
        if acknowledged.term < term {
            *acknowledged = Self { term, holds: None, lost: false };
        }
        acknowledged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId(2);

    #[test]
    fn who_lacks_what_it_held_in_the_same_term_has_lapsed() {
        let entries = AcknowledgedEntries::default();
        entries.record_held(NODE, Term(1), Some(LogIndex(7)));
        assert!(!entries.record_missing(NODE, Term(1), LogIndex(8)), "it was never said to be there");
        assert!(!entries.has_lost_entries(NODE, Term(1)));
        assert!(entries.record_missing(NODE, Term(1), LogIndex(7)));
        assert!(entries.has_lost_entries(NODE, Term(1)));
        assert!(!entries.has_lost_entries(NodeId(3), Term(1)));
    }

    #[test]
    fn a_log_may_get_shorter_between_terms() {
        let entries = AcknowledgedEntries::default();
        entries.record_held(NODE, Term(1), Some(LogIndex(7)));
        assert!(!entries.record_missing(NODE, Term(2), LogIndex(5)));
        assert!(!entries.has_lost_entries(NODE, Term(2)));
    }

    #[test]
    fn who_has_its_directory_back_takes_part_again() {
        let entries = AcknowledgedEntries::default();
        entries.record_held(NODE, Term(1), Some(LogIndex(7)));
        assert!(entries.record_missing(NODE, Term(1), LogIndex(4)));
        entries.record_held(NODE, Term(1), Some(LogIndex(3)));
        assert!(entries.has_lost_entries(NODE, Term(1)), "not with less than it held");
        entries.record_held(NODE, Term(1), Some(LogIndex(7)));
        assert!(!entries.has_lost_entries(NODE, Term(1)));
    }
}
