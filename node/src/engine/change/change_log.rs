//! Log lines of what changes in the cluster, each on one node: an operator's change on the node that was asked,
//! segments without an owner on the leader.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use evener_core::{command::Selection, id::Position, letter::SequenceKey, state::State};

use super::Done;
use crate::engine::{Change, OperationState, What, local::Engine, node_status::unowned};

/// How often the leader looks for segments without an owner. One that has had none for less than this moves.
const LOOK: Duration = Duration::from_secs(2);

/// Logs a change that was made, with the operator's reason. One that changed nothing is not news. `position` is that of
/// the event that it passes over, if it does that.
pub(super) fn changed(change: &Change, done: &Done, position: Option<Position>) {
    if change.dry_run || done.changed == Some(0) {
        return;
    }
    let (verb, reason, changed) = (change.what.verb().entry().words, change.reason.as_deref(), done.changed);
    let arguments = change.what.arguments();
    let subject = arguments.iter().find_map(|argument| argument.name()).unwrap_or_default();
    let segment = arguments.iter().find_map(|argument| argument.segment()).map(|segment| segment.0);
    let sequence = arguments.iter().find_map(|argument| argument.sequence());
    let waits_for = done.why.as_deref().filter(|_| done.state == OperationState::Waiting);
    let position = position.map(|position| position.0);
    tracing::info!(
        verb, subject, segment, sequence, position, changed, reason, waits_for, operation = %change.operation,
        "an operator's change is made"
    );
}

/// Returns the position of the one event that a change would pass over; none if it passes over none or several.
pub(in crate::engine) fn passes_over(state: &State, what: &What) -> Option<Position> {
    match what {
        What::SkipEvent(_, _, position) => Some(*position),
        What::Skip(name, Selection::Sequence(component, sequence)) => {
            let key = SequenceKey { component: *component, name: sequence.clone() };
            Some(state.processor(name)?.set_aside.get(&key)?.first().position)
        }
        _ => None,
    }
}

/// Segments without an owner, of one processor and for one reason.
type Group = (String, String);

/// Logs on the leader that segments have no owner, and that they have one again. Runs for ever.
pub async fn watch_unowned(engine: Engine) {
    let mut known = Unowned::default();
    loop {
        tokio::time::sleep(LOOK).await;
        let now = if engine.cluster().leads() {
            let mut groups: BTreeMap<Group, Vec<u32>> = BTreeMap::new();
            for segment in unowned(&engine.cluster().state()) {
                groups.entry((segment.processor, segment.reason)).or_default().push(segment.segment);
            }
            Some(groups)
        } else {
            None
        };
        for line in known.look(now) {
            line.log();
        }
    }
}

/// What was seen and logged.
#[derive(Debug, Default)]
struct Unowned {
    /// Seen at the last node_status, and whether it was logged.
    known: BTreeMap<Group, (Vec<u32>, bool)>,
    /// Processors that were logged.
    reported: BTreeSet<String>,
}

/// One line of the log.
#[derive(Debug, PartialEq, Eq)]
enum Line {
    Without(Group, Vec<u32>),
    Owned(String),
}

impl Unowned {
    /// Takes what the leader sees; none on another node, which logs nothing.
    fn look(&mut self, now: Option<BTreeMap<Group, Vec<u32>>>) -> Vec<Line> {
        let Some(now) = now else {
            *self = Self::default();
            return Vec::new();
        };
        let mut lines = Vec::new();
        let mut known = BTreeMap::new();
        for (group, segments) in now {
            // Those that change hands are not logged: only what stays as it is from one look to the next.
            let logged = match self.known.get(&group) {
                Some((before, logged)) if *before == segments => {
                    if !logged {
                        self.reported.insert(group.0.clone());
                        lines.push(Line::Without(group.clone(), segments.clone()));
                    }
                    true
                }
                _ => false,
            };
            known.insert(group, (segments, logged));
        }
        let reported = std::mem::take(&mut self.reported).into_iter();
        let (still, owned): (BTreeSet<String>, BTreeSet<String>) =
            reported.partition(|reported| known.keys().any(|(processor, _)| processor == reported));
        self.reported = still;
        lines.extend(owned.into_iter().map(Line::Owned));
        self.known = known;
        lines
    }
}

impl Line {
    fn log(self) {
        match self {
            Self::Without((processor, reason), segments) => {
                tracing::warn!(%processor, ?segments, reason, "segments have no owner; nothing of them is handled");
            }
            Self::Owned(processor) => tracing::info!(%processor, "all segments have an owner again"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(segments: &[u32]) -> Option<BTreeMap<Group, Vec<u32>>> {
        let group = ("mail".to_owned(), "no active node".to_owned());
        Some(if segments.is_empty() { BTreeMap::new() } else { BTreeMap::from([(group, segments.to_vec())]) })
    }

    #[test]
    fn segments_without_an_owner_are_logged_once_and_so_is_the_end_of_that() {
        let mut unowned = Unowned::default();
        let group = ("mail".to_owned(), "no active node".to_owned());
        assert_eq!(unowned.look(seen(&[1, 2])), [], "it may be moving");
        assert_eq!(unowned.look(seen(&[1, 2])), [Line::Without(group.clone(), vec![1, 2])]);
        assert_eq!(unowned.look(seen(&[1, 2])), []);
        assert_eq!(unowned.look(seen(&[2])), [], "fewer, for now");
        assert_eq!(unowned.look(seen(&[2])), [Line::Without(group, vec![2])]);
        assert_eq!(unowned.look(seen(&[])), [Line::Owned("mail".into())]);
        assert_eq!(unowned.look(seen(&[])), []);
        unowned.look(seen(&[1]));
        assert_eq!(unowned.look(None), [], "another node leads");
        assert_eq!(unowned.look(seen(&[1])), []);
    }
}
