//! P5: every event is handled at least once, and the events of a sequence are first handled in order.

use std::collections::{BTreeMap, BTreeSet};

use evener_core::{id::Position, sequence::Sequencing};

use super::{History, LogEvent, Violation};

/// Returns the events of `log` that a processor, started at the beginning, did not handle or handled out of order.
#[must_use]
pub fn check(history: &History, log: &[LogEvent], processor: &str, sequencing: &Sequencing) -> Vec<Violation> {
    let own = history.handlings.iter().filter(|handling| handling.processor == processor && handling.done);
    let mut done = BTreeSet::new();
    let mut reached: BTreeMap<String, Position> = BTreeMap::new();
    let mut found = Vec::new();
    for handling in own.filter(|handling| done.insert(handling.position)) {
        let Some(logged) = usize::try_from(handling.position.0).ok().and_then(|index| log.get(index)) else {
            found.push(format!("{} was handled and is not in the log", handling.position));
            continue;
        };
        let sequence = sequencing.name(&logged.event).into_owned();
        if let Some(before) = reached.get(&sequence).filter(|before| **before > handling.position) {
            found.push(format!("{} was handled after {before}, both of sequence {sequence}", handling.position));
        }
        reached.insert(sequence, handling.position);
    }
    for logged in log.iter().filter(|logged| !done.contains(&logged.position)) {
        found.push(format!("{} at {} was never handled by {processor}", logged.event.id, logged.position));
    }
    found.into_iter().map(|what| Violation { promise: "P5", what }).collect()
}

#[cfg(test)]
mod tests {
    use evener_core::id::{Epoch, NodeId, SegmentId};

    use super::*;
    use crate::oracle::{Handling, samples::Sample};

    fn handled(positions: &[(u64, bool)]) -> Vec<String> {
        let mut sample = Sample::of_two_appends();
        for &(position, done) in positions {
            let time = sample.history.tick();
            sample.history.handlings.push(Handling {
                time,
                node: NodeId(1),
                processor: "p".into(),
                segment: SegmentId(0),
                epoch: Epoch(1),
                lent: false,
                position: Position(position),
                done,
            });
        }
        let violations = check(&sample.history, &sample.log, "p", &Sequencing::KeyElseStream);
        violations.into_iter().map(|violation| violation.what).collect()
    }

    #[test]
    fn handling_in_order_within_each_sequence_and_repeatedly_is_allowed() {
        assert_eq!(handled(&[(1, true), (0, false), (0, true), (0, true), (2, true), (0, true)]), [""; 0]);
    }

    #[test]
    fn events_never_handled_or_handled_out_of_order_are_found() {
        assert_eq!(handled(&[(0, true), (2, true)]).len(), 1);
        assert_eq!(handled(&[(0, true), (1, false), (2, true)]).len(), 1, "a failed event is not handled");
        assert_eq!(handled(&[(1, true), (2, true), (0, true)]), ["0 was handled after 2, both of sequence s"]);
        assert_eq!(handled(&[(0, true), (1, true), (2, true), (7, true)]), ["7 was handled and is not in the log"]);
    }
}
