//! Checks that the kills of nodes explain each event that was handled again.
//!
//! If a node is killed, the events that its handlers have handled, but whose progress the log does not have yet, are
//! handled again: at most one batch of each segment that it owned. If two nodes that owned the same segment are killed,
//! that is one batch for each. The other nodes send their progress before they hand a segment over, and repeat progress
//! that a killed leader did not acknowledge; neither causes an event to be handled twice.

use std::collections::BTreeMap;

use crate::test_cluster::Handled;

/// The process of a killed node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Killed {
    /// The process id.
    pub node: u32,
    /// When the signal was sent, in microseconds.
    pub at_us: u64,
}

/// The number of events handled again, by the killed process that first handled them and by segment.
pub type Counts = BTreeMap<(u32, u32), usize>;

/// Counts the events handled again, and describes those that no kill explains. `seen` is ordered by time.
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

/// Returns why the kills do not explain that an event was handled again; none if they do.
fn unexplained(seen: &[Handled], killed: &[Killed], before: &Handled, again: &Handled) -> Option<String> {
    let Some(kill) = killed.iter().find(|kill| kill.node == before.node) else {
        return Some(format!("{before:?} was not killed"));
    };
    if again.segment != before.segment || again.epoch <= before.epoch {
        return Some(format!("the segment was not taken over from {before:?}"));
    }
    // The owner of a segment at the time of the kill has its latest epoch.
    let later = |other: &&Handled| other.segment == before.segment && other.epoch > before.epoch;
    let other = seen.iter().filter(later).find(|other| other.at_us < kill.at_us);
    other.map(|other| format!("{before:?} had handed the segment over before it was killed, to {other:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns handlings from `(position, segment, epoch, process)`, one per microsecond.
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
            replaying: false,
            context: "null".into(),
            node,
        };
        rows.iter().enumerate().map(row).collect()
    }

    #[test]
    fn a_batch_of_each_segment_of_a_killed_owner_may_be_handled_again() {
        let rows = seen(&[(0, 0, 1, 7), (1, 1, 1, 7), (2, 0, 1, 7), (0, 0, 2, 8), (1, 1, 2, 8), (2, 0, 2, 8)]);
        let killed = [Killed { node: 7, at_us: 3 }];
        let (counts, wrong) = check(&rows, &killed, 2);
        assert_eq!((counts, wrong), (Counts::from([((7, 0), 2), ((7, 1), 1)]), vec![]));
        let (_, wrong) = check(&rows, &killed, 1);
        assert_eq!(wrong, ["process 7 left 2 events of segment 0: more than 1"]);
    }

    #[test]
    fn events_handled_by_a_running_node_may_not_be_handled_again() {
        let (counts, wrong) = check(&seen(&[(0, 0, 1, 7), (0, 0, 2, 8)]), &[Killed { node: 8, at_us: 9 }], 64);
        assert_eq!((counts.len(), wrong.len()), (0, 1), "{wrong:?}");
        assert!(wrong[0].ends_with("was not killed"), "{wrong:?}");
    }

    #[test]
    fn events_of_a_segment_handed_over_before_the_kill_may_not_be_handled_again() {
        let rows = seen(&[(0, 0, 1, 7), (1, 0, 2, 8), (0, 0, 3, 9)]);
        let (counts, wrong) = check(&rows, &[Killed { node: 7, at_us: 2 }], 64);
        assert_eq!((counts.len(), wrong.len()), (0, 1), "{wrong:?}");
        assert!(wrong[0].contains("had handed the segment over"), "{wrong:?}");
    }

    #[test]
    fn no_event_may_be_handled_twice_under_one_claim() {
        let rows = seen(&[(0, 0, 1, 7), (0, 0, 1, 7)]);
        let (_, wrong) = check(&rows, &[Killed { node: 7, at_us: 0 }], 64);
        assert_eq!(wrong.len(), 1, "{wrong:?}");
    }
}
