//! A segment: the share of a processor's events whose hashes end in the same bits.

use serde::{Deserialize, Serialize};

use crate::id::SegmentId;

/// A share: all hashes with `hash & mask == id`. The mask is `2^k - 1`, and `id <= mask`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Segment {
    /// The bits its hashes end in.
    pub id: u32,
    /// Which bits are looked at.
    pub mask: u32,
}

impl Segment {
    /// Everything.
    pub const ROOT: Self = Self { id: 0, mask: 0 };

    /// Whether `hash` is in this share.
    #[must_use]
    pub const fn holds(self, hash: u64) -> bool {
        (hash as u32) & self.mask == self.id
    }

    /// Its name within the processor.
    #[must_use]
    pub const fn name(self) -> SegmentId {
        SegmentId(self.id)
    }

    /// Its halves; none where the mask is full.
    #[must_use]
    pub const fn split(self) -> Option<(Self, Self)> {
        let Some(doubled) = self.mask.checked_mul(2) else { return None };
        let mask = doubled + 1;
        Some((Self { id: self.id, mask }, Self { id: self.id + self.mask + 1, mask }))
    }

    /// The other half of what it was split from; none for the root.
    #[must_use]
    pub const fn sibling(self) -> Option<Self> {
        if self.mask == 0 {
            return None;
        }
        Some(Self { id: self.id ^ (self.mask ^ (self.mask >> 1)), mask: self.mask })
    }

    /// What the two halves were before the split; none unless `other` is the sibling.
    #[must_use]
    pub fn merge(self, other: Self) -> Option<Self> {
        let mask = self.mask >> 1;
        (self.sibling() == Some(other)).then_some(Self { id: self.id & mask, mask })
    }

    /// `count` segments that cover everything, made by splitting the largest first; ids are `0..count`.
    #[must_use]
    pub fn cover(count: u32) -> alloc::vec::Vec<Self> {
        let count = count.max(1);
        let whole = count.next_power_of_two();
        let (mask, low) = (whole - 1, whole / 2);
        // Those whose sibling would have an id of `count` or more were not split the last time.
        (0..count)
            .map(|id| {
                let split = id >= low || id + low < count;
                Self { id, mask: if split { mask } else { mask >> 1 } }
            })
            .collect()
    }
}
