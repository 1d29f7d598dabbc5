//! Whole nodes in virtual time, under faults, from one seed.
//!
//! Everything runs on one thread of one paused runtime: time passes when nobody has anything to do, so a minute of
//! a cluster takes a moment, and the same seed gives the same run to the last line of its trace. The code under
//! test is the real one down to the three mouths: the disk, the wire and the clock are the fakes of their owners.
//!
//! A run has two phases. In the first, clients append and read while [`plan::Plan`]'s faults come and go; in the
//! second all faults end, and within a bound everything must be well again. Then the oracles judge.

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
