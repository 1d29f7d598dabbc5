//! A proposal: commands on their way into the log, and who waits for what becomes of them.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering::AcqRel, Ordering::Acquire, Ordering::Release},
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use evener_core::{
    append::{Request, Stamp},
    command::{Command, Outcome},
    id::{ContextId, LogIndex, NodeId},
};
use evener_store::codec::EncodedCommand;
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
    pub commands: Vec<EncodedCommand>,
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
            commands: commands.iter().map(EncodedCommand::new).collect(),
        }
    }

    /// One append.
    pub fn append(request: &Request, stamp: &Stamp) -> Self {
        let events = u32::try_from(request.events.len()).unwrap_or(u32::MAX);
        let commands = vec![EncodedCommand::append(request, stamp)];
        Self { context: request.context, events, repeatable: true, commands }
    }

    /// Bytes that it takes of an entry.
    pub fn bytes(&self) -> usize {
        self.commands.iter().map(EncodedCommand::bytes).sum()
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
        Command::Unreadable { .. } => false,
    }
}

/// How a proposal ended.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum ProposalResult {
    /// It is in the log, and was judged.
    Decided(Decided),
    /// It is not, and will not be: the node that was asked does not lead.
    NotLeader(Option<NodeId>),
    /// It may be, for this reason.
    Unknown(String),
    /// It is not, and will not be, for this reason: the nodes could not read it there.
    Refused(String),
}

/// A group, and who waits for it.
pub struct Proposal {
    /// What is proposed.
    pub group: Group,
    /// It is not taken to another node: it came from one, which tries again itself, or only a leader may say it.
    pub local_only: bool,
    send_state: Arc<SendState>,
    /// An earlier try of it may be in the log.
    may_be_in_log: bool,
    reply: oneshot::Sender<ProposalResult>,
    /// Given back when nobody waits any more.
    _room: Reservation,
}

/// Something that is given back when it is dropped.
pub type Reservation = Box<dyn Send + Sync>;

/// The waiting end of a proposal.
pub struct PendingProposal {
    send_state: Arc<SendState>,
    /// How it ended; nothing if the node stopped.
    pub result: oneshot::Receiver<ProposalResult>,
}

/// Where a proposal stands between the task that sends it and the caller that waits for it. Sending and giving up are
/// each one atomic step from [`QUEUED`], so exactly one of the two succeeds: a caller that gave up knows that nothing
/// was written, and nothing will be.
#[derive(Debug, Default)]
struct SendState(AtomicU8);

/// In the queue: it has not left this process, or is known to have come to nothing.
const QUEUED: u8 = 0;
/// It left this process, and may be in the log.
const SENT: u8 = 1;
/// Its caller gave up while it was queued: it must not be sent any more.
const ABANDONED: u8 = 2;

impl SendState {
    /// Claims it for sending. Fails if its caller gave up.
    fn send(&self) -> bool {
        self.0.compare_exchange(QUEUED, SENT, AcqRel, Acquire) != Err(ABANDONED)
    }

    /// Claims it for giving up. Fails if it was sent.
    fn abandon(&self) -> bool {
        self.0.compare_exchange(QUEUED, ABANDONED, AcqRel, Acquire) != Err(SENT)
    }

    /// Records that what was sent came to nothing.
    fn requeue(&self) {
        self.0.store(QUEUED, Release);
    }
}

impl PendingProposal {
    /// Gives up waiting. Returns whether it is certain that nothing was written, and will not be.
    pub fn abandon(&self) -> bool {
        self.send_state.abandon()
    }

    /// Waits for its fate, without a limit; for one that came from elsewhere.
    pub async fn result(mut self) -> ProposalResult {
        match (&mut self.result).await {
            Ok(result) => result,
            Err(_) if self.abandon() => ProposalResult::NotLeader(None),
            Err(_) => ProposalResult::Unknown("the leader stopped meanwhile".into()),
        }
    }
}

impl Proposal {
    /// A proposal, and the end where its fate arrives.
    pub fn new(group: Group, local_only: bool, room: Reservation) -> (Self, PendingProposal) {
        let (reply, result) = oneshot::channel();
        let send_state = Arc::<SendState>::default();
        let waiting = PendingProposal { send_state: send_state.clone(), result };
        (Self { group, local_only, send_state, may_be_in_log: false, reply, _room: room }, waiting)
    }

    /// Whether somebody still waits.
    pub fn has_waiter(&self) -> bool {
        !self.reply.is_closed()
    }

    /// Tells who waits.
    pub fn complete(self, result: ProposalResult) {
        let _ = self.reply.send(result);
    }

    /// It is not tried any more, for this reason.
    pub fn fail(self, why: &str) {
        let result =
            if self.may_be_in_log { ProposalResult::Unknown(why.to_owned()) } else { ProposalResult::NotLeader(None) };
        self.complete(result);
    }

    /// Claims it for sending. Returns whether it may be sent: not if its caller gave up.
    pub fn mark_sent(&self) -> bool {
        self.send_state.send()
    }

    /// It is back, undecided.
    pub fn on_undecided(&mut self, result: &ProposalResult) {
        self.may_be_in_log |= matches!(result, ProposalResult::Unknown(_));
        if !self.may_be_in_log {
            self.send_state.requeue();
        }
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
        Some(EncodedCommand::from_parts(kind, cut(from, length as usize)?))
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

    fn group() -> Group {
        let commands = vec![EncodedCommand::from_parts(7, Bytes::from_static(b"ab"))];
        Group { context: ContextId(3), events: 2, repeatable: true, commands }
    }

    #[test]
    fn a_proposal_is_either_sent_or_given_up() {
        let (proposal, waiting) = Proposal::new(group(), false, Box::new(()));
        assert!(waiting.abandon(), "nothing was written");
        assert!(!proposal.mark_sent(), "and nothing will be");

        let (mut proposal, waiting) = Proposal::new(group(), false, Box::new(()));
        assert!(proposal.mark_sent());
        assert!(!waiting.abandon(), "it may be in the log");
        proposal.on_undecided(&ProposalResult::NotLeader(None));
        assert!(proposal.mark_sent(), "it came to nothing, and is sent again");
        proposal.on_undecided(&ProposalResult::Unknown("no answer".into()));
        assert!(!waiting.abandon(), "an earlier try may be in the log");
        assert!(proposal.mark_sent(), "a repetition is sent all the same");
    }

    #[test]
    fn exactly_one_of_sending_and_giving_up_succeeds() {
        for _ in 0..2_000 {
            let (proposal, waiting) = Proposal::new(group(), false, Box::new(()));
            let barrier = std::sync::Barrier::new(2);
            let (sent, abandoned) = std::thread::scope(|scope| {
                let sending = scope.spawn(|| {
                    barrier.wait();
                    proposal.mark_sent()
                });
                barrier.wait();
                let abandoned = waiting.abandon();
                (sending.join().expect("it does not panic"), abandoned)
            });
            assert_ne!(sent, abandoned);
        }
    }

    #[test]
    fn groups_travel_as_they_are_drawn() {
        let bytes = encode([group()].iter());
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
