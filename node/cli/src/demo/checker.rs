//! The checker: compares the records and reports each event for which a promise was broken.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::records::{Acked, Handled, Read, Records};

/// The most violations that are described; all are counted.
const NAMED_MAX: usize = 10;

/// The result of a check.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct CheckResult {
    /// Appends that were acknowledged.
    pub acked: u64,
    /// Events in the log.
    pub stored: u64,
    /// Events that a handler was called with.
    pub handled: u64,
    /// Events acknowledged and not stored, or stored and never handled.
    pub lost: u64,
    /// Events stored more than once.
    pub stored_twice: u64,
    /// Calls of a handler with an event that was handled before.
    pub redelivered: u64,
    /// Events of a stream in the wrong order, in the log or at their first handling.
    pub out_of_order: u64,
    /// Descriptions of the violations, each with its event.
    pub broken: Vec<String>,
}

impl CheckResult {
    fn violation(&mut self, what: impl FnOnce() -> String) {
        if self.broken.len() < NAMED_MAX {
            self.broken.push(what());
        }
    }
}

/// Checks the records.
#[must_use]
pub(super) fn check(records: &Records) -> CheckResult {
    let mut result = CheckResult { acked: records.acked.len() as u64, ..CheckResult::default() };
    // A lost event counts once, even if it is missing on several nodes.
    let mut lost = BTreeSet::new();
    stored_twice(&mut result, records);
    acknowledged_stored(&mut result, records, &mut lost);
    for (node, read) in &records.read {
        result.stored = result.stored.max(read.len() as u64);
        in_order(&mut result, node, read);
    }
    equal_logs(&mut result, records);
    handled_in_order(&mut result, records, &mut lost);
    result.lost = lost.len() as u64;
    result
}

/// P3: every event is stored once.
fn stored_twice(result: &mut CheckResult, records: &Records) {
    let mut copies = BTreeMap::<Uuid, BTreeMap<&str, Vec<u64>>>::new();
    for (node, read) in &records.read {
        let first_positions = first_positions(read);
        for event in read.iter().filter(|event| first_positions[&event.id] != event.position) {
            let on =
                copies.entry(event.id).or_default().entry(node).or_insert_with(|| vec![first_positions[&event.id]]);
            on.push(event.position);
        }
    }
    result.stored_twice = copies.len() as u64;
    for (id, nodes) in copies {
        let at = nodes.values().next().map(|at| at.iter().map(u64::to_string).collect::<Vec<_>>().join(" and at "));
        let (join_names, at) = (join_names(nodes.keys()), at.unwrap_or_default());
        result.violation(|| format!("event {id} is stored twice on {join_names}: at {at}"));
    }
}

/// P1: every acknowledged event is in every node's log, at the acknowledged position.
fn acknowledged_stored(result: &mut CheckResult, records: &Records, lost: &mut BTreeSet<Uuid>) {
    let logs: BTreeMap<&str, _> =
        records.read.iter().map(|(node, read)| (node.as_str(), first_positions(read))).collect();
    for Acked { id, position, .. } in &records.acked {
        let without: Vec<_> = logs
            .iter()
            .filter(|(_, first_positions)| !first_positions.contains_key(id))
            .map(|(node, _)| node)
            .collect();
        if !without.is_empty() {
            lost.insert(*id);
            result.violation(|| {
                format!("event {id} was acknowledged at {position} and is not on {}", join_names(without.into_iter()))
            });
        }
        let elsewhere = logs
            .iter()
            .find_map(|(node, first_positions)| Some((node, first_positions.get(id).filter(|at| *at != position)?)));
        if let Some((node, place)) = elsewhere {
            result.violation(|| format!("event {id} was acknowledged at {position} and is at {place} on {node}"));
        }
    }
}

/// Returns the first position of each event of a log.
fn first_positions(read: &[Read]) -> BTreeMap<Uuid, u64> {
    let mut first_positions = BTreeMap::new();
    for event in read {
        first_positions.entry(event.id).or_insert(event.position);
    }
    first_positions
}

fn join_names<'a>(nodes: impl Iterator<Item = &'a &'a str>) -> String {
    nodes.copied().collect::<Vec<_>>().join(", ")
}

/// P2: positions have no gaps, and the events of a stream are in order. Second copies are not checked for order.
fn in_order(result: &mut CheckResult, node: &str, read: &[Read]) {
    let (mut last, mut seen) = (BTreeMap::<&str, u64>::new(), BTreeSet::new());
    let mut next = 0;
    for Read { id, position, stream, number } in read {
        // A gap is reported once: the positions after it are counted from there.
        if *position != next {
            result.violation(|| format!("{node} has event {id} at {position}, expected position {next}"));
        }
        next = position + 1;
        if !seen.insert(*id) {
            continue;
        }
        let expected = last.insert(stream, *number).map_or(0, |last| last + 1);
        if *number < expected {
            result.out_of_order += 1;
            result.violation(|| {
                format!("event {number} of {stream} is at {position} on {node}, expected event {expected}")
            });
        }
    }
}

/// All nodes have the same log.
fn equal_logs(result: &mut CheckResult, records: &Records) {
    let mut nodes = records.read.iter();
    let Some((first, log)) = nodes.next() else { return };
    for (other, theirs) in nodes {
        if let Some((ours, theirs)) = log.iter().zip(theirs).find(|(ours, theirs)| ours != theirs) {
            result.violation(|| {
                format!("{first} has event {} at {}, {other} has event {}", ours.id, ours.position, theirs.id)
            });
        } else if log.len() != theirs.len() {
            result.violation(|| format!("{first} has {} events, {other} {}", log.len(), theirs.len()));
        }
    }
}

/// P5: every event was handled, and first handlings of a stream are in order.
fn handled_in_order(result: &mut CheckResult, records: &Records, lost: &mut BTreeSet<Uuid>) {
    let mut seen = BTreeSet::new();
    let mut last = BTreeMap::<&str, &Handled>::new();
    for handled in &records.handled {
        if !seen.insert(handled.position) {
            result.redelivered += 1;
            continue;
        }
        let before = last.insert(&handled.stream, handled);
        if let Some(before) = before.filter(|before| before.number > handled.number) {
            result.out_of_order += 1;
            result.violation(|| {
                let (stream, number, position) = (&handled.stream, handled.number, handled.position);
                let (other, there) = (before.number, before.position);
                format!("event {number} of {stream} (at {position}) was handled after event {other} (at {there})")
            });
        }
    }
    result.handled = seen.len() as u64;
    let Some(read) = records.read.values().next() else { return };
    let first_positions = first_positions(read);
    // A second copy does not count as an event.
    let events = read.iter().filter(|event| first_positions[&event.id] == event.position);
    for event in events.filter(|event| !seen.contains(&event.position)) {
        lost.insert(event.id);
        result.violation(|| format!("event {} at {} was never handled", event.id, event.position));
    }
}

#[cfg(test)]
mod tests {
    use super::{super::records::InjectedFault, *};

    /// Returns two streams of five events each, on two nodes, without a violation.
    fn correct_run() -> Records {
        let mut records = Records::default();
        for position in 0..10_u64 {
            let (id, number) = (Uuid::from_u128(u128::from(position) + 1), position / 2);
            let stream = format!("s{}", position % 2);
            records.acked.push(Acked { id, stream: stream.clone(), number, position, at_ms: position });
            for node in ["n1", "n2"] {
                let read = Read { id, position, stream: stream.clone(), number };
                records.read.entry(node.into()).or_default().push(read);
            }
            let (segment, epoch, attempt, at_us) = (0, 1, 1, position);
            records.handled.push(Handled { position, stream, number, segment, epoch, attempt, at_us });
        }
        records
    }

    #[test]
    fn a_correct_run_passes() {
        let result = check(&correct_run());
        assert_eq!(result.broken, [""; 0]);
        assert_eq!((result.acked, result.stored, result.handled), (10, 10, 10));
    }

    #[test]
    fn each_injected_fault_is_the_only_one_reported() {
        let broken = |fault| {
            let mut records = correct_run();
            records.inject(fault);
            let result = check(&records);
            (result.lost, result.stored_twice, result.out_of_order, result.broken)
        };
        let id = |position: u128| Uuid::from_u128(position + 1);
        let (lost, stored_twice, swapped, named) = broken(InjectedFault::LoseOne);
        assert_eq!((lost, stored_twice, swapped), (1, 0, 0));
        let gap = |node| format!("{node} has event {} at 6, expected position 5", id(6));
        let missing = format!("event {} was acknowledged at 5 and is not on n1, n2", id(5));
        assert_eq!(named, [missing, gap("n1"), gap("n2")]);

        let (lost, stored_twice, swapped, named) = broken(InjectedFault::StoreTwice);
        assert_eq!((lost, stored_twice, swapped), (0, 1, 0));
        assert_eq!(named, [format!("event {} is stored twice on n1, n2: at 5 and at 10", id(5))]);

        let (lost, stored_twice, swapped, named) = broken(InjectedFault::SwapTwo);
        assert_eq!((lost, stored_twice, swapped), (0, 0, 1));
        assert_eq!(named, ["event 2 of s1 (at 5) was handled after event 3 (at 7)"]);
    }

    #[test]
    fn a_swap_in_the_middle_of_redeliveries_is_found() {
        let mut records = correct_run();
        let (again, rest) = (records.handled[..6].to_vec(), records.handled.split_off(6));
        records.handled.extend(again.into_iter().chain(rest));
        records.inject(InjectedFault::SwapTwo);
        assert_eq!(check(&records).out_of_order, 1);
    }

    #[test]
    fn each_injected_fault_is_found() {
        for (fault, word) in [
            (InjectedFault::LoseOne, "was acknowledged"),
            (InjectedFault::StoreTwice, "is stored twice"),
            (InjectedFault::SwapTwo, "was handled after"),
        ] {
            let mut records = correct_run();
            records.inject(fault);
            let result = check(&records);
            let found = result.broken.iter().any(|broken| broken.contains(word));
            assert!(found, "{fault:?}: {:?}", result.broken);
        }
    }

    #[test]
    fn a_redelivery_is_counted_and_is_no_violation() {
        let mut records = correct_run();
        let again = records.handled[3].clone();
        records.handled.push(again);
        let result = check(&records);
        assert!(result.broken.is_empty());
        assert_eq!(result.redelivered, 1);
    }

    #[test]
    fn an_event_never_handled_is_lost() {
        let mut records = correct_run();
        records.handled.remove(4);
        assert_eq!(check(&records).lost, 1);
    }

    #[test]
    fn logs_that_differ_are_reported() {
        let mut records = correct_run();
        records.read.get_mut("n2").unwrap().pop();
        assert!(check(&records).broken.iter().any(|broken| broken.contains("n2")));
    }
}
