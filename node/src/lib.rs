//! Evener is an event store and event processor in one. A *node* runs inside your program: the nodes of a cluster keep
//! one durable, gapless, replicated log of events. Your handlers, plain async functions, make up named *processors*,
//! whose segments the cluster shares evenly over its nodes, hands over without a pause, and takes over from a node that
//! fails.
//!
//! ```no_run
//! use evener::prelude::*;
//! use std::sync::{Arc, atomic::{AtomicI64, Ordering::SeqCst}};
//!
//! #[derive(Event, Serialize, Deserialize)]
//! #[event(name = "account.credited.v1", key = account)] // a stable name; the field that orders events
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
//!     node.caught_up("total").await?; // read your writes
//!     println!("{} cents", total.load(SeqCst));
//!     node.run().await // until Ctrl-C or SIGTERM
//! }
//! ```
//!
//! In addition to this crate it needs `cargo add serde --features derive` and `cargo add tokio --features full`.
//! Started without flags, it is a cluster of its own: it listens on `127.0.0.1`, for clients on port 4750, which also
//! serves its page, and for peers on 4751, and keeps its log in `./data`. `--help` lists the flags; unknown ones are
//! refused.
//!
//! # What is guaranteed
//!
//! - **Durable**: events that `append` has acknowledged are synced to disk on a majority of the nodes.
//! - **All or nothing, in one order**: the events of one `append` are stored one after the other, or none of them is.
//!   Its conditions ([`Append::expecting`], [`Append::unless`]) are evaluated at its place
//!   in the log.
//! - **In order, at least once**: events of one sequence, which are those of one `key`, else of one stream, are handled
//!   one after the other in the order of the log, each at least once per processor. An event is handled again if its
//!   handler failed, or its node failed before the progress was stored, so handlers must be idempotent.
//! - **Fenced**: a node that was frozen or partitioned changes nothing once another has taken over its segment.
//!   To fence it off in your database too, store the epoch of each [`Claim`] there and refuse a lower one; [`Claim`]
//!   shows how.
//! - **Isolated**: a sequence that keeps failing is set aside after its first failure and tried again on a schedule
//!   (after 1 s, then twice as long up to 60 s, ten attempts in all), and the others continue. A handler returns an
//!   [`Error`] to decide otherwise; [`Node::dead_letters`] lists what is set aside.
//!
//! # Tests
//!
//! `Node::ephemeral()` is a node in memory that uses the test's clock and opens no port. **It requires the feature
//! `testing`**: `cargo add evener --dev --features testing` (in addition to the program's own dependency).
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
//! There is no TLS and no authentication yet: every client that reaches them can read and write everything, which
//! `--insecure-listen` accepts. A node whose directory belongs to a member continues as that member and ignores
//! `--bootstrap` and `--join`. The folder `deploy` of the repository has a unit for systemd, an image, a chart, alerts
//! and the runbook; the binary `evener` (package `evener-cli`) is a node without handlers and the command line for all
//! of them (`evener processor show total`).
//!
//! # Where to read on
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

// `#[derive(Event)]` refers to this crate by name, also inside the crate.
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
    Attempt, Claim, DurationExt, Error, Event, FromDelivery, Meta, Outcome, Processor, Raw, ReplayContext, Replaying,
    Reset, Result, State,
};
pub use node::Node;
pub use reset::{ResetAt, ResetRequest};

// The modules below implement the node. The public ones are used by the command line and the system tests, and may
// change at any time.

#[doc(hidden)]
pub mod actors;
mod exec;
mod threads;

mod describe;
mod log_writer;
#[doc(hidden)]
pub mod logs;
mod open_files;
#[doc(hidden)]
pub mod printable;
mod thread_progress;
mod unknown_outcome;

#[doc(hidden)]
pub mod cloudevent;
#[doc(hidden)]
pub mod context;
#[doc(hidden)]
pub mod definition;
#[doc(hidden)]
pub mod reset;
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
