//! A service's refusal.
//!
//! ```text
//!  0      1               5
//!  +------+---------------+------------- - -
//!  | code | retry after   | text, UTF-8, at most 1024 bytes
//!  +------+---------------+------------- - -
//!   u8     u32 LE, ms; 0: do not
//! ```

use std::{fmt, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};

use crate::{handshake::REFUSAL_TEXT_BYTES_MAX, message::Kind};

const TEXT_AT: usize = 5;

/// The reason of a refusal, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    /// This version does not know the kind.
    UnknownKind = 1,
    /// The request is malformed.
    Malformed = 2,
    /// Too much at once.
    Overloaded = 3,
    /// Not ready now, or not served by this node.
    NotReady = 4,
    /// It was tried, and failed without an effect.
    Failed = 5,
}

/// A call that was not executed. A service whose call may have had an effect sends an answer instead, in its own
/// terms.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Refusal {
    /// The reason, for programs.
    pub code: Code,
    /// The retry delay; none if a retry is useless.
    pub retry_after: Option<Duration>,
    /// The text, for people.
    pub text: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        match self.retry_after {
            Some(wait) => write!(f, "; retry in {wait:?}"),
            None => Ok(()),
        }
    }
}

impl Refusal {
    /// Returns a refusal without a retry delay.
    #[must_use]
    pub fn new(code: Code, text: impl Into<String>) -> Self {
        Self { code, retry_after: None, text: text.into() }
    }

    /// Adds a retry delay.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Returns the refusal of a kind that a service does not know.
    #[must_use]
    pub fn unknown(kind: Kind) -> Self {
        Self::new(Code::UnknownKind, format!("this version does not know {kind}: upgrade this node first"))
    }

    pub(super) fn overloaded(limit: &'static str) -> Self {
        Self::new(Code::Overloaded, format!("{limit} is reached")).retry_after(super::OVERLOADED_RETRY_AFTER)
    }

    pub(super) fn encode(&self) -> Bytes {
        let text = &self.text[..self.text.floor_char_boundary(REFUSAL_TEXT_BYTES_MAX)];
        let mut bytes = BytesMut::with_capacity(TEXT_AT + text.len());
        bytes.put_u8(self.code as u8);
        let wait = self.retry_after.map_or(0, |wait| u32::try_from(wait.as_millis()).unwrap_or(u32::MAX).max(1));
        bytes.put_u32_le(wait);
        bytes.put_slice(text.as_bytes());
        bytes.freeze()
    }

    /// Decodes any bytes: a malformed refusal is still a refusal.
    pub(super) fn decode(bytes: &[u8]) -> Self {
        use Code::{Failed, Malformed, NotReady, Overloaded, UnknownKind};
        let Some((head, text)) = bytes.split_first_chunk::<TEXT_AT>() else {
            return Self::new(Failed, "refused without a reason");
        };
        let known = [UnknownKind, Malformed, Overloaded, NotReady];
        let code = known.into_iter().find(|code| *code as u8 == head[0]).unwrap_or(Failed);
        let wait = u32::from_le_bytes([head[1], head[2], head[3], head[4]]);
        let text = &text[..text.len().min(REFUSAL_TEXT_BYTES_MAX)];
        Self {
            code,
            retry_after: (wait > 0).then(|| Duration::from_millis(u64::from(wait))),
            text: String::from_utf8_lossy(text).into_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_has_the_documented_layout_and_is_read_back() {
        let refusal = Refusal::new(Code::Overloaded, "full").retry_after(Duration::from_millis(258));
        assert_eq!(refusal.encode()[..], *b"\x03\x02\x01\0\0full");
        assert_eq!(Refusal::decode(&refusal.encode()), refusal);
        assert_eq!(refusal.to_string(), "full; retry in 258ms");
    }

    #[test]
    fn any_bytes_decode_to_a_refusal() {
        for bytes in [&b""[..], b"\x03", b"\xFF\0\0\0\0\xFF\xFF", &[7; 5000]] {
            let refusal = Refusal::decode(bytes);
            assert!(refusal.code != Code::Overloaded || bytes.len() > 5);
            assert!(refusal.text.len() <= 3 * REFUSAL_TEXT_BYTES_MAX);
        }
    }
}
