//! The maximum size in bytes of parts of a command. An entry has a maximum size, so a command is bounded where it is
//! made; the codec's own test checks these numbers.

use alloc::vec::Vec;
use core::ops::Range;

use super::{LetterMove, Progress};

/// Bytes of a letter's numbers, tags and lengths.
const LETTER_HEAD_BYTES: usize = 128;
/// Bytes of a token that moves.
pub const TOKEN_BYTES_MAX: usize = 32;
/// Bytes of a progress without its tokens and letters.
pub const PROGRESS_HEAD_BYTES: usize = 64;
/// Bytes of one letter: a cause and the name of a sequence have 65,536 bytes at most, a type has 4,096, whatever the
/// limits are set to.
pub const LETTER_BYTES_MAX: usize = LETTER_HEAD_BYTES + 2 * 65_536 + 4_096;

impl LetterMove {
    /// Returns its maximum size in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let texts = match self {
            Self::SetAside { sequence, kind, failure, .. } => sequence.name.len() + kind.len() + failure.cause.len(),
            Self::Queue { sequence, kind, .. } => sequence.name.len() + kind.len(),
            Self::Failed { sequence, failure, .. } | Self::Tried { sequence, failure, .. } => {
                sequence.name.len() + failure.cause.len()
            }
            Self::Stall { failure, .. } => failure.cause.len(),
            Self::Skipped { sequence, .. } | Self::Done { sequence, .. } | Self::Return { sequence, .. } => {
                sequence.name.len()
            }
            Self::Resume { .. } => 0,
        };
        LETTER_HEAD_BYTES + texts
    }
}

impl Progress {
    /// Returns its maximum size in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let letters: usize = self.letters.iter().map(LetterMove::bytes).sum();
        PROGRESS_HEAD_BYTES + self.tokens.len() * TOKEN_BYTES_MAX + letters
    }
}

/// Splits items of these sizes, in order, into commands of at most `bytes_max` bytes and `items_max` items. An item
/// that is larger than that is a command of its own.
#[must_use]
pub fn commands_of(sizes: &[usize], bytes_max: usize, items_max: usize) -> Vec<Range<usize>> {
    let mut commands = Vec::new();
    let (mut begin, mut bytes) = (0, 0_usize);
    for (nth, size) in sizes.iter().enumerate() {
        let full = bytes.saturating_add(*size) > bytes_max || nth - begin >= items_max;
        if full && nth > begin {
            commands.push(begin..nth);
            (begin, bytes) = (nth, 0);
        }
        bytes = bytes.saturating_add(*size);
    }
    if begin < sizes.len() {
        commands.push(begin..sizes.len());
    }
    commands
}

#[cfg(test)]
mod tests {
    use proptest::{collection, prelude::*};

    use super::*;

    proptest! {
        #[test]
        fn p10_every_command_is_within_its_bounds_and_no_item_is_lost(
            sizes in collection::vec(0_usize..100, 0..50),
            bytes_max in 1_usize..200,
            items_max in 1_usize..10,
        ) {
            let commands = commands_of(&sizes, bytes_max, items_max);
            let all: Vec<usize> = commands.iter().cloned().flatten().collect();
            prop_assert_eq!(all, (0..sizes.len()).collect::<Vec<_>>());
            for command in commands {
                let bytes: usize = sizes[command.clone()].iter().sum();
                prop_assert!(!command.is_empty() && command.len() <= items_max);
                prop_assert!(bytes <= bytes_max || command.len() == 1, "{} bytes", bytes);
            }
        }
    }
}
