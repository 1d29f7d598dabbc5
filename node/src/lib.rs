//! Evener is an event store and event processor in one. A *node* runs inside your program: the nodes of a cluster keep
//! one durable, gapless, replicated log of events. Your handlers, plain async functions, make up named *processors*,
//! whose segments the cluster shares evenly over its nodes, hands over without a pause, and takes over from a node that
//! dies.
//!
//! ```no_run
//! use evener::prelude::*;
//! use std::sync::{Arc, atomic::{AtomicI64, Ordering::SeqCst}};
//!
//! #[derive(Event, Serialize, Deserialize)]
//! #[event(name = "account.credited.v1", key = account)] // a name that outlives the type; what orders it
//! struct Credited { account: String, cents: i64 }
//!
//! async fn add(event: Credited, State(total): State<Arc<AtomicI64>>) {
//!     total.fetch_add(event.cents, SeqCst);
//! }
//!
//! #[tokio::main]
//! async fn main() -> Result {
//!     let total = Arc::new(AtomicI64::new(0));
//!     let node = Node::from_env()? // flags > EVENER_* > evener.toml > one node in ./data
//!         .log_to_stderr()?
//!         .processor(Processor::new("total").on(add).with_state(total.clone()))
//!         .start().await?;
//!     node.append("account-7", [Credited { account: "7".into(), cents: 100 }]).await?;
//!     node.caught_up("total").await?; // read your writes, in a line
//!     println!("{} cents", total.load(SeqCst));
//!     node.run().await // until Ctrl-C or SIGTERM
//! }
//! ```
//!
//! Beside this crate it needs `cargo add serde --features derive` and `cargo add tokio --features full`. Started
//! without flags, it is a cluster of its own: it listens on `127.0.0.1`, for clients on port 4750, where its page is,
//! too, and for peers on 4751, and keeps its log in `./data`. `--help` lists the flags; unknown ones are refused.
//!
//! # What is guaranteed
//!
//! - **Durable**: what `append` has acknowledged is on the disks of a majority of the nodes, synced.
//! - **All or nothing, in one order**: the events of one `append` stand one after the other, or none of them is stored.
//!   What it expects of a stream or of other events ([`Append::expecting`], [`Append::unless`]) is judged at its place
//!   in the log.
//! - **In order, at least once**: events of one sequence, which are those of one `key`, else of one stream, are handled
//!   one after the other in the order of the log, each at least once per processor. An event is handled again if its
//!   handler failed, or its node died before the log knew that it was handled: handlers must bear that.
//! - **Fenced**: a node that was frozen or cut off moves nothing once another has taken its segment over. So that it
//!   changes nothing in your database either, keep there the epoch of each [`Claim`] and refuse a lower one, as shown
//!   there.
//! - **Isolated**: a sequence that keeps failing is set aside after its first failure and tried again on a schedule
//!   (after 1 s, then twice as long up to 60 s, ten attempts in all), and the others go on. [`Error`] tells how a
//!   handler decides otherwise, [`Node::dead_letters`] what is set aside.
//!
//! # Tests
//!
//! `Node::ephemeral()` is a node in memory, in the time of the test, that opens no port. **It is there with the feature
//! `testing` only**: `cargo add evener --dev --features testing` (beside the dependency that the program has).
//!
#![cfg_attr(feature = "testing", doc = "```")]
#![cfg_attr(not(feature = "testing"), doc = "```ignore")]
//! # use evener::prelude::*;
//! # #[derive(Event, Serialize, Deserialize)]
//! # #[event(name = "account.credited.v1", key = account)]
//! # struct Credited { account: String, cents: i64 }
//! # async fn add(_: Credited) {}
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result {
//! // #[tokio::test(start_paused = true)]
//! let node = Node::ephemeral().processor(Processor::new("total").on(add)).start().await?;
//! node.append("account-7", [Credited { account: "7".into(), cents: 100 }]).await?;
//! node.caught_up("total").await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Logging
//!
//! The library logs through the crate `tracing`. **Nothing is shown unless the program asks for it**: by
//! [`NodeBuilder::log_to_stderr`], as above, or by a subscriber of its own, as `tracing_subscriber::fmt::init()`.
//!
//! # Deployment
//!
//! Start the same program on three machines. The first founds the cluster, the others join it:
//!
//! ```sh
//! program --name n1 --listen 10.0.0.1:4750 --peer-listen 10.0.0.1:4751 --insecure-listen --bootstrap
//! program --name n2 --listen 10.0.0.2:4750 --peer-listen 10.0.0.2:4751 --insecure-listen --join 10.0.0.1:4751
//! program --name n3 --listen 10.0.0.3:4750 --peer-listen 10.0.0.3:4751 --insecure-listen --join 10.0.0.1:4751
//! ```
//!
//! There is no TLS and no authentication yet: whoever reaches these addresses can read and write everything, which is
//! what `--insecure-listen` consents to. A node whose directory holds a member goes on as that one, whatever
//! `--bootstrap` and `--join` say. The folder `deploy` of the repository has a unit for systemd, an image, a chart,
//! alerts and the runbook; the binary `evener` of this crate is a node without handlers and the command line for all of
//! them (`evener processor show total`).
//!
//! # Where to go on
//!
//! | for | see |
//! |---|---|
//! | events | [`derive@Event`], [`trait@Event`], [`Raw`] |
//! | handlers: what they may take and return | [`FromDelivery`], [`Outcome`], [`Error`] |
//! | processors | [`Processor`], [`Sequencing`], [`OnError`], [`Start`] |
//! | appending, reading, following | [`Node::append`], [`Node::read`], [`Node::tail`] |
//! | settings | [`Node::from_env`], [`NodeBuilder::set`], [`settings::Settings`] |
//! | a cluster elsewhere, without being a node of it | [`Node::connect`] |
//! | errors of the cluster | [`error::ApiError`], [`codes`] |
//!
//! [`Append::expecting`]: node::Append::expecting
//! [`Append::unless`]: node::Append::unless
//! [`NodeBuilder::log_to_stderr`]: node::NodeBuilder::log_to_stderr
//! [`NodeBuilder::set`]: node::NodeBuilder::set

// `#[derive(Event)]` names this crate, also from within.
extern crate self as evener;

pub mod prelude;

pub mod event;
pub mod node;

pub mod handler;

pub mod codes;
pub mod engine;
pub mod error;
pub mod settings;
pub mod status;

pub use evener_core::{
    criteria::{Criteria, Criterion},
    event::Event as RawEvent,
    id::{Epoch, Position, Revision, SegmentId},
    processor::{OnError, Start},
    sequence::Sequencing,
};
pub use evener_derive::Event;
pub use handler::{
    Attempt, Claim, Error, Event, Every, FromDelivery, Meta, Outcome, Processor, Raw, Replaying, Result, State,
};
pub use node::Node;

// What follows is the node itself. If it is public, the command line or a test of the whole system needs it: it may
// change at any time.

#[doc(hidden)]
pub mod actors;
mod exec;
mod threads;

mod doubt;
mod log_writer;
#[doc(hidden)]
pub mod logs;
mod open_files;
#[doc(hidden)]
pub mod printable;
mod pulse;
mod words;

#[doc(hidden)]
pub mod cloudevent;
#[doc(hidden)]
pub mod context;
#[doc(hidden)]
pub mod definition;
#[doc(hidden)]
pub mod wire;

mod health;

mod http;
#[doc(hidden)]
pub mod metrics;

#[doc(hidden)]
pub mod client;

#[cfg(any(test, feature = "testing"))]
#[doc(hidden)]
pub mod fuzz;
