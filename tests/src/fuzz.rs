//! Hostile input for every decoder of bytes that come from outside: [`mutate`] makes it from valid samples, and [`run`]
//! feeds it to a decoder and judges what happens. No coverage guides it (that needs a nightly toolchain), so the
//! samples hold every form that a decoder knows, and the mutations know lengths, varints and JSON.

use evener_core::fuzz::Decoder;

pub mod mutate;
pub mod run;

/// Every decoder of every crate.
#[must_use]
pub fn decoders() -> Vec<Decoder> {
    [evener_store::fuzz::decoders(), evener_cluster::fuzz::decoders(), evener::fuzz::decoders()].concat()
}

/// The decoder with this name.
#[must_use]
pub fn decoder(name: &str) -> Option<Decoder> {
    decoders().into_iter().find(|decoder| decoder.name == name)
}
