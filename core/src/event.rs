//! An event: an immutable fact, with the attributes of CloudEvents 1.0 and what Evener adds to them.

use alloc::{string::String, vec::Vec};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    hash,
    limits::{EventPart, LimitExceeded, LimitName, Limits, Measured},
};

/// Bytes of a UUID as text with hyphens.
const HYPHENATED: usize = 36;

/// A fact as reported by its producer. Position, revision and `recorded` are not part of it: they follow from its place
/// in the log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Unique within a context, for all time (P3).
    pub id: Uuid,
    /// The id as its producer gave it; `id` is then the UUIDv5 of the source and this. `None` means that `id` itself is
    /// the id, whatever the source.
    pub given_id: Option<String>,
    /// The producer (CloudEvents `source`).
    pub source: String,
    /// What happened (CloudEvents `type`).
    pub kind: String,
    /// The aggregate it happened to (CloudEvents `subject`).
    pub stream: Option<String>,
    /// The key that orders it, if not its stream.
    pub key: Option<String>,
    /// Labels, `key=value` by convention.
    pub tags: Vec<String>,
    /// The producer's time, as the producer wrote it (RFC 3339).
    pub time: Option<String>,
    /// The content type of `data`; `None` means JSON.
    pub content_type: Option<String>,
    /// CloudEvents `dataschema`.
    pub schema: Option<String>,
    /// Further CloudEvents extension attributes, as JSON values.
    pub extensions: Vec<(String, String)>,
    /// The key its data is encrypted with; 0 is none.
    pub key_id: u32,
    /// How `data` was given: it is returned in the same way.
    pub data_kind: DataKind,
    /// The payload: the JSON text, or the bytes.
    pub data: Vec<u8>,
}

/// How a payload is carried in JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DataKind {
    /// No payload at all.
    #[default]
    None,
    /// `data`: JSON text.
    Json,
    /// `data_base64`: bytes.
    Binary,
}

impl Event {
    /// Returns a number that is the same for two events with the same content, and practically never for others.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let mut digest = hash::Hasher::new();
        self.content(|part| digest.part(part));
        digest.finish()
    }

    /// Passes on the whole content of an event, in parts. Two events that differ anywhere differ in their parts: a
    /// fixed number of optional texts come first, and the counts of the rest precede it.
    fn content(&self, mut part: impl FnMut(Option<&[u8]>)) {
        let texts = [Some(&self.source), Some(&self.kind), self.stream.as_ref(), self.key.as_ref()];
        for text in texts {
            part(text.map(String::as_bytes));
        }
        let texts = [self.given_id.as_ref(), self.time.as_ref(), self.content_type.as_ref(), self.schema.as_ref()];
        for text in texts {
            part(text.map(String::as_bytes));
        }
        let mut numbers = [0; 37];
        numbers[..16].copy_from_slice(self.id.as_bytes());
        numbers[16..24].copy_from_slice(&(self.tags.len() as u64).to_le_bytes());
        numbers[24..32].copy_from_slice(&(self.extensions.len() as u64).to_le_bytes());
        numbers[32..36].copy_from_slice(&self.key_id.to_le_bytes());
        numbers[36] = match self.data_kind {
            DataKind::None => 0,
            DataKind::Json => 1,
            DataKind::Binary => 2,
        };
        part(Some(&numbers));
        for tag in &self.tags {
            part(Some(tag.as_bytes()));
        }
        for (name, value) in &self.extensions {
            part(Some(name.as_bytes()));
            part(Some(value.as_bytes()));
        }
        part(Some(&self.data));
    }

    /// Returns the UUID that the event would have if it had been stored before ids followed from the source as well;
    /// `None` if it could not have been stored then.
    #[must_use]
    pub fn bare_id(&self) -> Option<Uuid> {
        let given = self.given_id.as_deref().filter(|given| given.len() == HYPHENATED)?;
        Uuid::try_parse(given).ok().filter(|id| *id != self.id)
    }

    /// Returns whether an id may be derived from a source and a given id: whether it is a UUIDv5.
    #[must_use]
    pub fn may_be_derived(id: Uuid) -> bool {
        id.get_version_num() == 5
    }

    /// Returns the event as it was stored before ids followed from the source as well: what an older member can read.
    #[must_use]
    pub fn into_bare(self) -> Self {
        match self.bare_id() {
            Some(id) => Self { id, given_id: None, ..self },
            None => self,
        }
    }

    /// Returns the bytes of its attributes and payload together.
    #[must_use]
    pub fn size(&self) -> usize {
        let texts = [&self.given_id, &self.stream, &self.key, &self.time, &self.content_type, &self.schema];
        16 + self.source.len()
            + self.kind.len()
            + texts.iter().map(|t| t.as_ref().map_or(0, String::len)).sum::<usize>()
            + self.tags.iter().map(String::len).sum::<usize>()
            + self.extensions.iter().map(|(n, v)| n.len() + v.len()).sum::<usize>()
            + self.data.len()
    }

    /// Checks that it keeps the limits, as the `nth` event of its append, from 0.
    ///
    /// # Errors
    ///
    /// The first limit that it exceeds.
    pub fn within(&self, limits: &Limits, nth: usize) -> Result<(), LimitExceeded> {
        let at = u32::try_from(nth).unwrap_or(u32::MAX);
        let of = |part| move || Measured::Event(part, at);
        let Limits { event_bytes_max, event_tags_max, tag_bytes_max, name_bytes_max, .. } = *limits;
        LimitExceeded::check(LimitName::EventBytes, event_bytes_max, self.size(), of(EventPart::Whole))?;
        LimitExceeded::check(LimitName::EventTags, event_tags_max, self.tags.len(), of(EventPart::Tags))?;
        for tag in &self.tags {
            LimitExceeded::check(LimitName::TagBytes, tag_bytes_max, tag.len(), of(EventPart::Tag))?;
        }
        for (part, text) in self.names() {
            LimitExceeded::check(LimitName::NameBytes, name_bytes_max, text.map_or(0, String::len), of(part))?;
        }
        let (count_max, bytes_max) = (limits.event_extensions_max, limits.extension_bytes_max);
        LimitExceeded::check(LimitName::EventExtensions, count_max, self.extensions.len(), of(EventPart::Extensions))?;
        for (name, value) in &self.extensions {
            LimitExceeded::check(LimitName::NameBytes, name_bytes_max, name.len(), of(EventPart::ExtensionName))?;
            LimitExceeded::check(LimitName::ExtensionBytes, bytes_max, value.len(), || {
                Measured::ExtensionValue(name.clone(), at)
            })?;
        }
        Ok(())
    }

    /// Returns its attributes that are bounded like names.
    fn names(&self) -> [(EventPart, Option<&String>); 8] {
        [
            (EventPart::Id, self.given_id.as_ref()),
            (EventPart::Source, Some(&self.source)),
            (EventPart::Type, Some(&self.kind)),
            (EventPart::Stream, self.stream.as_ref()),
            (EventPart::Key, self.key.as_ref()),
            (EventPart::Time, self.time.as_ref()),
            (EventPart::ContentType, self.content_type.as_ref()),
            (EventPart::Schema, self.schema.as_ref()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use proptest::{collection::vec, option, prelude::*, sample::select};

    use super::*;

    /// Returns what [`Event::content`] passes on, as one text in which all parts are distinguishable.
    fn input(event: &Event) -> Vec<u8> {
        let mut all = Vec::new();
        event.content(|part| match part {
            Some(bytes) => {
                all.push(1);
                all.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
                all.extend_from_slice(bytes);
            }
            None => all.push(0),
        });
        all
    }

    /// Generates few short texts, so that events differ mostly in where the texts are.
    fn any_event() -> impl Strategy<Value = Event> {
        let text = || select(vec!["", "a", "5"]).prop_map(String::from);
        let texts = || option::of(text());
        let kind = select(vec![DataKind::None, DataKind::Json, DataKind::Binary]);
        (
            (0..2_u128, text(), text(), texts(), texts(), texts(), texts(), texts(), texts()),
            (vec(text(), 0..3), vec((text(), text()), 0..3), 0..2_u32, kind, text()),
        )
            .prop_map(|((id, source, kind, stream, key, given_id, time, content_type, schema), rest)| {
                let (tags, extensions, key_id, data_kind, data) = rest;
                let (id, data) = (Uuid::from_u128(id), data.into_bytes());
                let named = Event { id, given_id, source, kind, stream, key, ..Event::default() };
                Event { tags, time, content_type, schema, extensions, key_id, data_kind, data, ..named }
            })
    }

    proptest! {
        #[test]
        fn p3_events_that_differ_have_different_digest_inputs(one in any_event(), other in any_event()) {
            prop_assert_eq!(input(&one) == input(&other), one == other);
        }
    }

    #[test]
    fn p3_moving_a_value_to_another_field_changes_the_digest() {
        let event = Event { kind: "k".into(), data: b"5".to_vec(), data_kind: DataKind::Json, ..Event::default() };
        let pair = || vec![("a".into(), "b".into())];
        let texts = |texts: &[&str]| texts.iter().map(|text| String::from(*text)).collect::<Vec<_>>();
        let others = [
            Event { data_kind: DataKind::Binary, ..event.clone() },
            Event { tags: texts(&["a", "b"]), ..event.clone() },
            Event { extensions: pair(), ..event.clone() },
            Event { tags: texts(&["a", "b", "5"]), data: Vec::new(), ..event.clone() },
            Event { key_id: 1, ..event.clone() },
        ];
        let mut digests: Vec<u64> = others.iter().chain([&event]).map(Event::digest).collect();
        digests.sort_unstable();
        digests.dedup();
        assert_eq!(digests.len(), others.len() + 1);
    }
}
