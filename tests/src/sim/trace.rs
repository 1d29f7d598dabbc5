//! The trace of a run: a line per event in virtual time, and a hash of all lines, which is the same for two runs only
//! if they are identical. The texts are inputs of the hash.

use std::sync::{Arc, Mutex};

use tokio::time::Instant;
use xxhash_rust::xxh3::Xxh3;

/// The trace of a run. Clones share it.
#[derive(Clone)]
pub struct Trace(Arc<Mutex<Inner>>);

struct Inner {
    start: Instant,
    hash: Xxh3,
    lines: u64,
    print: bool,
}

impl Trace {
    /// Creates a trace that begins now, in virtual time. `print` shows its lines on stderr.
    #[must_use]
    pub fn new(print: bool) -> Self {
        Self(Arc::new(Mutex::new(Inner { start: Instant::now(), hash: Xxh3::new(), lines: 0, print })))
    }

    /// Adds a line.
    pub fn record(&self, what: impl std::fmt::Display) {
        let mut inner = self.0.lock().expect("no thread panics while it holds the lock");
        let line = format!("{:>12.6} {what}\n", inner.start.elapsed().as_secs_f64());
        inner.hash.update(line.as_bytes());
        inner.lines += 1;
        if inner.print {
            eprint!("{line}");
        }
    }

    /// Returns the number of lines, and their hash.
    #[must_use]
    pub fn digest(&self) -> (u64, u64) {
        let inner = self.0.lock().expect("no thread panics while it holds the lock");
        (inner.lines, inner.hash.digest())
    }

    /// Returns the virtual time since the beginning.
    #[must_use]
    pub fn now(&self) -> std::time::Duration {
        self.0.lock().expect("no thread panics while it holds the lock").start.elapsed()
    }
}
