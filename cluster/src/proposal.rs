//! A proposal: commands on their way into the log, and who waits for what becomes of them.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use evener_core::{
    append::Append,
    command::{Command, Outcome},
    id::{ContextId, LogIndex, NodeId},
};
use evener_store::codec::Encoded;
use tokio::sync::oneshot;

/// What became of a proposal that is in the log: where, and how each of its commands was judged.
pub type Decided = (LogIndex, Vec<Outcome>);

/// Commands that stand next to each other in one entry.
#[derive(Clone, Debug)]
pub struct Group {
    /// Where its appends go.
    pub context: ContextId,
    /// How many events are in it.
    pub events: u32,
    /// Proposed twice it does no harm, and the second answer is as good as the first.
    pub repeatable: bool,
    /// Encoded where they were made.
    pub commands: Vec<Encoded>,
}

impl Group {
    /// One command, or several that must be judged in one go.
    pub fn new(context: ContextId, commands: &[Command]) -> Self {
        let events = commands.iter().map(|command| match command {
            Command::Append(append) => append.events.len(),
            _ => 0,
        });
        Self {
            context,
            events: u32::try_from(events.sum::<usize>()).unwrap_or(u32::MAX),
            repeatable: commands.iter().all(repeatable),
            commands: commands.iter().map(Encoded::new).collect(),
        }
    }

    /// One append.
    pub fn append(context: ContextId, append: &Append) -> Self {
        let events = u32::try_from(append.events.len()).unwrap_or(u32::MAX);
        Self { context, events, repeatable: true, commands: vec![Encoded::append(append)] }
    }

    /// Bytes that it takes of an entry.
    pub fn bytes(&self) -> usize {
        self.commands.iter().map(Encoded::bytes).sum()
    }
}

/// Whether the command can be proposed again after nobody knows what became of it.
fn repeatable(command: &Command) -> bool {
    match command {
        // Known again by event ids, incarnation, nonce, operation id; or saying what shall be.
        Command::Found(_)
        | Command::Append(_)
        | Command::Admit(_)
        | Command::Begin(_)
        | Command::Operate(_)
        | Command::Remove(_)
        | Command::Drain(..)
        | Command::RaiseLevel(_) => true,
        // The second would be told that it is stale, although the first was done.
        Command::Advance(_) | Command::Expire(..) | Command::Assign(_) | Command::HandOver(_) => false,
    }
}

/// How a proposal ended.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum Fate {
    /// It is in the log, and was judged.
    Decided(Decided),
    /// It is not, and will not be: the node that was asked does not lead.
    NotLeader(Option<NodeId>),
    /// It may be, for this reason.
    Unknown(String),
}

/// A group, and who waits for it.
pub struct Proposal {
    /// What is proposed.
    pub group: Group,
    /// It is not taken to another node: it came from one, which tries again itself, or only a leader may say it.
    pub stays: bool,
    /// It left this process' hands, and is not known to have come to nothing.
    sent: Arc<AtomicBool>,
    /// An earlier try of it may be in the log.
    tainted: bool,
    reply: oneshot::Sender<Fate>,
    /// Given back when nobody waits any more.
    _room: Room,
}

/// Something that is given back when it is dropped.
pub type Room = Box<dyn Send + Sync>;

/// The waiting end of a proposal.
pub struct Waiting {
    sent: Arc<AtomicBool>,
    /// How it ended; nothing if the node stopped.
    pub fate: oneshot::Receiver<Fate>,
}

impl Waiting {
    /// Whether it may have happened.
    pub fn was_sent(&self) -> bool {
        self.sent.load(Relaxed)
    }

    /// Waits for its fate, without a limit; for one that came from elsewhere.
    pub async fn end(mut self) -> Fate {
        match (&mut self.fate).await {
            Ok(fate) => fate,
            Err(_) if self.was_sent() => Fate::Unknown("the leader stopped meanwhile".into()),
            Err(_) => Fate::NotLeader(None),
        }
    }
}

impl Proposal {
    /// A proposal, and the end where its fate arrives.
    pub fn new(group: Group, stays: bool, room: Room) -> (Self, Waiting) {
        let (reply, fate) = oneshot::channel();
        let sent = Arc::new(AtomicBool::new(false));
        let waiting = Waiting { sent: sent.clone(), fate };
        (Self { group, stays, sent, tainted: false, reply, _room: room }, waiting)
    }

    /// Whether somebody still waits.
    pub fn is_wanted(&self) -> bool {
        !self.reply.is_closed()
    }

    /// Tells who waits.
    pub fn end(self, fate: Fate) {
        let _ = self.reply.send(fate);
    }

    /// It is not tried any more, for this reason.
    pub fn give_up(self, why: &str) {
        let fate = if self.tainted { Fate::Unknown(why.to_owned()) } else { Fate::NotLeader(None) };
        self.end(fate);
    }

    /// It is about to leave.
    pub fn leaves(&self) {
        self.sent.store(true, Relaxed);
    }

    /// It is back, undecided.
    pub fn returns(&mut self, fate: &Fate) {
        self.tainted |= matches!(fate, Fate::Unknown(_));
        self.sent.store(self.tainted, Relaxed);
    }
}

/// Groups on the wire:
///
/// ```text
/// groups u32 · each: context u32 · events u32 · repeatable u8 · commands u32 · each: kind u16 · length u32 · body
/// ```
pub fn encode<'g>(groups: impl ExactSizeIterator<Item = &'g Group>) -> Bytes {
    let mut to = BytesMut::new();
    to.put_u32_le(groups.len() as u32);
    for group in groups {
        to.put_u32_le(group.context.0);
        to.put_u32_le(group.events);
        to.put_u8(u8::from(group.repeatable));
        to.put_u32_le(group.commands.len() as u32);
        for command in &group.commands {
            let (kind, body) = command.parts();
            to.put_u16_le(kind);
            to.put_u32_le(body.len() as u32);
            to.put_slice(body);
        }
    }
    to.freeze()
}

/// Reads what [`encode`] wrote; nothing if it is anything else. No memory is taken on the word of a count.
pub fn decode(mut from: Bytes) -> Option<Vec<Group>> {
    let groups = u32_of(&mut from)?;
    let groups = (0..groups).map(|_| decode_group(&mut from)).collect::<Option<Vec<_>>>()?;
    from.is_empty().then_some(groups)
}

fn decode_group(from: &mut Bytes) -> Option<Group> {
    let (context, events) = (ContextId(u32_of(from)?), u32_of(from)?);
    let repeatable = cut(from, 1)?[0] == 1;
    let commands = u32_of(from)?;
    let commands = (0..commands).map(|_| {
        let kind = cut(from, 2)?.get_u16_le();
        let length = u32_of(from)?;
        Some(Encoded::from_parts(kind, cut(from, length as usize)?))
    });
    let commands = commands.collect::<Option<Vec<_>>>()?;
    (!commands.is_empty()).then_some(Group { context, events, repeatable, commands })
}

fn u32_of(from: &mut Bytes) -> Option<u32> {
    Some(cut(from, 4)?.get_u32_le())
}

fn cut(from: &mut Bytes, len: usize) -> Option<Bytes> {
    (from.len() >= len).then(|| from.split_to(len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_travel_as_they_are_drawn() {
        let group = Group {
            context: ContextId(3),
            events: 2,
            repeatable: true,
            commands: vec![Encoded::from_parts(7, Bytes::from_static(b"ab"))],
        };
        let bytes = encode([group].iter());
        let golden = [1, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0, 1, 1, 0, 0, 0, 7, 0, 2, 0, 0, 0, b'a', b'b'];
        assert_eq!(bytes[..], golden);
        let back = decode(bytes.clone()).unwrap();
        assert_eq!(encode(back.iter()), bytes);
        assert_eq!((back[0].context, back[0].events, back[0].repeatable), (ContextId(3), 2, true));
        for cut in 0..bytes.len() {
            assert!(decode(bytes.slice(..cut)).is_none());
        }
    }
}
