//! Changes made by operators, each with an operation id by which its outcome can be queried.

use alloc::{boxed::Box, collections::BTreeMap, string::String};
use core::time::Duration;

use uuid::Uuid;

use super::{Goal, IssuedIds, Operation, State, exists, invalid, not_found, processor_not_found};
use crate::{
    canonical::Canonical,
    claim::{Bar, BarCause, Claim, Motion, Pin},
    command::{Change, Operate, Outcome, RefusalReason},
    id::{Generation, LogIndex, Position, ProcessorId, SegmentId},
    limits::LimitName,
    processor::{Definition, Handler, Processor, Share, Start},
    reason::{Existing, Invalid, LimitReached, NotFound},
    segment::Segment,
    token::Token,
};

impl State {
    /// Applies a change once, however often it is proposed.
    pub(super) fn operate(&mut self, index: LogIndex, operate: &Operate) -> Outcome {
        if let Some(outcome) = self.repeated(operate.operation, &operate.change) {
            return outcome;
        }
        // If anything in it is too long, nothing is remembered, not even the refusal.
        if let Err(exceeded) = operate.within(&self.limits) {
            return Outcome::Refused(exceeded.into());
        }
        let Operate { operation, principal, reason, change } = operate;
        let (subject, digest) = (change.subject(self), change.canonical_digest());
        let outcome = self.change(index, change, reason.as_deref());
        let known = Operation {
            operation: *operation,
            index,
            recorded: self.recorded,
            principal: principal.clone(),
            reason: reason.clone(),
            kind: change.kind(),
            subject,
            digest,
            outcome: outcome.clone(),
            goal: self.goal(change),
        };
        self.operations.push_back(known);
        while self.operations.len() > self.limits.operations_max as usize {
            self.operations.pop_front();
        }
        outcome
    }

    /// Returns the answer to a change under an id that was used before; none if it was not.
    #[must_use]
    pub fn repeated(&self, operation: Uuid, change: &Change) -> Option<Outcome> {
        let known = self.operations.iter().find(|known| known.operation == operation)?;
        Some(known.again(change))
    }

    /// Returns the outcome that a change under a new id would have, without applying it (`dry_run`).
    #[must_use]
    pub fn try_change(&self, change: &Change) -> Outcome {
        if let Err(exceeded) = change.within(&self.limits) {
            return Outcome::Refused(exceeded.into());
        }
        self.clone().change(self.changed, change, None)
    }

    fn change(&mut self, index: LogIndex, change: &Change, reason: Option<&str>) -> Outcome {
        match change {
            Change::Create(definition) => self.create(index, definition),
            Change::Delete(name) => self.delete(index, name),
            Change::Pause(name, paused) => self.pause(index, name, *paused),
            Change::Release(name, segment) => self.release(index, name, *segment),
            Change::Claim(name, segment, node) | Change::Move(name, segment, node) => {
                self.claim(index, name, *segment, Pin { node: *node, reason: reason.map(String::from) })
            }
            Change::Split(name, segment) => self.split(index, name, *segment),
            Change::Merge(name, segment) => self.merge(index, name, *segment),
            Change::Reset(name, to, context) => self.reset(index, name, *to, context.as_ref()),
            Change::Unpin(name, segment) => self.unpin(index, name, *segment),
            Change::Letters(name, selection, change) => match self.names.get(name) {
                Some(id) => self.change_letters(index, *id, selection, *change),
                None => processor_not_found(name),
            },
            Change::SetLimits(limits) => match limits.check() {
                Err(unfit) => Outcome::Refused(unfit.into()),
                Ok(()) => {
                    self.limits = *limits;
                    self.mark_changed(index);
                    Outcome::Done
                }
            },
            Change::Expect(_) => Outcome::Done,
            Change::Leave(node) => self.leave(index, *node),
            Change::Lead(node, _) if self.members.contains_key(node) => Outcome::Done,
            Change::Lead(node, _) => not_found(NotFound::Member(*node)),
            Change::SkipEvent(name, segment, position) => self.skip_event(index, name, *segment, *position),
        }
    }

    /// Returns the goal of a change that its entry does not reach.
    fn goal(&self, change: &Change) -> Option<Goal> {
        match change {
            Change::Release(name, segment)
            | Change::Claim(name, segment, _)
            | Change::Move(name, segment, _)
            | Change::Split(name, Some(segment))
            | Change::Merge(name, Some(segment)) => self.names.get(name).map(|id| Goal::Settled(*id, *segment)),
            Change::Split(name, None) | Change::Merge(name, None) => {
                let processor = self.processor(name)?;
                let (segment, _) = processor.segments.iter().find(|(_, share)| share.reshape.is_some())?;
                Some(Goal::Settled(processor.id, *segment))
            }
            Change::Expect(peer) => Some(Goal::Joined(peer.clone())),
            Change::Leave(node) => Some(Goal::Left(*node)),
            Change::Lead(node, term) => Some(Goal::Leads(*node, *term)),
            _ => None,
        }
    }

    /// Returns whether the goal is reached, as far as the state shows; the state does not contain the leader.
    #[must_use]
    pub fn reached(&self, goal: &Goal) -> bool {
        match goal {
            Goal::Settled(id, segment) => {
                let share = self.processors.get(id).and_then(|processor| processor.segments.get(segment));
                share.is_none_or(|share| share.claim.motion == Motion::Stay && share.reshape.is_none())
            }
            Goal::Joined(peer) => self.members.values().any(|member| member.peer == *peer),
            Goal::Left(node) => !self.members.contains_key(node),
            Goal::Leads(..) => true,
        }
    }

    fn create(&mut self, index: LogIndex, definition: &Definition) -> Outcome {
        let limits = self.limits;
        let name = &definition.name;
        if let Some(known) = self.names.get(name).and_then(|id| self.processors.get_mut(id)) {
            let outcome = known.redefine(definition);
            if outcome == Outcome::Changed(1) {
                known.changed = index;
                self.mark_changed(index);
            }
            return outcome;
        }
        if name.is_empty() || name.contains('/') {
            return invalid(Invalid::ProcessorName(name.clone()));
        }
        if self.processors.len() >= limits.processors_max as usize {
            return Outcome::Refused(RefusalReason::Limit(LimitReached::new(
                LimitName::Processors,
                limits.processors_max,
            )));
        }
        if definition.segments == 0 || definition.segments > limits.segments_max {
            return invalid(Invalid::Segments { segments: definition.segments, max: limits.segments_max });
        }
        if definition.backoff.first_ms == 0 || definition.backoff.attempts == 0 {
            return invalid(Invalid::Backoff);
        }
        let Some(context) = self.contexts.get(&definition.context) else {
            return not_found(NotFound::Context(definition.context));
        };
        let start = match definition.start {
            Start::Beginning => Position(0),
            Start::Head => context.head(),
            Start::At(position) if position > context.head() => {
                return invalid(Invalid::StartBeyondHead { start: position, head: context.head() });
            }
            Start::At(position) => position,
        };
        let id = self.issued.processor.next();
        self.issued.processor = id;
        self.names.insert(name.clone(), id);
        self.processors.insert(id, fresh(id, definition, start, self.recorded, index));
        self.mark_changed(index);
        Outcome::Changed(1)
    }

    fn delete(&mut self, index: LogIndex, name: &str) -> Outcome {
        let Some(id) = self.names.remove(name) else { return processor_not_found(name) };
        self.processors.remove(&id);
        self.mark_changed(index);
        Outcome::Changed(1)
    }

    fn pause(&mut self, index: LogIndex, name: &str, paused: bool) -> Outcome {
        let Some(processor) = self.names.get(name).and_then(|id| self.processors.get_mut(id)) else {
            return processor_not_found(name);
        };
        if processor.paused == paused {
            return Outcome::Changed(0);
        }
        processor.paused = paused;
        processor.changed = index;
        self.mark_changed(index);
        Outcome::Changed(1)
    }

    fn release(&mut self, index: LogIndex, name: &str, segment: SegmentId) -> Outcome {
        let now = self.recorded;
        let until = now.after(Duration::from_millis(u64::from(self.limits.release_bar_ms)));
        self.with_claim(index, name, segment, |claim, _| {
            let Some(owner) = claim.owner else { return false };
            claim.bar(now, Bar { node: owner, until, cause: BarCause::Released });
            // The pin was the wish to have it on that node; releasing it there withdraws the wish.
            claim.pin = None;
            claim.motion = Motion::Release;
            true
        })
    }

    fn claim(&mut self, index: LogIndex, name: &str, segment: SegmentId, pin: Pin) -> Outcome {
        let node = pin.node;
        let Some(processor) = self.processor(name) else { return processor_not_found(name) };
        if !self.can_run(node, processor) {
            return invalid(Invalid::CannotRun { node, processor: name.into() });
        }
        self.with_claim(index, name, segment, |claim, issued| {
            claim.bars.retain(|bar| bar.node != node);
            let bound = claim.pin.as_ref() == Some(&pin);
            claim.pin = Some(pin);
            let Some(owner) = claim.owner else {
                claim.give(Some(node), issued.next_epoch(), index);
                return true;
            };
            let motion = if owner == node { Motion::Stay } else { Motion::To(node) };
            let goes = core::mem::replace(&mut claim.motion, motion) == motion;
            !(goes && bound)
        })
    }

    /// Skips the event with which a segment waits. The request names the event, so that no other one is skipped; the
    /// claim is renewed, so that a running try of the event is fenced.
    fn skip_event(&mut self, index: LogIndex, name: &str, segment: SegmentId, position: Position) -> Outcome {
        let Some(processor) = self.names.get(name).and_then(|id| self.processors.get_mut(id)) else {
            return processor_not_found(name);
        };
        let Some(share) = processor.segments.get_mut(&segment) else {
            return not_found(NotFound::Segment { processor: name.into(), segment });
        };
        let waits_with = share.stalled.as_ref().map(|stall| stall.position);
        if waits_with != Some(position) {
            let processor = name.into();
            return invalid(Invalid::WaitsWithOther { processor, segment, position, waits_with });
        }
        if share.token.low() < position {
            return invalid(Invalid::NotFirst { processor: name.into(), segment, position });
        }
        share.token.advance(position.next());
        share.stalled = None;
        share.claim.renew(self.issued.next_epoch(), index);
        processor.skipped += 1;
        processor.changed = index;
        let id = processor.id;
        self.finish_replay(index, id);
        self.mark_changed(index);
        Outcome::Changed(1)
    }

    fn unpin(&mut self, index: LogIndex, name: &str, segment: SegmentId) -> Outcome {
        self.with_claim(index, name, segment, |claim, _| claim.pin.take().is_some())
    }

    fn with_claim(
        &mut self,
        index: LogIndex,
        name: &str,
        segment: SegmentId,
        change: impl FnOnce(&mut Claim, &mut IssuedIds) -> bool,
    ) -> Outcome {
        let Some(processor) = self.names.get(name).and_then(|id| self.processors.get_mut(id)) else {
            return processor_not_found(name);
        };
        let Some(share) = processor.segments.get_mut(&segment) else {
            return not_found(NotFound::Segment { processor: name.into(), segment });
        };
        if !change(&mut share.claim, &mut self.issued) {
            return Outcome::Changed(0);
        }
        processor.changed = index;
        self.mark_changed(index);
        Outcome::Changed(1)
    }
}

impl Processor {
    /// Applies the definition of an existing processor. Embedded processors propose theirs at each start of a node, so
    /// whatever may change does change; the rules that decide where an event belongs may not.
    fn redefine(&mut self, definition: &Definition) -> Outcome {
        let known = &self.definition;
        if definition.fingerprint() != self.fingerprint || definition.context != known.context {
            let (stored, wanted) = (known.sequencing.clone(), definition.sequencing.clone());
            return exists(Existing::Sequencing { processor: known.name.clone(), stored, wanted });
        }
        let embedded = (&definition.handler, &known.handler) == (&Handler::Embedded, &Handler::Embedded);
        let mut wanted = Box::new(definition.clone());
        if embedded {
            (wanted.segments, wanted.start) = (known.segments, known.start);
        }
        if *wanted == *known {
            return Outcome::Changed(0);
        }
        if !embedded {
            return exists(Existing::Processor(known.name.clone()));
        }
        self.definition = *wanted;
        Outcome::Changed(1)
    }
}

fn fresh(
    id: ProcessorId,
    definition: &Definition,
    start: Position,
    created: crate::time::Timestamp,
    changed: LogIndex,
) -> Processor {
    let segments = Segment::cover(definition.segments).into_iter().map(|segment| {
        let share =
            Share { segment, token: Token::new(segment, start), claim: Claim::default(), stalled: None, reshape: None };
        (segment.name(), share)
    });
    Processor {
        id,
        definition: definition.clone(),
        fingerprint: definition.fingerprint(),
        version: 1,
        generation: Generation(0),
        paused: false,
        replay: None,
        created,
        changed,
        segments: segments.collect(),
        set_aside: BTreeMap::new(),
        letters: 0,
        skipped: 0,
    }
}
