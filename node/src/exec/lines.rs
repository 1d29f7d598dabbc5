//! Bounded lines of a program's output.

use std::{io, mem, sync::Arc, time::Duration};

use evener_core::id::SegmentId;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, BufReader},
    process::ChildStderr,
    task::JoinHandle,
    time::timeout,
};

use crate::printable::printable;

/// Bytes of its last line on stderr that are kept.
const LAST_BYTES_MAX: usize = 240;

/// The result of reading a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// A line, its end included.
    Whole(Vec<u8>),
    /// The start of a line that is longer than allowed.
    TooLong(Vec<u8>),
    /// The output's last line, without a line end.
    End(Vec<u8>),
}

/// Reads a line of at most `bytes_max` bytes, using no more memory. If it is cancelled, `line` has the bytes read so
/// far.
pub(super) async fn line(
    from: &mut (impl AsyncBufRead + Unpin),
    line: &mut Vec<u8>,
    bytes_max: usize,
) -> io::Result<Line> {
    loop {
        if let Some(done) = part(from, line, bytes_max).await? {
            return Ok(done);
        }
    }
}

/// Reads the available part of a line into `line`, and returns the line once it is complete.
pub(super) async fn part(
    from: &mut (impl AsyncBufRead + Unpin),
    line: &mut Vec<u8>,
    bytes_max: usize,
) -> io::Result<Option<Line>> {
    let bytes = from.fill_buf().await?;
    if bytes.is_empty() {
        return Ok(Some(Line::End(mem::take(line))));
    }
    let bytes = &bytes[..bytes.len().min(bytes_max - line.len())];
    let end = bytes.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
    let taken = end.unwrap_or(bytes.len());
    line.extend_from_slice(&bytes[..taken]);
    from.consume(taken);
    Ok(match end {
        Some(_) => Some(Line::Whole(mem::take(line))),
        None if line.len() == bytes_max => Some(Line::TooLong(mem::take(line))),
        None => None,
    })
}

/// Forwards the stderr of a program to the log, and keeps its last line.
pub(super) struct Stderr {
    last: Arc<Mutex<Option<String>>>,
    forwarding: JoinHandle<()>,
}

impl Stderr {
    pub(super) fn forward(from: ChildStderr, processor: Arc<str>, segment: SegmentId, bytes_max: usize) -> Self {
        let last = Arc::new(Mutex::new(None));
        let kept = last.clone();
        let forwarding = tokio::spawn(async move {
            let mut from = BufReader::new(from);
            loop {
                let (bytes, more) = match line(&mut from, &mut Vec::new(), bytes_max).await {
                    Ok(Line::Whole(bytes) | Line::TooLong(bytes)) => (bytes, true),
                    Ok(Line::End(bytes)) => (bytes, false),
                    Err(_) => return,
                };
                let text = String::from_utf8_lossy(&bytes);
                let text = &*printable(text.trim());
                if !text.is_empty() {
                    tracing::info!(target: "evener::exec", %processor, %segment, "{text}");
                    *kept.lock() = Some(text[..text.floor_char_boundary(LAST_BYTES_MAX)].to_owned());
                }
                if !more {
                    return;
                }
            }
        });
        Self { last, forwarding }
    }

    /// Waits until all of it was read, at most this long: child processes may hold it open.
    pub(super) async fn drained(&mut self, wait: Duration) {
        timeout(wait, &mut self.forwarding).await.ok();
    }

    /// Returns its last line that was not empty.
    pub(super) fn last(&self) -> Option<String> {
        self.last.lock().clone()
    }
}

impl Drop for Stderr {
    fn drop(&mut self) {
        self.forwarding.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_line_is_bounded() {
        let mut from = &b"ab\n\nabcdefghij\nend"[..];
        let mut next = async || line(&mut from, &mut Vec::new(), 5).await.unwrap();
        assert_eq!(next().await, Line::Whole(b"ab\n".to_vec()));
        assert_eq!(next().await, Line::Whole(b"\n".to_vec()));
        assert_eq!(next().await, Line::TooLong(b"abcde".to_vec()));
        assert_eq!(next().await, Line::TooLong(b"fghij".to_vec()));
        assert_eq!(next().await, Line::Whole(b"\n".to_vec()));
        assert_eq!(next().await, Line::End(b"end".to_vec()));
        assert_eq!(next().await, Line::End(Vec::new()));
    }
}
