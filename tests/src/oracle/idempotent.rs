//! P3: every id is stored once. Only appended events are stored, and none that was refused; a repetition has the same
//! answer as the first append.

use std::collections::BTreeMap;

use evener_core::append::Refusal;

use super::{Answer, History, LogEvent, Violation};

/// Returns every event that is stored twice, was not appended, or was refused.
#[must_use]
pub fn check(history: &History, log: &[LogEvent]) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut appended: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for call in &history.calls {
        for event in &call.request.events {
            appended.entry(event.id).or_default().push(event);
        }
    }
    let mut positions = BTreeMap::new();
    for logged in log {
        let (id, position) = (logged.event.id, logged.position);
        if let Some(first) = positions.insert(id, position) {
            found.push(format!("{id} is stored at {first} and at {position}"));
        }
        if !appended.get(&id).is_some_and(|events| events.contains(&&logged.event)) {
            found.push(format!("{id} at {position} was never appended with this content"));
        }
    }
    for (number, call) in history.calls.iter().enumerate() {
        let stored: Vec<_> = call.answers.iter().filter_map(|(_, answer)| stored_range(answer)).collect();
        if stored.windows(2).any(|pair| pair[0] != pair[1]) {
            found.push(format!("call {number} was answered differently: {stored:?}"));
        }
        let of_call = |logged: &&LogEvent| call.request.events.contains(&logged.event);
        let refused = call.answers.iter().any(|(_, answer)| is_final(answer));
        if let Some(logged) = log.iter().filter(|_| refused).find(of_call) {
            found.push(format!(
                "call {number} was refused, and its {} is stored at {}",
                logged.event.id, logged.position
            ));
        }
    }
    found.into_iter().map(|what| Violation { promise: "P3", what }).collect()
}

fn stored_range(answer: &Answer) -> Option<(u64, u64)> {
    match answer {
        Answer::Stored(appended) => Some((appended.first.0, appended.next.0)),
        Answer::Refused(_) => None,
    }
}

/// Returns whether none of the events is stored; a refusal as duplicate says that some are.
fn is_final(answer: &Answer) -> bool {
    matches!(answer, Answer::Refused(refusal) if !matches!(refusal, Refusal::Duplicate { .. }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::samples::{Sample, event, stored};

    #[track_caller]
    fn finds(change: impl FnOnce(&mut Sample), what: &str) {
        let mut sample = Sample::of_two_appends();
        assert_eq!(check(&sample.history, &sample.log), []);
        change(&mut sample);
        let violations = check(&sample.history, &sample.log);
        assert!(violations.iter().any(|violation| violation.what.contains(what)), "{what} is not in {violations:?}");
    }

    #[test]
    fn events_stored_twice_or_never_appended_are_found() {
        finds(|sample| sample.log[2].event = event(1, "s"), "is stored at 0 and at 2");
        finds(|sample| sample.log[2].event = event(9, "s"), "never appended");
        finds(|sample| sample.log[2].event.data = vec![1], "never appended");
    }

    #[test]
    fn a_different_answer_to_a_repetition_is_found() {
        finds(|sample| sample.history.returned(0, stored(2, 3)), "answered differently");
    }

    #[test]
    fn a_stored_event_that_was_refused_is_found() {
        finds(|sample| sample.history.returned(0, Answer::Refused(Refusal::Retry)), "was refused");
    }
}
