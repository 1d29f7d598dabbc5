//! Resets: a processor's tokens move back or forward, and a replay begins.

use alloc::string::String;

use super::{IssuedIds, State, invalid, processor_not_found};
use crate::{
    command::{Outcome, RefusalReason},
    id::{LogIndex, Position, ProcessorId},
    processor::{Handler, Processor},
    reason::Invalid,
    replay::{HookDone, Replay, ReplayPhase, ResetTo},
};

impl State {
    /// Moves all segments of a processor. Every claim is renewed, so that no progress under way can move a token past
    /// events that are to be handled again. Returns how many positions are passed again, or are skipped.
    pub(super) fn reset(&mut self, index: LogIndex, name: &str, to: ResetTo, context: Option<&String>) -> Outcome {
        let Some(id) = self.names.get(name).copied() else { return processor_not_found(name) };
        let now = self.recorded;
        let head = self.processors.get(&id).map_or(Position(0), |processor| self.head(processor.definition.context));
        let Some(processor) = self.processors.get_mut(&id) else { return processor_not_found(name) };
        let moved = match to {
            ResetTo::Beginning => processor.move_tokens(Position(0)),
            ResetTo::Head => processor.move_tokens(head),
            ResetTo::At(position) if position > head => {
                return invalid(Invalid::ResetBeyondHead { position, head });
            }
            ResetTo::At(position) => processor.move_tokens(position),
            ResetTo::ReplayEnd => match processor.end_replay() {
                Some(skipped) => skipped,
                None => return invalid(Invalid::NoReplay(name.into())),
            },
        };
        processor.begin_replay(to, context.cloned(), now, head);
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
        let is_present = processor.generation == done.generation;
        let replay = processor.replay.as_mut().filter(|replay| is_present && replay.awaits_hook());
        let Some(replay) = replay.filter(|replay| replay.phase == done.phase) else {
            return Outcome::Refused(RefusalReason::Outdated);
        };
        replay.phase = match replay.phase {
            ReplayPhase::Preparing => ReplayPhase::Running,
            _ => ReplayPhase::Ended,
        };
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
    fn move_tokens(&mut self, next: Position) -> u64 {
        let furthest = |share: &crate::processor::Share| {
            let ends = share.token.items().iter().map(|item| item.next.0.abs_diff(next.0));
            ends.max().unwrap_or(0)
        };
        let moved = self.segments.values().map(furthest).max().unwrap_or(0);
        for share in self.segments.values_mut() {
            share.token.reset(next);
            share.stalled = None;
        }
        for set_aside in self.set_aside.values_mut() {
            set_aside.letters.retain(|letter| letter.position < next);
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

    /// Begins the replay that a reset makes necessary, or ends the present one.
    fn begin_replay(&mut self, to: ResetTo, context: Option<String>, now: crate::time::Timestamp, head: Position) {
        let until = self.segments.values().filter_map(|share| share.token.replay_end()).max();
        let hooks = self.has_hooks();
        self.replay = match (until, to, self.replay.take()) {
            (Some(until), ..) => {
                let from = self.low().unwrap_or_default();
                let phase = if hooks { ReplayPhase::Preparing } else { ReplayPhase::Running };
                Some(Replay { context, started: now, from, until: until.min(head), phase })
            }
            // A hook that prepared a replay has run, so the one that follows it runs too.
            (None, _, Some(replay)) if replay.phase != ReplayPhase::Ended => {
                let phase = if hooks { ReplayPhase::Ending } else { ReplayPhase::Ended };
                Some(Replay { phase, ..replay })
            }
            (None, _, known) => known,
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
