//! Logs that what a processor has set aside nears a limit, reaches it, or has room again: each once.

use evener_core::processor::{Fullness, Level};

/// What was logged last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watch {
    letters: Level,
    sequences: Level,
}

impl Watch {
    /// Logs what changed: the fullest sequence's letters, and the sequences.
    pub fn look(&mut self, processor: &str, letters: Fullness, sequences: Fullness) {
        let changed = [
            (&mut self.letters, letters, "letters_max", "the segment of the sequence that has the most"),
            (&mut self.sequences, sequences, "sequences_max", "its segments"),
        ];
        for (level, fullness, limit, stalls) in changed {
            if let Some(line) = change(level, fullness.level()) {
                let Fullness { used, max } = fullness;
                match *level {
                    Level::Room => tracing::info!(%processor, limit, used, max, "{line}"),
                    Level::Near | Level::Full => tracing::warn!(
                        %processor, limit, used, max, stalls,
                        "{line}; see `evener dead-letter list {processor}`"
                    ),
                }
            }
        }
    }
}

/// Takes the new level; returns what there is to say of it.
fn change(known: &mut Level, now: Level) -> Option<&'static str> {
    if std::mem::replace(known, now) == now {
        return None;
    }
    Some(match now {
        Level::Room => "what is set aside of a processor has room again",
        Level::Near => "what is set aside of a processor nears its limit, at which segments stall",
        Level::Full => "what is set aside of a processor has reached its limit: segments stall if more fails",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_of_level_is_said_once() {
        let mut known = Level::Room;
        let levels = [Level::Room, Level::Near, Level::Near, Level::Full, Level::Near, Level::Room, Level::Room];
        let said = levels.map(|level| change(&mut known, level).is_some());
        assert_eq!(said, [false, true, false, true, true, true, false]);
    }
}
