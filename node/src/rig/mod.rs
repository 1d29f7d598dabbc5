//! What `demo` and `bench` stand on: nodes as child processes, and what the machine was doing meanwhile.

mod machine;
mod nodes;

pub use machine::{Idle, cpu_seconds};
pub use nodes::Nodes;
