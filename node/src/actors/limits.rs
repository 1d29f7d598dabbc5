//! Logs that what a processor has set aside nears a limit, reaches it, or has room again: each once.

use evener_core::processor::{LimitUsage, UsageLevel};

/// What was logged last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LimitWatch {
    letters: UsageLevel,
    sequences: UsageLevel,
}

impl LimitWatch {
    /// Logs what changed: the fullest sequence's letters, and the sequences.
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

/// Takes the new level; returns what there is to say of it.
fn change(known: &mut UsageLevel, now: UsageLevel) -> Option<&'static str> {
    if std::mem::replace(known, now) == now {
        return None;
    }
    Some(match now {
        UsageLevel::Room => "what is set aside of a processor has room again",
        UsageLevel::Near => "what is set aside of a processor nears its limit, at which segments stall",
        UsageLevel::Full => "what is set aside of a processor has reached its limit: segments stall if more fails",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_of_level_is_said_once() {
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
