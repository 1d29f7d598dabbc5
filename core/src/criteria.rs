//! Criteria: which events match. Types are ORed, tags ANDed, items ORed.

use alloc::{collections::BTreeMap, string::String, vec, vec::Vec};

use serde::{Deserialize, Serialize};

use crate::{
    event::Event,
    limits::{CONDITIONS_BYTES_MAX, LimitExceeded, LimitName, Limits, Measured},
};

/// One item: an event matches if its type is one of `types` (or there are none) and it has all `tags`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Criterion {
    /// Any of these types; empty means any type.
    pub types: Vec<String>,
    /// All of these tags; empty means any tags.
    pub tags: Vec<String>,
}

impl Criterion {
    /// Returns whether an event of this type with these tags matches.
    #[must_use]
    pub fn matches(&self, kind: &str, tags: &[String]) -> bool {
        (self.types.is_empty() || self.types.iter().any(|t| t == kind))
            && self.tags.iter().all(|tag| tags.contains(tag))
    }

    /// Returns whether every event matches.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.types.is_empty() && self.tags.is_empty()
    }
}

/// Items, any of which may match. No items at all match *every* event, so that an empty filter filters nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Criteria(pub Vec<Criterion>);

impl Criteria {
    /// Every event.
    pub const ANY: Self = Self(Vec::new());

    /// Returns whether an event of this type with these tags matches.
    #[must_use]
    pub fn matches(&self, kind: &str, tags: &[String]) -> bool {
        self.0.is_empty() || self.0.iter().any(|item| item.matches(kind, tags))
    }

    /// Returns whether `event` matches.
    #[must_use]
    pub fn matches_event(&self, event: &Event) -> bool {
        self.matches(&event.kind, &event.tags)
    }

    /// Returns whether every event matches.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.0.is_empty() || self.0.iter().any(Criterion::is_any)
    }

    /// Returns the number of texts: at most this many comparisons are made per event.
    #[must_use]
    pub fn texts(&self) -> usize {
        self.0.iter().map(|item| item.types.len() + item.tags.len()).sum()
    }

    /// Returns the bytes they take in memory, as counted for the limit: the same on every machine.
    #[must_use]
    pub fn bytes(&self) -> usize {
        const ITEM: usize = 64;
        const TEXT: usize = 32;
        let of = |texts: &[String]| texts.iter().map(|text| TEXT + text.len()).sum::<usize>();
        self.0.iter().map(|item| ITEM + of(&item.types) + of(&item.tags)).sum()
    }

    /// Checks that several criteria together keep the limit.
    ///
    /// # Errors
    ///
    /// The limit, if they exceed it.
    pub fn together_within<'c>(all: impl IntoIterator<Item = &'c Self>, of: Measured) -> Result<(), LimitExceeded> {
        let bytes = all.into_iter().map(Self::bytes).sum();
        LimitExceeded::check(LimitName::ConditionsBytes, CONDITIONS_BYTES_MAX, bytes, || of)
    }

    /// Checks that they keep the limits.
    ///
    /// # Errors
    ///
    /// The first limit that they exceed.
    pub fn within(&self, limits: &Limits) -> Result<(), LimitExceeded> {
        let Limits { conditions_max, criteria_types_max, event_tags_max, name_bytes_max, tag_bytes_max, .. } = *limits;
        let count = self.0.len();
        LimitExceeded::check(LimitName::Conditions, conditions_max, count, || Measured::CriteriaItems)?;
        for Criterion { types, tags } in &self.0 {
            LimitExceeded::check(LimitName::CriteriaTypes, criteria_types_max, types.len(), || {
                Measured::CriteriaTypes
            })?;
            LimitExceeded::check(LimitName::EventTags, event_tags_max, tags.len(), || Measured::CriteriaTags)?;
            for kind in types {
                LimitExceeded::check(LimitName::NameBytes, name_bytes_max, kind.len(), || Measured::CriteriaType)?;
            }
            for tag in tags {
                LimitExceeded::check(LimitName::TagBytes, tag_bytes_max, tag.len(), || Measured::CriteriaTag)?;
            }
        }
        Ok(())
    }
}

/// Criteria, prepared for matching many events. Each of their texts is compared once per event at most, whatever the
/// event: its type and tags are numbered first, and the rest compares numbers.
#[derive(Clone, Debug)]
pub struct Matcher<'c> {
    is_any: bool,
    types: Numbers<'c>,
    tags: Numbers<'c>,
    items: Vec<Numbered>,
}

/// Texts and their numbers.
type Numbers<'c> = BTreeMap<&'c str, usize>;

/// An item by the numbers of its texts.
#[derive(Clone, Debug)]
struct Numbered {
    types: Vec<usize>,
    tags: Vec<usize>,
}

impl<'c> Matcher<'c> {
    /// Prepares `criteria`.
    #[must_use]
    pub fn new(criteria: &'c Criteria) -> Self {
        let (mut types, mut tags) = (Numbers::new(), Numbers::new());
        let numbered = |numbers: &mut Numbers<'c>, texts: &'c [String]| -> Vec<usize> {
            let number = |text: &'c String| {
                let next = numbers.len();
                *numbers.entry(text).or_insert(next)
            };
            let mut all: Vec<usize> = texts.iter().map(number).collect();
            all.sort_unstable();
            all.dedup();
            all
        };
        let items = criteria
            .0
            .iter()
            .map(|item| Numbered { types: numbered(&mut types, &item.types), tags: numbered(&mut tags, &item.tags) });
        let items = items.collect();
        Self { is_any: criteria.is_any(), types, tags, items }
    }

    /// Returns whether an event of this type with these tags matches.
    #[must_use]
    pub fn matches(&self, kind: &str, tags: &[String]) -> bool {
        if self.is_any {
            return true;
        }
        let kind = self.types.get(kind);
        let mut has = vec![false; self.tags.len()];
        for number in tags.iter().filter_map(|tag| self.tags.get(tag.as_str())) {
            has[*number] = true;
        }
        let of_type = |types: &[usize]| types.is_empty() || kind.is_some_and(|kind| types.binary_search(kind).is_ok());
        self.items.iter().any(|item| item.tags.iter().all(|tag| has[*tag]) && of_type(&item.types))
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;

    fn texts() -> impl Strategy<Value = Vec<String>> {
        vec(select(vec!["", "a", "b", "c"]).prop_map(String::from), 0..4)
    }

    proptest! {
        #[test]
        fn prepared_criteria_match_what_criteria_match(
            items in vec((texts(), texts()), 0..4),
            kind in select(vec!["", "a", "b", "d"]),
            tags in texts(),
        ) {
            let criteria = Criteria(items.into_iter().map(|(types, tags)| Criterion { types, tags }).collect());
            prop_assert_eq!(Matcher::new(&criteria).matches(kind, &tags), criteria.matches(kind, &tags));
        }
    }
}
