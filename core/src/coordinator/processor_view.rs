//! The replicated state of a processor, as seen from one node.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    string::String,
};
use core::time::Duration;

use super::{Bounds, Hook};
use crate::{
    claim::Motion,
    command::Right,
    id::{Epoch, Generation, LogIndex, NodeId, Position, ProcessorId, SegmentId},
    letter::{Loan, SequenceKey, WaitsFor},
    processor::{Definition, Processor},
    replay::ReplayPhase,
    segment::Segment,
    state::State,
    time::{Moment, Timestamp},
    token::Token,
    worker::{Settings, Stalled},
};

/// The replicated state of a processor, as seen from one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessorView {
    /// The index up to which the node had applied the log.
    pub as_of: LogIndex,
    /// The definition of the processor.
    pub definition: Definition,
    /// Whether an operator paused it, or a replay is being prepared.
    pub paused: bool,
    /// Bytes of a cause that the log keeps.
    pub cause_bytes_max: u32,
    /// Whether the node is leaving: handlers that run longer than the bound are then stopped, not waited for.
    pub draining: bool,
    /// The processor's generation, raised by each reset.
    pub generation: Generation,
    /// Whether nothing is handled for now, because a replay is being prepared.
    pub preparing: bool,
    /// The context of the latest reset, as JSON.
    pub replay_context: Option<String>,
    /// Events that the replay handles for the first time, because they were set aside before the reset.
    pub unhandled: BTreeSet<(SequenceKey, Position)>,
    /// The hook of the replay, if this node has to run it.
    pub hook: Option<Hook>,
    /// The node's segments.
    pub segments: BTreeMap<SegmentId, SegmentView>,
    /// Sequences set aside in the node's segments, or lent to the node.
    pub set_aside: BTreeMap<SequenceKey, SequenceView>,
}

/// A segment of the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentView {
    /// The hashes that it covers.
    pub segment: Segment,
    /// The epoch of its claim.
    pub epoch: Epoch,
    /// Its token in the log.
    pub token: Token,
    /// What the owner is asked to do.
    pub motion: Motion,
    /// The event with which it waits since an earlier failure: its position, attempts so far, and the remaining wait.
    pub stalled: Option<(Position, u32, Duration)>,
}

/// A sequence set aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SequenceView {
    /// Its segment.
    pub segment: SegmentId,
    /// Whether the node owns that segment.
    pub is_owned: bool,
    /// The right of the segment's owner to try it; `None` if it is lent.
    pub own_right: Option<Right>,
    /// The right of this node to try it by a loan. Its claim's epoch is from the same state as the loan.
    pub loan_right: Option<Right>,
    /// The position of its first letter.
    pub position: Position,
    /// How often the first letter was tried.
    pub attempts: u32,
    /// Whether the first letter is a replay.
    pub replaying: bool,
    /// The mask of its segment.
    pub mask: u32,
    /// The revision of its schedule.
    pub revision: u32,
    /// The whole wait before the next try.
    pub wait: Duration,
    /// When the log recorded the latest failure.
    pub recorded: Timestamp,
    /// The remaining wait at the time of this view; `None` if it waits for an operator.
    pub remaining: Option<Duration>,
}

impl SequenceView {
    /// Returns whether both are about the same wait for the same attempt.
    pub(super) fn same_try(&self, other: &Self) -> bool {
        let of = |set_aside: &Self| {
            (
                set_aside.position,
                set_aside.attempts,
                set_aside.revision,
                set_aside.recorded,
                set_aside.remaining.is_some(),
            )
        };
        of(self) == of(other)
    }
}

impl ProcessorView {
    /// Returns the view of `node`; `None` if the processor or the node's session does not exist.
    #[must_use]
    pub fn of(state: &State, as_of: LogIndex, id: ProcessorId, node: NodeId) -> Option<Self> {
        let processor = state.processors.get(&id)?;
        let session = state.sessions.get(&node)?;
        let mut segments = BTreeMap::new();
        for (id, share) in processor.segments.iter().filter(|(_, share)| share.claim.owner == Some(node)) {
            let stalled = share.stalled.as_ref().map(|stall| {
                let wait = stall.failure.wait().saturating_sub(state.recorded.since(stall.recorded));
                (stall.position, stall.failure.attempt, wait)
            });
            let (segment, epoch) = (share.segment, share.claim.epoch);
            // The entry that hands it over also splits or merges it.
            let motion = if share.reshape.is_some() { Motion::Release } else { share.claim.motion };
            let token = share.token.clone();
            segments.insert(*id, SegmentView { segment, epoch, token, motion, stalled });
        }
        let set_aside = set_aside_sequences(processor, node, &segments, state.recorded);
        let definition = processor.definition.clone();
        // Nothing is handled while a replay is prepared, letters included.
        let paused = processor.paused || processor.is_preparing();
        let (draining, cause_bytes_max) = (session.draining, state.limits.cause_bytes_max);
        Some(Self {
            as_of,
            definition,
            paused,
            cause_bytes_max,
            draining,
            generation: processor.generation,
            preparing: processor.is_preparing(),
            replay_context: processor.replay.as_ref().and_then(|replay| replay.context.clone()),
            unhandled: unhandled_events(processor),
            hook: hook_of(processor, node),
            segments,
            set_aside,
        })
    }

    /// Returns the settings of a new worker.
    pub(super) fn settings(
        &self,
        claim: Option<(Segment, Epoch)>,
        stalled: Option<(Position, u32, Duration, Moment)>,
        bounds: Bounds,
    ) -> Settings {
        let stalled =
            stalled.map(|(position, attempts, wait, now)| Stalled { position, attempts, due: now.after(wait) });
        let Definition { on_error, backoff, .. } = self.definition;
        let mask = claim.map_or(0, |(segment, _)| segment.mask);
        let claim = claim.map(|(segment, epoch)| (segment.name(), epoch));
        let (batch_events_max, cause_bytes_max) = (bounds.batch_events_max, self.cause_bytes_max);
        Settings { claim, mask, on_error, backoff, batch_events_max, cause_bytes_max, stalled }
    }
}

fn unhandled_events(processor: &Processor) -> BTreeSet<(SequenceKey, Position)> {
    let dropped = processor.replay.iter().flat_map(|replay| &replay.dropped);
    let letters = dropped.flat_map(|(sequence, letters)| letters.iter().map(move |letter| (sequence, letter)));
    letters
        .filter(|(_, letter)| !letter.replaying)
        .map(|(sequence, letter)| (sequence.clone(), letter.position))
        .collect()
}

/// Returns the hook that `node` has to run: it owns the first segment, and a hook is awaited.
fn hook_of(processor: &Processor, node: NodeId) -> Option<Hook> {
    let replay = processor.replay.as_ref().filter(|replay| replay.awaits_hook())?;
    let (segment, share) = processor.segments.first_key_value()?;
    (share.claim.owner == Some(node)).then(|| Hook {
        generation: processor.generation,
        phase: replay.phase,
        segment: *segment,
        // What prepares a replay concerns all segments: its fence overlaps all of theirs.
        mask: if replay.phase == ReplayPhase::Preparing { 0 } else { share.segment.mask },
        epoch: share.claim.epoch,
        context: replay.context.clone(),
    })
}

fn set_aside_sequences(
    processor: &Processor,
    node: NodeId,
    segments: &BTreeMap<SegmentId, SegmentView>,
    now: Timestamp,
) -> BTreeMap<SequenceKey, SequenceView> {
    let mut sequences = BTreeMap::new();
    for (sequence, set_aside) in &processor.set_aside {
        let hash = crate::hash::sequence(sequence.name.as_bytes());
        let Some((segment, share)) = processor.share_of(hash) else { continue };
        let owned = segments.get(segment);
        let lent = set_aside.loan.filter(|loan| loan.node == node);
        if owned.is_none() && lent.is_none() {
            continue;
        }
        let own_right = owned.filter(|_| set_aside.loan.is_none()).map(|owned| Right::Claim(*segment, owned.epoch));
        let wait = Duration::from_millis(u64::from(set_aside.wait_ms));
        let remaining = wait.saturating_sub(now.since(set_aside.recorded));
        let set_aside = SequenceView {
            segment: *segment,
            is_owned: owned.is_some(),
            own_right,
            loan_right: lent.map(|Loan { epoch, .. }| Right::Loan {
                epoch,
                segment: *segment,
                claim: share.claim.epoch,
            }),
            position: set_aside.first().position,
            attempts: set_aside.first().attempts,
            replaying: set_aside.first().replaying,
            mask: share.segment.mask,
            revision: set_aside.revision,
            wait,
            recorded: set_aside.recorded,
            remaining: (set_aside.waits_for == WaitsFor::NextTry).then_some(remaining),
        };
        sequences.insert(sequence.clone(), set_aside);
    }
    sequences
}
