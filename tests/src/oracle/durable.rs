//! P1: what was acknowledged is there at the end, where it was said to be, as it was given.

use super::{History, LogEvent, Violation};

/// Every acknowledged event that is lost, elsewhere or another.
#[must_use]
pub fn check(history: &History, log: &[LogEvent]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for call in &history.calls {
        let Some(stored) = call.stored() else { continue };
        for (nth, event) in call.request.events.iter().enumerate() {
            let place = stored.first.0 + nth as u64;
            let found = usize::try_from(place).ok().and_then(|place| log.get(place));
            let what = match found {
                Some(logged) if logged.event == *event => continue,
                Some(logged) => {
                    format!("at {place} stands {} in the place of the acknowledged {}", logged.event.id, event.id)
                }
                None => format!("{}, acknowledged at {place}, is lost", event.id),
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
    fn what_was_acknowledged_is_missed_when_it_is_gone() {
        let mut sample = Sample::of_two_appends();
        assert_eq!(check(&sample.history, &sample.log), []);
        sample.log.pop();
        assert_eq!(check(&sample.history, &sample.log).len(), 1);
    }

    #[test]
    fn another_event_in_its_place_is_found() {
        let mut sample = Sample::of_two_appends();
        sample.log[1].event = event(99, "s");
        assert_eq!(check(&sample.history, &sample.log).len(), 1);
    }
}
