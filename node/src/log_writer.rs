//! Writes log lines without ever blocking the thread that logs: a reader of stderr that is stuck (`serve 2>&1 | less`,
//! a full journal) must not freeze a node. Lines wait in a bounded queue for a thread of their own; what finds the
//! queue full is dropped and counted, and the count is logged once lines are taken again.

use std::{
    collections::VecDeque,
    io::{self, Write},
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};
use tracing_subscriber::fmt::MakeWriter;

/// Bytes of log lines that wait to be written: some thousands of lines.
pub const LOG_BYTES_MAX: usize = 1 << 20;
/// How long a process that ends waits for its last lines to be written.
const FLUSH_WAIT: Duration = Duration::from_millis(500);

/// Lines that were dropped by all writers of this process.
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Returns how many log lines this process has dropped, since nobody took them.
#[must_use]
pub fn dropped() -> u64 {
    DROPPED.load(Relaxed)
}

/// When the line that is being written was begun, in milliseconds since [`BEGUN`] plus one; zero while none is.
static WRITING_SINCE: AtomicU64 = AtomicU64::new(0);
static BEGUN: LazyLock<Instant> = LazyLock::new(Instant::now);
/// A line that takes longer is not being read.
const STUCK_AFTER: Duration = Duration::from_secs(2);

/// Returns what a person should know of the log, if lines are not taken: for how long, and how many were dropped.
#[must_use]
pub fn trouble() -> Option<String> {
    let since = WRITING_SINCE.load(Relaxed).checked_sub(1)?;
    let stuck = BEGUN.elapsed().saturating_sub(Duration::from_millis(since));
    (stuck >= STUCK_AFTER).then(|| {
        let (seconds, dropped) = (stuck.as_secs(), dropped());
        format!("no log line has been taken for {seconds} s, {dropped} were dropped: what reads stderr is stuck")
    })
}

/// Where log lines go. Clones write to the same place.
#[derive(Clone)]
pub struct LogWriter(Arc<Shared>);

#[derive(Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Dropped since it was last told.
    dropped: u64,
    /// A line is being written.
    writes: bool,
}

impl LogWriter {
    /// Starts the thread that writes to `out`. It ends with the process.
    ///
    /// # Errors
    ///
    /// The system gives no thread.
    pub fn start(out: impl Write + Send + 'static) -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let writing = shared.clone();
        thread::Builder::new().name("log".into()).spawn(move || writing.write_all(out))?;
        Ok(Self(shared))
    }

    /// Queues text, or counts it as dropped.
    pub fn print(&self, text: &[u8]) {
        let mut waiting = self.0.waiting.lock();
        // A text that is longer than the queue alone is none of ours; what a program prints is cut long before.
        if waiting.bytes + text.len() > LOG_BYTES_MAX {
            waiting.dropped += 1;
            DROPPED.fetch_add(1, Relaxed);
            return;
        }
        waiting.bytes += text.len();
        waiting.lines.push_back(text.to_vec());
        self.0.changed.notify_all();
    }

    /// Waits until what was queued is written, but not for long: a process that ends must end although nobody reads
    /// its log.
    pub fn flush(&self) {
        let mut waiting = self.0.waiting.lock();
        let written = |waiting: &mut Waiting| !waiting.lines.is_empty() || waiting.writes;
        self.0.changed.wait_while_for(&mut waiting, written, FLUSH_WAIT);
    }
}

impl Shared {
    fn write_all(&self, mut out: impl Write) {
        loop {
            let line = self.next();
            WRITING_SINCE.store(u64::try_from(BEGUN.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1, Relaxed);
            let written = out.write_all(&line).and_then(|()| out.flush());
            WRITING_SINCE.store(0, Relaxed);
            let mut waiting = self.waiting.lock();
            waiting.writes = false;
            self.changed.notify_all();
            let dropped = if written.is_ok() { std::mem::take(&mut waiting.dropped) } else { 0 };
            drop(waiting);
            if dropped > 0 {
                tracing::warn!(lines = dropped, "log lines were dropped: whatever reads them did not keep up");
            }
        }
    }

    fn next(&self) -> Vec<u8> {
        let mut waiting = self.waiting.lock();
        self.changed.wait_while(&mut waiting, |waiting| waiting.lines.is_empty());
        waiting.writes = true;
        let line = waiting.lines.pop_front().expect("it was waited for");
        waiting.bytes -= line.len();
        line
    }
}

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

/// The subscriber writes each line in one call.
impl Write for &LogWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.print(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// A reader that takes a line each time it is allowed to.
    struct Slow(mpsc::Receiver<()>, Arc<Mutex<Vec<u8>>>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            self.1.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn p10_a_reader_that_is_stuck_holds_nobody_up_and_what_is_dropped_is_counted() {
        let (allow, allowed) = mpsc::channel();
        let seen = Arc::<Mutex<Vec<u8>>>::default();
        let writer = LogWriter::start(Slow(allowed, seen.clone())).unwrap();
        let line = [b'x'; 1 << 10];
        let before = dropped();
        // Twice what may wait; each of these calls returns at once, or this test does not end.
        (0..2 * LOG_BYTES_MAX / line.len()).for_each(|_| (&writer).write_all(&line).unwrap());
        let dropped = dropped() - before;
        // One line is with the reader already, or not yet.
        let most = LOG_BYTES_MAX / line.len();
        assert!((most as u64 - 1..=most as u64).contains(&dropped), "{dropped}");
        writer.flush();
        assert!(seen.lock().is_empty());
        drop(allow);
        writer.flush();
        assert_eq!(seen.lock().len() as u64, (2 * most as u64 - dropped) * line.len() as u64);
        (&writer).write_all(b"the last").unwrap();
        writer.flush();
        assert!(seen.lock().ends_with(b"the last"));
    }
}
