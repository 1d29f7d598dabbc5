//! Encoding of values. The only module that uses bincode, and always with a limit: without one, eleven hostile bytes
//! make it allocate 790 GB.
//!
//! Data that must stay readable for ever (entries of the log, and the events in them) has a layout of its own in
//! [`payload`](crate::payload). This module encodes the values inside that layout, the images of checkpoints, and the
//! messages between peers, with bincode's standard configuration: little-endian, lengths and numbers as varints. The
//! golden bytes in the tests pin it.
//!
//! An event is written as these values, one after the other; those that searches need come first:
//!
//! ```text
//! id [u8; 16] | flags u16 | type text | stream text? | tags [text] | key text? | source text | given_id text?
//! | given_uuid [u8; 16]? | time text? | content_type text? | schema text? | extensions [(text, text)]? | key_id u32?
//! | data: the rest
//! ```
//!
//! A `text` is its length and its UTF-8 bytes, `[…]` is a count and the values. A value with a `?` is present if its
//! bit of the flags is set: 0 stream, 1 key, 2 given_id, 3 time, 4 content_type, 5 schema, 6 extensions, 7 key_id.
//! Bits 8 and 9 are the kind of data: 0 none, 1 JSON, 2 bytes. Bit 10 is given_uuid: a given_id that is a UUID in its
//! canonical form, lower case with hyphens, stored in 16 bytes. The other bits are 0.

use bincode::{
    BorrowDecode,
    config::{Configuration, Limit, LittleEndian, Varint},
    de::{BorrowDecoder, Decode, read::Reader},
    enc::{Encode, Encoder, write::Writer},
    error::{DecodeError as BincodeError, EncodeError},
};
use bytes::Bytes;
use evener_core::event::{DataKind, Event};
use serde::{Serialize, de::DeserializeOwned};
use uuid::Uuid;

/// Bytes of an encoded entry of the log, checked before an entry is proposed.
pub const ENTRY_BYTES_MAX: usize = 1 << 20;
/// Bytes of a message between peers. This is also the limit of decoders of entries, so that every build reads entries
/// of builds with another `ENTRY_BYTES_MAX`.
pub const MESSAGE_BYTES_MAX: usize = 4 << 20;
/// Bytes that the decoded values of a command's body may have: a number of one byte decodes to eight, so every body
/// that fits an entry can be read.
const BODY_BYTES_MAX: usize = 8 * ENTRY_BYTES_MAX;
/// Bytes of the image of a replicated state, far above what the limits of the state allow.
pub const IMAGE_BYTES_MAX: usize = 1 << 30;

/// Why bytes could not be decoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes are shorter than the lengths in them.
    #[error("failed to decode {what}: it ends after {have} of {need} bytes")]
    Short {
        /// The value that was decoded.
        what: &'static str,
        /// The bytes needed according to the lengths.
        need: usize,
        /// The bytes given.
        have: usize,
    },
    /// The bytes are longer than the lengths in them.
    #[error("failed to decode {what}: it has {extra} trailing bytes")]
    Trailing {
        /// The value that was decoded.
        what: &'static str,
        /// The number of trailing bytes.
        extra: usize,
    },
    /// Longer than allowed.
    #[error("failed to decode {what}: it has {got} bytes and the limit {limit} allows {max}")]
    Limit {
        /// The value that was decoded.
        what: &'static str,
        /// The limit's name.
        limit: &'static str,
        /// Its value.
        max: usize,
        /// The bytes given.
        got: usize,
    },
    /// A command of an unknown kind.
    #[error(
        "failed to decode command {number} of an entry: its kind {kind} is unknown to this build; \
         this node is older than the feature level of the log: start a newer build of evener on it"
    )]
    UnknownKind {
        /// The number of the command in the entry.
        number: usize,
        /// The kind.
        kind: u16,
    },
    /// The value was written by a newer build.
    #[error("failed to decode {what}: {how} unknown to this build; start a newer build of evener")]
    Newer {
        /// The value that was decoded.
        what: &'static str,
        /// The unknown part with its verb: `its flags 0x0400 are`.
        how: String,
    },
    /// A table of ends is not ascending or exceeds the bytes.
    #[error("failed to decode {what}: part {number} is out of bounds")]
    Misplaced {
        /// The value that was decoded.
        what: &'static str,
        /// The number of the part.
        number: usize,
    },
    /// The part does not exist.
    #[error("failed to read {what} {number}: there are only {count}")]
    Missing {
        /// The kind of part.
        what: &'static str,
        /// Its number.
        number: usize,
        /// The number of such parts.
        count: usize,
    },
    /// The values are invalid.
    #[error("failed to decode {what}: {cause}")]
    Invalid {
        /// The value that was decoded.
        what: &'static str,
        /// The cause, as bincode states it.
        cause: String,
    },
}

impl DecodeError {
    /// Returns whether the bytes are valid but written by a newer build, which is needed to read them.
    #[must_use]
    pub const fn is_from_a_newer_build(&self) -> bool {
        matches!(self, Self::UnknownKind { .. } | Self::Newer { .. })
    }
}

/// Encodes a value as the image of a checkpoint.
#[must_use]
pub fn encode_image<T: Serialize>(value: &T) -> Bytes {
    let mut out = Vec::new();
    put(&mut out, value);
    out.into()
}

/// Decodes the value of an image.
pub fn decode_image<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    const WHAT: &str = "a checkpoint image";
    check_limit(WHAT, "image_bytes_max", IMAGE_BYTES_MAX, bytes)?;
    // A length in hostile bytes allocates memory up to the limit, so the limit follows the size of the image. The
    // decoded value is at most eight times as large: a number of one byte counts as eight.
    let decoded = if bytes.len() <= SMALL_IMAGE_BYTES {
        bincode::serde::decode_from_slice(bytes, limited::<{ 8 * SMALL_IMAGE_BYTES }>())
    } else if bytes.len() <= LARGE_IMAGE_BYTES {
        bincode::serde::decode_from_slice(bytes, limited::<{ 8 * LARGE_IMAGE_BYTES }>())
    } else {
        bincode::serde::decode_from_slice(bytes, limited::<{ 8 * IMAGE_BYTES_MAX }>())
    };
    check_whole(WHAT, bytes, decoded)
}

const SMALL_IMAGE_BYTES: usize = 64 << 10;
const LARGE_IMAGE_BYTES: usize = 8 << 20;

/// Encodes a message to a peer.
///
/// # Errors
///
/// The message exceeds [`MESSAGE_BYTES_MAX`].
pub fn encode_message<T: Serialize>(value: &T) -> Result<Bytes, DecodeError> {
    let mut out = Vec::new();
    put(&mut out, value);
    check_limit("a peer message", "message_bytes_max", MESSAGE_BYTES_MAX, &out)?;
    Ok(out.into())
}

/// Decodes a message from a peer.
pub fn decode_message<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    take("a peer message", bytes)
}

/// Appends an encoded value to `out`.
pub(crate) fn put<T: Serialize>(out: &mut Vec<u8>, value: &T) {
    bincode::serde::encode_into_writer(value, VecWriter(out), limited::<MESSAGE_BYTES_MAX>())
        .expect("our types know how many items they have, and a vector takes all bytes");
}

/// Reads a value that fills `bytes`.
pub(crate) fn take<T: DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T, DecodeError> {
    check_limit(what, "message_bytes_max", MESSAGE_BYTES_MAX, bytes)?;
    check_whole(what, bytes, bincode::serde::decode_from_slice(bytes, limited::<MESSAGE_BYTES_MAX>()))
}

/// Reads the value that is the body of a command.
pub(crate) fn take_body<T: DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T, DecodeError> {
    check_limit(what, "entry_bytes_max", ENTRY_BYTES_MAX, bytes)?;
    check_whole(what, bytes, bincode::serde::decode_from_slice(bytes, limited::<BODY_BYTES_MAX>()))
}

/// Appends an encoded event to `out`.
pub(crate) fn put_event(out: &mut Vec<u8>, event: &Event) {
    bincode::encode_into_writer(EventEncoder(event), VecWriter(out), limited::<MESSAGE_BYTES_MAX>())
        .expect("a vector takes all");
    out.extend_from_slice(&event.data);
}

/// Decodes the event in `bytes`.
pub(crate) fn take_event(bytes: &[u8]) -> Result<Event, DecodeError> {
    let (DecodedEvent(event), used) = borrow::<DecodedEvent>(bytes)?;
    Ok(Event { data: bytes[used..].to_vec(), ..event })
}

/// Checks that [`take_event`] can read `bytes`, without allocating memory.
pub(crate) fn check_event(bytes: &[u8]) -> Result<(), DecodeError> {
    borrow::<CheckedEvent>(bytes).map(drop)
}

fn borrow<'b, T: BorrowDecode<'b, ()>>(bytes: &'b [u8]) -> Result<(T, usize), DecodeError> {
    const WHAT: &str = "an event";
    check_limit(WHAT, "message_bytes_max", MESSAGE_BYTES_MAX, bytes)?;
    // The flags show whether a newer build wrote the event.
    if let Some(Ok(flags)) = bytes.get(16..18).map(<[u8; 2]>::try_from)
        && !is_known(u16::from_le_bytes(flags))
    {
        let how = format!("its flags {:#06x} are", u16::from_le_bytes(flags));
        return Err(DecodeError::Newer { what: WHAT, how });
    }
    let decoded = bincode::borrow_decode_from_slice(bytes, limited::<MESSAGE_BYTES_MAX>());
    decoded.map_err(|error| decode_error(WHAT, bytes, error))
}

/// Encodes an event without its data.
struct EventEncoder<'e>(&'e Event);

impl Encode for EventEncoder<'_> {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        let Self(event) = self;
        let given = event.given_id.as_deref();
        let given_uuid = given.and_then(canonical_uuid);
        let given = given.filter(|_| given_uuid.is_none());
        let [stream, key, time, content_type, schema] =
            [&event.stream, &event.key, &event.time, &event.content_type, &event.schema].map(Option::as_deref);
        let optional = [stream, key, given, time, content_type, schema];
        let mut flags = (0..).zip(optional).fold(0, |flags, (bit, text)| flags | u16::from(text.is_some()) << bit);
        flags |= u16::from(given_uuid.is_some()) << GIVEN_UUID;
        flags |= u16::from(!event.extensions.is_empty()) << EXTENSIONS;
        flags |= u16::from(event.key_id != 0) << KEY_ID;
        flags |= u16::from(number_of(event.data_kind)) << DATA_KIND;
        event.id.as_bytes().encode(encoder)?;
        flags.to_le_bytes().encode(encoder)?;
        event.kind.encode(encoder)?;
        if let Some(stream) = stream {
            stream.encode(encoder)?;
        }
        event.tags.encode(encoder)?;
        if let Some(key) = key {
            key.encode(encoder)?;
        }
        event.source.encode(encoder)?;
        if let Some(given) = given {
            given.encode(encoder)?;
        }
        if let Some(given) = given_uuid {
            given.as_bytes().encode(encoder)?;
        }
        for text in [time, content_type, schema].into_iter().flatten() {
            text.encode(encoder)?;
        }
        if !event.extensions.is_empty() {
            event.extensions.encode(encoder)?;
        }
        if event.key_id != 0 {
            event.key_id.encode(encoder)?;
        }
        Ok(())
    }
}

const EXTENSIONS: u16 = 6;
const KEY_ID: u16 = 7;
const DATA_KIND: u16 = 8;
const GIVEN_UUID: u16 = 10;

/// Returns the UUID whose canonical form is `text`, if any.
fn canonical_uuid(text: &str) -> Option<Uuid> {
    let id = Uuid::try_parse(text).ok()?;
    (*id.hyphenated().encode_lower(&mut Uuid::encode_buffer()) == *text).then_some(id)
}

/// A decoded event without its data.
struct DecodedEvent(Event);

impl<'de, C> BorrowDecode<'de, C> for DecodedEvent {
    fn borrow_decode<D: BorrowDecoder<'de, Context = C>>(decoder: &mut D) -> Result<Self, BincodeError> {
        let id = Uuid::from_bytes(<[u8; 16]>::decode(decoder)?);
        let flags = u16::from_le_bytes(<[u8; 2]>::decode(decoder)?);
        let data_kind = data_kind_of(flags).ok_or(BincodeError::Other("its flags are unknown"))?;
        let set = |bit: u16| flags >> bit & 1 == 1;
        let text = |decoder: &mut D| Text::borrow_decode(decoder).map(|text| text.0);
        let optional = |bit, decoder: &mut D| set(bit).then(|| text(decoder)).transpose();
        Ok(Self(Event {
            id,
            kind: text(decoder)?,
            stream: optional(0, decoder)?,
            tags: List::<Text>::borrow_decode(decoder)?.0.into_iter().map(|tag| tag.0).collect(),
            key: optional(1, decoder)?,
            source: text(decoder)?,
            given_id: match optional(2, decoder)? {
                None if set(GIVEN_UUID) => Some(Uuid::from_bytes(<[u8; 16]>::decode(decoder)?).to_string()),
                Some(_) if set(GIVEN_UUID) => return Err(BincodeError::Other("it has two given ids")),
                given => given,
            },
            time: optional(3, decoder)?,
            content_type: optional(4, decoder)?,
            schema: optional(5, decoder)?,
            extensions: if set(EXTENSIONS) {
                let pairs = List::<(Text, Text)>::borrow_decode(decoder)?.0;
                pairs.into_iter().map(|(name, value)| (name.0, value.0)).collect()
            } else {
                Vec::new()
            },
            key_id: if set(KEY_ID) { u32::decode(decoder)? } else { 0 },
            data_kind,
            data: Vec::new(),
        }))
    }
}

/// A checked event: reads the same values as [`DecodedEvent`] in the same order and keeps none of them.
struct CheckedEvent;

impl<'de, C> BorrowDecode<'de, C> for CheckedEvent {
    fn borrow_decode<D: BorrowDecoder<'de, Context = C>>(decoder: &mut D) -> Result<Self, BincodeError> {
        <[u8; 16]>::decode(decoder)?;
        let flags = u16::from_le_bytes(<[u8; 2]>::decode(decoder)?);
        data_kind_of(flags).ok_or(BincodeError::Other("its flags are unknown"))?;
        let set = |bit: u16| flags >> bit & 1 == 1;
        let text = |decoder: &mut D| <&str>::borrow_decode(decoder).map(drop);
        let optional = |bit, decoder: &mut D| if set(bit) { text(decoder) } else { Ok(()) };
        text(decoder)?;
        optional(0, decoder)?;
        for _ in 0..bounded_count(decoder)? {
            text(decoder)?;
        }
        optional(1, decoder)?;
        text(decoder)?;
        optional(2, decoder)?;
        if set(GIVEN_UUID) {
            if set(2) {
                return Err(BincodeError::Other("it has two given ids"));
            }
            <[u8; 16]>::decode(decoder)?;
        }
        (3..EXTENSIONS).try_for_each(|bit| optional(bit, decoder))?;
        if set(EXTENSIONS) {
            for _ in 0..bounded_count(decoder)? {
                text(decoder)?;
                text(decoder)?;
            }
        }
        if set(KEY_ID) {
            u32::decode(decoder)?;
        }
        Ok(Self)
    }
}

const fn number_of(kind: DataKind) -> u8 {
    match kind {
        DataKind::None => 0,
        DataKind::Json => 1,
        DataKind::Binary => 2,
    }
}

/// Returns whether this build knows these flags of an event.
const fn is_known(flags: u16) -> bool {
    data_kind_of(flags).is_some()
}

const fn data_kind_of(flags: u16) -> Option<DataKind> {
    match (flags & !(1 << GIVEN_UUID)) >> DATA_KIND {
        0 => Some(DataKind::None),
        1 => Some(DataKind::Json),
        2 => Some(DataKind::Binary),
        _ => None,
    }
}

const fn limited<const MAX: usize>() -> Configuration<LittleEndian, Varint, Limit<MAX>> {
    bincode::config::standard().with_limit::<MAX>()
}

fn check_limit(what: &'static str, limit: &'static str, max: usize, bytes: &[u8]) -> Result<(), DecodeError> {
    let got = bytes.len();
    if got <= max { Ok(()) } else { Err(DecodeError::Limit { what, limit, max, got }) }
}

fn check_whole<T>(
    what: &'static str,
    bytes: &[u8],
    decoded: Result<(T, usize), BincodeError>,
) -> Result<T, DecodeError> {
    match decoded {
        Ok((value, used)) if used == bytes.len() => Ok(value),
        Ok((_, used)) => Err(DecodeError::Trailing { what, extra: bytes.len() - used }),
        Err(error) => Err(decode_error(what, bytes, error)),
    }
}

fn decode_error(what: &'static str, bytes: &[u8], error: BincodeError) -> DecodeError {
    match error {
        BincodeError::UnexpectedEnd { additional } => {
            DecodeError::Short { what, need: bytes.len().saturating_add(additional), have: bytes.len() }
        }
        BincodeError::OtherString(cause) => DecodeError::Invalid { what, cause },
        error => DecodeError::Invalid { what, cause: error.to_string() },
    }
}

/// Appends to a vector.
struct VecWriter<'v>(&'v mut Vec<u8>);

impl Writer for VecWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

/// An owned text, copied from the bytes: decoding a `String` would allocate its memory before it checks the length.
struct Text(String);

impl<'de, C> BorrowDecode<'de, C> for Text {
    fn borrow_decode<D: BorrowDecoder<'de, Context = C>>(decoder: &mut D) -> Result<Self, BincodeError> {
        Ok(Self(<&str>::borrow_decode(decoder)?.to_owned()))
    }
}

/// Reads the count of a list and checks it against the remaining bytes: an item has at least one byte.
fn bounded_count<'de, D: BorrowDecoder<'de>>(decoder: &mut D) -> Result<usize, BincodeError> {
    let count = usize::decode(decoder)?;
    match decoder.reader().peek_read(count) {
        Some(_) => Ok(count),
        None => Err(BincodeError::UnexpectedEnd { additional: count }),
    }
}

/// A list whose count is checked against the remaining bytes before its memory is allocated.
struct List<T>(Vec<T>);

impl<'de, C, T: BorrowDecode<'de, C>> BorrowDecode<'de, C> for List<T> {
    fn borrow_decode<D: BorrowDecoder<'de, Context = C>>(decoder: &mut D) -> Result<Self, BincodeError> {
        let count = bounded_count(decoder)?;
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(T::borrow_decode(decoder)?);
        }
        Ok(Self(items))
    }
}
