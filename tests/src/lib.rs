//! The test harness and its runs: Evener as its users see it, and under faults that its users should never notice.
//!
//! [`oracle`] holds what must be true of any run, a file per promise; [`sim`] makes runs: whole nodes in virtual time,
//! on a faulty disk and a faulty wire, from one seed. [`test_cluster`] makes nodes of real processes, sockets and
//! files, [`fuzz`] makes hostile input for every decoder. [`receipt`] is a real event log to run on, and
//! [`redelivered`] judges what was handled again after kills.
#![allow(clippy::unwrap_used, reason = "a panic in the harness is its report")]

pub mod fuzz;
pub mod oracle;
pub mod receipt;
pub mod redelivered;
pub mod sim;
pub mod test_cluster;
