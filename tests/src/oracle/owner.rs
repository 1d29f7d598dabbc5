//! P4: one owner per segment and epoch; a later owner has a higher epoch.

use std::collections::BTreeMap;

use super::{History, Violation};

/// Returns every epoch under which two nodes handled events.
#[must_use]
pub fn check(history: &History) -> Vec<Violation> {
    let mut owners = BTreeMap::new();
    let mut found = Vec::new();
    for handling in history.handlings.iter().filter(|handling| !handling.lent) {
        let claim = (&handling.processor, handling.segment, handling.epoch);
        let owner = *owners.entry(claim).or_insert(handling.node);
        if owner != handling.node {
            let (processor, segment, epoch) = claim;
            let what = format!(
                "segment {segment} of processor {processor} was handled under epoch {epoch} by {owner} and by {}",
                handling.node
            );
            found.push(Violation { promise: "P4", what });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use evener_core::id::{Epoch, NodeId, Position, SegmentId};

    use super::*;
    use crate::oracle::Handling;

    #[test]
    fn two_owners_under_one_epoch_are_found() {
        let handling = |node, epoch| Handling {
            time: 0,
            node: NodeId(node),
            processor: "p".into(),
            segment: SegmentId(3),
            epoch: Epoch(epoch),
            lent: false,
            position: Position(0),
            done: true,
        };
        let mut history = History::default();
        history.handlings = vec![handling(1, 1), handling(2, 2)];
        assert_eq!(check(&history), []);
        history.handlings.push(handling(1, 2));
        assert_eq!(check(&history).len(), 1);
        history.handlings[2].lent = true;
        assert_eq!(check(&history), [], "a borrower of a sequence receives the owner's epoch");
    }
}
