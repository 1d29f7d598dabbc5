//! P1: every acknowledged event is in the log at the end, at the acknowledged position and unchanged.

use super::{History, LogEvent, Violation};

/// Returns every acknowledged event that is not at its position.
#[must_use]
pub fn check(history: &History, log: &[LogEvent]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for call in &history.calls {
        let Some(stored) = call.stored() else { continue };
        for (nth, event) in call.request.events.iter().enumerate() {
            let position = stored.first.0 + nth as u64;
            let found = usize::try_from(position).ok().and_then(|index| log.get(index));
            let what = match found {
                Some(logged) if logged.event == *event => continue,
                Some(logged) => {
                    format!("position {position} has {} instead of the acknowledged {}", logged.event.id, event.id)
                }
                None => format!("{}, acknowledged at {position}, is lost", event.id),
            };
            violations.push(Violation { promise: "P1", what });
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::samples::{Sample, event};

    #[test]
    fn a_lost_acknowledged_event_is_found() {
        let mut sample = Sample::of_two_appends();
        assert_eq!(check(&sample.history, &sample.log), []);
        sample.log.pop();
        assert_eq!(check(&sample.history, &sample.log).len(), 1);
    }

    #[test]
    fn another_event_at_an_acknowledged_position_is_found() {
        let mut sample = Sample::of_two_appends();
        sample.log[1].event = event(99, "s");
        assert_eq!(check(&sample.history, &sample.log).len(), 1);
    }
}
