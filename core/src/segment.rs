//! A segment: the share of a processor's events whose hashes end in the same bits.

use serde::{Deserialize, Serialize};

use crate::id::SegmentId;

/// A share: all hashes with `hash & mask == id`. The mask is `2^k - 1`, and `id <= mask`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Segment {
    /// The bits in which its hashes end.
    pub id: u32,
    /// The bits that are compared.
    pub mask: u32,
}

impl Segment {
    /// Returns whether `hash` is in this segment.
    #[must_use]
    pub const fn holds(self, hash: u64) -> bool {
        (hash as u32) & self.mask == self.id
    }

    /// Returns whether all of `other`'s hashes are in this segment too.
    #[must_use]
    pub const fn covers(self, other: Self) -> bool {
        self.mask <= other.mask && other.id & self.mask == self.id
    }

    /// Returns its id within the processor.
    #[must_use]
    pub const fn name(self) -> SegmentId {
        SegmentId(self.id)
    }

    /// Returns its halves; `None` if the mask is full.
    #[must_use]
    pub const fn split(self) -> Option<(Self, Self)> {
        let Some(doubled) = self.mask.checked_mul(2) else { return None };
        let mask = doubled + 1;
        Some((Self { id: self.id, mask }, Self { id: self.id + self.mask + 1, mask }))
    }

    /// Returns the other half of the segment from which it was split; `None` for the root.
    #[must_use]
    pub const fn sibling(self) -> Option<Self> {
        if self.mask == 0 {
            return None;
        }
        Some(Self { id: self.id ^ (self.mask ^ (self.mask >> 1)), mask: self.mask })
    }

    /// Returns the segment of which the two are halves; `None` unless `other` is the sibling.
    #[must_use]
    pub fn merge(self, other: Self) -> Option<Self> {
        let mask = self.mask >> 1;
        (self.sibling() == Some(other)).then_some(Self { id: self.id & mask, mask })
    }

    /// Returns `count` segments that cover everything, made by splitting the largest first; ids are `0..count`. The
    /// number of segments of a processor is limited by the state, far below the 2^31 that this can do.
    #[must_use]
    pub fn cover(count: u32) -> alloc::vec::Vec<Self> {
        let count = count.max(1);
        let whole = count.next_power_of_two();
        let (mask, low) = (whole - 1, whole / 2);
        // A segment whose sibling would have an id of `count` or more was not split the last time.
        (0..count)
            .map(|id| {
                let split = id >= low || id + low < count;
                Self { id, mask: if split { mask } else { mask >> 1 } }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use alloc::{vec, vec::Vec};

    use super::*;
    use proptest::{collection, prelude::*};

    impl Segment {
        /// The segment that covers every hash.
        pub(crate) const ROOT: Self = segment(0, 0);

        /// Returns whether the two have hashes in common.
        pub(crate) const fn overlaps(self, other: Self) -> bool {
            (self.id ^ other.id) & self.mask & other.mask == 0
        }
    }

    const fn segment(id: u32, mask: u32) -> Segment {
        Segment { id, mask }
    }

    #[test]
    fn six_segments_match_the_reference_system() {
        let six = [(0, 7), (1, 7), (2, 3), (3, 3), (4, 7), (5, 7)].map(|(id, mask)| segment(id, mask));
        assert_eq!(Segment::cover(6), six);
    }

    #[test]
    fn a_cover_equals_repeated_splits_of_the_largest_segment() {
        let mut naive = vec![Segment::ROOT];
        for count in 1..500 {
            assert_eq!(Segment::cover(count), naive, "{count}");
            let largest = *naive.iter().min_by_key(|s| (s.mask, s.id)).unwrap();
            let (left, right) = largest.split().unwrap();
            naive.retain(|s| *s != largest);
            naive.extend([left, right]);
            naive.sort_unstable();
        }
    }

    #[test]
    fn the_root_has_no_sibling_and_a_full_mask_cannot_be_split() {
        assert_eq!(Segment::ROOT.sibling(), None);
        assert_eq!(Segment::ROOT.merge(Segment::ROOT), None);
        assert_eq!(segment(5, u32::MAX).split(), None);
        let (left, right) = segment(5, u32::MAX >> 1).split().unwrap();
        assert_eq!((left, right), (segment(5, u32::MAX), segment(0x8000_0005, u32::MAX)));
    }

    #[test]
    fn only_siblings_with_equal_masks_merge() {
        assert_eq!(segment(1, 3).merge(segment(3, 3)), Some(segment(1, 1)));
        assert_eq!(segment(3, 3).merge(segment(1, 3)), Some(segment(1, 1)));
        assert_eq!(segment(1, 3).merge(segment(1, 3)), None);
        assert_eq!(segment(1, 3).merge(segment(2, 3)), None);
        assert_eq!(segment(1, 3).merge(segment(3, 7)), None);
    }

    proptest! {
        #[test]
        fn each_hash_is_in_exactly_one_half(hash in any::<u64>(), bits in 0_u32..32) {
            let mask = (1_u64 << bits) as u32 - 1;
            let whole = segment(hash as u32 & mask, mask);
            let (left, right) = whole.split().unwrap();
            prop_assert!(whole.holds(hash) && (left.holds(hash) != right.holds(hash)));
            prop_assert!(whole.covers(left) && whole.covers(right) && !left.covers(whole));
            prop_assert_eq!((left.sibling(), right.sibling()), (Some(right), Some(left)));
            prop_assert_eq!((left.merge(right), right.merge(left)), (Some(whole), Some(whole)));
        }

        #[test]
        fn each_hash_has_one_segment_after_any_splits_and_merges(
            start in 1_u32..20,
            history in collection::vec((any::<bool>(), any::<prop::sample::Index>()), 0..60),
            hashes in collection::vec(any::<u64>(), 1..50),
        ) {
            let mut all: Vec<Segment> = Segment::cover(start);
            for (split, which) in history {
                let chosen = *which.get(&all);
                if split {
                    let (left, right) = chosen.split().unwrap();
                    all.retain(|s| *s != chosen);
                    all.extend([left, right]);
                } else if let Some(merged) = all.iter().find_map(|other| chosen.merge(*other)) {
                    all.retain(|s| !merged.covers(*s));
                    all.push(merged);
                }
            }
            let names: alloc::collections::BTreeSet<SegmentId> = all.iter().map(|s| s.name()).collect();
            prop_assert_eq!(names.len(), all.len());
            for hash in hashes {
                prop_assert_eq!(all.iter().filter(|s| s.holds(hash)).count(), 1);
            }
        }
    }
}
