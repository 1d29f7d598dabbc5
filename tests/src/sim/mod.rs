//! Whole nodes in virtual time, under faults, from one seed.
//!
//! Everything runs on one thread of one paused runtime: time advances when all tasks wait, so a minute of a cluster
//! takes a moment, and the same seed gives the same run to the last line of its trace. The code under test is the real
//! one, except for disk, network and clock, which are the fakes that their crates provide.
//!
//! A run has two phases. In the first, clients append and read while the faults of [`plan::Plan`] are injected; in the
//! second all faults end, and the cluster must recover within a bound. Then the oracles check the run.
//!
//! Names of random streams are seeds, and texts of trace lines are inputs of the trace's hash: a change of either makes
//! other runs of recorded seeds.

pub mod run;

pub mod plan;
pub mod report;

pub mod client;
pub mod fault_injector;
pub mod handlers;
pub mod machine;
pub mod operators;
pub mod turnover;

pub mod sim_rng;
pub mod trace;
