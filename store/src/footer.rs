//! The footer that seals a chunk: the verdicts of its frames, and the hash of the whole file. The same frames have the
//! same footer on every node, so sealed chunks can be compared, repaired and shipped as files.
//!
//! ```text
//!  offset  bytes
//!       0      8  "EVNRFOOT"
//!       8      4  length of the footer
//!      12      4  crc32c of: first index of the chunk (8), offset of the footer (8),
//!                 bytes 0..12 and 16.. of the footer
//!      16      2  version of the format, 1
//!      18      2  0
//!      20      4  number of frames
//!      24      4  number of rows of contexts
//!      28      4  number of rows of terms
//!      32      8  time of the first frame
//!      40      8  time of the last frame
//!      48         contexts, each: context (4), position of its first event in the chunk (8), stored events (8)
//!                 terms, each: index of its first frame (8), term (8)
//!                 frames, each: bytes, milliseconds after the previous one, row of its context, stored events,
//!                 accepted: runs, each: commands after the last run, commands in it (all as in `varint.rs`)
//!     -24     16  xxh3-128 of every byte of the file before this one, with bytes 12..16 of the footer as 0
//!      -8      4  length again, so that the footer is found from the file's end
//!      -4      4  "SEAL"
//! ```

use evener_core::{
    id::{ContextId, LogIndex, Position, Term},
    time::Timestamp,
};
use xxhash_rust::xxh3::Xxh3;

use crate::{
    chunk::CHUNK_HEADER_BYTES,
    disk::SECTOR_BYTES,
    frame::{FRAME_BYTES_MAX, FRAME_HEADER_BYTES},
    varint,
    verdict::{ACCEPTED_MAX, Verdict, decode_accepted, encode_accepted},
};

const MAGIC: &[u8; 8] = b"EVNRFOOT";
const SEAL: &[u8; 4] = b"SEAL";
const VERSION: u16 = 1;
const FIXED_BYTES: usize = 48;
const HASH_AND_TRAILER_BYTES: usize = 24;
/// Bytes at the end of a sealed file that locate the start of its footer.
pub(crate) const TRAILER_BYTES: usize = 8;
/// The shortest footer.
pub(crate) const FOOTER_BYTES_MIN: usize = FIXED_BYTES + HASH_AND_TRAILER_BYTES;

/// The footer of a sealed chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Footer {
    /// The end offset of each frame.
    pub ends: Vec<u32>,
    /// The first index of each term.
    pub terms: Vec<(LogIndex, Term)>,
    /// The verdict of each frame.
    pub verdicts: Vec<Verdict>,
    /// xxh3-128 of the file up to the hash.
    pub hash: u128,
}

struct ContextRow {
    context: ContextId,
    first: Position,
    events: u64,
}

/// Encodes the footer of the chunk whose frames end at `ends`, and returns it with its hash. `hash` has consumed the
/// bytes of the file before it. Fails if the verdicts leave a gap in the positions of a context.
pub(crate) fn encode(
    first: LogIndex,
    ends: &[u32],
    terms: &[(LogIndex, Term)],
    verdicts: &[Verdict],
    mut hash: Xxh3,
) -> Result<(Vec<u8>, u128), String> {
    assert_eq!(ends.len(), verdicts.len(), "a chunk is sealed when all of it is applied");
    let mut out = vec![0; FIXED_BYTES];
    let mut contexts: Vec<ContextRow> = Vec::new();
    let mut rows = Vec::new();
    let (mut start, mut recorded) = (CHUNK_HEADER_BYTES as u32, verdicts[0].recorded);
    for (end, verdict) in ends.iter().zip(verdicts) {
        let row = contexts.iter().position(|row| row.context == verdict.context).unwrap_or_else(|| {
            contexts.push(ContextRow { context: verdict.context, first: verdict.first, events: 0 });
            contexts.len() - 1
        });
        contexts[row].take(verdict)?;
        varint::encode(u64::from(end - start), &mut rows);
        varint::encode(verdict.recorded.0.saturating_sub(recorded.0), &mut rows);
        varint::encode(row as u64, &mut rows);
        varint::encode(u64::from(verdict.events), &mut rows);
        encode_accepted(&verdict.accepted, &mut rows);
        (start, recorded) = (*end, recorded.max(verdict.recorded));
    }
    for row in &contexts {
        out.extend_from_slice(&row.context.0.to_le_bytes());
        out.extend_from_slice(&row.first.0.to_le_bytes());
        out.extend_from_slice(&row.events.to_le_bytes());
    }
    for (index, term) in terms {
        out.extend_from_slice(&index.0.to_le_bytes());
        out.extend_from_slice(&term.0.to_le_bytes());
    }
    out.extend_from_slice(&rows);
    let length = (out.len() + HASH_AND_TRAILER_BYTES) as u32;
    out[..8].copy_from_slice(MAGIC);
    out[8..12].copy_from_slice(&length.to_le_bytes());
    out[16..18].copy_from_slice(&VERSION.to_le_bytes());
    out[20..24].copy_from_slice(&(ends.len() as u32).to_le_bytes());
    out[24..28].copy_from_slice(&(contexts.len() as u32).to_le_bytes());
    out[28..32].copy_from_slice(&(terms.len() as u32).to_le_bytes());
    out[32..40].copy_from_slice(&verdicts[0].recorded.0.to_le_bytes());
    out[40..48].copy_from_slice(&recorded.0.to_le_bytes());
    // The checksum covers the hash, and the hash all bytes before it, with the checksum as 0.
    hash.update(&out);
    let hash = hash.digest128();
    out.extend_from_slice(&hash.to_le_bytes());
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(SEAL);
    let sum = checksum(first, start, &out);
    out[12..16].copy_from_slice(&sum.to_le_bytes());
    Ok((out, hash))
}

impl ContextRow {
    fn take(&mut self, verdict: &Verdict) -> Result<(), String> {
        if verdict.events == 0 {
            return Ok(());
        }
        if self.events == 0 {
            self.first = verdict.first;
        }
        let next = self.first.0 + self.events;
        if verdict.first.0 != next {
            let Verdict { index, first, .. } = verdict;
            return Err(format!("frame {index} was applied at position {first}, but the next position was {next}"));
        }
        self.events += u64::from(verdict.events);
        Ok(())
    }
}

/// Returns the length of the footer from the trailer of a file, or `None` if the file is not sealed.
pub(crate) fn length(trailer: &[u8]) -> Option<usize> {
    let trailer: &[u8; TRAILER_BYTES] = trailer.try_into().ok()?;
    let length = u32::from_le_bytes(trailer[..4].try_into().expect("four bytes")) as usize;
    (&trailer[4..] == SEAL && length >= FOOTER_BYTES_MIN).then_some(length)
}

/// Returns whether the footer at `offset` was written completely, though it may be invalid. A crash leaves each sector
/// written or all zeros, and no sector of a complete footer is all zeros.
pub(crate) fn is_fully_written(offset: u64, bytes: &[u8]) -> bool {
    if bytes.len() < FOOTER_BYTES_MIN {
        return false;
    }
    let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes")) as usize;
    let is_as_long_as_it_says = [u32_at(8), u32_at(bytes.len() - TRAILER_BYTES)].contains(&bytes.len());
    let before = (offset % SECTOR_BYTES as u64) as usize;
    let (first, rest) = bytes.split_at(bytes.len().min(SECTOR_BYTES - before));
    let mut sectors = [first].into_iter().chain(rest.chunks(SECTOR_BYTES));
    is_as_long_as_it_says && sectors.all(|sector| sector.iter().any(|byte| *byte != 0))
}

/// Decodes the footer at `offset` of the chunk whose first frame is `first`.
pub(crate) fn decode(first: LogIndex, offset: u64, bytes: &[u8]) -> Result<Footer, String> {
    let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    if bytes.len() < FOOTER_BYTES_MIN || &bytes[..8] != MAGIC || u32_at(8) as usize != bytes.len() {
        return Err("there is no footer here".into());
    }
    let offset = u32::try_from(offset).map_err(|_| "its footer is beyond the end of the largest chunk")?;
    if u32_at(12) != checksum(first, offset, bytes) {
        return Err("the checksum of its footer does not match".into());
    }
    let version = u16::from_le_bytes([bytes[16], bytes[17]]);
    if version != VERSION || bytes[18..20] != [0; 2] {
        return Err(format!("the format {version} of its footer is unknown to this build; start a newer build"));
    }
    parse(first, offset, bytes).ok_or_else(|| "its footer is inconsistent".into())
}

fn parse(first: LogIndex, offset: u32, bytes: &[u8]) -> Option<Footer> {
    let u32_at = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let u64_at = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    let body = bytes.len() - HASH_AND_TRAILER_BYTES;
    let (frames, contexts, terms) = (u32_at(20)? as usize, u32_at(24)? as usize, u32_at(28)? as usize);
    let contexts = FIXED_BYTES..rows_end(FIXED_BYTES, contexts, 20, body)?;
    let terms = contexts.end..rows_end(contexts.end, terms, 16, body)?;
    let terms_read = terms.clone().step_by(16).map(|at| Some((LogIndex(u64_at(at)?), Term(u64_at(at + 8)?))));
    let mut heads = contexts
        .step_by(20)
        .map(|at| Some((ContextId(u32_at(at)?), Position(u64_at(at + 4)?), u64_at(at + 12)?)))
        .collect::<Option<Vec<_>>>()?;
    let mut rest = &bytes[terms.end..body];
    // A row has at least five bytes.
    if frames > rest.len() / 5 {
        return None;
    }
    let (mut ends, mut verdicts) = (Vec::with_capacity(frames), Vec::with_capacity(frames));
    let (mut end, mut recorded, mut accepted_left) = (CHUNK_HEADER_BYTES as u64, u64_at(32)?, ACCEPTED_MAX);
    for number in 0..frames {
        let length = varint::decode(&mut rest).ok()?;
        if !(FRAME_HEADER_BYTES as u64..=FRAME_BYTES_MAX as u64).contains(&length) {
            return None;
        }
        end += length;
        recorded = recorded.checked_add(varint::decode(&mut rest).ok()?)?;
        let row = usize::try_from(varint::decode(&mut rest).ok()?).ok()?;
        let (context, head, left) = heads.get_mut(row)?;
        let events = u32::try_from(varint::decode(&mut rest).ok()?).ok()?;
        *left = left.checked_sub(u64::from(events))?;
        // A stored command takes at least one byte of the payload.
        let accepted = decode_accepted(&mut rest, accepted_left.min(length as usize)).ok()?;
        accepted_left -= accepted.len();
        ends.push(u32::try_from(end).ok()?);
        verdicts.push(Verdict {
            index: LogIndex(first.0.checked_add(number as u64)?),
            context: *context,
            first: *head,
            accepted,
            events,
            recorded: Timestamp(recorded),
        });
        head.0 = head.0.checked_add(u64::from(events))?;
    }
    let whole = rest.is_empty() && end == u64::from(offset) && heads.iter().all(|(_, _, left)| *left == 0);
    let hash = u128::from_le_bytes(bytes[body..body + 16].try_into().ok()?);
    (whole && recorded == u64_at(40)?).then_some(Footer {
        ends,
        terms: terms_read.collect::<Option<_>>()?,
        verdicts,
        hash,
    })
}

fn rows_end(start: usize, rows: usize, bytes: usize, end_max: usize) -> Option<usize> {
    let end = start.checked_add(rows.checked_mul(bytes)?)?;
    (end <= end_max).then_some(end)
}

fn checksum(first: LogIndex, offset: u32, footer: &[u8]) -> u32 {
    let sum = crc32c::crc32c(&first.0.to_le_bytes());
    let sum = crc32c::crc32c_append(sum, &u64::from(offset).to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(sum, &footer[..12]), &footer[16..])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use xxhash_rust::xxh3::xxh3_128;

    use super::*;

    fn verdict(index: u64, context: u32, first: u64, accepted: &[u32], events: u32) -> Verdict {
        Verdict {
            index: LogIndex(index),
            context: ContextId(context),
            first: Position(first),
            accepted: accepted.to_vec(),
            events,
            recorded: Timestamp(1000 + index),
        }
    }

    /// Returns frames of 40 and 50 bytes of one context, then a blank frame and a frame of another context.
    fn sample() -> (Vec<u32>, Vec<(LogIndex, Term)>, Vec<Verdict>) {
        let verdicts = vec![
            verdict(7, 0, 100, &[0, 1, 2, 5], 9),
            verdict(8, 0, 109, &[], 0),
            verdict(9, 0, 0, &[], 0),
            verdict(10, 1, 3, &[0], 1),
            verdict(11, 0, 109, &[1], 2),
        ];
        (vec![72, 122, 158, 200, 240], vec![(LogIndex(7), Term(1)), (LogIndex(9), Term(4))], verdicts)
    }

    fn encoded() -> (Vec<u8>, u128) {
        let (ends, terms, verdicts) = sample();
        let mut hash = Xxh3::new();
        hash.update(&[9; 240]);
        encode(LogIndex(7), &ends, &terms, &verdicts, hash).unwrap()
    }

    #[test]
    fn a_footer_round_trips_and_a_frame_without_events_has_the_position_of_the_head() {
        let (ends, terms, mut verdicts) = sample();
        verdicts[2].first = Position(109);
        let (bytes, hash) = encoded();
        assert_eq!(decode(LogIndex(7), 240, &bytes), Ok(Footer { ends, terms, verdicts, hash }));
        assert_eq!(length(&bytes[bytes.len() - TRAILER_BYTES..]), Some(bytes.len()));
    }

    #[test]
    fn the_format_has_the_documented_layout() {
        let (bytes, hash) = encoded();
        let mut whole = [&[9; 240], &bytes[..bytes.len() - HASH_AND_TRAILER_BYTES]].concat();
        whole[240 + 12..240 + 16].fill(0);
        assert_eq!(hash, xxh3_128(&whole), "the hash covers all bytes before it");
        let length = bytes.len() as u8;
        #[rustfmt::skip]
        let golden = [
            &b"EVNRFOOT"[..], &[length, 0, 0, 0], &bytes[12..16], &[1, 0, 0, 0],
            &[5, 0, 0, 0], &[2, 0, 0, 0], &[2, 0, 0, 0],
            &1007_u64.to_le_bytes(), &1011_u64.to_le_bytes(),
            &[0, 0, 0, 0], &100_u64.to_le_bytes(), &11_u64.to_le_bytes(),
            &[1, 0, 0, 0], &3_u64.to_le_bytes(), &1_u64.to_le_bytes(),
            &7_u64.to_le_bytes(), &1_u64.to_le_bytes(),
            &9_u64.to_le_bytes(), &4_u64.to_le_bytes(),
            &[40, 0, 0, 9, 2, 0, 3, 2, 1], &[50, 1, 0, 0, 0], &[36, 1, 0, 0, 0], &[42, 1, 1, 1, 1, 0, 1],
            &[40, 1, 0, 2, 1, 1, 1],
            &hash.to_le_bytes(), &[length, 0, 0, 0], b"SEAL",
        ]
        .concat();
        assert_eq!(bytes, golden);
    }

    #[test]
    fn p8_a_footer_is_valid_only_whole_and_where_it_was_written() {
        let (bytes, _) = encoded();
        for at in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[at / 8] ^= 1 << (at % 8);
            assert!(decode(LogIndex(7), 240, &bytes).is_err(), "bit {at}");
        }
        assert!(decode(LogIndex(8), 240, &bytes).is_err() && decode(LogIndex(7), 241, &bytes).is_err());
        (0..bytes.len()).for_each(|short| assert!(decode(LogIndex(7), 240, &bytes[..short]).is_err()));
    }

    /// The footer does not record the kinds of commands, so new kinds that store events need no new footer.
    #[test]
    fn positions_are_assigned_to_commands_of_any_number() {
        let verdicts: Vec<_> = vec![verdict(7, 0, 100, &[0, 3, 4, 70_000], 9), verdict(8, 0, 109, &[2], 1)];
        let (ends, terms) = ([72, 122], [(LogIndex(7), Term(1))]);
        let mut hash = Xxh3::new();
        hash.update(&[9; 122]);
        let (bytes, _) = encode(LogIndex(7), &ends, &terms, &verdicts, hash).unwrap();
        assert_eq!(decode(LogIndex(7), 122, &bytes).unwrap().verdicts, verdicts);
    }

    #[test]
    fn a_gap_in_the_positions_is_rejected() {
        let (ends, terms, mut verdicts) = sample();
        verdicts[4].first = Position(110);
        let error = encode(LogIndex(7), &ends, &terms, &verdicts, Xxh3::new()).unwrap_err();
        assert_eq!(error, "frame 11 was applied at position 110, but the next position was 109");
    }

    proptest! {
        /// Malformed bytes with a valid checksum, as from a faulty build.
        #[test]
        fn malformed_bytes_allocate_no_memory_and_do_not_panic(at in 16..200_usize, malformed: Vec<u8>) {
            let (mut bytes, _) = encoded();
            let end = bytes.len().min(at + malformed.len());
            if at < end {
                bytes[at..end].copy_from_slice(&malformed[..end - at]);
            }
            let sum = checksum(LogIndex(7), 240, &bytes);
            bytes[12..16].copy_from_slice(&sum.to_le_bytes());
            let _ = decode(LogIndex(7), 240, &bytes);
        }
    }
}
