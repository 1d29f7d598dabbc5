//! The judge: compares the three records and names every event for which a promise broke.

use std::collections::{BTreeMap, BTreeSet};

use super::evidence::{Acked, Evidence, Handled, Read};

/// Broken promises are named up to so many; all are counted.
const NAMED_MAX: usize = 10;

/// What the records come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judgement {
    /// Appends that were acknowledged.
    pub acked: u64,
    /// Events in the log.
    pub stored: u64,
    /// Events that a handler was called with.
    pub handled: u64,
    /// Acknowledged and not there, or there and never handled.
    pub lost: u64,
    /// There more than once.
    pub stored_twice: u64,
    /// Times that a handler was called with an event again.
    pub redelivered: u64,
    /// Events of a stream in the wrong order, in the log or at their first handling.
    pub out_of_order: u64,
    /// What broke, in words that name the event.
    pub broken: Vec<String>,
}

impl Judgement {
    fn breaks(&mut self, what: impl FnOnce() -> String) {
        if self.broken.len() < NAMED_MAX {
            self.broken.push(what());
        }
    }
}

/// Judges the records.
#[must_use]
pub fn judge(evidence: &Evidence) -> Judgement {
    let mut judgement = Judgement { acked: evidence.acked.len() as u64, ..Judgement::default() };
    for (node, read) in &evidence.read {
        log(&mut judgement, evidence, node, read);
    }
    alike(&mut judgement, evidence);
    handlings(&mut judgement, evidence);
    judgement
}

/// P1, P2, P3: what was acknowledged stands in each node's log, once, where it was said, in order.
fn log(judgement: &mut Judgement, evidence: &Evidence, node: &str, read: &[Read]) {
    judgement.stored = judgement.stored.max(read.len() as u64);
    let mut places = BTreeMap::new();
    for event in read {
        if let Some(first) = places.insert(event.id, event.position) {
            judgement.stored_twice += 1;
            judgement.breaks(|| {
                format!("event {} is stored twice on {node}: at {first} and at {}", event.id, event.position)
            });
        }
    }
    for acked in &evidence.acked {
        let Acked { id, position, .. } = acked;
        match places.get(id) {
            None => {
                judgement.lost += 1;
                judgement.breaks(|| format!("event {id} was acknowledged at {position} and is not on {node}"));
            }
            Some(place) if place != position && judgement.stored_twice == 0 => {
                judgement
                    .breaks(|| format!("event {id} was acknowledged at {position} and stands at {place} on {node}"));
            }
            Some(_) => {}
        }
    }
    if judgement.stored_twice == 0 {
        in_order(judgement, node, read);
    }
}

/// Positions without gaps, and the events of a stream in its order.
fn in_order(judgement: &mut Judgement, node: &str, read: &[Read]) {
    let mut last = BTreeMap::<&str, u64>::new();
    for (place, event) in read.iter().enumerate() {
        let Read { id, position, stream, number } = event;
        if *position != place as u64 {
            judgement
                .breaks(|| format!("{node} has a gap in its log: event {id} stands at {position}, not at {place}"));
        }
        let expected = last.insert(stream, *number).map_or(0, |last| last + 1);
        if *number < expected {
            judgement.out_of_order += 1;
            judgement.breaks(|| {
                format!("event {number} of {stream} stands at {position} on {node}, where event {expected} belongs")
            });
        }
    }
}

/// Every node has the same log.
fn alike(judgement: &mut Judgement, evidence: &Evidence) {
    let mut nodes = evidence.read.iter();
    let Some((first, log)) = nodes.next() else { return };
    for (other, theirs) in nodes {
        if let Some((ours, theirs)) = log.iter().zip(theirs).find(|(ours, theirs)| ours != theirs) {
            judgement.breaks(|| {
                format!("{first} has event {} at {}, {other} has event {}", ours.id, ours.position, theirs.id)
            });
        } else if log.len() != theirs.len() {
            judgement.breaks(|| format!("{first} has {} events, {other} {}", log.len(), theirs.len()));
        }
    }
}

/// P5: every event was handled, first handlings of a stream in its order.
fn handlings(judgement: &mut Judgement, evidence: &Evidence) {
    let mut seen = BTreeSet::new();
    let mut last = BTreeMap::<&str, &Handled>::new();
    for handled in &evidence.handled {
        if !seen.insert(handled.position) {
            judgement.redelivered += 1;
            continue;
        }
        let before = last.insert(&handled.stream, handled);
        if let Some(before) = before.filter(|before| before.number > handled.number) {
            judgement.out_of_order += 1;
            judgement.breaks(|| {
                let (stream, number, position) = (&handled.stream, handled.number, handled.position);
                let (other, there) = (before.number, before.position);
                format!("event {number} of {stream} (at {position}) was handled after event {other} (at {there})")
            });
        }
    }
    judgement.handled = seen.len() as u64;
    let Some(read) = evidence.read.values().next() else { return };
    for event in read.iter().filter(|event| !seen.contains(&event.position)) {
        if judgement.stored_twice == 0 {
            judgement.lost += 1;
            judgement.breaks(|| format!("event {} at {} was never handled", event.id, event.position));
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::{super::evidence::Break, *};

    /// Two streams of five events each, all well, on two nodes.
    fn well() -> Evidence {
        let mut evidence = Evidence::default();
        for position in 0..10_u64 {
            let (id, number) = (Uuid::from_u128(u128::from(position) + 1), position / 2);
            let stream = format!("s{}", position % 2);
            evidence.acked.push(Acked { id, stream: stream.clone(), number, position, at_ms: position });
            for node in ["n1", "n2"] {
                let read = Read { id, position, stream: stream.clone(), number };
                evidence.read.entry(node.into()).or_default().push(read);
            }
            let (segment, epoch, attempt, at_us) = (0, 1, 1, position);
            evidence.handled.push(Handled { position, stream, number, segment, epoch, attempt, at_us });
        }
        evidence
    }

    #[test]
    fn what_is_well_holds() {
        let judgement = judge(&well());
        assert_eq!(judgement.broken, [""; 0]);
        assert_eq!((judgement.acked, judgement.stored, judgement.handled), (10, 10, 10));
    }

    #[test]
    fn each_planted_fault_is_found_and_names_its_event() {
        for (fault, word) in [
            (Break::LoseOne, "was acknowledged"),
            (Break::StoreTwice, "is stored twice"),
            (Break::SwapTwo, "was handled after"),
        ] {
            let mut evidence = well();
            evidence.plant(fault);
            let judgement = judge(&evidence);
            let found = judgement.broken.iter().any(|broken| broken.contains(word));
            assert!(found, "{fault:?}: {:?}", judgement.broken);
        }
    }

    #[test]
    fn a_redelivery_is_counted_and_breaks_nothing() {
        let mut evidence = well();
        let again = evidence.handled[3].clone();
        evidence.handled.push(again);
        let judgement = judge(&evidence);
        assert!(judgement.broken.is_empty());
        assert_eq!(judgement.redelivered, 1);
    }

    #[test]
    fn an_event_never_handled_is_lost() {
        let mut evidence = well();
        evidence.handled.remove(4);
        assert_eq!(judge(&evidence).lost, 1);
    }

    #[test]
    fn logs_that_differ_are_told_apart() {
        let mut evidence = well();
        evidence.read.get_mut("n2").unwrap().pop();
        assert!(judge(&evidence).broken.iter().any(|broken| broken.contains("n2")));
    }
}
