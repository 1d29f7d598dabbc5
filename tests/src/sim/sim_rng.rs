//! The random numbers of a run, all from its seed.

use std::time::Duration;

use evener_core::hash::xxh64;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use uuid::Uuid;

/// A stream of random numbers for one purpose. Streams are independent: one more number for a client changes no fault.
#[derive(Debug)]
pub struct SimRng {
    seed: u64,
    rng: StdRng,
}

impl SimRng {
    /// Creates the stream of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed, rng: StdRng::seed_from_u64(seed) }
    }

    /// Derives the stream of a purpose, which depends on the seed and the purpose only. Purposes are part of the seed:
    /// another text gives another run, so that recorded seeds no longer reproduce what they were recorded for.
    #[must_use]
    pub fn derive(&self, purpose: &str) -> Self {
        Self::new(xxh64(purpose.as_bytes(), self.seed))
    }

    /// Returns a number from `low` to `high`, inclusive.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        self.rng.random_range(low..=high)
    }

    /// Returns a duration from `low` to `high`, inclusive.
    pub fn time(&mut self, low: Duration, high: Duration) -> Duration {
        let micros = |time: Duration| u64::try_from(time.as_micros()).expect("durations of a run are short");
        Duration::from_micros(self.between(micros(low), micros(high)))
    }

    /// Returns `true` with probability 1/`n`.
    pub fn once_in(&mut self, n: u64) -> bool {
        self.between(1, n) == 1
    }

    /// Returns one of the elements.
    pub fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        let last = from.len().checked_sub(1).expect("there is something to pick from");
        from[usize::try_from(self.between(0, last as u64)).expect("an index")].clone()
    }

    /// Returns any number.
    pub fn number(&mut self) -> u64 {
        self.rng.random()
    }

    /// Returns a random UUID.
    pub fn uuid(&mut self) -> Uuid {
        uuid::Builder::from_random_bytes(self.rng.random()).into_uuid()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_purpose_has_the_same_stream_whenever_it_is_derived() {
        let mut rng = SimRng::new(7);
        let early = rng.derive("faults").number();
        rng.number();
        assert_eq!(rng.derive("faults").number(), early);
        assert_ne!(rng.derive("clients").number(), early);
        assert_ne!(SimRng::new(8).derive("faults").number(), early);
    }
}
