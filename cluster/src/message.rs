//! One message between two nodes, and its layout on the wire.
//!
//! ```text
//!  0        4      5      6              14
//!  +--------+------+------+--------------+------------ - -
//!  | length | kind | role | id           | payload
//!  +--------+------+------+--------------+------------ - -
//!   u32 LE   u8     u8     u64 LE
//! ```
//!
//! `length` counts the bytes after it, and is checked before any memory is taken. `kind` is the kind of request,
//! `role` the message's role in its conversation, and `id` identifies the conversation within the link. There is no
//! checksum: TCP has one, and stored data is checked again by the checksum of its frame.

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The maximum bytes of one message, with its head. An append or entry has at most 1 MiB, so that three of them and
/// their overhead fit.
pub const FRAME_BYTES_MAX: usize = 4 << 20;
/// The bytes of the head: length, kind, role and id.
pub const HEAD_BYTES: usize = 14;
/// The maximum payload bytes of one message.
pub const PAYLOAD_BYTES_MAX: usize = FRAME_BYTES_MAX - HEAD_BYTES;

const LENGTH_BYTES: usize = 4;

/// The kind of request. A node that does not know a kind refuses it and keeps the link open, as later versions may
/// have more kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind(pub u8);

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $number:literal $text:literal,)*) => {
        impl Kind {
            $($(#[$doc])* pub const $name: Self = Self($number);)*
        }

        impl fmt::Display for Kind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self.0 {
                    $($number => f.write_str($text),)*
                    other => write!(f, "kind {other}"),
                }
            }
        }
    };
}

kinds! {
    /// Raft: entries, as a stream or one by one, and heartbeats.
    APPEND = 1 "append",
    /// Raft: a candidate asks for a vote.
    VOTE = 2 "vote",
    /// Raft: a candidate asks whether it would receive a vote.
    PRE_VOTE = 3 "pre-vote",
    /// Raft: the leader hands leadership over.
    TRANSFER = 4 "transfer",
    /// To the leader: put these commands into the log.
    PROPOSE = 5 "propose",
    /// To the leader: returns the current commit index.
    READ_INDEX = 6 "read-index",
    /// To the leader: renews the sender's session.
    RENEW = 7 "renew",
    /// From an unidentified peer or a member: returns the cluster, its members and its leader.
    NODE_INFO = 8 "who",
    /// To the leader: admits the sender as a member.
    JOIN = 9 "join",
    /// To the leader: removes the sender, or the given member.
    LEAVE = 10 "leave",
    /// Returns the node's status, as its program writes it. The request has no payload; the answer has at most
    /// [`STATUS_BYTES_MAX`](crate::status::STATUS_BYTES_MAX) bytes.
    STATUS = 11 "status",
    /// To the leader: transfers leadership to another voter.
    LEAD = 12 "lead",
    /// Heartbeat: returns the clock of the node, and for how long its leader has not answered.
    HEARTBEAT = 13 "pulse",
}

/// The role of a message in its conversation. One side opens a link and sends requests; the other serves them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Role {
    /// A request with one answer.
    Call = 0,
    /// The answer.
    Answer = 1,
    /// A refusal: the payload is a [`crate::link::Refusal`].
    Refusal = 2,
    /// A message without an answer.
    Cast = 3,
    /// The caller no longer waits for the answer.
    Cancel = 4,
    /// Opens a stream: ordered messages in both directions, until each side ends its own.
    Open = 5,
    /// The next message of a stream.
    Item = 6,
    /// This side sends no more.
    End = 7,
    /// This side has stopped reading.
    Stop = 8,
    /// This many bytes of the stream were consumed, so as many more may be sent. The payload is a u32 LE.
    Credit = 9,
}

impl Role {
    fn of(byte: u8) -> Option<Self> {
        use Role::{Answer, Call, Cancel, Cast, Credit, End, Item, Open, Refusal, Stop};
        [Call, Answer, Refusal, Cast, Cancel, Open, Item, End, Stop, Credit].get(usize::from(byte)).copied()
    }
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The kind of request.
    pub kind: Kind,
    /// Its role in the conversation.
    pub role: Role,
    /// The id of the conversation.
    pub id: u64,
    /// The content.
    pub payload: Bytes,
}

/// Bytes that are not a message. The bytes after them cannot be trusted, so the link is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MalformedMessage {
    /// Longer than the limit.
    #[error("failed to read a message: {length} bytes announced, and frame_bytes_max is {FRAME_BYTES_MAX}")]
    TooLong {
        /// The announced length, including the length field.
        length: u64,
    },
    /// Shorter than its head.
    #[error("failed to read a message: {length} bytes announced, less than its head of {HEAD_BYTES}")]
    TooShort {
        /// The announced length, including the length field.
        length: u64,
    },
    /// A role that this version does not know.
    #[error("failed to read a message: role {0} is not known to this version")]
    Role(u8),
}

impl Message {
    /// Returns its length on the wire.
    #[must_use]
    pub fn bytes(&self) -> usize {
        HEAD_BYTES + self.payload.len()
    }

    /// Writes the head; the payload follows it.
    pub(crate) fn put_head(&self, into: &mut BytesMut) {
        debug_assert!(self.payload.len() <= PAYLOAD_BYTES_MAX, "a message is measured before it is queued");
        let length = u32::try_from(self.bytes() - LENGTH_BYTES).expect("a message is at most frame_bytes_max");
        into.put_u32_le(length);
        into.put_u8(self.kind.0);
        into.put_u8(self.role as u8);
        into.put_u64_le(self.id);
    }

    /// Takes the first message out of `from`, once it has arrived completely.
    pub(crate) fn take(from: &mut BytesMut) -> Result<Option<Self>, MalformedMessage> {
        let Some(&length) = from.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let length = LENGTH_BYTES as u64 + u64::from(u32::from_le_bytes(length));
        if length > FRAME_BYTES_MAX as u64 {
            return Err(MalformedMessage::TooLong { length });
        }
        if length < HEAD_BYTES as u64 {
            return Err(MalformedMessage::TooShort { length });
        }
        let length = usize::try_from(length).expect("checked against frame_bytes_max");
        if from.len() < length {
            return Ok(None);
        }
        let mut frame = from.split_to(length);
        frame.advance(LENGTH_BYTES);
        let kind = Kind(frame.get_u8());
        let role = frame.get_u8();
        let role = Role::of(role).ok_or(MalformedMessage::Role(role))?;
        let id = frame.get_u64_le();
        Ok(Some(Self { kind, role, id, payload: frame.freeze() }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encode(message: &Message) -> BytesMut {
        let mut bytes = BytesMut::new();
        message.put_head(&mut bytes);
        bytes.extend_from_slice(&message.payload);
        bytes
    }

    #[test]
    fn a_message_has_the_documented_layout() {
        let message =
            Message { kind: Kind::RENEW, role: Role::Call, id: 0x0102_0304, payload: Bytes::from_static(b"hey") };
        let golden = [13, 0, 0, 0, 7, 0, 4, 3, 2, 1, 0, 0, 0, 0, b'h', b'e', b'y'];
        assert_eq!(encode(&message)[..], golden);
    }

    #[test]
    fn the_roles_keep_their_numbers() {
        for number in 0..=u8::MAX {
            match Role::of(number) {
                Some(role) => assert_eq!(role as u8, number),
                None => assert!(number > 9),
            }
        }
    }

    #[test]
    fn a_length_over_the_limit_is_refused_before_memory_is_taken() {
        let mut bytes = BytesMut::from(&u32::MAX.to_le_bytes()[..]);
        assert_eq!(Message::take(&mut bytes), Err(MalformedMessage::TooLong { length: 4 + u64::from(u32::MAX) }));
        assert!(bytes.capacity() < 1024);
        let over = u32::try_from(FRAME_BYTES_MAX - LENGTH_BYTES + 1).unwrap();
        assert!(Message::take(&mut BytesMut::from(&over.to_le_bytes()[..])).is_err());
        assert_eq!(Message::take(&mut BytesMut::from(&(over - 1).to_le_bytes()[..])), Ok(None));
    }

    #[test]
    fn a_length_shorter_than_the_head_is_refused() {
        let mut bytes = BytesMut::from(&9u32.to_le_bytes()[..]);
        assert_eq!(Message::take(&mut bytes), Err(MalformedMessage::TooShort { length: 13 }));
    }

    fn message() -> impl Strategy<Value = Message> {
        (any::<u8>(), 0..=9u8, any::<u64>(), prop::collection::vec(any::<u8>(), 0..100)).prop_map(
            |(kind, role, id, payload)| Message {
                kind: Kind(kind),
                role: Role::of(role).unwrap(),
                id,
                payload: payload.into(),
            },
        )
    }

    proptest! {
        #[test]
        fn encoded_messages_are_decoded_however_they_arrive(
            messages in prop::collection::vec(message(), 0..8),
            cut in 1..40usize,
        ) {
            let all: Vec<u8> = messages.iter().flat_map(|message| encode(message).to_vec()).collect();
            let (mut buffer, mut got) = (BytesMut::new(), Vec::new());
            for part in all.chunks(cut) {
                buffer.extend_from_slice(part);
                while let Some(message) = Message::take(&mut buffer).unwrap() {
                    got.push(message);
                }
            }
            prop_assert_eq!(got, messages);
            prop_assert!(buffer.is_empty());
        }

        #[test]
        fn decoding_any_bytes_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut bytes = BytesMut::from(&bytes[..]);
            while let Ok(Some(message)) = Message::take(&mut bytes) {
                prop_assert!(message.bytes() <= FRAME_BYTES_MAX);
            }
        }
    }
}
