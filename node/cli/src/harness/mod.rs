//! The harness of `demo` and `bench`: nodes as child processes, signals that end a run, and the load of the machine.

mod interrupt;
mod machine;
mod nodes;
pub(crate) mod parent_watch;

pub(crate) use interrupt::Interrupt;
pub(crate) use machine::{IdleTime, cpu_seconds};
pub(crate) use nodes::Nodes;
