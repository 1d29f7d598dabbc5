//! The entries that followers have acknowledged, as their leader remembers them for its term. A follower that lacks
//! some of them later has lost acknowledged entries: an older copy of its data directory was restored, or another
//! process runs with a copy of it. Raft relies on this never happening, so such a follower is treated as unreachable.

use std::collections::BTreeMap;

use evener_core::id::{LogIndex, NodeId, Term};
use parking_lot::Mutex;

/// The acknowledged entries of all followers.
#[derive(Debug, Default)]
pub(super) struct AcknowledgedEntries(Mutex<BTreeMap<NodeId, Acknowledged>>);

/// The acknowledged entries of one follower.
#[derive(Debug)]
struct Acknowledged {
    term: Term,
    holds: Option<LogIndex>,
    lost: bool,
}

impl AcknowledgedEntries {
    /// Records that a follower reports to the leader of this term to hold everything up to this index.
    pub(super) fn record_held(&self, node: NodeId, term: Term, index: Option<LogIndex>) {
        let mut all = self.0.lock();
        let Some(acknowledged) = Acknowledged::of(&mut all, node, term) else { return };
        if acknowledged.holds <= index {
            // A follower that lost entries and holds all of them again has its directory back.
            *acknowledged = Acknowledged { term, holds: index, lost: false };
        }
    }

    /// Records that a follower reports to the leader of this term to lack the entry at this index. Returns whether it
    /// has held it.
    pub(super) fn record_missing(&self, node: NodeId, term: Term, index: LogIndex) -> bool {
        let mut all = self.0.lock();
        let Some(acknowledged) = Acknowledged::of(&mut all, node, term) else { return false };
        let loses = acknowledged.holds >= Some(index);
        if loses && !acknowledged.lost {
            let holds = acknowledged.holds.unwrap_or_default();
            tracing::error!(
                %node, %holds, lacks = %index,
                "a node has lost entries that it acknowledged: it runs with an older copy of its data directory, or \
                 twice; it is excluded until its newest directory is restored, or it has left and joined again"
            );
        }
        acknowledged.lost |= loses;
        loses
    }

    /// Returns whether a node has lost entries that it acknowledged to the leader of this term.
    pub(super) fn has_lost_entries(&self, node: NodeId, term: Term) -> bool {
        self.0.lock().get(&node).is_some_and(|acknowledged| acknowledged.term == term && acknowledged.lost)
    }
}

impl Acknowledged {
    /// Returns the record of a node in a term. Between terms a log may legitimately get shorter, so a late answer of an
    /// older term proves nothing: it has no record.
    fn of(all: &mut BTreeMap<NodeId, Self>, node: NodeId, term: Term) -> Option<&mut Self> {
        let acknowledged = all.entry(node).or_insert(Self { term, holds: None, lost: false });
        if acknowledged.term < term {
            *acknowledged = Self { term, holds: None, lost: false };
        }
        (acknowledged.term == term).then_some(acknowledged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId(2);

    #[test]
    fn a_follower_without_an_entry_it_held_in_this_term_has_lost_entries() {
        let entries = AcknowledgedEntries::default();
        entries.record_held(NODE, Term(1), Some(LogIndex(7)));
        assert!(!entries.record_missing(NODE, Term(1), LogIndex(8)), "it was never reported");
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
    fn late_answers_of_an_older_term_change_nothing() {
        let entries = AcknowledgedEntries::default();
        entries.record_held(NODE, Term(2), Some(LogIndex(7)));
        assert!(!entries.record_missing(NODE, Term(1), LogIndex(5)), "it was sent before the follower held the entry");
        assert!(!entries.has_lost_entries(NODE, Term(2)));
        entries.record_held(NODE, Term(1), Some(LogIndex(9)));
        assert!(!entries.record_missing(NODE, Term(2), LogIndex(8)), "it was never reported in this term");
        assert!(entries.record_missing(NODE, Term(2), LogIndex(7)), "the record of this term is kept");
        entries.record_held(NODE, Term(1), Some(LogIndex(9)));
        assert!(entries.has_lost_entries(NODE, Term(2)), "only an answer of this term ends the loss");
    }

    #[test]
    fn a_follower_whose_directory_is_restored_takes_part_again() {
        let entries = AcknowledgedEntries::default();
        entries.record_held(NODE, Term(1), Some(LogIndex(7)));
        assert!(entries.record_missing(NODE, Term(1), LogIndex(4)));
        entries.record_held(NODE, Term(1), Some(LogIndex(3)));
        assert!(entries.has_lost_entries(NODE, Term(1)), "not with less than it held");
        entries.record_held(NODE, Term(1), Some(LogIndex(7)));
        assert!(!entries.has_lost_entries(NODE, Term(1)));
    }
}
