//! Bytes on disk.

pub mod codec;
pub mod index;
pub mod payload;
#[cfg(test)]
mod samples;
mod varint;
