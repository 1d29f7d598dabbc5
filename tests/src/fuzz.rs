//! Hostile input for every decoder of external bytes: [`mutate`] derives it from valid samples, and [`run`] passes it
//! to a decoder and checks the result. It is not guided by coverage (that needs a nightly toolchain), so the samples
//! cover every form that a decoder accepts, and the mutations target lengths, varints and JSON.

use evener_core::fuzz::Decoder;

pub mod mutate;
pub mod run;

/// Returns every decoder of every crate.
#[must_use]
pub fn decoders() -> Vec<Decoder> {
    [evener_store::fuzz::decoders(), evener_cluster::fuzz::decoders(), evener::fuzz::decoders()].concat()
}

/// Returns the decoder with this name.
#[must_use]
pub fn decoder(name: &str) -> Option<Decoder> {
    decoders().into_iter().find(|decoder| decoder.name == name)
}
