//! The footer that seals a chunk: what its frames came to when they were applied, and the hash of it all. The same
//! frames have the same footer on every node, so sealed chunks can be compared, repaired and shipped as files.
//!
//! ```text
//!  offset  bytes
//!       0      8  "EVNRFOOT"
//!       8      4  length of the footer
//!      12      4  crc32c of: first index of the chunk (8), offset of the footer (8),
//!                 bytes 0..12 and 16.. of the footer
//!      16      2  version of the format, 1
//!      18      2  0
//!      20      4  frames: how many
//!      24      4  contexts: how many rows
//!      28      4  terms: how many rows
//!      32      8  when the first frame was recorded
//!      40      8  when the last was
//!      48         contexts, each: context (4), position of its first event here (8), stored events of it here (8)
//!                 terms, each: index of its first frame (8), term (8)
//!                 frames, each: bytes, milliseconds after the one before, row of its context, stored events,
//!                 accepted: runs, each: commands after the last run, commands in it (all as in `varint.rs`)
//!     -24     16  xxh3-128 of every byte of the file before this one, with bytes 12..16 of the footer as 0
//!      -8      4  length again, so that the footer is found from the file's end
//!      -4      4  "SEAL"
//! ```

use std::ops::Range;

use evener_core::{
    id::{ContextId, LogIndex, Position, Term},
    time::Timestamp,
};
use xxhash_rust::xxh3::Xxh3;

use crate::{
    chunk::CHUNK_HEADER_BYTES,
    frame::{FRAME_BYTES_MAX, FRAME_HEADER_BYTES},
    varint,
    verdict::{Verdict, decode_accepted, encode_accepted},
};

const MAGIC: &[u8; 8] = b"EVNRFOOT";
const SEAL: &[u8; 4] = b"SEAL";
const VERSION: u16 = 1;
const FIXED_BYTES: usize = 48;
const HASH_AND_TRAILER_BYTES: usize = 24;
/// Bytes at the end of a sealed file that tell where its footer begins.
pub(crate) const TRAILER_BYTES: usize = 8;
/// The shortest footer.
pub(crate) const FOOTER_BYTES_MIN: usize = FIXED_BYTES + HASH_AND_TRAILER_BYTES;

/// What a sealed chunk says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Footer {
    /// Where each frame ends in the file.
    pub ends: Vec<u32>,
    /// Where each term begins.
    pub terms: Vec<(LogIndex, Term)>,
    /// What became of each frame.
    pub verdicts: Vec<Verdict>,
    /// xxh3-128 of the file up to the hash.
    pub hash: u128,
}

struct Row {
    context: ContextId,
    first: Position,
    events: u64,
}

/// Makes the footer of the chunk whose frames end at `ends`, and tells the hash in it. `hash` has taken the file's
/// bytes up to there. Refused where the verdicts leave a gap in the positions of a context.
pub(crate) fn encode(
    first: LogIndex,
    ends: &[u32],
    terms: &[(LogIndex, Term)],
    verdicts: &[Verdict],
    mut hash: Xxh3,
) -> Result<(Vec<u8>, u128), String> {
    assert_eq!(ends.len(), verdicts.len(), "a chunk is sealed when all of it is applied");
    let mut out = vec![0; FIXED_BYTES];
    let mut contexts: Vec<Row> = Vec::new();
    let mut rows = Vec::new();
    let (mut start, mut recorded) = (CHUNK_HEADER_BYTES as u32, verdicts[0].recorded);
    for (end, verdict) in ends.iter().zip(verdicts) {
        let row = contexts.iter().position(|row| row.context == verdict.context).unwrap_or_else(|| {
            contexts.push(Row { context: verdict.context, first: verdict.first, events: 0 });
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
    // The checksum covers the hash, and the hash what is before it but for the checksum: taken as 0 there.
    hash.update(&out);
    let hash = hash.digest128();
    out.extend_from_slice(&hash.to_le_bytes());
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(SEAL);
    let sum = checksum(first, start, &out);
    out[12..16].copy_from_slice(&sum.to_le_bytes());
    Ok((out, hash))
}

impl Row {
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
            return Err(format!("frame {index} was applied at position {first}, and the next was {next}"));
        }
        self.events += u64::from(verdict.events);
        Ok(())
    }
}

/// How long the footer is that these last bytes of a file belong to; none if the file is not sealed.
pub(crate) fn length(trailer: &[u8]) -> Option<usize> {
    let trailer: &[u8; TRAILER_BYTES] = trailer.try_into().ok()?;
    let length = u32::from_le_bytes(trailer[..4].try_into().expect("four bytes")) as usize;
    (&trailer[4..] == SEAL && length >= FOOTER_BYTES_MIN).then_some(length)
}

/// Reads the footer that stands at `offset` of the chunk that begins with frame `first`.
pub(crate) fn decode(first: LogIndex, offset: u64, bytes: &[u8]) -> Result<Footer, String> {
    let says = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    if bytes.len() < FOOTER_BYTES_MIN || &bytes[..8] != MAGIC || says(8) as usize != bytes.len() {
        return Err("no footer stands here".into());
    }
    let offset = u32::try_from(offset).map_err(|_| "its footer stands beyond what a chunk can hold")?;
    if says(12) != checksum(first, offset, bytes) {
        return Err("the checksum of its footer does not fit".into());
    }
    let version = u16::from_le_bytes([bytes[16], bytes[17]]);
    if version != VERSION || bytes[18..20] != [0; 2] {
        return Err(format!("its footer has format {version}, which this build does not know; start a newer one"));
    }
    parse(first, offset, bytes).ok_or_else(|| "its footer contradicts itself".into())
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
    // Five bytes are the least that a row has.
    if frames > rest.len() / 5 {
        return None;
    }
    let (mut ends, mut verdicts) = (Vec::with_capacity(frames), Vec::with_capacity(frames));
    let (mut end, mut recorded) = (CHUNK_HEADER_BYTES as u64, u64_at(32)?);
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
        // A command that is stored takes at least a byte of the payload.
        let accepted = decode_accepted(&mut rest, length as usize).ok()?;
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

/// The bytes of the footer, at `offset` in its file, that the file's hash covers: all but the hash and what follows,
/// and with the checksum as 0.
pub(crate) fn hashed(footer: &[u8]) -> [&[u8]; 3] {
    let body: Range<usize> = 16..footer.len() - HASH_AND_TRAILER_BYTES;
    [&footer[..12], &[0; 4], &footer[body]]
}

fn checksum(first: LogIndex, offset: u32, footer: &[u8]) -> u32 {
    let sum = crc32c::crc32c(&first.0.to_le_bytes());
    let sum = crc32c::crc32c_append(sum, &u64::from(offset).to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(sum, &footer[..12]), &footer[16..])
}
