//! The command line of Evener. It is a client like any other, and stands in a crate of its own so that a program that
//! embeds a node does not compile it.

pub use commands::main;

mod commands;

mod bench;
mod demo;
mod harness;
