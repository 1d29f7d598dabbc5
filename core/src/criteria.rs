//! Criteria: which events are meant. Types are ORed, tags ANDed, items ORed.

use alloc::{string::String, vec::Vec};

use serde::{Deserialize, Serialize};

use crate::{
    event::Event,
    limits::{Limits, Passed},
};

/// One item: an event matches if its type is one of `types` (or there are none) and it bears all `tags`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Criterion {
    /// Any of these types; empty means any type.
    pub types: Vec<String>,
    /// All of these tags; empty means no tag is asked for.
    pub tags: Vec<String>,
}

impl Criterion {
    /// Whether something of this type with these tags is meant.
    #[must_use]
    pub fn matches(&self, kind: &str, tags: &[String]) -> bool {
        (self.types.is_empty() || self.types.iter().any(|t| t == kind))
            && self.tags.iter().all(|tag| tags.contains(tag))
    }

    /// Whether it means every event.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.types.is_empty() && self.tags.is_empty()
    }
}

/// Items, any of which may match. No items at all mean *every* event, so that an empty filter filters nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Criteria(pub Vec<Criterion>);

impl Criteria {
    /// Every event.
    pub const ANY: Self = Self(Vec::new());

    /// Whether something of this type with these tags is meant.
    #[must_use]
    pub fn matches(&self, kind: &str, tags: &[String]) -> bool {
        self.0.is_empty() || self.0.iter().any(|item| item.matches(kind, tags))
    }

    /// Whether `event` is meant.
    #[must_use]
    pub fn matches_event(&self, event: &Event) -> bool {
        self.matches(&event.kind, &event.tags)
    }

    /// Whether it means every event.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.0.is_empty() || self.0.iter().any(Criterion::is_any)
    }

    /// Whether they keep the limits.
    ///
    /// # Errors
    ///
    /// The first that they pass.
    pub fn within(&self, limits: &Limits) -> Result<(), Passed> {
        let of = |what: &'static str| move || String::from(what);
        Passed::check("conditions_max", limits.conditions_max, self.0.len(), of("items of criteria"))?;
        for Criterion { types, tags } in &self.0 {
            let (types_max, tags_max) = (limits.criteria_types_max, limits.event_tags_max);
            Passed::check("criteria_types_max", types_max, types.len(), of("types of an item of criteria"))?;
            Passed::check("event_tags_max", tags_max, tags.len(), of("tags of an item of criteria"))?;
            for kind in types {
                Passed::check("name_bytes_max", limits.name_bytes_max, kind.len(), of("bytes of a type of criteria"))?;
            }
            for tag in tags {
                Passed::check("tag_bytes_max", limits.tag_bytes_max, tag.len(), of("bytes of a tag of criteria"))?;
            }
        }
        Ok(())
    }
}
