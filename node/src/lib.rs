//! Evener: an event store and event processor in one.

pub mod cloudevent;
pub mod event;

pub mod codes;
pub mod error;
pub mod settings;
pub mod status;
