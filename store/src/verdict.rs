//! The verdict of a frame: which of its appends were stored, and at which positions.

use evener_core::{
    id::{ContextId, LogIndex, Position},
    time::Timestamp,
};

use crate::varint::{self, InvalidVarint};

/// The result of applying one frame. Every frame has a verdict, even a blank one: from then on the journal knows that
/// the frame will not be truncated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// The index of the frame.
    pub index: LogIndex,
    /// The frame's context.
    pub context: ContextId,
    /// The position of its first stored event; the context's head if it has none.
    pub first: Position,
    /// The numbers of its commands whose append was stored, from 0 and ascending.
    pub accepted: Vec<u32>,
    /// The number of its stored events.
    pub events: u32,
    /// The monotonic time at which it was recorded.
    pub recorded: Timestamp,
}

/// The maximum number of accepted commands in one file. Each takes four bytes of memory, and a few bytes of a file can
/// encode very many. It is several times what the largest chunk can hold.
pub(crate) const ACCEPTED_MAX: usize = 16 << 20;

/// Encodes `accepted` as runs; mostly there is one.
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
        debug_assert!(start >= end, "the numbers are ascending");
        varint::encode(u64::from(start - end), out);
        varint::encode(u64::from(length), out);
        end = start + length;
    }
}

/// Decodes accepted numbers; `max` bounds the memory that hostile bytes can allocate.
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
