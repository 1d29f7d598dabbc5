//! An event as stored in the log: the producer's attributes, and its position, revision and time.

pub use evener_store::events::Stored;
