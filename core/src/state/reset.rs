//! Resets: a processor's tokens move back or forward, and a replay begins.

use alloc::{collections::BTreeMap, string::String, vec::Vec};

use super::{IssuedIds, State, invalid, processor_not_found};
use crate::{
    command::{Outcome, RefusalReason},
    hash,
    id::{LogIndex, Position, ProcessorId},
    letter::{Letter, SequenceKey, SetAside},
    processor::{Handler, Processor},
    reason::Invalid,
    replay::{HookDone, Replay, ReplayPhase, ResetTo},
    time::Timestamp,
};

/// Letters that a reset dropped.
type Dropped = BTreeMap<SequenceKey, Vec<Letter>>;

impl State {
    /// Moves all segments of a processor. Every claim is renewed, so that no progress under way can move a token past
    /// events that are to be handled again. Returns how many positions are passed again, or are skipped.
    pub(super) fn reset(&mut self, index: LogIndex, name: &str, to: ResetTo, context: Option<&String>) -> Outcome {
        let Some(id) = self.names.get(name).copied() else { return processor_not_found(name) };
        let now = self.recorded;
        let head = self.processors.get(&id).map_or(Position(0), |processor| self.head(processor.definition.context));
        let Some(processor) = self.processors.get_mut(&id) else { return processor_not_found(name) };
        let mut dropped = processor.still_dropped();
        let moved = match to {
            ResetTo::Beginning => processor.move_tokens(Position(0), &mut dropped),
            ResetTo::Head => processor.move_tokens(head, &mut dropped),
            ResetTo::At(position) if position > head => {
                return invalid(Invalid::ResetBeyondHead { position, head });
            }
            ResetTo::At(position) => processor.move_tokens(position, &mut dropped),
            ResetTo::ReplayEnd => match processor.end_replay() {
                Some(skipped) => {
                    processor.set_aside_again(&dropped, now);
                    skipped
                }
                None => return invalid(Invalid::NoReplay(name.into())),
            },
        };
        processor.begin_replay(context.cloned(), now, head, dropped);
        processor.renew_claims(&mut self.issued, index);
        processor.generation = processor.generation.next();
        processor.changed = index;
        self.mark_changed(index);
        Outcome::Changed(moved)
    }

    /// Takes note that a hook of a replay has run: once, and only of the latest reset.
    pub(super) fn hook_done(&mut self, index: LogIndex, done: &HookDone) -> Outcome {
        if !self.is_active(done.node, done.session) {
            return Outcome::Refused(RefusalReason::Fenced);
        }
        let Some(processor) = self.processors.get_mut(&done.processor) else {
            return Outcome::Refused(RefusalReason::Fenced);
        };
        // A node that has lost the first segment since may have stopped its hook half way; the new owner runs it again.
        let owner = processor.segments.values().next().and_then(|share| share.claim.owner);
        let is_present = processor.generation == done.generation && owner == Some(done.node);
        let replay = processor.replay.as_mut().filter(|replay| is_present && replay.awaits_hook());
        let Some(replay) = replay.filter(|replay| replay.phase == done.phase) else {
            return Outcome::Refused(RefusalReason::Outdated);
        };
        if replay.phase == ReplayPhase::Preparing {
            replay.phase = ReplayPhase::Running;
            // The hook's epoch fenced all earlier handlers; those of the replay need a higher one.
            processor.renew_claims(&mut self.issued, index);
        } else {
            replay.phase = ReplayPhase::Ended;
        }
        processor.changed = index;
        self.finish_replay(index, done.processor);
        self.mark_changed(index);
        Outcome::Done
    }

    /// Ends a running replay once no segment has a replayed event left.
    pub(super) fn finish_replay(&mut self, index: LogIndex, id: ProcessorId) {
        let Some(processor) = self.processors.get_mut(&id) else { return };
        let hooks = processor.has_hooks();
        let Some(replay) = processor.replay.as_mut().filter(|replay| replay.phase == ReplayPhase::Running) else {
            return;
        };
        if processor.segments.values().any(|share| share.token.replay_end().is_some()) {
            return;
        }
        replay.phase = if hooks { ReplayPhase::Ending } else { ReplayPhase::Ended };
        replay.dropped.clear();
        processor.changed = index;
        self.mark_changed(index);
    }
}

impl Processor {
    /// Returns whether nodes run hooks before and after its replays: only programs that embed a node have any.
    fn has_hooks(&self) -> bool {
        self.definition.handler == Handler::Embedded
    }

    /// Returns whether it handles nothing for now, because its replay is being prepared.
    #[must_use]
    pub fn is_preparing(&self) -> bool {
        self.replay.as_ref().is_some_and(|replay| replay.phase == ReplayPhase::Preparing)
    }

    /// Moves all tokens to `next`, and drops what is set aside from there on: it is handled again. Returns the number
    /// of positions between `next` and the furthest token.
    fn move_tokens(&mut self, next: Position, dropped: &mut Dropped) -> u64 {
        let furthest = |share: &crate::processor::Share| {
            let ends = share.token.items().iter().map(|item| item.next.0.abs_diff(next.0));
            ends.max().unwrap_or(0)
        };
        let moved = self.segments.values().map(furthest).max().unwrap_or(0);
        for share in self.segments.values_mut() {
            share.token.reset(next);
            share.stalled = None;
        }
        for (sequence, set_aside) in &mut self.set_aside {
            let from = set_aside.letters.partition_point(|letter| letter.position < next);
            let letters = set_aside.letters.split_off(from);
            if !letters.is_empty() {
                let all = dropped.entry(sequence.clone()).or_default();
                all.extend(letters);
                all.sort_by_key(|letter| letter.position);
            }
        }
        self.set_aside.retain(|_, set_aside| !set_aside.letters.is_empty());
        self.letters = self.set_aside.values().map(|set_aside| set_aside.letters.len() as u64).sum();
        moved
    }

    /// Moves all tokens to the end of the replay; returns the number of positions skipped, or `None` if none replays.
    fn end_replay(&mut self) -> Option<u64> {
        let left = self.segments.values().filter_map(|share| Some(share.token.replay_end()?.0 - share.token.low().0));
        let skipped = left.max()?;
        for share in self.segments.values_mut() {
            share.token.end_replay();
            share.stalled = None;
        }
        Some(skipped)
    }

    /// Returns the letters that a reset dropped and whose events were not passed since.
    fn still_dropped(&self) -> Dropped {
        let mut dropped = self.replay.as_ref().map(|replay| replay.dropped.clone()).unwrap_or_default();
        for (sequence, letters) in &mut dropped {
            let hash = hash::sequence(sequence.name.as_bytes());
            let share = self.share_of(hash).map(|(_, share)| share);
            letters.retain(|letter| share.is_some_and(|share| share.token.wants(hash, letter.position)));
        }
        dropped.retain(|_, letters| !letters.is_empty());
        dropped
    }

    /// Sets letters aside again, to be tried at once. They may exceed the limits, which bound what comes later.
    fn set_aside_again(&mut self, dropped: &Dropped, now: Timestamp) {
        for (sequence, letters) in dropped {
            let set_aside = self.set_aside.entry(sequence.clone()).or_insert_with(|| SetAside::new(now));
            set_aside.letters.extend(letters.iter().cloned().map(|letter| Letter { attempts: 0, ..letter }));
            set_aside.letters.make_contiguous().sort_by_key(|letter| letter.position);
            set_aside.restart_schedule(now);
        }
        self.letters = self.set_aside.values().map(|set_aside| set_aside.letters.len() as u64).sum();
    }

    /// Begins the replay that a reset makes necessary, or ends the present one.
    fn begin_replay(&mut self, context: Option<String>, now: Timestamp, head: Position, dropped: Dropped) {
        let until = self.segments.values().filter_map(|share| share.token.replay_end()).max();
        let hooks = self.has_hooks();
        self.replay = match (until, self.replay.take()) {
            (Some(until), _) => {
                let from = self.low().unwrap_or_default();
                let phase = if hooks { ReplayPhase::Preparing } else { ReplayPhase::Running };
                Some(Replay { context, started: now, from, until: until.min(head), phase, dropped })
            }
            // A hook that prepared a replay has run, so the one that follows it runs too.
            (None, Some(replay)) if replay.phase != ReplayPhase::Ended => {
                let phase = if hooks { ReplayPhase::Ending } else { ReplayPhase::Ended };
                Some(Replay { phase, dropped: BTreeMap::new(), ..replay })
            }
            (None, known) => known,
        };
    }

    /// Renews all claims and takes back all loans: everything begun under them is void.
    fn renew_claims(&mut self, issued: &mut IssuedIds, index: LogIndex) {
        for share in self.segments.values_mut() {
            share.claim.renew(issued.next_epoch(), index);
        }
        for set_aside in self.set_aside.values_mut() {
            set_aside.loan = None;
        }
    }
}
