//! Variable-length integers: seven bits a byte, the lowest first; the high bit marks that more bytes follow.

/// The bytes end too early or are out of range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InvalidVarint;

pub(crate) fn encode(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Decodes a number from the front of `bytes` and removes it.
pub(crate) fn decode(bytes: &mut &[u8]) -> Result<u64, InvalidVarint> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first().ok_or(InvalidVarint)?;
        *bytes = rest;
        let part = u64::from(byte & 0x7f);
        if shift == 63 && part > 1 {
            return Err(InvalidVarint);
        }
        number |= part << shift;
        if byte < 0x80 {
            return Ok(number);
        }
    }
    Err(InvalidVarint)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn round_trip(number: u64, shift in 0..64_u32) {
            let number = number >> shift;
            let mut out = Vec::new();
            encode(number, &mut out);
            let mut rest = &out[..];
            prop_assert_eq!(decode(&mut rest), Ok(number));
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn malformed_bytes_do_not_panic(bytes: Vec<u8>) {
            let _ = decode(&mut &bytes[..]);
        }
    }

    #[test]
    fn overlong_and_truncated_numbers_are_rejected() {
        assert_eq!(decode(&mut &[0xff; 11][..]), Err(InvalidVarint));
        assert_eq!(decode(&mut &[0x80][..]), Err(InvalidVarint));
        assert_eq!(decode(&mut &[][..]), Err(InvalidVarint));
    }
}
