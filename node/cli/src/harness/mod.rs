//! The harness of `demo` and `bench`: nodes as child processes, signals that end a run, and the load of the machine.

mod interrupt;
mod machine;
mod nodes;
pub mod parent_watch;

pub use interrupt::Interrupt;
pub use machine::{IdleTime, cpu_seconds};
pub use nodes::Nodes;
