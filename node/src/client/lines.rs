//! Cuts a stream of bytes into lines.

use crate::{codes, error::ApiError};

/// The longest accepted line: an event of 1 MB in its longest JSON form, with its attributes.
const LINE_BYTES_MAX: usize = 8 << 20;

/// Lines that have arrived, and the beginning of the next.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    bytes: Vec<u8>,
    /// Offset of the next line.
    at: usize,
    /// Offset before which there is no further line end.
    seen: usize,
}

impl Lines {
    /// Appends received bytes.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<(), ApiError> {
        if self.at > 0 {
            self.bytes.drain(..self.at);
            self.seen -= self.at;
            self.at = 0;
        }
        if self.bytes.len() + bytes.len() > LINE_BYTES_MAX + (1 << 20) {
            return Err(ApiError::new(&codes::NOT_EVENER, format!("a line has more than {LINE_BYTES_MAX} bytes")));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// Returns the next complete line, without its end.
    pub(crate) fn next(&mut self) -> Option<String> {
        let end = self.seen
            + self.bytes[self.seen..].iter().position(|byte| *byte == b'\n').or_else(|| {
                self.seen = self.bytes.len();
                None
            })?;
        let line = self.bytes[self.at..end].strip_suffix(b"\r").unwrap_or(&self.bytes[self.at..end]);
        let line = String::from_utf8_lossy(line).into_owned();
        (self.at, self.seen) = (end + 1, end + 1);
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole_however_the_bytes_arrive() {
        let text = "one\r\n\ntwö\nthree\nrest";
        for size in 1..text.len() {
            let (mut lines, mut got) = (Lines::default(), Vec::new());
            for part in text.as_bytes().chunks(size) {
                lines.push(part).unwrap();
                got.extend(std::iter::from_fn(|| lines.next()));
            }
            assert_eq!(got, ["one", "", "twö", "three"], "in parts of {size}");
        }
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let mut lines = Lines::default();
        let part = vec![b'x'; 1 << 20];
        assert!((0..9).all(|_| lines.push(&part).is_ok() && lines.next().is_none()));
        assert_eq!(lines.push(&part).unwrap_err().code, "EV0602");
    }
}
