//! The room that is left in one progress, so that no command is too large for an entry.

use alloc::{collections::VecDeque, vec::Vec};

use super::Bounds;
use crate::command::{LETTER_BYTES_MAX, LetterMove, PROGRESS_HEAD_BYTES, TOKEN_BYTES_MAX};

/// The share of the room that is for letters lent to this node: its own segments never crowd them out.
const LENT_SHARE: usize = 4;

/// The room for letters that is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Room {
    bytes: usize,
    letters: usize,
}

impl Room {
    /// Returns the room of one progress: for the node's own segments, and for what is lent to it.
    pub(super) fn of(bounds: Bounds) -> (Self, Self) {
        let Bounds { progress_bytes_max: bytes, progress_letters_max: letters, .. } = bounds;
        let lent = Self { bytes: (bytes / LENT_SHARE).max(1), letters: (letters / LENT_SHARE).max(1) };
        (Self { bytes: bytes - bytes / LENT_SHARE, letters: letters - letters / LENT_SHARE }, lent)
    }

    /// Moves letters over from the front, in order, while there is room. Returns whether all of them were moved. The
    /// last one may exceed the room: a single letter always has a place.
    pub(super) fn fill(&mut self, from: &mut VecDeque<LetterMove>, to: &mut Vec<LetterMove>) -> bool {
        while self.bytes > 0 && self.letters > 0 {
            let Some(letter) = from.pop_front() else { return true };
            self.bytes = self.bytes.saturating_sub(letter.bytes());
            self.letters -= 1;
            to.push(letter);
        }
        from.is_empty()
    }
}

impl Bounds {
    /// Returns how many bytes a progress made within these bounds takes at most.
    #[must_use]
    pub const fn progress_bytes_max(&self) -> usize {
        let tokens = self.progress_tokens_max * TOKEN_BYTES_MAX;
        PROGRESS_HEAD_BYTES + tokens + self.progress_bytes_max + 2 * LETTER_BYTES_MAX
    }
}
