//! What followers have said to hold, as their leader remembers it for its term. One that lacks some of that later
//! has lost what it acknowledged: an older copy of its data directory was put back, or another process runs with a
//! copy of it. Raft stands on its never happening, so it is not told: to Raft such a follower is out of reach.

use std::collections::BTreeMap;

use evener_core::id::{LogIndex, NodeId, Term};
use parking_lot::Mutex;

/// Of all followers.
#[derive(Debug, Default)]
pub struct Memory(Mutex<BTreeMap<NodeId, Told>>);

/// Of one.
#[derive(Debug)]
struct Told {
    term: Term,
    holds: Option<LogIndex>,
    lapsed: bool,
}

impl Memory {
    /// It holds everything up to here, as it says to the leader of this term.
    pub fn holds(&self, node: NodeId, term: Term, index: Option<LogIndex>) {
        let mut all = self.0.lock();
        let told = Told::of(&mut all, node, term);
        if told.holds <= index {
            // Whoever lapsed and holds all of it again has its directory back.
            *told = Told { term, holds: index, lapsed: false };
        }
    }

    /// It lacks the entry at this place, as it says to the leader of this term. Whether it has held it.
    pub fn lacks(&self, node: NodeId, term: Term, index: LogIndex) -> bool {
        let mut all = self.0.lock();
        let told = Told::of(&mut all, node, term);
        let lapses = told.holds >= Some(index);
        if lapses && !told.lapsed {
            let holds = told.holds.unwrap_or_default();
            tracing::error!(
                %node, %holds, lacks = %index,
                "a node has lost what it acknowledged: it runs with an older copy of its data directory, or twice; \
                 it takes no part until it is back with the newest, or has left and joined anew"
            );
        }
        told.lapsed |= lapses;
        lapses
    }

    /// Whether it has lost what it acknowledged to the leader of this term.
    pub fn has_lapsed(&self, node: NodeId, term: Term) -> bool {
        self.0.lock().get(&node).is_some_and(|told| told.term == term && told.lapsed)
    }
}

impl Told {
    /// What is remembered of a node in a term. Between terms logs may rightly get shorter.
    fn of(all: &mut BTreeMap<NodeId, Self>, node: NodeId, term: Term) -> &mut Self {
        let told = all.entry(node).or_insert(Self { term, holds: None, lapsed: false });
        if told.term < term {
            *told = Self { term, holds: None, lapsed: false };
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId(2);

    #[test]
    fn who_lacks_what_it_held_in_the_same_term_has_lapsed() {
        let memory = Memory::default();
        memory.holds(NODE, Term(1), Some(LogIndex(7)));
        assert!(!memory.lacks(NODE, Term(1), LogIndex(8)), "it was never said to be there");
        assert!(!memory.has_lapsed(NODE, Term(1)));
        assert!(memory.lacks(NODE, Term(1), LogIndex(7)));
        assert!(memory.has_lapsed(NODE, Term(1)));
        assert!(!memory.has_lapsed(NodeId(3), Term(1)));
    }

    #[test]
    fn a_log_may_get_shorter_between_terms() {
        let memory = Memory::default();
        memory.holds(NODE, Term(1), Some(LogIndex(7)));
        assert!(!memory.lacks(NODE, Term(2), LogIndex(5)));
        assert!(!memory.has_lapsed(NODE, Term(2)));
    }

    #[test]
    fn who_has_its_directory_back_takes_part_again() {
        let memory = Memory::default();
        memory.holds(NODE, Term(1), Some(LogIndex(7)));
        assert!(memory.lacks(NODE, Term(1), LogIndex(4)));
        memory.holds(NODE, Term(1), Some(LogIndex(3)));
        assert!(memory.has_lapsed(NODE, Term(1)), "not with less than it held");
        memory.holds(NODE, Term(1), Some(LogIndex(7)));
        assert!(!memory.has_lapsed(NODE, Term(1)));
    }
}
