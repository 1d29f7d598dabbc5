//! The replicated limits: everything that `apply` is bounded by, the same on every node, changed only by a command.
//! Each has a name, a default, a reason, and bounds of its own, so that no command can make the state useless.

use alloc::string::String;

use serde::{Deserialize, Serialize};

macro_rules! limits {
    ($($(#[doc = $about:literal])+ $number:literal $variant:ident $name:ident = $default:literal
        in $least:literal..=$most:literal;)*) => {
        /// See the [module](self).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct Limits {
            $($(#[doc = $about])+ pub $name: u32,)*
        }

        impl Limits {
            /// The limits of a new cluster.
            pub const DEFAULT: Self = Self { $($name: $default),* };

            /// The values of limits that a stored set of limits does not name, because they were added after the set
            /// was stored. These values never change, even if a default does.
            pub const IF_NOT_STORED: Self = Self { $($name: $default),* };

            /// Sets the limit of this number. Returns whether there is one.
            pub fn set(&mut self, number: u16, value: u32) -> bool {
                match number {
                    $($number => self.$name = value,)*
                    _ => return false,
                }
                true
            }

            /// Returns each limit with its name, its value, and the least and the greatest value allowed.
            pub fn rows(&self) -> impl Iterator<Item = (LimitName, u32, u32, u32)> {
                [$((LimitName::$variant, self.$name, $least, $most)),*].into_iter()
            }
        }

        /// The name of a limit. Each has its number for all time.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum LimitName {
            $($(#[doc = $about])+ $variant = $number,)*
            /// Versions of one embedded processor that a process can run beside each other: fixed.
            Versions = 1_001,
            /// Bytes of all criteria of one request together: fixed.
            ConditionsBytes = 1_002,
        }

        impl LimitName {
            /// Returns its name in settings, statuses and errors.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => stringify!($name),)*
                    Self::Versions => "versions_max",
                    Self::ConditionsBytes => "conditions_bytes_max",
                }
            }

            /// Returns its number in stored data.
            #[must_use]
            pub const fn number(self) -> u16 {
                self as u16
            }
        }
    };
}

limits! {
    /// Bytes of one event, attributes and payload: 1 MiB less its frame, so that it fits an entry alone.
    1 EventBytes event_bytes_max = 1_000_000 in 1_024..=1_000_000;
    /// Events of one append.
    2 AppendEvents append_events_max = 10_000 in 1..=100_000;
    /// Bytes of one append: an append and an entry are at most 1 MiB.
    3 AppendBytes append_bytes_max = 1_000_000 in 1_024..=1_000_000;
    /// Bytes of one tag.
    4 TagBytes tag_bytes_max = 256 in 16..=4_096;
    /// Tags of one event, and of one item of criteria.
    5 EventTags event_tags_max = 64 in 1..=1_024;
    /// Bytes of the value of one extension attribute: a sequence may be named by it.
    6 ExtensionBytes extension_bytes_max = 4_096 in 16..=65_536;
    /// Extension attributes of one event.
    7 EventExtensions event_extensions_max = 64 in 1..=1_024;
    /// Bytes of a name or an attribute: of a stream, key, type, source, id, processor, member, address.
    8 NameBytes name_bytes_max = 512 in 64..=4_096;
    /// Conditions of one append, streams that it expects somewhere, and items of one set of criteria.
    9 Conditions conditions_max = 64 in 1..=1_024;
    /// Types of one item of criteria.
    10 CriteriaTypes criteria_types_max = 256 in 1..=4_096;
    /// Events kept in memory by `apply` for the conditions of appends in flight. A check that is older than
    /// this is answered *retry*.
    11 TailEvents tail_events = 16_384 in 1_024..=1_048_576;
    /// Bytes of these: events with many tags are forgotten sooner. Every image of the state has them in it.
    12 TailBytes tail_bytes = 16_777_216 in 1_048_576..=1_073_741_824;
    /// Members of the cluster.
    13 Members members_max = 64 in 1..=1_024;
    /// Processors in the cluster.
    14 Processors processors_max = 1_024 in 1..=16_384;
    /// Segments of one processor.
    15 Segments segments_max = 16_384 in 1..=65_536;
    /// Bytes of the types and tags that one processor asks for, all together.
    16 DefinitionBytes definition_bytes_max = 65_536 in 1_024..=262_144;
    /// Bytes of the command of a processor's program: what is longer belongs into a file.
    17 ExecBytes exec_bytes_max = 16_384 in 64..=65_536;
    /// Sequences set aside per processor; then its segments stall (P6 names this exception).
    18 Sequences sequences_max = 1_024 in 1..=65_536;
    /// Letters of one sequence set aside; then its segment stalls.
    19 Letters letters_max = 1_024 in 1..=65_536;
    /// Bytes of a cause that are kept.
    20 CauseBytes cause_bytes_max = 1_024 in 64..=65_536;
    /// Bytes of a person's reason: it is kept as long as the operation is remembered.
    21 ReasonBytes reason_bytes_max = 1_024 in 64..=65_536;
    /// Operations whose outcome is remembered.
    22 Operations operations_max = 1_024 in 16..=65_536;
    /// How long a released segment may not return to its node: two leases of 5 s.
    23 ReleaseBarMs release_bar_ms = 10_000 in 100..=3_600_000;
    /// How long a segment whose handler could not be asked on a node may not return there.
    24 UnableBarMs unable_bar_ms = 60_000 in 100..=3_600_000;
    /// Attempts by the segment's owner before a failing sequence is lent, or its segment moved.
    25 OwnAttempts own_attempts = 3 in 1..=1_000;
    /// Items of one token; a merge that would make more is refused.
    26 TokenItems token_items_max = 64 in 2..=4_096;
    /// Bytes of the context of a reset, as JSON: every delivery of a replayed event has it.
    27 ResetContextBytes reset_context_bytes_max = 4_096 in 64..=65_536;
}

/// Bytes of all criteria of one append, one read or one processor together. Every item and every text counts with a
/// fixed number of bytes beside its own, so this bounds what they become in memory, and with `tail_events` the work of
/// `apply` on one append. It is checked before something is proposed, and not by `apply` itself.
pub const CONDITIONS_BYTES_MAX: u32 = 65_536;

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl Limits {
    /// Checks whether a cluster can work with them.
    ///
    /// # Errors
    ///
    /// The limit with which it cannot, and the allowed values.
    pub fn check(&self) -> Result<(), InvalidLimits> {
        if let Some((limit, value, least, most)) =
            self.rows().find(|(_, value, least, most)| !(least..=most).contains(&value))
        {
            return Err(InvalidLimits::Range { limit, value, least, most });
        }
        if self.event_bytes_max > self.append_bytes_max {
            return Err(InvalidLimits::EventOverAppend { event: self.event_bytes_max, append: self.append_bytes_max });
        }
        Ok(())
    }
}

/// Why no cluster can work with some limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum InvalidLimits {
    /// One of them is out of its bounds.
    Range {
        /// The limit.
        limit: LimitName,
        /// The requested value.
        value: u32,
        /// The least allowed value.
        least: u32,
        /// The greatest allowed value.
        most: u32,
    },
    /// One event may be larger than a whole append (`event_bytes_max` over `append_bytes_max`).
    EventOverAppend {
        /// Bytes of an event.
        event: u32,
        /// Bytes of an append.
        append: u32,
    },
}

/// A limit that is exceeded, and by what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitExceeded {
    /// The limit.
    pub limit: LimitName,
    /// Its value.
    pub max: u64,
    /// The requested amount.
    pub got: u64,
    /// What was measured.
    pub of: Measured,
}

impl LimitExceeded {
    /// Checks that there are no more than `max` of something.
    ///
    /// # Errors
    ///
    /// The limit that is exceeded.
    pub fn check(limit: LimitName, max: u32, got: usize, of: impl FnOnce() -> Measured) -> Result<(), Self> {
        if got <= max as usize {
            return Ok(());
        }
        Err(Self { limit, max: u64::from(max), got: got as u64, of: of() })
    }
}

/// What was compared with a limit. A single item is measured in bytes; several are counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Measured {
    /// Events of an append.
    AppendEvents,
    /// Bytes of an append.
    AppendBytes,
    /// Conditions of an append.
    Conditions,
    /// Streams that an append expects somewhere.
    Expectations,
    /// Bytes of all criteria of an append, ...
    AppendCriteria,
    /// ... of a read, ...
    ReadCriteria,
    /// ... and of a processor.
    ProcessorCriteria,
    /// Bytes of a stream's name.
    Stream,
    /// A part of an event: the nth of its append, from 0.
    Event(EventPart, u32),
    /// Bytes of the extension of this name of an event.
    ExtensionValue(String, u32),
    /// Items of criteria.
    CriteriaItems,
    /// Types of one item.
    CriteriaTypes,
    /// Tags of one item.
    CriteriaTags,
    /// Bytes of a type in criteria.
    CriteriaType,
    /// Bytes of a tag in criteria.
    CriteriaTag,
    /// Bytes of a processor's name.
    ProcessorName,
    /// Bytes of a processor's command or URL.
    ProcessorCommand,
    /// Bytes of the types and tags of a processor.
    ProcessorTexts,
    /// Bytes of the name of the tag or extension that names a sequence.
    SequencedBy,
    /// Bytes of a sequence's name.
    SequenceName,
    /// Bytes of a member's name.
    MemberName,
    /// Bytes of a member's address for peers.
    PeerAddress,
    /// Bytes of a member's address for clients.
    HttpAddress,
    /// Processors that one program can run.
    Capabilities,
    /// Versions of one of them.
    Versions,
    /// Bytes of the reason of an operation.
    Reason,
    /// Bytes of the principal of an operation.
    Principal,
    /// Bytes of the context of a reset.
    ResetContext,
}

/// A part of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "an event has these attributes")]
pub enum EventPart {
    Whole,
    Tags,
    Tag,
    Id,
    Source,
    Type,
    Stream,
    Key,
    Time,
    ContentType,
    Schema,
    Extensions,
    ExtensionName,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn p10_the_default_limits_are_valid() {
        assert_eq!(Limits::DEFAULT.check(), Ok(()));
        let more = Limits { append_bytes_max: 2_000, ..Limits::DEFAULT };
        assert!(matches!(more.check(), Err(InvalidLimits::EventOverAppend { append: 2_000, .. })));
    }

    proptest! {
        #[test]
        fn p10_a_limit_out_of_bounds_is_named(which in 0_usize..27, beyond in any::<bool>(), by in 1_u32..) {
            let mut row = Limits::DEFAULT.rows();
            prop_assert_eq!(row.by_ref().count(), 27, "the test covers every limit");
            let (name, _, least, most) = Limits::DEFAULT.rows().nth(which).expect("the index is within the limits");
            let value = if beyond { most.saturating_add(by) } else { least.saturating_sub(by) };
            let limits = with(which, value);
            let in_bounds = (least..=most).contains(&value);
            let named = |why| matches!(why, InvalidLimits::Range { limit, .. } if limit == name);
            let refused = limits.check().is_err_and(named);
            prop_assert!(in_bounds || refused);
        }
    }

    /// Returns the defaults with one of them, by its index, changed: through the form in which people see them.
    fn with(which: usize, value: u32) -> Limits {
        let rows = Limits::DEFAULT.rows().enumerate();
        let rows = rows.map(|(n, (limit, default, ..))| (limit.name(), if n == which { value } else { default }));
        let fields = serde::de::value::MapDeserializer::<_, serde::de::value::Error>::new(rows);
        Limits::deserialize(fields).expect("all limits have a field")
    }
}
