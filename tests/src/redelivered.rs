//! Which events were handled again after nodes were killed, and whether the kills explain each of them.
//!
//! A node that is killed takes with it what its handlers have done and the log has not been told yet: at most one
//! batch of each segment that it owned, and nothing of any other. Two nodes may be killed, and one segment may be lost
//! by both: then it is a batch for each. The nodes that live on hand over nothing that they have not told, and tell
//! again what a dying leader did not answer; neither has anything handled twice.

use std::collections::BTreeMap;

use crate::test_cluster::Handled;

/// A process of a node that was killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Killed {
    /// The process.
    pub node: u32,
    /// When the signal was sent, in microseconds.
    pub at_us: u64,
}

/// How many events were handled again, by the killed process that had handled them and the segment they are of.
pub type Counts = BTreeMap<(u32, u32), usize>;

/// Counts what was handled again, and says what no kill explains. `seen` is in the order of time.
#[must_use]
pub fn check(seen: &[Handled], killed: &[Killed], batch_events_max: usize) -> (Counts, Vec<String>) {
    let (mut counts, mut wrong) = (Counts::new(), Vec::new());
    let mut last = BTreeMap::<u64, &Handled>::new();
    for again in seen {
        let Some(before) = last.insert(again.position, again) else { continue };
        match unexplained(seen, killed, before, again) {
            Some(why) => wrong.push(format!("{} was handled again by {again:?}: {why}", again.position)),
            None => *counts.entry((before.node, before.segment)).or_default() += 1,
        }
    }
    for ((node, segment), count) in counts.iter().filter(|(_, count)| **count > batch_events_max) {
        wrong.push(format!("process {node} left {count} events of segment {segment}: more than {batch_events_max}"));
    }
    (counts, wrong)
}

/// Why the kills do not explain that an event was handled again.
fn unexplained(seen: &[Handled], killed: &[Killed], before: &Handled, again: &Handled) -> Option<String> {
    let Some(kill) = killed.iter().find(|kill| kill.node == before.node) else {
        return Some(format!("{before:?} was not killed"));
    };
    if again.segment != before.segment || again.epoch <= before.epoch {
        return Some(format!("it was not taken over from {before:?}"));
    }
    // Whoever has a segment at the kill has its latest epoch.
    let later = |other: &&Handled| other.segment == before.segment && other.epoch > before.epoch;
    let other = seen.iter().filter(later).find(|other| other.at_us < kill.at_us);
    other.map(|other| format!("{before:?} had passed the segment on before it was killed, to {other:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `(position, segment, epoch, process)`, one a microsecond.
    fn seen(rows: &[(u64, u32, u64, u32)]) -> Vec<Handled> {
        let row = |(nth, &(position, segment, epoch, node)): (usize, &(u64, u32, u64, u32))| Handled {
            position,
            stream: "s".into(),
            kind: "k".into(),
            attempt: 1,
            segment,
            epoch,
            at_us: nth as u64,
            ok: true,
            node,
        };
        rows.iter().enumerate().map(row).collect()
    }

    #[test]
    fn what_a_killed_owner_had_handled_may_be_handled_again_a_batch_of_each_segment() {
        let rows = seen(&[(0, 0, 1, 7), (1, 1, 1, 7), (2, 0, 1, 7), (0, 0, 2, 8), (1, 1, 2, 8), (2, 0, 2, 8)]);
        let killed = [Killed { node: 7, at_us: 3 }];
        let (counts, wrong) = check(&rows, &killed, 2);
        assert_eq!((counts, wrong), (Counts::from([((7, 0), 2), ((7, 1), 1)]), vec![]));
        let (_, wrong) = check(&rows, &killed, 1);
        assert_eq!(wrong, ["process 7 left 2 events of segment 0: more than 1"]);
    }

    #[test]
    fn what_a_node_that_lives_had_handled_may_not() {
        let (counts, wrong) = check(&seen(&[(0, 0, 1, 7), (0, 0, 2, 8)]), &[Killed { node: 8, at_us: 9 }], 64);
        assert_eq!((counts.len(), wrong.len()), (0, 1), "{wrong:?}");
        assert!(wrong[0].ends_with("was not killed"), "{wrong:?}");
    }

    #[test]
    fn nor_what_a_killed_node_had_passed_on_before() {
        let rows = seen(&[(0, 0, 1, 7), (1, 0, 2, 8), (0, 0, 3, 9)]);
        let (counts, wrong) = check(&rows, &[Killed { node: 7, at_us: 2 }], 64);
        assert_eq!((counts.len(), wrong.len()), (0, 1), "{wrong:?}");
        assert!(wrong[0].contains("had passed the segment on"), "{wrong:?}");
    }

    #[test]
    fn nor_twice_under_one_claim() {
        let rows = seen(&[(0, 0, 1, 7), (0, 0, 1, 7)]);
        let (_, wrong) = check(&rows, &[Killed { node: 7, at_us: 0 }], 64);
        assert_eq!(wrong.len(), 1, "{wrong:?}");
    }
}
