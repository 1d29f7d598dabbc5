//! What `demo` and `bench` stand on: nodes as child processes, who wants them to end, and what the machine was doing
//! meanwhile.

mod interrupt;
pub mod leash;
mod machine;
mod nodes;

pub use interrupt::Interrupt;
pub use machine::{Idle, cpu_seconds};
pub use nodes::Nodes;
