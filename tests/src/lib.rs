//! The test harness: Evener as its users see it, and under faults that they must not notice.
//!
//! [`oracle`] checks the promises on any run, a file per promise. [`sim`] runs whole nodes in virtual time, on a faulty
//! disk and a faulty network, from one seed. [`test_cluster`] starts nodes as real processes with sockets and files,
//! and [`fuzz`] generates hostile input for every decoder. [`receipt`] is a real event log as input, and
//! [`redelivered`] checks which events may be handled again after kills.
#![allow(clippy::unwrap_used, reason = "a panic in the harness is its report")]

pub mod fuzz;
pub mod oracle;
pub mod receipt;
pub mod redelivered;
pub mod sim;
pub mod test_cluster;
