//! Postings: the ordered positions of the events that share a name.

/// A position in one context in half the bytes. An index in memory would need half a terabyte before it exceeds 32
/// bits.
pub(super) type Ordinal = u32;

/// Returns the ordinal of a position.
///
/// # Panics
///
/// Beyond 2^32 events, whose index exceeds any memory.
pub(super) fn ordinal(position: u64) -> Ordinal {
    Ordinal::try_from(position).expect("an index in memory holds less than 2^32 events")
}

/// Ascending ordinals. Most streams have few events, and a single one needs no allocation.
#[derive(Clone, Debug)]
pub(super) enum Postings {
    /// One ordinal.
    One([Ordinal; 1]),
    /// Several ordinals.
    Many(Vec<Ordinal>),
}

impl Postings {
    /// Creates postings with one ordinal.
    pub(super) const fn new(first: Ordinal) -> Self {
        Self::One([first])
    }

    /// Appends an ordinal, unless it equals the last one: an event may repeat a tag.
    pub(super) fn push(&mut self, ordinal: Ordinal) {
        let last = *self.as_slice().last().expect("postings are never empty");
        debug_assert!(last <= ordinal, "postings only grow");
        if last == ordinal {
            return;
        }
        match self {
            Self::One([first]) => *self = Self::Many(vec![*first, ordinal]),
            Self::Many(ordinals) => ordinals.push(ordinal),
        }
    }

    /// Returns all ordinals in order.
    pub(super) fn as_slice(&self) -> &[Ordinal] {
        match self {
            Self::One(one) => one,
            Self::Many(many) => many,
        }
    }
}

/// Returns the number of ordinals before `bound`.
pub(super) fn rank(ordinals: &[Ordinal], bound: u64) -> usize {
    ordinals.partition_point(|ordinal| u64::from(*ordinal) < bound)
}
