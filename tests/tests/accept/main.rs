//! Acceptance tests: real processes, used only through their public interfaces.
#![allow(clippy::unwrap_used, reason = "a panic in a test is its report")]

mod appends;
mod bad_input;
mod commands;
mod contract;
mod damage;
mod demo;
mod frozen;
mod full_disks;
mod idle;
mod joining;
mod kills;
mod logs;
mod members;
mod older_data;
mod poison;
mod quiet;
mod real_input;
mod replay;
mod reshape;
mod scripts;
mod wrong_handlers;
mod wrong_starts;

/// The binary under test.
const EVENER: &str = env!("CARGO_BIN_EXE_evener-under-test");
/// A handler program that records its events.
const RECORD: &str = env!("CARGO_BIN_EXE_record");
/// A program with an embedded node, whose handler records its events.
const RECORDER: &str = env!("CARGO_BIN_EXE_recorder");
