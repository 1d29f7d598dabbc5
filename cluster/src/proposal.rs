//! A proposal: commands on their way into the log, and the caller that waits for their outcome.

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
use evener_store::payload::EncodedCommand;
use tokio::sync::oneshot;

/// The result of a proposal that is in the log: its position, and the outcome of each of its commands.
pub(crate) type Decided = (LogIndex, Vec<Outcome>);

/// Commands that are adjacent in one entry.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    /// The context of its appends.
    pub context: ContextId,
    /// The number of its events.
    pub events: u32,
    /// Proposing it twice does no harm, and the second answer is as good as the first.
    pub repeatable: bool,
    /// The commands, encoded at their origin.
    pub commands: Vec<EncodedCommand>,
}

impl Group {
    /// Returns a group of one command, or of several that must be applied together.
    pub(crate) fn new(context: ContextId, commands: &[Command]) -> Self {
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

    /// Returns the group of one append.
    pub(crate) fn append(request: &Request, stamp: &Stamp) -> Self {
        let events = u32::try_from(request.events.len()).unwrap_or(u32::MAX);
        let commands = vec![EncodedCommand::append(request, stamp)];
        Self { context: request.context, events, repeatable: true, commands }
    }

    /// Returns the bytes that it takes in an entry.
    pub(crate) fn bytes(&self) -> usize {
        self.commands.iter().map(EncodedCommand::bytes).sum()
    }
}

/// Returns whether the command can be proposed again after an unknown outcome.
fn repeatable(command: &Command) -> bool {
    match command {
        // Recognized by event ids, incarnation, nonce or operation id, or idempotent.
        Command::Found(_)
        | Command::Append(_)
        | Command::Admit(_)
        | Command::Begin(_)
        | Command::Operate(_)
        | Command::Remove(_)
        | Command::Drain(..)
        | Command::RaiseLevel(_) => true,
        // The second one would be rejected as stale, although the first one succeeded.
        Command::Advance(_)
        | Command::Expire(..)
        | Command::Assign(_)
        | Command::HandOver(_)
        | Command::HookDone(_) => false,
        Command::Unreadable { .. } => false,
    }
}

/// The result of a proposal.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub(crate) enum ProposalResult {
    /// It is in the log, and was applied.
    Decided(Decided),
    /// It is not in the log, and will not be: the node that received it does not lead.
    NotLeader(Option<NodeId>),
    /// It may be in the log, for this reason.
    Unknown(String),
    /// It is not in the log, and will not be, for this reason: the nodes could not decode it there.
    Refused(String),
}

/// A group, and its waiting caller.
pub(crate) struct Proposal {
    /// The proposed group.
    pub group: Group,
    /// It is not forwarded to another node: it came from one, which retries itself, or only a leader may propose it.
    pub local_only: bool,
    send_state: Arc<SendState>,
    /// An earlier attempt may be in the log.
    may_be_in_log: bool,
    reply: oneshot::Sender<ProposalResult>,
    /// Released when no caller waits any more.
    _room: Reservation,
}

/// A reservation that is released when it is dropped.
pub(crate) type Reservation = Box<dyn Send + Sync>;

/// The waiting end of a proposal.
pub(crate) struct PendingProposal {
    send_state: Arc<SendState>,
    /// The result; none if the node stopped.
    pub result: oneshot::Receiver<ProposalResult>,
}

/// The state of a proposal between the task that sends it and its waiting caller. Sending and abandoning are each one
/// atomic step from [`QUEUED`], so exactly one of the two succeeds: a caller that abandoned it knows that nothing was
/// written, and nothing will be.
#[derive(Debug, Default)]
struct SendState(AtomicU8);

/// In the queue: it has not left this process, or is known to have had no effect.
const QUEUED: u8 = 0;
/// It has left this process, and may be in the log.
const SENT: u8 = 1;
/// Its caller abandoned it while it was queued: it must not be sent any more.
const ABANDONED: u8 = 2;

impl SendState {
    /// Claims it for sending. Fails if its caller abandoned it.
    fn send(&self) -> bool {
        self.0.compare_exchange(QUEUED, SENT, AcqRel, Acquire) != Err(ABANDONED)
    }

    /// Claims it for abandoning. Fails if it was sent.
    fn abandon(&self) -> bool {
        self.0.compare_exchange(QUEUED, ABANDONED, AcqRel, Acquire) != Err(SENT)
    }

    /// Records that the sent proposal had no effect.
    fn requeue(&self) {
        self.0.store(QUEUED, Release);
    }
}

impl PendingProposal {
    /// Stops waiting. Returns whether it is certain that nothing was written, and nothing will be.
    pub(crate) fn abandon(&self) -> bool {
        self.send_state.abandon()
    }

    /// Waits for its result without a limit; for a proposal from another node.
    pub(crate) async fn result(mut self) -> ProposalResult {
        match (&mut self.result).await {
            Ok(result) => result,
            Err(_) if self.abandon() => ProposalResult::NotLeader(None),
            Err(_) => ProposalResult::Unknown("the leader stopped while the proposal was under way".into()),
        }
    }
}

impl Proposal {
    /// Creates a proposal, and the end that receives its result.
    pub(crate) fn new(group: Group, local_only: bool, room: Reservation) -> (Self, PendingProposal) {
        let (reply, result) = oneshot::channel();
        let send_state = Arc::<SendState>::default();
        let waiting = PendingProposal { send_state: send_state.clone(), result };
        (Self { group, local_only, send_state, may_be_in_log: false, reply, _room: room }, waiting)
    }

    /// Returns whether a caller still waits.
    pub(crate) fn has_waiter(&self) -> bool {
        !self.reply.is_closed()
    }

    /// Reports the result to the caller.
    pub(crate) fn complete(self, result: ProposalResult) {
        let _ = self.reply.send(result);
    }

    /// Reports that it is not retried, for this reason.
    pub(crate) fn fail(self, why: &str) {
        let result =
            if self.may_be_in_log { ProposalResult::Unknown(why.to_owned()) } else { ProposalResult::NotLeader(None) };
        self.complete(result);
    }

    /// Claims it for sending. Returns whether it may be sent: not if its caller abandoned it.
    pub(crate) fn mark_sent(&self) -> bool {
        self.send_state.send()
    }

    /// Records that its outcome is undecided.
    pub(crate) fn on_undecided(&mut self, result: &ProposalResult) {
        self.may_be_in_log |= matches!(result, ProposalResult::Unknown(_));
        if !self.may_be_in_log {
            self.send_state.requeue();
        }
    }
}

/// Encodes groups:
///
/// ```text
/// groups u32 · each: context u32 · events u32 · repeatable u8 · commands u32 · each: kind u16 · length u32 · body
/// ```
pub(crate) fn encode<'g>(groups: impl ExactSizeIterator<Item = &'g Group>) -> Bytes {
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

/// Reads what [`encode`] wrote; returns none for anything else. No memory is taken because of an unverified count.
pub(crate) fn decode(mut from: Bytes) -> Option<Vec<Group>> {
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
    fn a_proposal_is_either_sent_or_abandoned() {
        let (proposal, waiting) = Proposal::new(group(), false, Box::new(()));
        assert!(waiting.abandon(), "nothing was written");
        assert!(!proposal.mark_sent(), "and nothing will be");

        let (mut proposal, waiting) = Proposal::new(group(), false, Box::new(()));
        assert!(proposal.mark_sent());
        assert!(!waiting.abandon(), "it may be in the log");
        proposal.on_undecided(&ProposalResult::NotLeader(None));
        assert!(proposal.mark_sent(), "it had no effect, and is sent again");
        proposal.on_undecided(&ProposalResult::Unknown("no answer".into()));
        assert!(!waiting.abandon(), "an earlier attempt may be in the log");
        assert!(proposal.mark_sent(), "a repetition is still sent");
    }

    #[test]
    fn exactly_one_of_sending_and_abandoning_succeeds() {
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
    fn groups_have_the_documented_layout() {
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
