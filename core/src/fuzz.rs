//! The properties of a decoder that a fuzz test needs. Each crate lists its own decoders of bytes that come from
//! outside (from clients, peers, disks, programs and people) behind the feature `testing`.

use alloc::vec::Vec;

/// A decoder of bytes that come from outside.
#[derive(Clone, Copy)]
pub struct Decoder {
    /// Its name on the command line of the fuzz test.
    pub name: &'static str,
    /// Decodes the bytes, whatever they are. What it decodes it also encodes and decodes again, where there is an
    /// encoder; a difference is a panic.
    pub decode: fn(&[u8]),
    /// Valid inputs, from which others are made.
    pub samples: fn() -> Vec<Vec<u8>>,
    /// Bytes of memory that it may take however short its input is.
    pub memory: usize,
}

impl Decoder {
    /// Describes a decoder that takes at most 4 MiB for a short input: serde takes up to 1 MiB for a list because of
    /// its count alone, and our values nest a few lists.
    #[must_use]
    pub const fn new(name: &'static str, decode: fn(&[u8]), samples: fn() -> Vec<Vec<u8>>) -> Self {
        Self { name, decode, samples, memory: 4 << 20 }
    }
}
