//! Feeds inputs to a decoder and judges what happens: it must not panic, must return, and must not take more memory
//! than its input accounts for.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

use evener_core::fuzz::Decoder;

/// Memory that it may take for each byte of its input: a parsed JSON value is that much larger than its text.
pub const BYTES_PER_INPUT_BYTE: usize = 96;

/// Memory as the global allocator of the process counts it.
pub trait Memory {
    /// Bytes in use now; begins to look for the peak from here.
    fn begin(&self) -> usize;
    /// The largest number of bytes in use since then.
    fn peak(&self) -> usize;
}

/// What one input did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effort {
    /// How long it took.
    pub time: Duration,
    /// Bytes of memory at most.
    pub memory: usize,
}

/// Decodes one input.
///
/// # Errors
///
/// Says what the decoder did that it must not do.
pub fn one(decoder: &Decoder, input: &[u8], memory: &dyn Memory) -> Result<Effort, String> {
    let (begun, before) = (Instant::now(), memory.begin());
    let decoded = catch_unwind(AssertUnwindSafe(|| (decoder.decode)(input)));
    let effort = Effort { time: begun.elapsed(), memory: memory.peak().saturating_sub(before) };
    if let Err(panic) = decoded {
        let why = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        return Err(format!("the decoder panicked: {}", why.unwrap_or("without words")));
    }
    let most = decoder.memory + BYTES_PER_INPUT_BYTE * input.len();
    if effort.memory > most {
        return Err(format!(
            "it took {} bytes of memory for {} bytes of input; {most} are allowed",
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
    fn a_decoder_that_panics_or_takes_too_much_memory_is_found() {
        let panics = Decoder::new("panics", |bytes| assert!(bytes.is_empty(), "no"), Vec::new);
        let memory = Fixed(Cell::new(0));
        assert!(one(&panics, b"", &memory).is_ok());
        assert_eq!(one(&panics, b"x", &memory).unwrap_err(), "the decoder panicked: no");
        memory.0.set(panics.memory + 1);
        assert!(one(&panics, b"", &memory).unwrap_err().contains("bytes of memory for 0 bytes"));
    }
}
