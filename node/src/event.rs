//! An event as it stands in the log.

pub use evener_store::events::Stored;
