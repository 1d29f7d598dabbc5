//! The bodies of commands whose values gain fields: their layout in version 0, and the fields added since.
//!
//! The order of the types here is fixed for all time. Values of `core` may change: they are converted, and values that
//! version 0 does not have become fields of the command (see [`kinds`](super::kinds)). A body without such fields is
//! written as version 0, so that older builds can read it.
//!
//! | command | field | content |
//! |---|---|---|
//! | `Found` | 1 | limits after the first 26, each as its number and its value, two varints |
//! | `Operate` | 1 | the principal, UTF-8 |
//! | | 2 | limits of `SetLimits`, as above |

use evener_core::{
    backoff::Backoff,
    command::{Admit, Change, Found, LetterChange, Operate, Selection},
    criteria::Criteria,
    id::{ClusterId, ContextId, NodeId, Position, SegmentId, Term},
    limits::Limits,
    principal::Principal,
    processor::{Definition, Handler, OnError, Start},
    replay::ResetTo,
    sequence::Sequencing,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    codec::{DecodeError, put, take_body},
    fields::{Fields, fields_of},
    varint,
};

const FOUND: &str = "a command to found a cluster";
const OPERATE: &str = "an operator's change";

const FOUND_LIMITS: u32 = 1;
const OPERATE_PRINCIPAL: u32 = 1;
const OPERATE_LIMITS: u32 = 2;

/// The number of limits in version 0.
const LIMITS_0: usize = 26;

#[derive(Serialize, Deserialize)]
struct Found0 {
    cluster: ClusterId,
    limits: Limits0,
    first: Admit,
}

#[derive(Serialize, Deserialize)]
struct Operate0 {
    operation: Uuid,
    reason: Option<String>,
    change: Change0,
}

/// Generates the changes in the order of their numbers, and their conversions from `core` and to it.
macro_rules! changes {
    ($($(#[$doc:meta])* $change:ident($($value:ident: $type:ty),*);)*) => {
        #[derive(Serialize, Deserialize)]
        enum Change0 {
            $($(#[$doc])* $change($($type),*),)*
        }

        impl From<Change> for Change0 {
            fn from(change: Change) -> Self {
                match change {
                    $(Change::$change($($value),*) => Self::$change($($value.into()),*),)*
                }
            }
        }

        impl From<Change0> for Change {
            fn from(change: Change0) -> Self {
                match change {
                    $(Change0::$change($($value),*) => Self::$change($($value.into()),*),)*
                }
            }
        }
    };
}

changes! {
    Create(definition: Definition0);
    Delete(name: String);
    Pause(name: String, paused: bool);
    Release(name: String, segment: SegmentId);
    Claim(name: String, segment: SegmentId, node: NodeId);
    Unpin(name: String, segment: SegmentId);
    Letters(name: String, selection: Selection, change: LetterChange);
    SetLimits(limits: Limits0);
    Expect(peer: String);
    Leave(node: NodeId);
    Lead(node: NodeId, term: Term);
    /// Since version 1.
    SkipEvent(name: String, segment: SegmentId, position: Position);
    /// Since version 2.
    Reset(name: String, to: ResetTo, context: Option<String>);
    /// Since version 2.
    Split(name: String, segment: Option<SegmentId>);
    /// Since version 2.
    Merge(name: String, segment: Option<SegmentId>);
    /// Since version 2.
    Move(name: String, segment: SegmentId, node: NodeId);
}

/// The limits of version 0.
#[derive(Serialize, Deserialize)]
struct Limits0([u32; LIMITS_0]);

#[derive(Serialize, Deserialize)]
struct Definition0 {
    name: String,
    context: ContextId,
    handler: Handler,
    segments: u32,
    start: Start,
    criteria: Criteria,
    sequencing: Sequencing,
    on_error: OnError,
    backoff: Backoff,
}

/// Writes the body of a command to found a cluster, and the fields that version 0 does not have.
pub(super) fn put_found(out: &mut Vec<u8>, fields: &mut Fields, found: &Found) {
    let Found { cluster, limits, first } = found;
    put(out, &Found0 { cluster: *cluster, limits: (*limits).into(), first: first.clone() });
    put_limits(fields, FOUND_LIMITS, limits, LIMITS_0);
}

/// Reads the body and fields of a command to found a cluster.
pub(super) fn take_found(body: &[u8], fields: &[u8]) -> Result<Found, DecodeError> {
    let Found0 { cluster, limits, first } = take_body(FOUND, body)?;
    let mut limits = Limits::from(limits);
    for field in fields_of(FOUND, fields) {
        match field? {
            (FOUND_LIMITS, bytes) => limits = take_limits(FOUND, limits, bytes)?,
            (tag, _) => return Err(unknown_field(FOUND, tag)),
        }
    }
    Ok(Found { cluster, limits, first })
}

/// Writes the body of an operator's change, and the fields that version 0 does not have.
pub(super) fn put_operate(out: &mut Vec<u8>, fields: &mut Fields, operate: &Operate) {
    let Operate { operation, principal, reason, change } = operate;
    put(out, &Operate0 { operation: *operation, reason: reason.clone(), change: Change0::from(change.clone()) });
    if let Some(Principal(principal)) = principal {
        fields.put(OPERATE_PRINCIPAL, principal.as_bytes());
    }
    if let Change::SetLimits(limits) = change {
        put_limits(fields, OPERATE_LIMITS, limits, LIMITS_0);
    }
}

/// Reads the body and fields of an operator's change.
pub(super) fn take_operate(body: &[u8], fields: &[u8]) -> Result<Operate, DecodeError> {
    let Operate0 { operation, reason, change } = take_body(OPERATE, body)?;
    let (mut principal, mut change) = (None, Change::from(change));
    for field in fields_of(OPERATE, fields) {
        match (field?, &mut change) {
            ((OPERATE_PRINCIPAL, name), _) => principal = Some(Principal(text(OPERATE, name)?)),
            ((OPERATE_LIMITS, bytes), Change::SetLimits(limits)) => *limits = take_limits(OPERATE, *limits, bytes)?,
            ((tag, _), _) => return Err(unknown_field(OPERATE, tag)),
        }
    }
    Ok(Operate { operation, principal, reason, change })
}

/// Returns the error of an unknown field, whose meaning must not be guessed.
pub(super) fn unknown_field(what: &'static str, tag: u32) -> DecodeError {
    DecodeError::Newer { what, how: format!("its field {tag} is") }
}

fn text(what: &'static str, bytes: &[u8]) -> Result<String, DecodeError> {
    let text = std::str::from_utf8(bytes);
    text.map(str::to_owned).map_err(|_| DecodeError::Invalid { what, cause: "a text in it is not UTF-8".into() })
}

impl From<Limits> for Limits0 {
    fn from(limits: Limits) -> Self {
        let mut values = [0; LIMITS_0];
        values.iter_mut().zip(limits.rows()).for_each(|(value, (_, is, ..))| *value = is);
        Self(values)
    }
}

impl From<Limits0> for Limits {
    fn from(Limits0(values): Limits0) -> Self {
        let mut limits = Self::IF_NOT_STORED;
        for (number, value) in (1..).zip(values) {
            limits.set(number, value);
        }
        limits
    }
}

/// Adds the limits after the first `base`, except those with the value that an absent limit has.
fn put_limits(fields: &mut Fields, tag: u32, limits: &Limits, base: usize) {
    let mut bytes = Vec::new();
    for ((limit, value, ..), (_, absent, ..)) in limits.rows().zip(Limits::IF_NOT_STORED.rows()).skip(base) {
        if value != absent {
            varint::encode(u64::from(limit.number()), &mut bytes);
            varint::encode(u64::from(value), &mut bytes);
        }
    }
    if !bytes.is_empty() {
        fields.put(tag, &bytes);
    }
}

fn take_limits(what: &'static str, mut limits: Limits, mut bytes: &[u8]) -> Result<Limits, DecodeError> {
    let broken = || DecodeError::Invalid { what, cause: "its limits end too early".into() };
    while !bytes.is_empty() {
        let mut number = || varint::decode(&mut bytes).map_err(|_| broken());
        let (number, value) = (number()?, u32::try_from(number()?).map_err(|_| broken())?);
        if !u16::try_from(number).is_ok_and(|number| limits.set(number, value)) {
            return Err(DecodeError::Newer { what, how: format!("its limit {number} is") });
        }
    }
    Ok(limits)
}

impl From<Box<Definition>> for Definition0 {
    fn from(definition: Box<Definition>) -> Self {
        let Definition { name, context, handler, segments, start, criteria, sequencing, on_error, backoff } =
            *definition;
        Self { name, context, handler, segments, start, criteria, sequencing, on_error, backoff }
    }
}

impl From<Definition0> for Box<Definition> {
    fn from(definition: Definition0) -> Self {
        let Definition0 { name, context, handler, segments, start, criteria, sequencing, on_error, backoff } =
            definition;
        Self::new(Definition { name, context, handler, segments, start, criteria, sequencing, on_error, backoff })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_missing_from_a_version_are_kept_in_a_field() {
        let limits = Limits { own_attempts: 7, reset_context_bytes_max: 99, ..Limits::DEFAULT };
        for base in [0, 20, LIMITS_0] {
            let mut fields = Fields::default();
            put_limits(&mut fields, 1, &limits, base);
            let mut known = Limits::IF_NOT_STORED;
            for (limit, value, ..) in limits.rows().take(base) {
                assert!(known.set(limit.number(), value));
            }
            for field in fields_of(FOUND, fields.bytes()) {
                known = take_limits(FOUND, known, field.unwrap().1).unwrap();
            }
            assert_eq!(known, limits, "{base}");
        }
        let newer = take_limits(FOUND, limits, &[28, 1]).unwrap_err();
        assert!(newer.is_from_a_newer_build(), "{newer}");
        assert!(!take_limits(FOUND, limits, &[26]).unwrap_err().is_from_a_newer_build());
    }
}
