//! The body of each command and how it evolves. A kind keeps its number for all time.
//!
//! | kind | command | body in version 0 |
//! |---|---|---|
//! | 1 | `Found` | as in `versioned` |
//! | 2 | `Append` | as in [`payload`](crate::payload) |
//! | 3 | `Advance` | the value, encoded by [`codec`](crate::codec) |
//! | 4 | `Admit` | the value |
//! | 5 | `Remove` | the node |
//! | 6 | `Begin` | the value |
//! | 7 | `Drain` | the node and the session |
//! | 8 | `Expire` | the node and the session |
//! | 9 | `Assign` | the value |
//! | 10 | `HandOver` | the value |
//! | 11 | `Operate` | as in `versioned` |
//! | 12 | `RaiseLevel` | the level |
//! | 13 | `HookDone` | the value |
//!
//! ```text
//! version 0           [body]
//! version 1 and 2     [len v][len bytes of fields][body]
//! ```
//!
//! A command has the lowest version that can represent it, so commands without new fields are written as before, at no
//! cost. Rules for changes:
//!
//! - *A value gains a field*: it becomes a tagged field (see [`fields`](crate::fields)) of the command, in version 1.
//!   Its tag is listed in `versioned`. A build that does not know the tag stops, as at an unknown kind: the meaning of
//!   the field must not be guessed.
//! - *An enum gains a variant*: it is added at the end, and commands that use it get the next version of their kind, at
//!   which an older build stops. (`Tried` of letters and `SkipEvent` came in version 1; `Reset`, `Split`, `Merge`
//!   and `Move` in version 2.)
//!   Otherwise the older build would skip the command as unreadable, and its state would diverge.
//! - *The meaning of a field or the order changes*: a new kind.
//!
//! Reserved extensions, all rejected by this build:
//!
//! - *Events that an `Advance` emits*: field 1 of `Advance`, encoded like the events of an append. Which of them are
//!   stored, and at which positions, is the verdict of the command's number in the entry, as for an append; a footer
//!   counts the events of a command independently of its kind.

use evener_core::{
    command::{Change, Command, LetterMove},
    id::{NodeId, SessionId},
};

use super::{
    KIND_APPEND, check_append, kind_of, put_append, take_append, version_of,
    versioned::{put_found, put_operate, take_found, take_operate, unknown_field},
};
use crate::{
    codec::{DecodeError, put, take_body},
    fields::{Fields, fields_of},
    varint,
};

/// The version from which on a body has fields.
const VERSION_FIELDS: u16 = 1;
/// The latest version of every kind.
const VERSION: u16 = 2;

/// Writes the body of a command and returns its row: kind and version.
pub(super) fn put_command(out: &mut Vec<u8>, command: &Command) -> u16 {
    let kind = number_of(command);
    let (from, mut fields) = (out.len(), Fields::default());
    match command {
        Command::Found(found) => put_found(out, &mut fields, found),
        Command::Append(append) => {
            let expect: Vec<_> = append.expect.iter().map(|(expect, head)| (expect, *head)).collect();
            put_append(out, append.request, append.checked_to, &append.conditions, &expect, &append.events);
        }
        Command::Advance(advance) => put(out, advance),
        Command::Admit(admit) => put(out, admit),
        Command::Remove(node) => put(out, node),
        Command::Begin(begin) => put(out, begin),
        Command::Drain(node, session) | Command::Expire(node, session) => put(out, &(node, session)),
        Command::Assign(assign) => put(out, assign),
        Command::HandOver(hand_over) => put(out, hand_over),
        Command::Operate(operate) => put_operate(out, &mut fields, operate),
        Command::RaiseLevel(level) => put(out, level),
        Command::HookDone(done) => put(out, done),
        Command::Unreadable { body, .. } => out.extend_from_slice(body),
    }
    let version = version_needed(command).max(if fields.is_empty() { 0 } else { VERSION_FIELDS });
    if version == 0 {
        return kind;
    }
    let body = out.split_off(from);
    varint::encode(fields.bytes().len() as u64, out);
    out.extend_from_slice(fields.bytes());
    out.extend_from_slice(&body);
    kind | version << 8
}

/// Returns the version that introduced the newest variant that a command uses. A build before that version would decode
/// another command or fail.
fn version_needed(command: &Command) -> u16 {
    let tried = |letters: &[LetterMove]| letters.iter().any(|letter| matches!(letter, LetterMove::Tried { .. }));
    let newer = match command {
        Command::Advance(advance) => advance.items.iter().any(|item| tried(&item.letters)),
        Command::HandOver(hand_over) => tried(&hand_over.letters),
        Command::Operate(operate) => return version_of_change(&operate.change),
        _ => false,
    };
    u16::from(newer)
}

/// Returns the version that a change needs. It names every change, so that a new one does not compile without one.
const fn version_of_change(change: &Change) -> u16 {
    match change {
        Change::Create(_)
        | Change::Delete(_)
        | Change::Pause(..)
        | Change::Release(..)
        | Change::Claim(..)
        | Change::Unpin(..)
        | Change::Letters(..)
        | Change::SetLimits(_)
        | Change::Expect(_)
        | Change::Leave(_)
        | Change::Lead(..) => 0,
        Change::SkipEvent(..) => 1,
        Change::Reset(..) | Change::Split(..) | Change::Merge(..) | Change::Move(..) => 2,
    }
}

const fn number_of(command: &Command) -> u16 {
    match command {
        Command::Found(_) => 1,
        Command::Append(_) => KIND_APPEND,
        Command::Advance(_) => 3,
        Command::Admit(_) => 4,
        Command::Remove(_) => 5,
        Command::Begin(_) => 6,
        Command::Drain(..) => 7,
        Command::Expire(..) => 8,
        Command::Assign(_) => 9,
        Command::HandOver(_) => 10,
        Command::Operate(_) => 11,
        Command::RaiseLevel(_) => 12,
        Command::HookDone(_) => 13,
        Command::Unreadable { kind, .. } => *kind,
    }
}

/// Splits the body of a command into its fields and the rest, which has the layout of version 0.
pub(super) fn fields_and_body(row: u16, body: &[u8]) -> Result<(&[u8], &[u8]), DecodeError> {
    const WHAT: &str = "a command";
    match version_of(row) {
        0 => Ok((&[], body)),
        VERSION_FIELDS..=VERSION => {
            let mut rest = body;
            let short = |_| DecodeError::Short { what: WHAT, need: body.len() + 1, have: body.len() };
            let len = varint::decode(&mut rest).map_err(short)?;
            let len = usize::try_from(len).unwrap_or(usize::MAX);
            let need = len.saturating_add(body.len() - rest.len());
            rest.split_at_checked(len).ok_or(DecodeError::Short { what: WHAT, need, have: body.len() })
        }
        version => Err(DecodeError::Newer {
            what: WHAT,
            how: format!("version {version} of the body of kind {} is", kind_of(row)),
        }),
    }
}

/// Decodes a command from its row and its body.
pub(super) fn take_command(number: usize, row: u16, body: &[u8]) -> Result<Command, DecodeError> {
    let kind = kind_of(row);
    if !(1..=13).contains(&kind) {
        return Err(DecodeError::UnknownKind { number, kind });
    }
    let (fields, body) = fields_and_body(row, body)?;
    if !matches!(kind, 1 | 11) {
        no_fields(fields)?;
    }
    Ok(match kind {
        1 => Command::Found(take_found(body, fields)?),
        KIND_APPEND => Command::Append(take_append(body)?),
        3 => Command::Advance(take_body("an advance", body)?),
        4 => Command::Admit(take_body("a command to admit a node", body)?),
        5 => Command::Remove(take_body("a command to remove a node", body)?),
        6 => Command::Begin(take_body("a command to begin a session", body)?),
        7 => {
            let (node, session): (NodeId, SessionId) = take_body("a command to drain a node", body)?;
            Command::Drain(node, session)
        }
        8 => {
            let (node, session): (NodeId, SessionId) = take_body("a command to expire a session", body)?;
            Command::Expire(node, session)
        }
        9 => Command::Assign(take_body("a plan", body)?),
        10 => Command::HandOver(take_body("a hand-over", body)?),
        11 => Command::Operate(take_operate(body, fields)?),
        12 => Command::RaiseLevel(take_body("a raise of the feature level", body)?),
        _ => Command::HookDone(take_body("a report of a hook", body)?),
    })
}

/// Checks that a command of a kind without fields has none.
fn no_fields(fields: &[u8]) -> Result<(), DecodeError> {
    const WHAT: &str = "a command";
    match fields_of(WHAT, fields).next() {
        None => Ok(()),
        Some(field) => Err(unknown_field(WHAT, field?.0)),
    }
}

/// Checks that [`take_command`] can read these bytes, without keeping values that may be large.
pub(super) fn check_command(number: usize, row: u16, body: &[u8]) -> Result<(), DecodeError> {
    if kind_of(row) != KIND_APPEND {
        return take_command(number, row, body).map(drop);
    }
    let (fields, body) = fields_and_body(row, body)?;
    no_fields(fields)?;
    check_append(body)
}
