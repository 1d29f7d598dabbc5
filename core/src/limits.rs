//! The replicated limits: what `apply` reads, the same on every node, changed only by a command. Each has a name, a
//! default, a reason, and bounds of its own, so that no command can make the state useless.

use alloc::{format, string::String};

use serde::{Deserialize, Serialize};

macro_rules! limits {
    ($($(#[doc = $about:literal])+ $name:ident = $default:literal in $least:literal..=$most:literal;)*) => {
        /// See the [module](self).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct Limits {
            $($(#[doc = $about])+ pub $name: u32,)*
        }

        impl Limits {
            /// What a new cluster starts with.
            pub const DEFAULT: Self = Self { $($name: $default),* };

            /// Each with its name, what it is, and the least and the most that it may be.
            pub fn rows(&self) -> impl Iterator<Item = (&'static str, u32, u32, u32)> {
                [$((stringify!($name), self.$name, $least, $most)),*].into_iter()
            }
        }
    };
}

limits! {
    /// Bytes of one event, attributes and payload: 1 MiB less its frame, so that it fits an entry alone.
    event_bytes_max = 1_000_000 in 1_024..=1_000_000;
    /// Events of one append.
    append_events_max = 10_000 in 1..=100_000;
    /// Bytes of one append: an append and an entry are at most 1 MiB.
    append_bytes_max = 1_000_000 in 1_024..=1_000_000;
    /// Bytes of one tag.
    tag_bytes_max = 256 in 16..=4_096;
    /// Tags of one event, and of one item of criteria.
    event_tags_max = 64 in 1..=1_024;
    /// Bytes of the value of one extension attribute: a sequence may be named by it.
    extension_bytes_max = 4_096 in 16..=65_536;
    /// Extension attributes of one event.
    event_extensions_max = 64 in 1..=1_024;
    /// Bytes of a name or an attribute: of a stream, key, type, source, id, processor, member, address.
    name_bytes_max = 512 in 64..=4_096;
    /// Conditions of one append, streams that it expects somewhere, and items of one set of criteria.
    conditions_max = 64 in 1..=1_024;
    /// Types of one item of criteria.
    criteria_types_max = 256 in 1..=4_096;
    /// Events kept in memory by `apply` for the conditions of appends in flight. A check that is older than
    /// this is answered *retry*.
    tail_events = 16_384 in 1_024..=1_048_576;
    /// Bytes of these: events with many tags are forgotten sooner. Every image of the state has them in it.
    tail_bytes = 16_777_216 in 1_048_576..=1_073_741_824;
    /// Members of the cluster.
    members_max = 64 in 1..=1_024;
    /// Processors in the cluster.
    processors_max = 1_024 in 1..=16_384;
    /// Segments of one processor.
    segments_max = 16_384 in 1..=65_536;
    /// Bytes of the types and tags that one processor asks for, all together.
    definition_bytes_max = 65_536 in 1_024..=262_144;
    /// Bytes of the command of a processor's program: what is longer belongs into a file.
    exec_bytes_max = 16_384 in 64..=65_536;
    /// Sequences set aside per processor; then its segments stall (P6 names this exception).
    sequences_max = 1_024 in 1..=65_536;
    /// Letters of one sequence set aside; then its segment stalls.
    letters_max = 1_024 in 1..=65_536;
    /// Bytes of a cause that are kept.
    cause_bytes_max = 1_024 in 64..=65_536;
    /// Bytes of a person's reason: it is kept as long as the operation is remembered.
    reason_bytes_max = 1_024 in 64..=65_536;
    /// Operations whose outcome is remembered.
    operations_max = 1_024 in 16..=65_536;
    /// How long a released segment may not return to its node: two leases of 5 s.
    release_bar_ms = 10_000 in 100..=3_600_000;
    /// How long a segment whose handler could not be asked on a node may not return there.
    unable_bar_ms = 60_000 in 100..=3_600_000;
    /// Attempts by the segment's owner before a failing sequence is lent, or its segment moved.
    own_attempts = 3 in 1..=1_000;
    /// Items of one token; a merge that would make more is refused.
    token_items_max = 64 in 2..=4_096;
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
    /// Whether a cluster can live with them.
    ///
    /// # Errors
    ///
    /// The one with which it cannot, and what it may be.
    pub fn check(&self) -> Result<(), String> {
        if let Some((name, value, least, most)) =
            self.rows().find(|(_, value, least, most)| !(least..=most).contains(&value))
        {
            return Err(format!("{name} is {least} to {most}, not {value}"));
        }
        if self.event_bytes_max > self.append_bytes_max {
            let (event, append) = (self.event_bytes_max, self.append_bytes_max);
            return Err(format!("event_bytes_max ({event}) is at most append_bytes_max ({append})"));
        }
        Ok(())
    }
}

/// A limit that is passed, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passed {
    /// The limit's name.
    pub name: String,
    /// What it allows.
    pub max: u64,
    /// What was asked for.
    pub got: u64,
    /// Of what: `bytes of the stream of event 3`.
    pub of: String,
}

impl Passed {
    /// Whether there are no more than `max` of something.
    ///
    /// # Errors
    ///
    /// What is passed.
    pub fn check(name: &str, max: u32, got: usize, of: impl FnOnce() -> String) -> Result<(), Self> {
        if got <= max as usize {
            return Ok(());
        }
        Err(Self { name: name.into(), max: u64::from(max), got: got as u64, of: of() })
    }
}

impl core::fmt::Display for Passed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self { name, max, got, of } = self;
        write!(f, "{name} allows {max} {of}, and there are {got}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn p10_a_cluster_can_live_with_what_it_starts_with() {
        assert_eq!(Limits::DEFAULT.check(), Ok(()));
        let more = Limits { append_bytes_max: 2_000, ..Limits::DEFAULT };
        assert!(more.check().unwrap_err().contains("append_bytes_max (2000)"));
    }

    proptest! {
        #[test]
        fn p10_a_limit_out_of_its_bounds_is_named(which in 0_usize..26, beyond in any::<bool>(), by in 1_u32..) {
            let mut row = Limits::DEFAULT.rows();
            prop_assert_eq!(row.by_ref().count(), 26, "this test goes through all of them");
            let (name, _, least, most) = Limits::DEFAULT.rows().nth(which).expect("there are so many");
            let value = if beyond { most.saturating_add(by) } else { least.saturating_sub(by) };
            let limits = with(which, value);
            let in_bounds = (least..=most).contains(&value);
            prop_assert!(in_bounds || limits.check().is_err_and(|why| why.starts_with(name)));
        }
    }

    /// The defaults with one of them, by its place, changed: through the form in which people see them.
    fn with(which: usize, value: u32) -> Limits {
        let rows = Limits::DEFAULT.rows().enumerate();
        let rows = rows.map(|(n, (name, default, ..))| (name, if n == which { value } else { default }));
        let fields = serde::de::value::MapDeserializer::<_, serde::de::value::Error>::new(rows);
        Limits::deserialize(fields).expect("they are all there")
    }
}
