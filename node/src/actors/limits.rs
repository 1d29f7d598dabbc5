//! Logs once each time the set-aside sequences of a processor near a limit, reach it, or drop below it.

use evener_core::processor::{LimitUsage, UsageLevel};

/// The levels that were logged last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LimitWatch {
    letters: UsageLevel,
    sequences: UsageLevel,
}

impl LimitWatch {
    /// Logs changed levels: of the fullest sequence's letters, and of the sequences.
    pub(super) fn update(&mut self, processor: &str, letters: LimitUsage, sequences: LimitUsage) {
        let changed = [
            (&mut self.letters, letters, "letters_max", "the segment of the sequence that has the most"),
            (&mut self.sequences, sequences, "sequences_max", "its segments"),
        ];
        for (level, fullness, limit, stalls) in changed {
            if let Some(line) = change(level, fullness.level()) {
                let LimitUsage { used, max } = fullness;
                match *level {
                    UsageLevel::Room => tracing::info!(%processor, limit, used, max, "{line}"),
                    UsageLevel::Near | UsageLevel::Full => tracing::warn!(
                        %processor, limit, used, max, stalls,
                        "{line}; see `evener dead-letter list {processor}`"
                    ),
                }
            }
        }
    }
}

/// Stores the new level; returns the line to log if it has changed.
fn change(known: &mut UsageLevel, now: UsageLevel) -> Option<&'static str> {
    if std::mem::replace(known, now) == now {
        return None;
    }
    Some(match now {
        UsageLevel::Room => "the set-aside sequences of a processor are below their limit again",
        UsageLevel::Near => "the set-aside sequences of a processor near their limit, at which segments stall",
        UsageLevel::Full => {
            "the set-aside sequences of a processor have reached their limit: segments stall on \
        further failures"
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_of_level_is_logged_once() {
        let mut known = UsageLevel::Room;
        let levels = [
            UsageLevel::Room,
            UsageLevel::Near,
            UsageLevel::Near,
            UsageLevel::Full,
            UsageLevel::Near,
            UsageLevel::Room,
            UsageLevel::Room,
        ];
        let logged = levels.map(|level| change(&mut known, level).is_some());
        assert_eq!(logged, [false, true, false, true, true, true, false]);
    }
}
