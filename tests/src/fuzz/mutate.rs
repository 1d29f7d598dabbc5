//! Generates inputs from samples, deterministically from a seed.

use rand::{Rng, RngExt, SeedableRng, rngs::SmallRng};

/// The maximum length of most inputs; `Mutator::repeat` makes longer ones.
pub const INPUT_BYTES_MAX: usize = 16 << 10;
/// The number of earlier inputs that are kept to be mutated again.
const POOL_MAX: usize = 256;

/// The values that integers in the bytes are set to: limits of their ranges, and lengths that exceed any input.
const INTEGERS: [u64; 16] = [
    0,
    1,
    2,
    0x7f,
    0x80,
    0xff,
    0x100,
    0x7fff,
    0xffff,
    0x10_0000,
    0x40_0000,
    0x7fff_ffff,
    0xffff_ffff,
    1 << 40,
    i64::MAX as u64,
    u64::MAX,
];

/// Fragments of the texts that decoders read.
const TOKENS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    "\"",
    ":",
    ",",
    "null",
    "true",
    "false",
    "-0",
    "1e999",
    "1e-999",
    "18446744073709551616",
    "-1",
    "0.1",
    "\\u0000",
    "\\ud800",
    "\\uDFFF",
    "\\n",
    "\n",
    "\r\n",
    "\0",
    "\u{feff}",
    "\u{85}",
    "\u{1b}[2J",
    "\u{fffe}",
    "%",
    "%2B",
    "%252B",
    "%00",
    "%ff",
    "+",
    "&",
    "=",
    "a=b",
    "{\"a\":",
    "\"id\":",
    "\"source\":",
    "\"type\":",
    "\"data\":",
    "\"data_base64\":",
    "\"time\":",
    "\"tags\":",
    "\"subject\":",
    "\"stream\":",
    "\"events\":[",
    "\"conditions\":[",
    "\"marker\":9000000000000000",
    "\"types\":[\"\"]",
    "9999-12-31T23:59:60.9999999999999Z",
    "-0001-01-01T00:00:00Z",
    "\"delivery\":7",
    "\"ok\":true",
    "\"error\":\"\"",
    "\"verdict\":\"skip\"",
    "limit=",
    "from=-1",
    "[node]",
    "'''",
    "\"\"\"",
    "= [",
    "0x",
    "inf",
    "1979-05-27",
    "\"all\":true",
    "\"sequence\":\"\"",
    "\"segment\":4294967296",
    "999999999999h",
];

/// Generates inputs.
pub struct Mutator {
    random: SmallRng,
    samples: Vec<Vec<u8>>,
    pool: Vec<Vec<u8>>,
}

impl Mutator {
    /// Creates a mutator of these samples with a seed.
    #[must_use]
    pub fn new(seed: u64, samples: Vec<Vec<u8>>) -> Self {
        assert!(!samples.is_empty(), "there is a sample");
        Self { random: SmallRng::seed_from_u64(seed), samples, pool: Vec::new() }
    }

    /// Returns the next input.
    pub fn input(&mut self) -> Vec<u8> {
        let mut input = self.begin();
        for _ in 0..=self.random.random_range(0..3) + self.random.random_range(0..3) {
            self.mutate(&mut input);
        }
        if input.len() <= INPUT_BYTES_MAX {
            match self.pool.len() {
                POOL_MAX.. => {
                    let at = self.random.random_range(0..POOL_MAX);
                    self.pool[at].clone_from(&input);
                }
                _ => self.pool.push(input.clone()),
            }
        }
        input
    }

    fn begin(&mut self) -> Vec<u8> {
        let from = if !self.pool.is_empty() && self.random.random_ratio(1, 3) { &self.pool } else { &self.samples };
        from[self.random.random_range(0..from.len())].clone()
    }

    fn mutate(&mut self, input: &mut Vec<u8>) {
        match self.random.random_range(0..11) {
            0 => self.flip(input),
            1 => self.set_byte(input),
            2 => self.set_integer(input),
            3 => self.set_varint(input),
            4 => input.truncate(self.offset(input)),
            5 => drop(input.drain(self.range(input))),
            6 => self.duplicate(input),
            7 => self.splice(input),
            8 => self.insert_token(input),
            9 => self.insert_random(input),
            _ if self.random.random_ratio(1, 64) => self.repeat(input),
            _ => self.swap(input),
        }
    }

    /// Returns a random offset in `input`, or its end.
    fn offset(&mut self, input: &[u8]) -> usize {
        self.random.random_range(0..=input.len())
    }

    /// Returns a random range of `input`, mostly a short one.
    fn range(&mut self, input: &[u8]) -> std::ops::Range<usize> {
        let from = self.offset(input);
        let max = (input.len() - from).min(if self.random.random_ratio(1, 8) { usize::MAX } else { 16 });
        from..from + self.random.random_range(0..=max)
    }

    fn flip(&mut self, input: &mut [u8]) {
        if let Some(at) = self.index(input) {
            input[at] ^= 1 << self.random.random_range(0..8);
        }
    }

    fn set_byte(&mut self, input: &mut [u8]) {
        if let Some(at) = self.index(input) {
            input[at] = self.random.random();
        }
    }

    fn set_integer(&mut self, input: &mut [u8]) {
        let bytes = INTEGERS[self.random.random_range(0..INTEGERS.len())].to_le_bytes();
        let width = 1 << self.random.random_range(0..4);
        if let Some(at) = self.index(input) {
            input[at..].iter_mut().zip(&bytes[..width]).for_each(|(old, new)| *old = *new);
        }
    }

    /// Writes a varint in one of the two encodings of Evener's formats.
    fn set_varint(&mut self, input: &mut Vec<u8>) {
        let value = INTEGERS[self.random.random_range(0..INTEGERS.len())];
        let mut bytes = Vec::new();
        if self.random.random() {
            let mut rest = value;
            while rest > 0x7f {
                bytes.push(rest as u8 | 0x80);
                rest >>= 7;
            }
            bytes.push(rest as u8);
        } else {
            let (tag, width) = [(251, 2), (252, 4), (253, 8)][self.random.random_range(0..3)];
            bytes.push(tag);
            bytes.extend_from_slice(&value.to_le_bytes()[..width]);
        }
        let at = self.offset(input);
        let end = if self.random.random() { at } else { (at + 1).min(input.len()) };
        input.splice(at..end, bytes);
    }

    fn duplicate(&mut self, input: &mut Vec<u8>) {
        let (range, at) = (self.range(input), self.offset(input));
        let part = input[range].to_vec();
        input.splice(at..at, part);
    }

    fn splice(&mut self, input: &mut Vec<u8>) {
        let other = self.begin();
        let (range, from) = (self.range(input), self.range(&other));
        input.splice(range, other[from].iter().copied());
    }

    fn insert_token(&mut self, input: &mut Vec<u8>) {
        let token = TOKENS[self.random.random_range(0..TOKENS.len())];
        let range = if self.random.random() { self.range(input) } else { self.offset(input)..0 };
        let end = range.end.max(range.start);
        input.splice(range.start..end, token.bytes());
    }

    fn insert_random(&mut self, input: &mut Vec<u8>) {
        let mut bytes = vec![0; self.random.random_range(1..=16)];
        self.random.fill_bytes(&mut bytes);
        let at = self.offset(input);
        input.splice(at..at, bytes);
    }

    /// Inserts many repetitions of a part, up to 256 KiB: nesting, long texts, many items.
    fn repeat(&mut self, input: &mut Vec<u8>) {
        let range = self.range(input);
        let part = match self.random.random_range(0..4) {
            0 => b"[".to_vec(),
            1 => b"{\"a\":".to_vec(),
            2 => TOKENS[self.random.random_range(0..TOKENS.len())].as_bytes().to_vec(),
            _ => input[range].to_vec(),
        };
        let times =
            self.random.random_range(1..=(256 << 10) / part.len().max(1)).min(1 << self.random.random_range(4..18));
        let at = self.offset(input);
        input.splice(at..at, part.repeat(times));
    }

    fn swap(&mut self, input: &mut [u8]) {
        if let (Some(one), Some(other)) = (self.index(input), self.index(input)) {
            input.swap(one, other);
        }
    }

    fn index(&mut self, input: &[u8]) -> Option<usize> {
        (!input.is_empty()).then(|| self.random.random_range(0..input.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_inputs_and_another_seed_others() {
        let inputs = |seed| {
            let mut mutator = Mutator::new(seed, vec![b"{\"a\":1}".to_vec(), Vec::new()]);
            (0..5_000).map(|_| mutator.input()).collect::<Vec<_>>()
        };
        assert_eq!(inputs(1), inputs(1));
        assert_ne!(inputs(1), inputs(2));
        assert!(inputs(1).iter().any(|input| input.len() > INPUT_BYTES_MAX), "some are long");
    }
}
