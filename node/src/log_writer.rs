//! Writes log lines without ever blocking the thread that logs: a reader of stderr that is stuck (`serve 2>&1 | less`,
//! a full journal) must not freeze a node. Lines wait in a bounded queue for a separate thread. If the queue is full,
//! lines are dropped and counted, and the count is logged once writing continues.

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
pub(crate) const LOG_BYTES_MAX: usize = 1 << 20;
/// How long a stopping process waits for its last lines to be written.
const FLUSH_WAIT: Duration = Duration::from_millis(500);

/// Lines that were dropped by all writers of this process.
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Returns how many log lines this process has dropped because stderr was not read.
#[must_use]
pub(crate) fn dropped() -> u64 {
    DROPPED.load(Relaxed)
}

/// When the current write began, in milliseconds since [`STARTED`] plus one; zero if there is none.
static WRITING_SINCE: AtomicU64 = AtomicU64::new(0);
static STARTED: LazyLock<Instant> = LazyLock::new(Instant::now);
/// A write that takes longer means that stderr is not being read.
const STUCK_AFTER: Duration = Duration::from_secs(2);

/// Returns a warning if log lines cannot be written: for how long, and how many were dropped.
#[must_use]
pub(crate) fn trouble() -> Option<String> {
    let since = WRITING_SINCE.load(Relaxed).checked_sub(1)?;
    let stuck = STARTED.elapsed().saturating_sub(Duration::from_millis(since));
    (stuck >= STUCK_AFTER).then(|| {
        let (seconds, dropped) = (stuck.as_secs(), dropped());
        format!("no log line has been taken for {seconds} s, {dropped} were dropped: what reads stderr is stuck")
    })
}

/// A writer of log lines. Clones share the queue.
#[derive(Clone)]
pub struct LogWriter(Arc<Shared>);

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Lines dropped since the last report.
    dropped: u64,
    /// A line is being written.
    is_writing: bool,
}

impl LogWriter {
    /// Starts the thread that writes to `out`. It ends with the process.
    ///
    /// # Errors
    ///
    /// If no thread can be created.
    pub fn start(out: impl Write + Send + 'static) -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let writing = shared.clone();
        thread::Builder::new().name("log".into()).spawn(move || writing.write_all(out))?;
        Ok(Self(shared))
    }

    /// Queues text, or counts it as dropped.
    pub fn print(&self, text: &[u8]) {
        let mut queue = self.0.queue.lock();
        // A single text never exceeds the queue: output of programs is truncated earlier.
        if queue.bytes + text.len() > LOG_BYTES_MAX {
            queue.dropped += 1;
            DROPPED.fetch_add(1, Relaxed);
            return;
        }
        queue.bytes += text.len();
        queue.lines.push_back(text.to_vec());
        self.0.changed.notify_all();
    }

    /// Waits briefly until the queue is written: a process must be able to stop even if nothing reads its log.
    pub fn flush(&self) {
        let mut queue = self.0.queue.lock();
        let written = |queue: &mut Queue| !queue.lines.is_empty() || queue.is_writing;
        self.0.changed.wait_while_for(&mut queue, written, FLUSH_WAIT);
    }
}

impl Shared {
    fn write_all(&self, mut out: impl Write) {
        loop {
            let line = self.next();
            WRITING_SINCE.store(u64::try_from(STARTED.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1, Relaxed);
            let written = out.write_all(&line).and_then(|()| out.flush());
            WRITING_SINCE.store(0, Relaxed);
            let mut queue = self.queue.lock();
            queue.is_writing = false;
            self.changed.notify_all();
            let dropped = if written.is_ok() { std::mem::take(&mut queue.dropped) } else { 0 };
            drop(queue);
            if dropped > 0 {
                tracing::warn!(lines = dropped, "log lines were dropped: whatever reads them did not keep up");
            }
        }
    }

    fn next(&self) -> Vec<u8> {
        let mut queue = self.queue.lock();
        self.changed.wait_while(&mut queue, |queue| queue.lines.is_empty());
        queue.is_writing = true;
        let line = queue.lines.pop_front().expect("it was waited for");
        queue.bytes -= line.len();
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
