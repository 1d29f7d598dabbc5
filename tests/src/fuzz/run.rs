//! Runs a decoder on an input and checks that it returns, does not panic, and uses no more memory than its input
//! justifies.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

use evener_core::fuzz::Decoder;

/// The memory that a decoder may use per byte of input: a parsed JSON value is that much larger than its text.
pub const BYTES_PER_INPUT_BYTE: usize = 96;

/// Memory usage, as counted by the global allocator of the process.
pub trait Memory {
    /// Returns the bytes in use and resets the peak.
    fn begin(&self) -> usize;
    /// Returns the maximum bytes in use since the last reset.
    fn peak(&self) -> usize;
}

/// The cost of decoding one input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effort {
    /// The time taken.
    pub time: Duration,
    /// The peak of memory in bytes.
    pub memory: usize,
}

/// Decodes one input.
///
/// # Errors
///
/// The decoder panicked or used too much memory.
pub fn one(decoder: &Decoder, input: &[u8], memory: &dyn Memory) -> Result<Effort, String> {
    let (started, before) = (Instant::now(), memory.begin());
    let decoded = catch_unwind(AssertUnwindSafe(|| (decoder.decode)(input)));
    let effort = Effort { time: started.elapsed(), memory: memory.peak().saturating_sub(before) };
    if let Err(panic) = decoded {
        let why = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        return Err(format!("the decoder panicked: {}", why.unwrap_or("without a message")));
    }
    let allowed = decoder.memory + BYTES_PER_INPUT_BYTE * input.len();
    if effort.memory > allowed {
        return Err(format!(
            "it used {} bytes of memory for {} bytes of input; {allowed} are allowed",
            effort.memory,
            input.len()
        ));
    }
    Ok(effort)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    struct Fixed(Cell<usize>);

    impl Memory for Fixed {
        fn begin(&self) -> usize {
            0
        }

        fn peak(&self) -> usize {
            self.0.get()
        }
    }

    #[test]
    fn a_decoder_that_panics_or_uses_too_much_memory_is_reported() {
        let panics = Decoder::new("panics", |bytes| assert!(bytes.is_empty(), "no"), Vec::new);
        let memory = Fixed(Cell::new(0));
        assert!(one(&panics, b"", &memory).is_ok());
        assert_eq!(one(&panics, b"x", &memory).unwrap_err(), "the decoder panicked: no");
        memory.0.set(panics.memory + 1);
        assert!(one(&panics, b"", &memory).unwrap_err().contains("bytes of memory for 0 bytes"));
    }
}
