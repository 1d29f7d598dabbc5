//! Letters: events that failed, and events that are queued behind them.

use alloc::{collections::VecDeque, string::String, vec::Vec};

use super::State;
use crate::{
    claim::{Bar, BarCause, Claim},
    command::{LetterChange, LetterMove, Outcome, RefusalReason, Right, Selection},
    hash,
    id::{Epoch, LogIndex, NodeId, Position, ProcessorId, SegmentId},
    letter::{Failure, Letter, Loan, SequenceKey, SetAside, WaitsFor, truncate},
    limits::LimitName,
    processor::{OnError, Processor, Share, Stall},
    reason::{LimitReached, NotFound},
    time::Timestamp,
};

/// The result of a try that did not handle the first letter.
struct Tried<'f> {
    right: Right,
    position: Position,
    revision: u32,
    failure: &'f Failure,
    unable: bool,
}

impl LetterMove {
    /// Returns the segment whose claim gives the right to it; `None` for a loan.
    #[must_use]
    pub fn segment(&self) -> Option<SegmentId> {
        match self {
            Self::SetAside { segment, .. }
            | Self::Queue { segment, .. }
            | Self::Skipped { segment, .. }
            | Self::Stall { segment, .. }
            | Self::Resume { segment, .. }
            | Self::Done { right: Right::Claim(segment, _), .. }
            | Self::Failed { right: Right::Claim(segment, _), .. }
            | Self::Tried { right: Right::Claim(segment, _), .. } => Some(*segment),
            Self::Done { .. } | Self::Failed { .. } | Self::Tried { .. } | Self::Return { .. } => None,
        }
    }

    /// Returns the position before which the token of its segment must stay if it is refused: otherwise the event would
    /// not be kept or counted anywhere.
    #[must_use]
    pub fn holds(&self) -> Option<Position> {
        match self {
            Self::SetAside { position, .. } | Self::Queue { position, .. } | Self::Skipped { position, .. } => {
                Some(*position)
            }
            _ => None,
        }
    }
}

impl State {
    pub(super) fn letter(
        &mut self,
        index: LogIndex,
        node: NodeId,
        id: ProcessorId,
        letter: &LetterMove,
    ) -> Result<(), RefusalReason> {
        let now = self.recorded;
        let limits = self.limits;
        let processor = self.processors.get_mut(&id).ok_or(RefusalReason::Fenced)?;
        processor.changed = index;
        match letter {
            LetterMove::SetAside { segment, epoch, sequence, position, kind, failure } => {
                let share = processor.held_by(node, *segment, *epoch, Some(sequence))?;
                if share.token.wants(hash_of(sequence), *position) {
                    // If no letter is queued before it, it is skipped at once, whether or not there is room.
                    if processor.skips(failure) && !processor.set_aside.contains_key(sequence) {
                        processor.skipped += 1;
                        return Ok(());
                    }
                    let replaying = processor.replays(share, sequence, *position);
                    let (kind, attempts) = (kind.clone(), failure.attempt);
                    let letter = Letter { position: *position, kind, attempts, replaying };
                    let is_new = processor.enqueue(&limits, sequence, letter, now)?;
                    let set_aside = processor.set_aside.get_mut(sequence).expect("it was queued just now");
                    if is_new && set_aside.first().position == *position {
                        set_aside.fail(failure, now, limits.cause_bytes_max);
                        self.lend(index, id, sequence);
                    }
                }
                Ok(())
            }
            LetterMove::Queue { segment, epoch, sequence, position, kind } => {
                let share = processor.held_by(node, *segment, *epoch, Some(sequence))?;
                if share.token.wants(hash_of(sequence), *position) {
                    let replaying = processor.replays(share, sequence, *position);
                    let letter = Letter { position: *position, kind: kind.clone(), attempts: 0, replaying };
                    processor.enqueue(&limits, sequence, letter, now)?;
                }
                Ok(())
            }
            LetterMove::Skipped { segment, epoch, sequence, position } => {
                let share = processor.held_by(node, *segment, *epoch, Some(sequence))?;
                // The token passes it in this same entry, so that it is counted once however often it is reported.
                processor.skipped += u64::from(share.token.wants(hash_of(sequence), *position));
                Ok(())
            }
            LetterMove::Done { right, sequence, position, skipped } => {
                processor.may_change(node, *right, sequence, *position)?;
                processor.pop(sequence, now);
                processor.skipped += u64::from(*skipped);
                Ok(())
            }
            LetterMove::Failed { right, sequence, position, failure } => {
                let revision = processor.set_aside.get(sequence).ok_or(RefusalReason::Fenced)?.revision;
                let tried = Tried { right: *right, position: *position, revision, failure, unable: false };
                self.tried(index, node, id, sequence, &tried)
            }
            LetterMove::Tried { right, sequence, position, revision, failure, unable } => {
                let (revision, unable) = (*revision, *unable);
                let tried = Tried { right: *right, position: *position, revision, failure, unable };
                self.tried(index, node, id, sequence, &tried)
            }
            LetterMove::Stall { segment, epoch, position, failure, .. } => {
                processor.held_by(node, *segment, *epoch, None)?;
                let share = processor.segments.get_mut(segment).expect("its claim was checked just now");
                let failure = Failure { cause: truncate(&failure.cause, limits.cause_bytes_max), ..failure.clone() };
                share.stalled = Some(Stall { position: *position, failure, recorded: now });
                Ok(())
            }
            LetterMove::Resume { segment, epoch, position } => {
                processor.held_by(node, *segment, *epoch, None)?;
                let share = processor.segments.get_mut(segment).expect("its claim was checked just now");
                share.stalled.take_if(|stall| stall.position == *position);
                Ok(())
            }
            LetterMove::Return { right, sequence } => {
                processor.held_letters(node, *right, sequence)?.loan = None;
                self.lend(index, id, sequence);
                Ok(())
            }
        }
    }

    /// Applies a try that did not handle the first letter.
    fn tried(
        &mut self,
        index: LogIndex,
        node: NodeId,
        id: ProcessorId,
        sequence: &SequenceKey,
        tried: &Tried<'_>,
    ) -> Result<(), RefusalReason> {
        let (now, cause_bytes_max) = (self.recorded, self.limits.cause_bytes_max);
        let processor = self.processors.get_mut(&id).ok_or(RefusalReason::Fenced)?;
        let is_outdated = processor.is_outdated(tried.right, sequence);
        let skips = !tried.unable && processor.skips(tried.failure);
        let set_aside = processor.may_change(node, tried.right, sequence, tried.position)?;
        if is_outdated || set_aside.revision != tried.revision {
            // The claim was renewed or changed its owner meanwhile, so that a database may have refused a valid write;
            // or a person requested a retry. That is no failure of the event; it is tried again as it is now.
            return Err(RefusalReason::Fenced);
        }
        if tried.unable {
            set_aside.wait(tried.failure, now, cause_bytes_max);
            set_aside.loan = None;
            self.lend_on(index, id, sequence, node);
            return Ok(());
        }
        if tried.failure.attempt <= set_aside.first().attempts {
            return Ok(()); // reported before
        }
        set_aside.fail(tried.failure, now, cause_bytes_max);
        set_aside.loan = None;
        if skips {
            processor.pop(sequence, now);
            processor.skipped += 1;
        }
        self.lend(index, id, sequence);
        Ok(())
    }

    /// Moves the claim of a segment that waits with its event to another capable node: after the owner's attempts, or
    /// at once if the handler cannot be called on this node; then to a node on which this was not found recently. This
    /// is judged last, because the tokens and letters of the same command depend on the claim that ends here.
    pub(super) fn pass_on_stalled(&mut self, index: LogIndex, node: NodeId, id: ProcessorId, letter: &LetterMove) {
        let LetterMove::Stall { segment, epoch, position, failure, unable } = letter else { return };
        let (now, limits, mut others) = (self.recorded, self.limits, self.others(id, *segment));
        let Some(share) = self.processors.get_mut(&id).and_then(|processor| processor.segments.get_mut(segment)) else {
            return;
        };
        let waits = share.stalled.as_ref().is_some_and(|stall| stall.position == *position);
        if !waits || !share.claim.admits(node, *epoch) {
            return;
        }
        if *unable {
            others.retain(|other| !share.claim.bars(*other, now));
        }
        if (*unable || failure.attempt >= limits.own_attempts) && !others.is_empty() {
            let to = others[failure.attempt as usize % others.len()];
            let (cause, bar_ms) = match unable {
                true => (BarCause::Unable, limits.unable_bar_ms),
                false => (BarCause::Failed, limits.release_bar_ms),
            };
            let until = now.after(core::time::Duration::from_millis(u64::from(bar_ms)));
            share.claim.bar(now, Bar { node, until, cause });
            share.claim.give(Some(to), self.issued.next_epoch(), index);
            self.mark_changed(index);
        }
    }

    /// Ends a loan whose holder has not reported a result, and may still be handling the letter. The claim of the
    /// segment is renewed, so that a database refuses that holder once another node has written under the new epoch.
    pub(super) fn take_back(&mut self, index: LogIndex, id: ProcessorId, sequence: &SequenceKey) {
        let Some(processor) = self.processors.get_mut(&id) else { return };
        let Some(set_aside) = processor.set_aside.get_mut(sequence) else { return };
        if set_aside.loan.take().is_none() {
            return;
        }
        if let Some(share) = processor.segments.values_mut().find(|share| share.segment.holds(hash_of(sequence))) {
            share.claim.renew(self.issued.next_epoch(), index);
        }
        processor.changed = index;
    }

    /// Decides whether, and to which node, the next try of a sequence is lent: after `own_attempts` attempts to another
    /// capable node, a different one each time if there are several.
    pub(super) fn lend(&mut self, index: LogIndex, id: ProcessorId, sequence: &SequenceKey) {
        let own_attempts = self.limits.own_attempts;
        let segment = self.processors.get(&id).and_then(|p| p.share_of(hash_of(sequence))).map(|(id, _)| *id);
        let others = segment.map_or_else(Vec::new, |segment| self.others(id, segment));
        let Some(processor) = self.processors.get_mut(&id) else { return };
        let Some(set_aside) = processor.set_aside.get_mut(sequence) else { return };
        let attempts = set_aside.first().attempts;
        let wanted = set_aside.waits_for == WaitsFor::NextTry && attempts >= own_attempts;
        let to = (wanted && !others.is_empty()).then(|| others[attempts as usize % others.len()]);
        debug_assert!(set_aside.loan.is_none(), "a loan ends with a report, or is taken back");
        set_aside.loan = to.map(|node| Loan { node, epoch: self.issued.next_epoch() });
        processor.changed = index;
    }

    /// Lends the next try of a sequence to the next node, as its handler could not be called on `node`: all nodes that
    /// can run the processor take turns, including its owner.
    fn lend_on(&mut self, index: LogIndex, id: ProcessorId, sequence: &SequenceKey, node: NodeId) {
        let Some(processor) = self.processors.get(&id) else { return };
        let owner = processor.share_of(hash_of(sequence)).and_then(|(_, share)| share.claim.owner);
        let able = || self.sessions.keys().copied().filter(|other| self.can_run(*other, processor));
        let next = able().find(|other| *other > node).or_else(|| able().next());
        let to = next.filter(|next| *next != node && Some(*next) != owner);
        let loan = to.map(|node| Loan { node, epoch: self.issued.next_epoch() });
        let Some(processor) = self.processors.get_mut(&id) else { return };
        if let Some(set_aside) = processor.set_aside.get_mut(sequence) {
            debug_assert!(set_aside.loan.is_none(), "a loan ends with a report, or is taken back");
            set_aside.loan = loan;
        }
        processor.changed = index;
    }

    /// Returns the nodes that may be given work of this processor, without the segment's owner, in order.
    fn others(&self, id: ProcessorId, segment: SegmentId) -> Vec<NodeId> {
        let Some(processor) = self.processors.get(&id) else { return Vec::new() };
        let owner = processor.segments.get(&segment).and_then(|share| share.claim.owner);
        let nodes = self.sessions.keys().copied();
        nodes.filter(|node| Some(*node) != owner && self.can_run(*node, processor)).collect()
    }

    /// Retries, skips or drops letters for a person.
    pub(super) fn change_letters(
        &mut self,
        index: LogIndex,
        id: ProcessorId,
        selection: &Selection,
        change: LetterChange,
    ) -> Outcome {
        let now = self.recorded;
        let Some(processor) = self.processors.get_mut(&id) else {
            return super::not_found(NotFound::ProcessorNumber(id));
        };
        let meant: Vec<SequenceKey> = match selection {
            Selection::All => processor.set_aside.keys().cloned().collect(),
            Selection::Sequence(component, name) => {
                let key = SequenceKey { component: *component, name: name.clone() };
                if !processor.set_aside.contains_key(&key) {
                    let processor = processor.definition.name.clone();
                    return super::not_found(NotFound::Sequence {
                        processor,
                        component: *component,
                        sequence: name.clone(),
                    });
                }
                Vec::from([key])
            }
        };
        for sequence in &meant {
            self.take_back(index, id, sequence);
            let Some(processor) = self.processors.get_mut(&id) else { break };
            match change {
                LetterChange::Retry => {}
                LetterChange::Skip => {
                    processor.pop(sequence, now);
                    processor.skipped += 1;
                }
                LetterChange::Drop => {
                    let dropped =
                        processor.set_aside.remove(sequence).map_or(0, |removed| removed.letters.len() as u64);
                    processor.letters -= dropped;
                    processor.skipped += dropped;
                }
            }
            if let Some(set_aside) = processor.set_aside.get_mut(sequence) {
                set_aside.restart_schedule(now);
            }
        }
        if let Some(processor) = self.processors.get_mut(&id) {
            processor.changed = index;
        }
        self.changed = index;
        Outcome::Changed(meant.len() as u64)
    }
}

impl Processor {
    /// Returns the segment, if `node` may write to it under `epoch` and it contains the sequence.
    fn held_by(
        &self,
        node: NodeId,
        segment: SegmentId,
        epoch: Epoch,
        sequence: Option<&SequenceKey>,
    ) -> Result<&Share, RefusalReason> {
        let share = self.segments.get(&segment).ok_or(RefusalReason::Fenced)?;
        let Share { claim, segment, .. } = share;
        let admits = Claim::admits(claim, node, epoch);
        let holds = sequence.is_none_or(|sequence| segment.holds(hash_of(sequence)));
        if admits && holds { Ok(share) } else { Err(RefusalReason::Fenced) }
    }

    /// Returns the sequence, if `node` may change its first letter by this right, and that is the event at `position`.
    fn may_change(
        &mut self,
        node: NodeId,
        right: Right,
        sequence: &SequenceKey,
        position: Position,
    ) -> Result<&mut SetAside, RefusalReason> {
        let set_aside = self.held_letters(node, right, sequence)?;
        if set_aside.first().position == position { Ok(set_aside) } else { Err(RefusalReason::Fenced) }
    }

    /// Returns the sequence, if `node` has this right to it.
    fn held_letters(
        &mut self,
        node: NodeId,
        right: Right,
        sequence: &SequenceKey,
    ) -> Result<&mut SetAside, RefusalReason> {
        if let Right::Claim(segment, epoch) = right {
            self.held_by(node, segment, epoch, Some(sequence))?;
        }
        let set_aside = self.set_aside.get_mut(sequence).ok_or(RefusalReason::Fenced)?;
        let holds = match right {
            Right::Claim(..) => set_aside.loan.is_none(),
            Right::Loan { epoch, .. } => set_aside.loan == Some(Loan { node, epoch }),
        };
        if holds { Ok(set_aside) } else { Err(RefusalReason::Fenced) }
    }

    /// Returns whether the epoch that handlers received by this right is not the present one of the sequence's segment.
    fn is_outdated(&self, right: Right, sequence: &SequenceKey) -> bool {
        let claim = self.share_of(hash_of(sequence)).map(|(segment, share)| (*segment, share.claim.epoch));
        claim != Some(right.claim())
    }

    /// Returns whether an event that failed like this is skipped.
    fn skips(&self, failure: &Failure) -> bool {
        failure.last && self.definition.on_error == OnError::Skip
    }

    /// Queues a letter behind those of its sequence, within the limits. Returns whether it was not reported before.
    fn enqueue(
        &mut self,
        limits: &crate::limits::Limits,
        sequence: &SequenceKey,
        letter: Letter,
        now: Timestamp,
    ) -> Result<bool, RefusalReason> {
        let sequences = self.set_aside.len();
        match self.set_aside.get_mut(sequence) {
            Some(set_aside) if set_aside.letters.back().is_some_and(|last| last.position >= letter.position) => {
                return Ok(false); // reported before
            }
            Some(set_aside) if set_aside.letters.len() >= limits.letters_max as usize => {
                let full = LimitReached::new(LimitName::Letters, limits.letters_max);
                return Err(RefusalReason::Limit(LimitReached { sequence: Some(sequence.name.clone()), ..full }));
            }
            Some(set_aside) => set_aside.letters.push_back(letter),
            None if sequences >= limits.sequences_max as usize => {
                return Err(RefusalReason::Limit(LimitReached::new(LimitName::Sequences, limits.sequences_max)));
            }
            None => {
                let set_aside = SetAside { letters: VecDeque::from([letter]), ..SetAside::new(now) };
                self.set_aside.insert(sequence.clone(), set_aside);
            }
        }
        self.letters += 1;
        Ok(true)
    }

    /// Removes the first letter, which is done: the next one is tried at once, by the node that tried this one.
    fn pop(&mut self, sequence: &SequenceKey, now: Timestamp) {
        let Some(set_aside) = self.set_aside.get_mut(sequence) else { return };
        set_aside.letters.pop_front();
        self.letters -= 1;
        if set_aside.letters.is_empty() {
            self.set_aside.remove(sequence);
        } else {
            set_aside.cause.clear();
            set_aside.waits_for = WaitsFor::NextTry;
            (set_aside.recorded, set_aside.wait_ms, set_aside.random) = (now, 0, 0);
        }
    }
}

impl SetAside {
    /// Records a failure of the first letter.
    fn fail(&mut self, failure: &Failure, now: Timestamp, cause_bytes_max: u32) {
        let first = self.letters.front_mut().expect("a sequence set aside has at least one letter");
        first.attempts = failure.attempt;
        self.cause = truncate(&failure.cause, cause_bytes_max);
        (self.recorded, self.wait_ms, self.random) = (now, failure.wait_ms, failure.random);
        self.waits_for = if failure.last { WaitsFor::Operator } else { WaitsFor::NextTry };
    }

    /// Records that the handler could not be called: this is no attempt, and the letter is tried again after a wait.
    fn wait(&mut self, failure: &Failure, now: Timestamp, cause_bytes_max: u32) {
        self.cause = truncate(&failure.cause, cause_bytes_max);
        (self.recorded, self.wait_ms, self.random) = (now, failure.wait_ms, failure.random);
        self.revision = self.revision.wrapping_add(1);
    }

    /// Returns a sequence without letters.
    pub(super) fn new(now: Timestamp) -> Self {
        let (letters, cause, waits_for) = (VecDeque::new(), String::new(), WaitsFor::NextTry);
        Self { letters, cause, recorded: now, wait_ms: 0, random: 0, waits_for, loan: None, revision: 0 }
    }

    /// Schedules a try now, by the segment's owner, with attempts counted from 1 again.
    pub(super) fn restart_schedule(&mut self, now: Timestamp) {
        self.revision = self.revision.wrapping_add(1);
        if let Some(first) = self.letters.front_mut() {
            first.attempts = 0;
        }
        self.waits_for = WaitsFor::NextTry;
        (self.recorded, self.wait_ms, self.random) = (now, 0, 0);
    }
}

fn hash_of(sequence: &SequenceKey) -> u64 {
    hash::sequence(sequence.name.as_bytes())
}
