//! Tagged fields: additions to a stored value or a message without a new format.
//!
//! ```text
//! field    [tag v][len v][len bytes]
//! ```
//!
//! A `v` is a varint. Fields are in the order of their tags, each tag at most once, without trailing bytes. A tag
//! keeps its meaning for all time, even when its field is no longer written.

use crate::{
    codec::DecodeError,
    varint::{self, InvalidVarint},
};

/// Fields to be written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(Vec<u8>);

impl Fields {
    /// Appends a field; its tag must be higher than those before.
    pub fn put(&mut self, tag: u32, bytes: &[u8]) {
        varint::encode(u64::from(tag), &mut self.0);
        varint::encode(bytes.len() as u64, &mut self.0);
        self.0.extend_from_slice(bytes);
    }

    /// Returns whether there are no fields.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the encoded fields.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Returns the fields in `bytes` with their tags. Allocates no memory.
///
/// # Errors
///
/// An item is an error if the bytes are not fields in order; it is the last item.
pub fn fields_of<'b>(
    what: &'static str,
    mut bytes: &'b [u8],
) -> impl Iterator<Item = Result<(u32, &'b [u8]), DecodeError>> {
    let mut tag_min = 0_u64;
    core::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let field = take_field(&mut bytes, &mut tag_min);
        if field.is_err() {
            bytes = &[];
        }
        Some(
            field.map_err(|_| DecodeError::Invalid { what, cause: "its fields end too early, or out of order".into() }),
        )
    })
}

fn take_field<'b>(bytes: &mut &'b [u8], tag_min: &mut u64) -> Result<(u32, &'b [u8]), InvalidVarint> {
    let tag = varint::decode(bytes)?;
    if tag < *tag_min {
        return Err(InvalidVarint);
    }
    *tag_min = tag + 1;
    let len = usize::try_from(varint::decode(bytes)?).map_err(|_| InvalidVarint)?;
    let (field, rest) = bytes.split_at_checked(len).ok_or(InvalidVarint)?;
    *bytes = rest;
    Ok((u32::try_from(tag).map_err(|_| InvalidVarint)?, field))
}

#[cfg(test)]
mod tests {
    use proptest::{collection::btree_map, prelude::*};

    use super::*;

    proptest! {
        #[test]
        fn fields_are_read_as_written(fields in btree_map(any::<u32>(), any::<Vec<u8>>(), 0..5)) {
            let mut written = Fields::default();
            fields.iter().for_each(|(tag, bytes)| written.put(*tag, bytes));
            let read: Result<Vec<_>, _> = fields_of("fields", written.bytes()).collect();
            let expected: Vec<_> = fields.iter().map(|(tag, bytes)| (*tag, &bytes[..])).collect();
            prop_assert_eq!(read, Ok(expected));
        }

        #[test]
        fn malformed_fields_end_the_iteration(bytes: Vec<u8>) {
            prop_assert!(fields_of("fields", &bytes).count() <= bytes.len() / 2 + 1);
        }
    }

    #[test]
    fn fields_out_of_order_are_rejected() {
        for bytes in [&[2, 0, 1, 0][..], &[1, 0, 1, 0], &[1, 9], &[255, 255, 255, 255, 255, 1, 0]] {
            assert!(fields_of("fields", bytes).any(|field| field.is_err()), "{bytes:?}");
        }
    }
}
