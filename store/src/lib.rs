//! Bytes on disk.

pub mod codec;
pub mod payload;
