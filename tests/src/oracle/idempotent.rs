//! P3: an id stands once. Nothing is stored that nobody gave, nothing that was refused; a repetition is answered as
//! the first time.

use std::collections::BTreeMap;

use evener_core::append::Refusal;

use super::{Answer, History, LogEvent, Violation};

/// Everything that stands twice, from nowhere, or though it was refused.
#[must_use]
pub fn check(history: &History, log: &[LogEvent]) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut given: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for call in &history.calls {
        for event in &call.request.events {
            given.entry(event.id).or_default().push(event);
        }
    }
    let mut places = BTreeMap::new();
    for logged in log {
        let (id, position) = (logged.event.id, logged.position);
        if let Some(first) = places.insert(id, position) {
            found.push(format!("{id} stands at {first} and at {position}"));
        }
        if !given.get(&id).is_some_and(|events| events.contains(&&logged.event)) {
            found.push(format!("{id} at {position} was given by nobody, or not so"));
        }
    }
    for (number, call) in history.calls.iter().enumerate() {
        let stored: Vec<_> = call.answers.iter().filter_map(|(_, answer)| place(answer)).collect();
        if stored.windows(2).any(|pair| pair[0] != pair[1]) {
            found.push(format!("call {number} was answered differently: {stored:?}"));
        }
        let mine = |logged: &&LogEvent| call.request.events.contains(&logged.event);
        let refused = call.answers.iter().any(|(_, answer)| is_final(answer));
        if let Some(logged) = log.iter().filter(|_| refused).find(mine) {
            found.push(format!("call {number} was refused, and its {} stands at {}", logged.event.id, logged.position));
        }
    }
    found.into_iter().map(|what| Violation { promise: "P3", what }).collect()
}

fn place(answer: &Answer) -> Option<(u64, u64)> {
    match answer {
        Answer::Stored(appended) => Some((appended.first.0, appended.next.0)),
        Answer::Refused(_) => None,
    }
}

/// "Some of them are there" is said of events that are there.
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
    fn what_stands_twice_or_comes_from_nowhere_is_found() {
        finds(|sample| sample.log[2].event = event(1, "s"), "stands at 0 and at 2");
        finds(|sample| sample.log[2].event = event(9, "s"), "given by nobody");
        finds(|sample| sample.log[2].event.data = vec![1], "given by nobody");
    }

    #[test]
    fn another_answer_to_a_repetition_is_found() {
        finds(|sample| sample.history.returned(0, stored(2, 3)), "answered differently");
    }

    #[test]
    fn what_was_refused_and_stored_is_found() {
        finds(|sample| sample.history.returned(0, Answer::Refused(Refusal::Retry)), "was refused");
    }
}
