//! Postings: the places of the events that share a name, in order.

/// A place in one context: its position, in half the bytes. An index in memory would take half a terabyte before
/// these run out.
pub type Ordinal = u32;

/// The spot of a position.
///
/// # Panics
///
/// Beyond 2^32 events, which no memory holds the index of.
pub fn ordinal(position: u64) -> Ordinal {
    Ordinal::try_from(position).expect("an index in memory holds less than 2^32 events")
}

/// Spots that only grow. Most names of streams have few, and the first one needs no memory of its own.
#[derive(Clone, Debug)]
pub enum Postings {
    /// One.
    One([Ordinal; 1]),
    /// More.
    Many(Vec<Ordinal>),
}

impl Postings {
    /// The first.
    pub const fn new(first: Ordinal) -> Self {
        Self::One([first])
    }

    /// One more. The same one twice is once: an event that bears a tag twice bears it.
    pub fn push(&mut self, ordinal: Ordinal) {
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

    /// All of them, in order.
    pub fn as_slice(&self) -> &[Ordinal] {
        match self {
            Self::One(one) => one,
            Self::Many(many) => many,
        }
    }
}

/// How many of `spots` stand before `bound`.
pub fn rank(ordinals: &[Ordinal], bound: u64) -> usize {
    ordinals.partition_point(|ordinal| u64::from(*ordinal) < bound)
}
