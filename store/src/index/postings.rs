//! Postings: the places of the events that share a name, in order.

/// A place in one context: its position, in half the bytes. An index in memory would take half a terabyte before
/// these run out.
pub type Spot = u32;

/// The spot of a position.
///
/// # Panics
///
/// Beyond 2^32 events, which no memory holds the index of.
pub fn spot(position: u64) -> Spot {
    Spot::try_from(position).expect("an index in memory holds less than 2^32 events")
}

/// Spots that only grow. Most names of streams have few, and the first one needs no memory of its own.
#[derive(Clone, Debug)]
pub enum Postings {
    /// One.
    One([Spot; 1]),
    /// More.
    Many(Vec<Spot>),
}

impl Postings {
    /// The first.
    pub const fn new(first: Spot) -> Self {
        Self::One([first])
    }

    /// One more. The same one twice is once: an event that bears a tag twice bears it.
    pub fn push(&mut self, spot: Spot) {
        let last = *self.as_slice().last().expect("postings are never empty");
        debug_assert!(last <= spot, "postings only grow");
        if last == spot {
            return;
        }
        match self {
            Self::One([first]) => *self = Self::Many(vec![*first, spot]),
            Self::Many(spots) => spots.push(spot),
        }
    }

    /// All of them, in order.
    pub fn as_slice(&self) -> &[Spot] {
        match self {
            Self::One(one) => one,
            Self::Many(many) => many,
        }
    }
}

/// How many of `spots` stand before `bound`.
pub fn rank(spots: &[Spot], bound: u64) -> usize {
    spots.partition_point(|spot| u64::from(*spot) < bound)
}
