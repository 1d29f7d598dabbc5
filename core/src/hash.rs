//! The hash of sequences: XXH64 with seed 0, specified, mixed, versioned. It decides to which segment an event belongs,
//! so it can never change under the same version; golden values pin it.

/// The version of the hash. Stored with every processor.
pub const VERSION: u8 = 1;

const P1: u64 = 0x9E37_79B1_85EB_CA87;
const P2: u64 = 0xC2B2_AE3D_27D4_EB4F;
const P3: u64 = 0x1656_67B1_9E37_79F9;
const P4: u64 = 0x85EB_CA77_C2B2_AE63;
const P5: u64 = 0x27D4_EB2F_1656_67C5;

/// Returns the hash of a sequence's name.
#[must_use]
pub fn sequence(name: &[u8]) -> u64 {
    xxh64(name, 0)
}

/// Returns XXH64 of `bytes`.
#[must_use]
pub fn xxh64(bytes: &[u8], seed: u64) -> u64 {
    let mut stripes = bytes.chunks_exact(32);
    let mut hash = if bytes.len() >= 32 {
        let mut lanes = [seed.wrapping_add(P1).wrapping_add(P2), seed.wrapping_add(P2), seed, seed.wrapping_sub(P1)];
        for stripe in &mut stripes {
            for (lane, word) in lanes.iter_mut().zip(stripe.chunks_exact(8)) {
                *lane = round(*lane, u64_of(word));
            }
        }
        let mixed =
            [1, 7, 12, 18].iter().zip(lanes).fold(0_u64, |sum, (turn, lane)| sum.wrapping_add(lane.rotate_left(*turn)));
        lanes.iter().fold(mixed, |hash, lane| (hash ^ round(0, *lane)).wrapping_mul(P1).wrapping_add(P4))
    } else {
        seed.wrapping_add(P5)
    };
    hash = hash.wrapping_add(bytes.len() as u64);
    let mut words = stripes.remainder().chunks_exact(8);
    for word in &mut words {
        hash = (hash ^ round(0, u64_of(word))).rotate_left(27).wrapping_mul(P1).wrapping_add(P4);
    }
    let mut rest = words.remainder();
    if let Some((half, tail)) = rest.split_at_checked(4) {
        let half = u64::from(u32::from_le_bytes([half[0], half[1], half[2], half[3]]));
        hash = (hash ^ half.wrapping_mul(P1)).rotate_left(23).wrapping_mul(P2).wrapping_add(P3);
        rest = tail;
    }
    for byte in rest {
        hash = (hash ^ u64::from(*byte).wrapping_mul(P5)).rotate_left(11).wrapping_mul(P1);
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(P2);
    hash = (hash ^ (hash >> 29)).wrapping_mul(P3);
    hash ^ (hash >> 32)
}

fn u64_of(word: &[u8]) -> u64 {
    u64::from_le_bytes(word.try_into().expect("a word has eight bytes"))
}

const fn round(lane: u64, word: u64) -> u64 {
    lane.wrapping_add(word.wrapping_mul(P2)).rotate_left(31).wrapping_mul(P1)
}

/// Digests parts one after the other; where a part ends is part of the digest.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hasher(u64);

impl Hasher {
    /// Makes a hasher without parts.
    #[must_use]
    pub const fn new() -> Self {
        Self(P5)
    }

    /// Digests a part, or its absence.
    pub fn part(&mut self, bytes: Option<&[u8]>) {
        self.0 = match bytes {
            Some(bytes) => xxh64(bytes, self.0.wrapping_mul(P1).wrapping_add(bytes.len() as u64 + 1)),
            None => round(self.0, P4),
        };
    }

    /// Returns the digest of all parts.
    #[must_use]
    pub const fn finish(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection, prelude::*};

    #[test]
    fn golden_values_of_the_hash() {
        assert_eq!(xxh64(b"", 0), 0xEF46_DB37_51D8_E999);
        assert_eq!(xxh64(b"a", 0), 0xD24E_C4F1_A98C_6E5B);
        assert_eq!(xxh64(b"abc", 0), 0x44BC_2CF5_AD77_0999);
        assert_eq!(xxh64(b"Nobody inspects the spammish repetition", 0), 0xFBCE_A83C_8A37_8BF1);
    }

    /// Names that users see: if one of these values changed, their events would change segments.
    #[test]
    fn golden_values_of_sequences() {
        for (name, hash) in [
            ("account-7", 0xBDFF_8CD1_19F2_C877),
            ("0f8fad5b-d9cb-469f-a165-70867728950e", 0xE842_FCAC_2395_A4F3),
            ("tenant=acme;order=2026-000000000042;line=7;of=19", 0xF7BA_03CA_AAF5_2B95),
        ] {
            assert_eq!(sequence(name.as_bytes()), hash, "{name}");
        }
    }

    proptest! {
        #[test]
        fn the_hash_is_xxh64(bytes in collection::vec(any::<u8>(), 0..200), seed in any::<u64>()) {
            prop_assert_eq!(xxh64(&bytes, seed), xxhash_rust::xxh64::xxh64(&bytes, seed));
        }

        #[test]
        fn the_digest_depends_on_where_parts_end(a in "[ab]{0,9}", b in "[ab]{0,9}", cut in 0_usize..18) {
            let whole = [a.as_bytes(), b.as_bytes()].concat();
            let (c, d) = whole.split_at(cut.min(whole.len()));
            prop_assert_eq!(digest(a.as_bytes(), b.as_bytes()) == digest(c, d), c == a.as_bytes());
        }
    }

    fn digest(a: &[u8], b: &[u8]) -> u64 {
        let mut hasher = Hasher::new();
        hasher.part(Some(a));
        hasher.part(Some(b));
        hasher.finish()
    }

    #[test]
    fn a_missing_part_differs_from_an_empty_part() {
        let mut none = Hasher::new();
        none.part(None);
        let mut empty = Hasher::new();
        empty.part(Some(b""));
        assert_ne!(none.finish(), empty.finish());
    }
}
