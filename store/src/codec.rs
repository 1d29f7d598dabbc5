//! How values become bytes. The one module that names bincode, and never without a limit: eleven hostile bytes
//! make it ask for 790 GB otherwise.
//!
//! What may be read for ever (entries of the log, and the events in them) is framed by hand in
//! [`payload`](crate::payload); here are the values inside those frames, the images of checkpoints, and the
//! messages between peers. All of it is bincode's standard configuration: little-endian, lengths and numbers as
//! varints. The golden bytes in the tests hold it.
//!
//! An event is written as these values, one after the other; what is looked for stands first:
//!
//! ```text
//! id [u8; 16] | kind text | stream text? | tags [text] | key text? | source text | given_id text? | time text?
//! | content_type text? | schema text? | extensions [(text, text)] | key_id u32 | data_kind u8 | data bytes
//! ```
//!
//! A `text` is its length and its UTF-8 bytes, `?` is 0, or 1 and the value, `[…]` is a count and the values.

use bincode::{
    BorrowDecode,
    config::{Configuration, Limit, LittleEndian, Varint},
    de::{BorrowDecoder, Decode, read::Reader},
    enc::write::Writer,
    error::{DecodeError as Broken, EncodeError},
};
use bytes::Bytes;
use evener_core::event::{DataKind, Event};
use serde::{Serialize, de::DeserializeOwned};
use uuid::Uuid;

pub use crate::payload::{Encoded, EntryBuilder, Payload, decode_entry, decode_event_at, encode_entry};

/// Bytes of an encoded entry of the log. Whoever makes one refuses more, before it is proposed.
pub const ENTRY_BYTES_MAX: usize = 1 << 20;
/// Bytes of a message between peers. No decoder reads a longer entry either, so that what a stricter or a laxer
/// build proposed is still read by all.
pub const MESSAGE_BYTES_MAX: usize = 4 << 20;
/// Bytes of the image of a replicated state: what its own limits allow stays far below.
pub const IMAGE_BYTES_MAX: usize = 1 << 30;

/// Why bytes are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// There is less than the lengths in it say.
    #[error("failed to decode {what}: it ends after {have} of {need} bytes")]
    Short {
        /// What was decoded.
        what: &'static str,
        /// What the lengths say.
        need: usize,
        /// What there is.
        have: usize,
    },
    /// There is more than the lengths in it say.
    #[error("failed to decode {what}: {extra} bytes are left over")]
    Trailing {
        /// What was decoded.
        what: &'static str,
        /// How much more.
        extra: usize,
    },
    /// Longer than allowed.
    #[error("failed to decode {what}: it has {got} bytes and the limit {limit} allows {max}")]
    Limit {
        /// What was decoded.
        what: &'static str,
        /// The limit's name.
        limit: &'static str,
        /// What it allows.
        max: usize,
        /// What there is.
        got: usize,
    },
    /// A command that this build has never heard of.
    #[error(
        "failed to decode command {number} of an entry: its kind {kind} is unknown here; \
         this node is older than the feature level of the log: start a newer build of evener on it"
    )]
    UnknownKind {
        /// Its place in the entry.
        number: usize,
        /// What it says it is.
        kind: u16,
    },
    /// A table of ends goes backwards or beyond the bytes.
    #[error("failed to decode {what}: part {number} does not lie within it")]
    Misplaced {
        /// What was decoded.
        what: &'static str,
        /// Which part.
        number: usize,
    },
    /// There is no such part.
    #[error("failed to read {what} {number}: there are only {count}")]
    Missing {
        /// What was looked for.
        what: &'static str,
        /// Which.
        number: usize,
        /// How many there are.
        count: usize,
    },
    /// The values do not make sense.
    #[error("failed to decode {what}: {cause}")]
    Broken {
        /// What was decoded.
        what: &'static str,
        /// In bincode's words.
        cause: String,
    },
}

/// The image of a value for a checkpoint.
#[must_use]
pub fn encode_image<T: Serialize>(value: &T) -> Bytes {
    let mut out = Vec::new();
    put(&mut out, value);
    out.into()
}

/// The value of an image.
pub fn decode_image<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    within("a checkpoint image", "image_bytes_max", IMAGE_BYTES_MAX, bytes)?;
    let decoded = bincode::serde::decode_from_slice(bytes, limited::<IMAGE_BYTES_MAX>());
    whole("a checkpoint image", bytes, decoded)
}

/// A message to a peer. One longer than [`MESSAGE_BYTES_MAX`] is the sender's mistake, told there.
pub fn encode_message<T: Serialize>(value: &T) -> Result<Bytes, DecodeError> {
    let mut out = Vec::new();
    put(&mut out, value);
    within("a peer message", "message_bytes_max", MESSAGE_BYTES_MAX, &out)?;
    Ok(out.into())
}

/// A message from a peer.
pub fn decode_message<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    take("a peer message", bytes)
}

/// Writes a value behind what is there.
pub(crate) fn put<T: Serialize>(out: &mut Vec<u8>, value: &T) {
    bincode::serde::encode_into_writer(value, Out(out), limited::<MESSAGE_BYTES_MAX>())
        .expect("our types know how many items they have, and a vector takes all bytes");
}

/// Reads a value that fills `bytes`.
pub(crate) fn take<T: DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T, DecodeError> {
    within(what, "message_bytes_max", MESSAGE_BYTES_MAX, bytes)?;
    whole(what, bytes, bincode::serde::decode_from_slice(bytes, limited::<MESSAGE_BYTES_MAX>()))
}

/// Writes an event behind what is there.
pub(crate) fn put_event(out: &mut Vec<u8>, event: &Event) {
    let values = (
        event.id.as_bytes(),
        &event.kind,
        &event.stream,
        &event.tags,
        &event.key,
        &event.source,
        &event.given_id,
        &event.time,
        &event.content_type,
        &event.schema,
        &event.extensions,
        event.key_id,
        number_of(event.data_kind),
        &event.data,
    );
    bincode::encode_into_writer(values, Out(out), limited::<MESSAGE_BYTES_MAX>()).expect("a vector takes all bytes");
}

/// Reads an event that fills `bytes`.
pub(crate) fn take_event(bytes: &[u8]) -> Result<Event, DecodeError> {
    type Values<'b> = (
        [u8; 16],
        &'b str,
        Option<&'b str>,
        List<Text>,
        Option<&'b str>,
        &'b str,
        Option<&'b str>,
        Option<&'b str>,
        Option<&'b str>,
        Option<&'b str>,
        List<(Text, Text)>,
        u32,
        u8,
        &'b [u8],
    );
    const WHAT: &str = "an event";
    within(WHAT, "message_bytes_max", MESSAGE_BYTES_MAX, bytes)?;
    let decoded = bincode::borrow_decode_from_slice::<Values<'_>, _>(bytes, limited::<MESSAGE_BYTES_MAX>());
    let values = whole(WHAT, bytes, decoded)?;
    let (id, kind, stream, tags, key, source, given_id, time, content_type, schema, extensions, key_id, form, data) =
        values;
    Ok(Event {
        id: Uuid::from_bytes(id),
        given_id: given_id.map(String::from),
        source: source.to_owned(),
        kind: kind.to_owned(),
        stream: stream.map(String::from),
        key: key.map(String::from),
        tags: tags.0.into_iter().map(|tag| tag.0).collect(),
        time: time.map(String::from),
        content_type: content_type.map(String::from),
        schema: schema.map(String::from),
        extensions: extensions.0.into_iter().map(|(name, value)| (name.0, value.0)).collect(),
        key_id,
        data_kind: data_kind_of(form).ok_or_else(|| DecodeError::Broken {
            what: WHAT,
            cause: format!("data_kind {form} is unknown here: start a newer build of evener on this node"),
        })?,
        data: data.to_vec(),
    })
}

const fn number_of(kind: DataKind) -> u8 {
    match kind {
        DataKind::None => 0,
        DataKind::Json => 1,
        DataKind::Binary => 2,
    }
}

const fn data_kind_of(number: u8) -> Option<DataKind> {
    match number {
        0 => Some(DataKind::None),
        1 => Some(DataKind::Json),
        2 => Some(DataKind::Binary),
        _ => None,
    }
}

const fn limited<const MAX: usize>() -> Configuration<LittleEndian, Varint, Limit<MAX>> {
    bincode::config::standard().with_limit::<MAX>()
}

fn within(what: &'static str, limit: &'static str, max: usize, bytes: &[u8]) -> Result<(), DecodeError> {
    let got = bytes.len();
    if got <= max { Ok(()) } else { Err(DecodeError::Limit { what, limit, max, got }) }
}

fn whole<T>(what: &'static str, bytes: &[u8], decoded: Result<(T, usize), Broken>) -> Result<T, DecodeError> {
    match decoded {
        Ok((value, used)) if used == bytes.len() => Ok(value),
        Ok((_, used)) => Err(DecodeError::Trailing { what, extra: bytes.len() - used }),
        Err(Broken::UnexpectedEnd { additional }) => {
            Err(DecodeError::Short { what, need: bytes.len().saturating_add(additional), have: bytes.len() })
        }
        Err(broken) => Err(DecodeError::Broken { what, cause: broken.to_string() }),
    }
}

/// Writes behind what is there.
struct Out<'v>(&'v mut Vec<u8>);

impl Writer for Out<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

/// An owned text that is copied out of the bytes: `String` would take its memory before it looks at them.
struct Text(String);

impl<'de, C> BorrowDecode<'de, C> for Text {
    fn borrow_decode<D: BorrowDecoder<'de, Context = C>>(decoder: &mut D) -> Result<Self, Broken> {
        Ok(Self(<&str>::borrow_decode(decoder)?.to_owned()))
    }
}

/// A list whose count is held against the bytes that are left before memory is taken for it: no item is shorter
/// than one byte.
struct List<T>(Vec<T>);

impl<'de, C, T: BorrowDecode<'de, C>> BorrowDecode<'de, C> for List<T> {
    fn borrow_decode<D: BorrowDecoder<'de, Context = C>>(decoder: &mut D) -> Result<Self, Broken> {
        let count = usize::decode(decoder)?;
        if decoder.reader().peek_read(count).is_none() {
            return Err(Broken::UnexpectedEnd { additional: count });
        }
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(T::borrow_decode(decoder)?);
        }
        Ok(Self(items))
    }
}
