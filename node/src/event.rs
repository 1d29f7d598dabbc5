//! An event as it stands in the log: what its producer told, and what its place says of it.

pub use evener_store::events::Stored;
