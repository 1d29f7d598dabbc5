//! A sequencing policy names the sequence of an event: what must be handled one after the other.

use alloc::{borrow::Cow, string::String};

use serde::{Deserialize, Serialize};

use crate::{event::Event, hash::Hasher};

/// Which events form one sequence.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sequencing {
    /// By the event's key, else its stream; events with neither form one sequence together.
    #[default]
    KeyElseStream,
    /// By the stream alone.
    Stream,
    /// By the tag `NAME=…`: its value.
    Tag(String),
    /// By the value of an extension attribute.
    Extension(String),
    /// The whole processor is one sequence.
    Whole,
    /// Every event is its own.
    None,
}

impl Sequencing {
    /// The sequence that `event` belongs to. Events that the policy finds no name for form one sequence
    /// together, with the empty name.
    #[must_use]
    pub fn name<'e>(&self, event: &'e Event) -> Cow<'e, str> {
        let found = match self {
            Self::KeyElseStream => event.key.as_deref().or(event.stream.as_deref()),
            Self::Stream => event.stream.as_deref(),
            Self::Tag(name) => event.tags.iter().find_map(|tag| tag.strip_prefix(name.as_str())?.strip_prefix('=')),
            Self::Extension(name) => event.extensions.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str()),
            Self::Whole => None,
            Self::None => return Cow::Owned(alloc::format!("{}", event.id)),
        };
        Cow::Borrowed(found.unwrap_or_default())
    }

    /// For the fingerprint.
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
