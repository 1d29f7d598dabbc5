//! What is allowed to happen: every rule of Evener as pure values and functions.
//!
//! Nothing here uses a clock, a file, a thread or randomness. The crate is `no_std` so that none of them can creep in:
//! whatever a rule needs from outside is an argument, and whatever it requests is its result.
//!
//! Read in this order: the terms ([`id`], [`time`], [`event`]), the log ([`criteria`], [`append`], [`tail`]), the
//! segments ([`segment`], [`hash`], [`token`], [`claim`]), failures ([`backoff`], [`letter`]), the nodes ([`member`],
//! [`session`], [`balance`]), and finally the replicated [`state`] and the [`command`]s that change it.
#![no_std]
extern crate alloc;
#[cfg(any(test, feature = "testing"))]
extern crate std;

pub mod id;
pub mod name;
pub mod rfc3339;
pub mod time;

pub mod clocks;

pub mod event;

pub mod criteria;

pub mod append;
pub mod tail;

pub mod hash;
pub mod segment;
pub mod sequence;
pub mod token;

pub mod claim;

pub mod backoff;
pub mod letter;

pub mod balance;
pub mod member;
pub mod processor;
pub mod removal;
pub mod replay;
pub mod session;

pub mod command;
pub mod limits;
pub mod principal;
pub mod reason;
pub mod state;
pub mod subject;

pub mod canonical;

pub mod worker;

pub mod coordinator;

#[cfg(any(test, feature = "testing"))]
pub mod fuzz;
#[cfg(any(test, feature = "testing"))]
pub mod naive;
