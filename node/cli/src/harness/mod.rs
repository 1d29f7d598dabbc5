//! What `demo` and `bench` stand on: nodes as child processes, who wants them to end, and what the machine was doing
//! meanwhile.

mod interrupt;
mod machine;
mod nodes;
pub mod parent_watch;

pub use interrupt::Interrupt;
pub use machine::{IdleTime, cpu_seconds};
pub use nodes::Nodes;
