//! Evener: an event store and event processor in one.

pub mod cloudevent;
pub mod event;
