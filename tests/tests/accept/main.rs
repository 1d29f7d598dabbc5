//! What a user would try: real processes, the public surface only.
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
mod scripts;
mod wrong_handlers;
mod wrong_starts;

/// The binary under test.
const EVENER: &str = env!("CARGO_BIN_EXE_evener-under-test");
/// A handler program that writes down what it is given.
const RECORD: &str = env!("CARGO_BIN_EXE_record");
/// A node in a program, whose handler writes down what it is given.
const RECORDER: &str = env!("CARGO_BIN_EXE_recorder");
