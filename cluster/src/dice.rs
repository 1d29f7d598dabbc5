//! Names that a process gives, all drawn from what it was given at its start.

use evener_core::hash::xxh64;
use uuid::{Builder, Uuid};

/// What a name is for; no two uses share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Use {
    /// A cluster.
    Cluster = 1,
    /// The life of a data directory.
    Incarnation = 2,
    /// The beginning of a session.
    Session = 3,
}

/// The `nth` name for a use, from a draw.
pub fn name(draw: Uuid, for_: Use, nth: u64) -> Uuid {
    let mut bytes = [0; 16];
    for (half, seed) in bytes.chunks_exact_mut(8).zip([1, 2]) {
        let seed = xxh64(&(for_ as u64).to_le_bytes(), seed).wrapping_add(nth);
        half.copy_from_slice(&xxh64(draw.as_bytes(), seed).to_le_bytes());
    }
    Builder::from_random_bytes(bytes).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_from_the_draw_and_differ() {
        let draw = Uuid::from_u128(7);
        let names = [
            name(draw, Use::Cluster, 0),
            name(draw, Use::Incarnation, 0),
            name(draw, Use::Session, 0),
            name(draw, Use::Session, 1),
            name(Uuid::from_u128(8), Use::Session, 1),
        ];
        for (nth, one) in names.iter().enumerate() {
            assert!(!names[..nth].contains(one));
        }
        assert_eq!(name(draw, Use::Session, 1), names[3]);
    }
}
