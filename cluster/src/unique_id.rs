//! Unique ids that a process generates, all derived from the random id that it was started with.

use evener_core::hash::xxh64;
use uuid::{Builder, Uuid};

/// The purpose of an id. Ids for different purposes differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub(crate) enum IdPurpose {
    /// A cluster.
    Cluster = 1,
    /// The incarnation of a data directory.
    Incarnation = 2,
    /// The beginning of a session.
    Session = 3,
}

/// Returns the `nth` id for a purpose, derived from `random_id`.
pub(crate) fn unique_id(random_id: Uuid, purpose: IdPurpose, nth: u64) -> Uuid {
    let mut bytes = [0; 16];
    for (half, seed) in bytes.chunks_exact_mut(8).zip([1, 2]) {
        let seed = xxh64(&(purpose as u64).to_le_bytes(), seed).wrapping_add(nth);
        half.copy_from_slice(&xxh64(random_id.as_bytes(), seed).to_le_bytes());
    }
    Builder::from_random_bytes(bytes).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_derived_from_the_random_id_and_differ() {
        let random_id = Uuid::from_u128(7);
        let ids = [
            unique_id(random_id, IdPurpose::Cluster, 0),
            unique_id(random_id, IdPurpose::Incarnation, 0),
            unique_id(random_id, IdPurpose::Session, 0),
            unique_id(random_id, IdPurpose::Session, 1),
            unique_id(Uuid::from_u128(8), IdPurpose::Session, 1),
        ];
        for (nth, one) in ids.iter().enumerate() {
            assert!(!ids[..nth].contains(one));
        }
        assert_eq!(unique_id(random_id, IdPurpose::Session, 1), ids[3]);
    }
}
