//! What applying a frame decided: which of its appends were stored, and where.

use evener_core::{
    id::{ContextId, LogIndex, Position},
    time::Timestamp,
};

use crate::varint::{self, InvalidVarint};

/// What applying one frame decided. Every frame has one, blank ones too: it is how the journal learns that a frame
/// will not be truncated any more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Which frame.
    pub index: LogIndex,
    /// The frame's context.
    pub context: ContextId,
    /// The position of its first stored event; the context's head where it has none.
    pub first: Position,
    /// The numbers, from 0 and rising, of the commands in it whose append was stored.
    pub accepted: Vec<u32>,
    /// How many events of it were stored.
    pub events: u32,
    /// The monotone time it was stored at.
    pub recorded: Timestamp,
}

/// Stored commands that one file tells of: four bytes of memory each, and a few bytes of the file may stand for very
/// many of them. It is several times what the largest chunks can hold.
pub(crate) const ACCEPTED_MAX: usize = 16 << 20;

/// Writes `accepted` as runs: mostly there is one.
pub(crate) fn encode_accepted(accepted: &[u32], out: &mut Vec<u8>) {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for &number in accepted {
        match runs.last_mut() {
            Some((start, length)) if *start + *length == number => *length += 1,
            _ => runs.push((number, 1)),
        }
    }
    varint::encode(runs.len() as u64, out);
    let mut end = 0;
    for (start, length) in runs {
        debug_assert!(start >= end, "the numbers rise");
        varint::encode(u64::from(start - end), out);
        varint::encode(u64::from(length), out);
        end = start + length;
    }
}

/// Reads them back; `most` bounds what hostile bytes can ask for.
pub(crate) fn decode_accepted(bytes: &mut &[u8], max: usize) -> Result<Vec<u32>, InvalidVarint> {
    let mut accepted = Vec::new();
    let mut end = 0_u64;
    for _ in 0..varint::decode(bytes)? {
        let start = end.checked_add(varint::decode(bytes)?).ok_or(InvalidVarint)?;
        end = start.checked_add(varint::decode(bytes)?).ok_or(InvalidVarint)?;
        if end > u64::from(u32::MAX) || end - start > max.saturating_sub(accepted.len()) as u64 {
            return Err(InvalidVarint);
        }
        accepted.extend((start..end).map(|number| number as u32));
    }
    Ok(accepted)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn accepted_round_trip(numbers: std::collections::BTreeSet<u32>) {
            let numbers: Vec<u32> = numbers.into_iter().filter(|number| *number < u32::MAX).collect();
            let mut out = Vec::new();
            encode_accepted(&numbers, &mut out);
            prop_assert_eq!(decode_accepted(&mut &out[..], numbers.len()), Ok(numbers));
        }

        #[test]
        fn malformed_bytes_allocate_no_memory_and_do_not_panic(bytes: Vec<u8>) {
            if let Ok(accepted) = decode_accepted(&mut &bytes[..], 10) {
                prop_assert!(accepted.len() <= 10);
            }
        }
    }

    #[test]
    fn one_run_is_three_bytes() {
        let mut out = Vec::new();
        encode_accepted(&[0, 1, 2, 3], &mut out);
        assert_eq!(out, [1, 0, 4]);
    }
}
