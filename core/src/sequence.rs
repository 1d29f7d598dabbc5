//! A sequencing policy names the sequence of an event: events of one sequence are handled one after the other.

use alloc::{borrow::Cow, string::String};

use serde::{Deserialize, Serialize};

use crate::{event::Event, hash::Hasher};

/// Which events form one sequence.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sequencing {
    /// By the event's key, else by its stream; events with neither form one sequence together.
    #[default]
    KeyElseStream,
    /// By the stream alone.
    Stream,
    /// By the tag `NAME=…`: its value.
    Tag(String),
    /// By the value of an extension attribute: a JSON string's text, anything else as it is written.
    Extension(String),
    /// The whole processor is one sequence.
    Whole,
    /// Every event is a sequence of its own.
    None,
}

impl Sequencing {
    /// Returns the name of the sequence to which `event` belongs. Events for which the policy finds no name form one
    /// sequence together, with the empty name.
    #[must_use]
    pub fn name<'e>(&self, event: &'e Event) -> Cow<'e, str> {
        let found = match self {
            Self::KeyElseStream => event.key.as_deref().or(event.stream.as_deref()),
            Self::Stream => event.stream.as_deref(),
            Self::Tag(name) => event.tags.iter().find_map(|tag| tag.strip_prefix(name.as_str())?.strip_prefix('=')),
            Self::Extension(name) => event.extensions.iter().find(|(n, _)| n == name).map(|(_, value)| text(value)),
            Self::Whole => None,
            Self::None => return Cow::Owned(alloc::format!("{}", event.id)),
        };
        Cow::Borrowed(found.unwrap_or_default())
    }

    /// Writes the policy for the fingerprint.
    pub fn write_to(&self, hasher: &mut Hasher) {
        let (kind, name): (&[u8], Option<&String>) = match self {
            Self::KeyElseStream => (b"key-else-stream", None),
            Self::Stream => (b"stream", None),
            Self::Tag(name) => (b"tag", Some(name)),
            Self::Extension(name) => (b"extension", Some(name)),
            Self::Whole => (b"whole", None),
            Self::None => (b"none", None),
        };
        hasher.part(Some(kind));
        hasher.part(name.map(String::as_bytes));
    }
}

/// Returns the text of a JSON string without escapes, and other values as they are written.
fn text(json: &str) -> &str {
    let inner = json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    inner.filter(|inner| !inner.contains('\\')).unwrap_or(json)
}

#[cfg(test)]
mod tests {
    use alloc::{string::ToString, vec};

    use super::*;

    fn check(policy: &Sequencing, event: &Event, expect: &str) {
        assert_eq!(policy.name(event), expect, "{policy:?}");
    }

    #[test]
    fn each_policy_names_the_sequence() {
        let event = Event {
            id: uuid::Uuid::from_u128(7),
            stream: Some("account-7".to_string()),
            key: Some("7".to_string()),
            tags: vec!["tenantry=no".to_string(), "tenant=acme=1".to_string()],
            extensions: vec![("region".to_string(), "\"eu\"".to_string()), ("shard".to_string(), "3".to_string())],
            ..Event::default()
        };
        check(&Sequencing::KeyElseStream, &event, "7");
        check(&Sequencing::KeyElseStream, &Event { key: None, ..event.clone() }, "account-7");
        check(&Sequencing::KeyElseStream, &Event::default(), "");
        check(&Sequencing::Stream, &event, "account-7");
        check(&Sequencing::Tag("tenant".to_string()), &event, "acme=1");
        check(&Sequencing::Tag("ten".to_string()), &event, "");
        check(&Sequencing::Extension("region".to_string()), &event, "eu");
        check(&Sequencing::Extension("shard".to_string()), &event, "3");
        check(&Sequencing::Whole, &event, "");
        check(&Sequencing::None, &event, "00000000-0000-0000-0000-000000000007");
    }

    #[test]
    fn policies_differ_in_their_fingerprint() {
        let all = [
            Sequencing::KeyElseStream,
            Sequencing::Stream,
            Sequencing::Tag("a".to_string()),
            Sequencing::Tag("b".to_string()),
            Sequencing::Extension("a".to_string()),
            Sequencing::Whole,
            Sequencing::None,
        ];
        let prints = all.iter().map(|policy| {
            let mut hasher = Hasher::new();
            policy.write_to(&mut hasher);
            hasher.finish()
        });
        assert_eq!(prints.collect::<alloc::collections::BTreeSet<_>>().len(), all.len());
    }
}
