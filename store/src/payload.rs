//! The payload of an entry, byte by byte. Any event can be read without decoding the others, and the layout stays
//! readable for ever.
//!
//! ```text
//! entry    [proposed u64][context u32][n u32]  n × [kind u8][version u8][end u32]            n bodies
//! append   [request 16][checked_to v][len v][n v]  (n - 1) × [end u32]  len bytes: preconditions   n events
//! ```
//!
//! Numbers are little-endian, a `v` is a varint of 7 bits a byte, the lowest first. An `end` is the end of its body or
//! event, counted from the first byte of the first one, so that each is between the previous end and its own. The last
//! event of an append ends with its body, the last body with the payload: trailing bytes are rejected. The
//! preconditions are the append's conditions and expected revisions, no bytes if there are none: most events are
//! appended alone and without any, and have an overhead of 22 bytes here. `kinds` documents the bodies of commands and
//! their versions.

use bytes::Bytes;
use evener_core::{
    append::{Append, Condition, Expect, Request, Stamp},
    command::{Command, Entry},
    event::Event,
    id::{ContextId, Position, Revision},
    time::Timestamp,
};
use uuid::Uuid;

use crate::{
    codec::{DecodeError, MESSAGE_BYTES_MAX, check_event, put, put_event, take, take_event},
    payload::kinds::{check_command, put_command, take_command},
    varint,
};

mod kinds;
#[cfg(test)]
mod tests;
mod versioned;

const ENTRY: &str = "an entry";
const APPEND: &str = "an append";
const PRECONDITIONS: &str = "the conditions of an append";
const EVENT: &str = "event";

/// Bytes before an entry's table.
const ENTRY_HEAD: usize = 16;
/// Bytes of one row of an entry's table.
const ENTRY_ROW: usize = 6;
/// Bytes of an append's request id, its first value.
const REQUEST: usize = 16;
/// Bytes of one row of an append's table.
const APPEND_ROW: usize = 4;

/// The kind number of an append: the only command that holds events.
pub const KIND_APPEND: u16 = 2;

/// Returns the kind of a command from its row.
const fn kind_of(row: u16) -> u16 {
    row & 0xff
}

/// Returns the version of a command's body from its row.
const fn version_of(row: u16) -> u16 {
    row >> 8
}

/// Encodes `entry` as a payload.
#[must_use]
pub fn encode_entry(entry: &Entry) -> Bytes {
    let mut builder = EntryBuilder::default();
    for command in &entry.commands {
        builder.push_command(command);
    }
    builder.finish(entry.proposed, entry.context)
}

/// Decodes the entry of a payload.
pub fn decode_entry(payload: &[u8]) -> Result<Entry, DecodeError> {
    let payload = Payload::parse(payload)?;
    let commands = (0..payload.len()).map(|number| payload.command(number)).collect::<Result<_, _>>()?;
    Ok(Entry { proposed: payload.proposed, context: payload.context, commands })
}

/// Returns the entry of a payload in the log, as every node applies it. A command that cannot be decoded becomes
/// [`Command::Unreadable`], so that later entries can be applied.
///
/// # Errors
///
/// Only if a newer build wrote it: this build must not guess its meaning.
pub fn read_entry(payload: &[u8]) -> Result<Entry, DecodeError> {
    let unreadable = |kind, body: &[u8]| Command::Unreadable { kind, body: body.to_vec() };
    let parsed = match Payload::parse(payload) {
        Ok(parsed) => parsed,
        Err(_) => {
            let commands = vec![unreadable(0, payload)];
            return Ok(Entry { proposed: Timestamp(0), context: ContextId::DEFAULT, commands });
        }
    };
    let command = |number| match parsed.body(number) {
        Ok((kind, body)) => match take_command(number, kind, body) {
            Err(error) if !error.is_from_a_newer_build() => Ok(unreadable(kind, body)),
            read => read,
        },
        Err(_) => Ok(unreadable(0, &[])),
    };
    let commands = (0..parsed.len()).map(command).collect::<Result<_, _>>()?;
    Ok(Entry { proposed: parsed.proposed, context: parsed.context, commands })
}

/// An encoded command, to be joined with others into a payload.
#[derive(Clone, Debug)]
pub struct EncodedCommand {
    kind: u16,
    body: Bytes,
}

impl EncodedCommand {
    /// Encodes `command`.
    #[must_use]
    pub fn new(command: &Command) -> Self {
        let mut body = Vec::new();
        let kind = put_command(&mut body, command);
        Self { kind, body: body.into() }
    }

    /// Encodes the append of a checked request without copying it.
    #[must_use]
    pub fn append(request: &Request, stamp: &Stamp) -> Self {
        let Request { request, conditions, expect, events, .. } = request;
        let expect: Vec<_> = expect.iter().zip(stamp.heads.iter().copied()).collect();
        let mut body = Vec::new();
        put_append(&mut body, *request, stamp.checked_to, conditions, &expect, events);
        Self { kind: KIND_APPEND, body: body.into() }
    }

    /// Creates a command from the row and body that a peer sent. They are validated when they are decoded.
    #[must_use]
    pub const fn from_parts(kind: u16, body: Bytes) -> Self {
        Self { kind, body }
    }

    /// Returns its row and body.
    #[must_use]
    pub const fn parts(&self) -> (u16, &Bytes) {
        (self.kind, &self.body)
    }

    /// Returns its bytes in an entry.
    #[must_use]
    pub fn bytes(&self) -> usize {
        ENTRY_ROW + self.body.len()
    }

    /// Decodes the command.
    pub fn decode(&self) -> Result<Command, DecodeError> {
        take_command(0, self.kind, &self.body)
    }

    /// Checks that it can be decoded. Every command is checked before it is proposed, because every node must read it.
    pub fn check(&self) -> Result<(), DecodeError> {
        check_command(0, self.kind, &self.body)
    }
}

/// Joins commands into the payload of one entry.
#[derive(Debug, Default)]
pub struct EntryBuilder {
    rows: Vec<(u16, u32)>,
    bodies: Vec<u8>,
}

impl EntryBuilder {
    /// Adds an encoded command.
    pub fn push(&mut self, command: &EncodedCommand) {
        self.bodies.extend_from_slice(&command.body);
        self.row(command.kind);
    }

    /// Encodes and adds a command.
    pub fn push_command(&mut self, command: &Command) {
        let kind = put_command(&mut self.bodies, command);
        self.row(kind);
    }

    /// Returns the number of commands.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Returns whether there are no commands.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Returns the bytes of the payload so far.
    #[must_use]
    pub fn bytes(&self) -> usize {
        ENTRY_HEAD + self.rows.len() * ENTRY_ROW + self.bodies.len()
    }

    /// Returns the payload.
    #[must_use]
    pub fn finish(self, proposed: Timestamp, context: ContextId) -> Bytes {
        let mut out = Vec::with_capacity(self.bytes());
        out.extend_from_slice(&proposed.0.to_le_bytes());
        out.extend_from_slice(&context.0.to_le_bytes());
        out.extend_from_slice(&count32(self.rows.len()).to_le_bytes());
        for (kind, end) in &self.rows {
            out.extend_from_slice(&kind.to_le_bytes());
            out.extend_from_slice(&end.to_le_bytes());
        }
        out.extend_from_slice(&self.bodies);
        out.into()
    }

    fn row(&mut self, kind: u16) {
        self.rows.push((kind, count32(self.bodies.len())));
    }
}

/// A payload whose commands are decoded one by one, on demand.
#[derive(Clone, Copy, Debug)]
pub struct Payload<'p> {
    /// The leader's wall clock when the entry was made.
    pub proposed: Timestamp,
    /// The context of its appends.
    pub context: ContextId,
    rows: &'p [u8],
    bodies: &'p [u8],
}

impl<'p> Payload<'p> {
    /// Parses only the head and the outer bounds.
    pub fn parse(bytes: &'p [u8]) -> Result<Self, DecodeError> {
        if bytes.len() > MESSAGE_BYTES_MAX {
            let (limit, max) = ("message_bytes_max", MESSAGE_BYTES_MAX);
            return Err(DecodeError::Limit { what: ENTRY, limit, max, got: bytes.len() });
        }
        let (head, rest) = split(ENTRY, bytes, ENTRY_HEAD)?;
        let (rows, bodies) = split(ENTRY, rest, number(head, 12).saturating_mul(ENTRY_ROW))?;
        let payload = Self { proposed: Timestamp(u64_at(head, 0)), context: ContextId(u32_at(head, 8)), rows, bodies };
        check_end(ENTRY, payload.end(payload.len()), bodies)?;
        Ok(payload)
    }

    /// Returns the number of commands.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.rows.len() / ENTRY_ROW
    }

    /// Returns whether there are no commands.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Decodes one command.
    pub fn command(&self, number: usize) -> Result<Command, DecodeError> {
        let (kind, body) = self.body(number)?;
        take_command(number, kind, body)
    }

    /// Returns the undecoded events of one command, or `None` if it is not an append.
    pub fn events(&self, number: usize) -> Result<Option<EncodedEvents<'p>>, DecodeError> {
        let (row, body) = self.body(number)?;
        if kind_of(row) != KIND_APPEND {
            return Ok(None);
        }
        let (_, body) = kinds::fields_and_body(row, body)?;
        Ok(Some(AppendBody::parse(body)?.events))
    }

    /// Returns all appends: the number of each command and its undecoded events.
    pub fn appends(self) -> impl Iterator<Item = Result<(usize, EncodedEvents<'p>), DecodeError>> {
        (0..self.len()).filter_map(move |number| Some(self.events(number).transpose()?.map(|events| (number, events))))
    }

    fn body(&self, number: usize) -> Result<(u16, &'p [u8]), DecodeError> {
        if number >= self.len() {
            return Err(DecodeError::Missing { what: "command", number, count: self.len() });
        }
        let kind = u16::from_le_bytes([self.rows[number * ENTRY_ROW], self.rows[number * ENTRY_ROW + 1]]);
        let body = self.bodies.get(self.end(number)..self.end(number + 1));
        Ok((kind, body.ok_or(DecodeError::Misplaced { what: ENTRY, number })?))
    }

    /// Returns the end of the first `count` bodies.
    fn end(&self, count: usize) -> usize {
        if count == 0 { 0 } else { number(self.rows, count * ENTRY_ROW - 4) }
    }
}

/// The undecoded events of one append.
#[derive(Clone, Copy, Debug)]
pub struct EncodedEvents<'p> {
    count: usize,
    /// The ends of all events but the last.
    ends: &'p [u8],
    bytes: &'p [u8],
}

impl<'p> EncodedEvents<'p> {
    /// Returns the number of events.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Returns whether there are no events.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Returns the bytes of one event.
    pub fn bytes(&self, nth: usize) -> Result<&'p [u8], DecodeError> {
        if nth >= self.count {
            return Err(DecodeError::Missing { what: EVENT, number: nth, count: self.count });
        }
        let bytes = self.bytes.get(self.end(nth)..self.end(nth + 1));
        bytes.ok_or(DecodeError::Misplaced { what: APPEND, number: nth })
    }

    /// Decodes one event.
    pub fn decode(&self, nth: usize) -> Result<Event, DecodeError> {
        take_event(self.bytes(nth)?)
    }

    /// Decodes all events, one by one.
    pub fn iter(self) -> impl ExactSizeIterator<Item = Result<Event, DecodeError>> {
        (0..self.count).map(move |nth| self.decode(nth))
    }

    /// Returns the end of the first `count` events.
    fn end(&self, count: usize) -> usize {
        match count {
            0 => 0,
            _ if count == self.count => self.bytes.len(),
            _ => number(self.ends, (count - 1) * APPEND_ROW),
        }
    }
}

/// The body of an append with undecoded parts.
struct AppendBody<'p> {
    request: Uuid,
    checked_to: Position,
    preconditions: &'p [u8],
    events: EncodedEvents<'p>,
}

impl<'p> AppendBody<'p> {
    fn parse(body: &'p [u8]) -> Result<Self, DecodeError> {
        let (request, mut rest) = split(APPEND, body, REQUEST)?;
        let mut number = || varint::decode(&mut rest).map_err(|_| short(APPEND, body, body.len() + 1));
        let (checked_to, preconditions, count) = (number()?, number()?, number()?);
        let [preconditions, count] = [preconditions, count].map(|number| usize::try_from(number).unwrap_or(usize::MAX));
        let (ends, rest) = split(APPEND, rest, count.saturating_sub(1).saturating_mul(APPEND_ROW))?;
        let (preconditions, bytes) = split(APPEND, rest, preconditions)?;
        if count == 0 {
            check_end(APPEND, 0, bytes)?;
        }
        let request = Uuid::from_slice(request).expect("sixteen bytes make an id");
        Ok(Self {
            request,
            checked_to: Position(checked_to),
            preconditions,
            events: EncodedEvents { count, ends, bytes },
        })
    }
}

type Preconditions = (Vec<Condition>, Vec<(Expect, Option<Revision>)>);

fn put_append(
    out: &mut Vec<u8>,
    request: Uuid,
    checked_to: Position,
    conditions: &[Condition],
    expect: &[(&Expect, Option<Revision>)],
    events: &[Event],
) {
    // The overhead of attributes is an estimate; the vector grows if it is too low.
    out.reserve(REQUEST + 16 + events.iter().map(|event| event.size() + 24).sum::<usize>());
    let mut preconditions = Vec::new();
    if !conditions.is_empty() || !expect.is_empty() {
        put(&mut preconditions, &(conditions, expect));
    }
    out.extend_from_slice(request.as_bytes());
    for number in [checked_to.0, preconditions.len() as u64, events.len() as u64] {
        varint::encode(number, out);
    }
    let ends_at = out.len();
    out.resize(ends_at + events.len().saturating_sub(1) * APPEND_ROW, 0);
    out.extend_from_slice(&preconditions);
    let from = out.len();
    for (nth, event) in events.iter().enumerate() {
        put_event(out, event);
        if nth + 1 < events.len() {
            let end = count32(out.len() - from);
            out[ends_at + nth * APPEND_ROW..][..APPEND_ROW].copy_from_slice(&end.to_le_bytes());
        }
    }
}

fn take_append(body: &[u8]) -> Result<Append, DecodeError> {
    let AppendBody { request, checked_to, preconditions, events } = AppendBody::parse(body)?;
    let (conditions, expect) =
        if preconditions.is_empty() { Preconditions::default() } else { take(PRECONDITIONS, preconditions)? };
    let events = events.iter().collect::<Result<_, _>>()?;
    Ok(Append { request, checked_to, conditions, expect, events })
}

/// Checks that [`take_append`] can read `body`, without keeping its events, of which there may be many.
fn check_append(body: &[u8]) -> Result<(), DecodeError> {
    let AppendBody { preconditions, events, .. } = AppendBody::parse(body)?;
    if !preconditions.is_empty() {
        take::<Preconditions>(PRECONDITIONS, preconditions)?;
    }
    (0..events.len()).try_for_each(|nth| check_event(events.bytes(nth)?))
}

fn split<'b>(what: &'static str, bytes: &'b [u8], at: usize) -> Result<(&'b [u8], &'b [u8]), DecodeError> {
    bytes.split_at_checked(at).ok_or_else(|| short(what, bytes, at))
}

fn short(what: &'static str, bytes: &[u8], need: usize) -> DecodeError {
    DecodeError::Short { what, need, have: bytes.len() }
}

fn check_end(what: &'static str, end: usize, bytes: &[u8]) -> Result<(), DecodeError> {
    let have = bytes.len();
    match have.checked_sub(end) {
        Some(0) => Ok(()),
        Some(extra) => Err(DecodeError::Trailing { what, extra }),
        None => Err(short(what, bytes, end)),
    }
}

/// Returns a count or a length in a payload, which limits keep far below 4 GiB.
fn count32(count: usize) -> u32 {
    u32::try_from(count).expect("an entry is far below 4 GiB")
}

fn number(bytes: &[u8], at: usize) -> usize {
    u32_at(bytes, at) as usize
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
