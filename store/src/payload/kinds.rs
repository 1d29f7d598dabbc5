//! What stands in the body of each command. A kind has its number for ever; what it holds never changes either: a
//! command that must say more is a new kind, and one that this build does not know is refused by its number.
//!
//! | kind | command | body |
//! |---|---|---|
//! | 1 | `Found` | the value, as [`codec`](crate::codec) writes it |
//! | 2 | `Append` | as drawn in [`payload`](crate::payload) |
//! | 3 | `Advance` | the value |
//! | 4 | `Admit` | the value |
//! | 5 | `Remove` | the node |
//! | 6 | `Begin` | the value |
//! | 7 | `Drain` | the node and the session |
//! | 8 | `Expire` | the node and the session |
//! | 9 | `Assign` | the value |
//! | 10 | `HandOver` | the value |
//! | 11 | `Operate` | the value |
//! | 12 | `RaiseLevel` | the level |

use evener_core::{
    command::Command,
    id::{NodeId, SessionId},
};

use super::{KIND_APPEND, check_append, put_append, take_append};
use crate::codec::{DecodeError, put, take_body};

/// Writes the body of a command and tells its kind.
pub(super) fn put_command(out: &mut Vec<u8>, command: &Command) -> u16 {
    match command {
        Command::Found(found) => put(out, found),
        Command::Append(append) => put_append(out, append),
        Command::Advance(advance) => put(out, advance),
        Command::Admit(admit) => put(out, admit),
        Command::Remove(node) => put(out, node),
        Command::Begin(begin) => put(out, begin),
        Command::Drain(node, session) | Command::Expire(node, session) => put(out, &(node, session)),
        Command::Assign(assign) => put(out, assign),
        Command::HandOver(hand_over) => put(out, hand_over),
        Command::Operate(operate) => put(out, operate),
        Command::RaiseLevel(level) => put(out, level),
        Command::Unreadable { body, .. } => out.extend_from_slice(body),
    }
    kind_of(command)
}

const fn kind_of(command: &Command) -> u16 {
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
        Command::Unreadable { kind, .. } => *kind,
    }
}

pub(super) fn take_command(number: usize, kind: u16, body: &[u8]) -> Result<Command, DecodeError> {
    Ok(match kind {
        1 => Command::Found(take_body("a command to found a cluster", body)?),
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
        11 => Command::Operate(take_body("a person's change", body)?),
        12 => Command::RaiseLevel(take_body("a raise of the feature level", body)?),
        kind => return Err(DecodeError::UnknownKind { number, kind }),
    })
}

/// Checks that [`take_command`] reads these bytes, without keeping what it reads if there may be much of it.
pub(super) fn check_command(number: usize, kind: u16, body: &[u8]) -> Result<(), DecodeError> {
    if kind == KIND_APPEND { check_append(body) } else { take_command(number, kind, body).map(drop) }
}
