//! All chance of a run, from its seed.

use std::time::Duration;

use evener_core::hash::xxh64;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use uuid::Uuid;

/// Dice of one purpose. Purposes do not disturb each other: a client that draws once more changes no fault.
#[derive(Debug)]
pub struct SimRng {
    seed: u64,
    rng: StdRng,
}

impl SimRng {
    /// The dice of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed, rng: StdRng::seed_from_u64(seed) }
    }

    /// Dice for a purpose; the same whenever they are taken.
    #[must_use]
    pub fn derive(&self, purpose: &str) -> Self {
        Self::new(xxh64(purpose.as_bytes(), self.seed))
    }

    /// From `low` to `high`, both among them.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        self.rng.random_range(low..=high)
    }

    /// Between two times.
    pub fn time(&mut self, low: Duration, high: Duration) -> Duration {
        let micros = |time: Duration| u64::try_from(time.as_micros()).expect("times of a run are short");
        Duration::from_micros(self.between(micros(low), micros(high)))
    }

    /// True once in `n` throws.
    pub fn once_in(&mut self, n: u64) -> bool {
        self.between(1, n) == 1
    }

    /// One of these.
    pub fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        let last = from.len().checked_sub(1).expect("there is something to pick from");
        from[usize::try_from(self.between(0, last as u64)).expect("an index")].clone()
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.rng.random()
    }

    /// A name.
    pub fn uuid(&mut self) -> Uuid {
        uuid::Builder::from_random_bytes(self.rng.random()).into_uuid()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_purpose_has_the_same_dice_whenever_they_are_taken() {
        let mut rng = SimRng::new(7);
        let early = rng.derive("faults").number();
        rng.number();
        assert_eq!(rng.derive("faults").number(), early);
        assert_ne!(rng.derive("clients").number(), early);
        assert_ne!(SimRng::new(8).derive("faults").number(), early);
    }
}
