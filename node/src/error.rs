//! The error that HTTP, the command line and the library share: a code, its class, a message and a hint.

use std::{borrow::Cow, collections::BTreeMap, fmt, time::Duration};

use evener_core::{
    append::Refusal,
    command::RefusalReason,
    event::Event,
    id::Position,
    limits::LimitExceeded,
    reason::{Existing, NotFound},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    codes::{self, Code},
    describe,
};

pub use crate::codes::Class;

/// An error as HTTP, the command line and the library show it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiError {
    /// `EV0123`; `evener explain EV0123` has its page.
    pub code: Cow<'static, str>,
    /// What the caller can do.
    pub class: Class,
    /// What was being done, to what, and what stood in the way.
    pub message: String,
    /// What to do next.
    pub hint: Box<str>,
    /// Time after which to repeat the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u32>,
    /// The leader, if knowing it helps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<Box<str>>,
    /// What exactly conflicts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conflict: Option<Box<Conflict>>,
    /// The operation that was not done, where a change was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<Uuid>,
}

/// What an append or a change ran into, for programs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Conflict {
    /// Which of the request's conditions, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub condition: Option<u32>,
    /// The position of the conflicting event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<u64>,
    /// Its type.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The stream that is at another revision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    /// Its revision; none if it has no event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// Events of the request that are stored already, with the same content.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stored: Vec<StoredId>,
    /// Ids of the request that other events bear.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub other: Vec<StoredId>,
}

/// The position of an id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredId {
    /// The event's id if it is a UUID in lower case; else the UUID that was made from it.
    pub id: Uuid,
    /// The id as its sender wrote it, if it is anything else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given: Option<String>,
    /// The event's source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Its position.
    pub position: u64,
}

impl StoredId {
    /// Whether it is this event that is there. An older server does not send the source.
    #[must_use]
    pub fn is(&self, event: &Event) -> bool {
        let same = |name: &str| event.given_id.as_deref() == Some(name);
        let named = self.given.as_deref().map_or_else(|| same(&self.id.to_string()), same);
        named && self.source.as_ref().is_none_or(|source| *source == event.source)
    }
}

impl ApiError {
    /// Returns an error of this code, with the code's own hint until [`ApiError::hint`] sets another one.
    #[must_use]
    pub fn new(code: &Code, message: impl Into<String>) -> Self {
        Self {
            code: Cow::Borrowed(code.id),
            class: code.class,
            message: message.into(),
            hint: code.hint.into(),
            retry_after_ms: None,
            leader: None,
            conflict: None,
            operation: None,
        }
    }

    /// Returns the error of a part of the contract that is not built yet.
    #[must_use]
    pub fn not_yet(what: &str) -> Self {
        Self::new(&codes::NOT_YET, format!("{what} is not built yet"))
    }

    /// Names the events that conflict as their sender did: the UUID that was derived from an id means nothing to it.
    #[must_use]
    pub fn named(mut self, given: &BTreeMap<Uuid, (String, String)>) -> Self {
        let conflict = self.conflict.iter_mut();
        for stored in conflict.flat_map(|conflict| conflict.stored.iter_mut().chain(&mut conflict.other)) {
            let Some((source, name)) = given.get(&stored.id) else { continue };
            let shown = stored.id.to_string();
            match Uuid::try_parse(name) {
                Ok(id) if id.to_string() == *name => {
                    self.message = self.message.replace(&shown, name);
                    stored.id = id;
                }
                _ => {
                    self.message = self.message.replace(&shown, &format!("{name:?}"));
                    stored.given = Some(name.clone());
                }
            }
            stored.source = Some(source.clone());
        }
        self
    }

    /// Sets the hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<Box<str>>) -> Self {
        self.hint = hint.into();
        self
    }

    /// Sets the time after which to repeat the request.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after_ms = Some(u32::try_from(wait.as_millis()).unwrap_or(u32::MAX));
        self
    }

    /// Sets the leader.
    #[must_use]
    pub fn leader(mut self, leader: Option<String>) -> Self {
        self.leader = leader.map(String::into_boxed_str);
        self
    }

    /// Sets the conflict.
    #[must_use]
    pub fn conflict(mut self, conflict: Conflict) -> Self {
        self.conflict = Some(Box::new(conflict));
        self
    }

    /// Sets the operation that was not done.
    #[must_use]
    pub fn operation(mut self, operation: Uuid) -> Self {
        self.operation = Some(operation);
        self
    }

    /// Prefixes the message with the action that failed.
    #[must_use]
    pub fn doing(mut self, what: impl fmt::Display) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    /// Returns whether it has this code.
    #[must_use]
    pub fn is(&self, code: &Code) -> bool {
        self.code == code.id
    }

    /// Returns whether the same request, with the same ids, may succeed when it is repeated.
    #[must_use]
    pub fn may_repeat(&self) -> bool {
        matches!(self.class, Class::Unknown | Class::Overloaded)
    }

    /// Returns its HTTP status.
    #[must_use]
    pub fn status(&self) -> u16 {
        codes::find(&self.code).map_or_else(|| self.class.status(), |code| code.status)
    }

    /// What the command line exits with.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        codes::find(&self.code).map_or_else(|| self.class.exit_code(), |code| code.exit_code())
    }
}

impl fmt::Debug for ApiError {
    /// As `main` prints it when it ends with one, and a panic of `unwrap`: what was being done, and what to do next.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{self}")?;
        if let Some(conflict) = &self.conflict {
            writeln!(f, "  conflict: {conflict:?}")?;
        }
        writeln!(f, "  next: {}", self.hint)?;
        write!(f, "  more: evener explain {}", self.code)
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.code)
    }
}

impl std::error::Error for ApiError {}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let message = describe::refusal(&refusal);
        match refusal {
            Refusal::Conflict { condition, position, kind } => {
                Self::new(&codes::CONDITION, message).conflict(Conflict {
                    condition: Some(condition),
                    position: Some(position.0),
                    kind: Some(kind),
                    ..Conflict::default()
                })
            }
            Refusal::Revision { stream, actual, .. } => {
                let revision = actual.map(|revision| revision.0);
                let conflict = Conflict { stream: Some(stream), revision, ..Conflict::default() };
                Self::new(&codes::REVISION, message).conflict(conflict)
            }
            Refusal::Duplicate { stored, other } => {
                let code = if other.is_empty() { &codes::PARTLY_STORED } else { &codes::OTHER_CONTENT };
                let list = |ids: &[(Uuid, Position)]| -> Vec<StoredId> {
                    ids.iter()
                        .map(|(id, position)| StoredId { id: *id, given: None, source: None, position: position.0 })
                        .collect()
                };
                let position = other.first().or(stored.first()).map(|(_, position)| position.0);
                let (stored, other) = (list(&stored), list(&other));
                Self::new(code, message).conflict(Conflict { position, stored, other, ..Conflict::default() })
            }
            Refusal::Retry => Self::new(&codes::CHECK_TOO_OLD, message).retry_after(Duration::from_millis(50)),
            Refusal::Limit(_) => Self::new(&codes::LIMIT, message),
            Refusal::SameIdTwice(_) | Refusal::NoType(_) => Self::new(&codes::INVALID_APPEND, message),
            Refusal::Ahead { .. } => Self::new(&codes::MARKER_AHEAD, message),
        }
    }
}

impl From<LimitExceeded> for ApiError {
    fn from(passed: LimitExceeded) -> Self {
        Self::new(&codes::LIMIT, describe::limit_exceeded(&passed))
    }
}

impl From<RefusalReason> for ApiError {
    fn from(why: RefusalReason) -> Self {
        let code = match &why {
            RefusalReason::Fenced => &codes::FENCED,
            RefusalReason::Outdated => &codes::OUTDATED,
            RefusalReason::NotFound(NotFound::Context(_)) => &codes::UNKNOWN_CONTEXT,
            RefusalReason::NotFound(NotFound::Processor(_) | NotFound::ProcessorNumber(_)) => &codes::UNKNOWN_PROCESSOR,
            RefusalReason::NotFound(NotFound::Segment { .. }) => &codes::UNKNOWN_SEGMENT,
            RefusalReason::NotFound(NotFound::Sequence { .. }) => &codes::UNKNOWN_SEQUENCE,
            RefusalReason::NotFound(NotFound::Member(_)) => &codes::UNKNOWN_NODE,
            RefusalReason::Exists(Existing::Operation { .. }) => &codes::OTHER_CHANGE,
            RefusalReason::Exists(_) => &codes::EXISTS,
            RefusalReason::Limit(_) => &codes::LIMIT_REACHED,
            RefusalReason::Invalid(_) | RefusalReason::Unreadable(_) => &codes::INVALID_CHANGE,
        };
        Self::new(code, describe::refusal_reason(&why))
    }
}

impl From<evener_cluster::Error> for ApiError {
    fn from(error: evener_cluster::Error) -> Self {
        use evener_cluster::{Class as Theirs, ErrorReason};
        let evener_cluster::Error { class, reason, message, retry_after, refusal, why, .. } = error;
        let refused = refusal.map(|refusal| Self::from(*refusal)).or_else(|| why.map(|why| Self::from(*why)));
        let error = match (refused, class) {
            (Some(refused), _) => refused,
            (None, Theirs::Invalid) => Self::new(&codes::INVALID_CHANGE, message),
            (None, Theirs::Conflict) => Self::new(&codes::EXISTS, message),
            // What a node refuses, another may do: it does not lead, or it has stopped.
            (None, Theirs::Refused) => Self::new(&codes::STOPPING, message),
            (None, Theirs::Unknown) => Self::new(&codes::OUTCOME_UNKNOWN, message),
            (None, Theirs::Overloaded) => {
                let code = match reason {
                    Some(ErrorReason::DiskReserve) => &codes::DISK_RESERVE,
                    Some(ErrorReason::NoLeader) => &codes::NO_LEADER,
                    None => &codes::OVERLOADED,
                };
                Self::new(code, message)
            }
        };
        match retry_after {
            Some(wait) => error.retry_after(wait),
            None => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use evener_core::{append::Expected, id::Revision};
    use serde_json::json;

    use super::*;

    #[test]
    fn a_conflict_names_the_position_and_type_of_the_event() {
        let refusal = Refusal::Conflict { condition: 1, position: Position(17), kind: "order.placed".into() };
        let error = ApiError::from(refusal);
        let json = serde_json::to_value(&error).unwrap();
        assert_eq!(error.status(), 409);
        assert_eq!(json["class"], "conflict");
        assert_eq!(json["conflict"], json!({"condition": 1, "position": 17, "type": "order.placed"}));
        assert!(error.message.contains("17") && error.message.contains("order.placed"), "{}", error.message);
        assert_eq!(serde_json::from_value::<ApiError>(json).unwrap(), error);
    }

    #[test]
    fn a_revision_conflict_names_both_revisions() {
        let error = ApiError::from(Refusal::Revision {
            stream: "case-1".into(),
            expected: Expected::At(Revision(4)),
            actual: Some(Revision(7)),
        });
        assert_eq!(error.message, "stream 'case-1' was expected at revision 4 and is at revision 7");
    }

    #[test]
    fn other_content_is_worse_than_partly_stored() {
        let id = Uuid::from_u128(5);
        let partly = ApiError::from(Refusal::Duplicate { stored: vec![(id, Position(3))], other: vec![] });
        let other = ApiError::from(Refusal::Duplicate { stored: vec![], other: vec![(id, Position(3))] });
        assert!(partly.is(&codes::PARTLY_STORED) && other.is(&codes::OTHER_CONTENT));
        assert_eq!(partly.conflict.unwrap().stored, vec![StoredId { id, given: None, source: None, position: 3 }]);
    }

    #[test]
    fn optional_fields_are_left_out() {
        let json = serde_json::to_value(ApiError::not_yet("reset")).unwrap();
        let keys: Vec<&String> = json.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["class", "code", "hint", "message"]);
        assert_eq!(json["code"], "EV0900");
    }

    #[test]
    fn an_error_of_a_newer_server_is_still_understood() {
        let json = json!({"code": "EV8888", "class": "conflict", "message": "m", "hint": "h"});
        let error: ApiError = serde_json::from_value(json).unwrap();
        assert_eq!((error.status(), error.exit_code()), (409, 3));
    }
}
