//! The command line of Evener. It uses the public client API, and is a crate of its own so that programs that embed a
//! node do not compile it.

pub use commands::main;

mod commands;

mod bench;
mod demo;
mod harness;
mod text;
