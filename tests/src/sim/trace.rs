//! What happened in a run, line by line in virtual time, and the one number that two runs share only if all of it
//! happened alike.

use std::sync::{Arc, Mutex};

use tokio::time::Instant;
use xxhash_rust::xxh3::Xxh3;

/// A run's trace. Clones are the same trace.
#[derive(Clone)]
pub struct Trace(Arc<Mutex<Inner>>);

struct Inner {
    start: Instant,
    hash: Xxh3,
    lines: u64,
    print: bool,
}

impl Trace {
    /// Begins now, in virtual time. Prints its lines to stderr if asked.
    #[must_use]
    pub fn new(print: bool) -> Self {
        Self(Arc::new(Mutex::new(Inner { start: Instant::now(), hash: Xxh3::new(), lines: 0, print })))
    }

    /// Something happened.
    pub fn record(&self, what: impl std::fmt::Display) {
        let mut inner = self.0.lock().expect("nobody panics while telling");
        let line = format!("{:>12.6} {what}\n", inner.start.elapsed().as_secs_f64());
        inner.hash.update(line.as_bytes());
        inner.lines += 1;
        if inner.print {
            eprint!("{line}");
        }
    }

    /// How many lines, and the number of all of them.
    #[must_use]
    pub fn digest(&self) -> (u64, u64) {
        let inner = self.0.lock().expect("nobody panics while telling");
        (inner.lines, inner.hash.digest())
    }

    /// Virtual time since it began.
    #[must_use]
    pub fn now(&self) -> std::time::Duration {
        self.0.lock().expect("nobody panics while telling").start.elapsed()
    }
}
