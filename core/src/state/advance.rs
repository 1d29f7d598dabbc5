//! Tokens move, and owners hand claims over. P4 depends on these rules.

use alloc::{collections::BTreeMap, vec::Vec};

use super::State;
use crate::{
    command::{Advance, HandOver, LetterMove, Outcome, Progress, RefusalReason, Stale},
    id::{LogIndex, NodeId, Position, ProcessorId, SegmentId, SessionId},
    reason::NotFound,
};

/// Positions that tokens may not pass, because a letter there was refused.
pub(super) type Held = BTreeMap<SegmentId, Position>;

impl State {
    /// Applies the progress of one node. Each item is judged separately: a stale item refuses only itself.
    pub(super) fn advance(&mut self, index: LogIndex, advance: &Advance) -> Outcome {
        if !self.is_active(advance.node, advance.session) {
            return Outcome::Refused(RefusalReason::Fenced);
        }
        let mut stale = Vec::new();
        for item in &advance.items {
            self.progress(index, advance, item, &mut stale);
        }
        Outcome::Advanced(stale)
    }

    fn progress(&mut self, index: LogIndex, advance: &Advance, item: &Progress, stale: &mut Vec<Stale>) {
        let id = item.processor;
        let node = advance.node;
        if !self.processors.contains_key(&id) {
            let why = RefusalReason::NotFound(NotFound::ProcessorNumber(id));
            stale.push(Stale { processor: id, segment: None, reason: why });
            return;
        }
        let held = self.letters(index, node, id, &item.letters, stale);
        let Some(processor) = self.processors.get_mut(&id) else { return };
        let head = self.contexts.get(&processor.definition.context).map_or(Position(0), super::Context::head);
        // Nothing is handled before the replay is prepared, so a token that moves is not from this reset.
        let preparing = processor.is_preparing();
        for moved in &item.tokens {
            match processor.segments.get_mut(&moved.segment) {
                Some(share) if share.claim.admits(node, moved.epoch) && !preparing => {
                    share.token.advance(bounded(moved.next, moved.segment, head, &held));
                }
                _ => stale.push(Stale { processor: id, segment: Some(moved.segment), reason: RefusalReason::Fenced }),
            }
        }
        if let Some(scanned) = item.scanned.filter(|_| !preparing) {
            for (segment, share) in &mut processor.segments {
                let known = share.claim.owner == Some(node) && share.claim.since <= advance.as_of;
                if known && item.tokens.iter().all(|moved| moved.segment != *segment) {
                    share.token.advance(bounded(scanned, *segment, head, &held));
                }
            }
        }
        item.letters.iter().for_each(|letter| self.pass_on_stalled(index, node, id, letter));
        self.finish_replay(index, id);
    }

    /// Hands a claim over to another owner, with its final token, in one entry.
    pub(super) fn hand_over(&mut self, index: LogIndex, hand_over: &HandOver) -> Outcome {
        let HandOver { node, session, processor: id, segment, epoch, next, to, letters } = hand_over;
        let admitted = self.is_active(*node, *session)
            && self
                .processors
                .get(id)
                .and_then(|processor| processor.segments.get(segment))
                .is_some_and(|share| share.claim.admits(*node, *epoch));
        if !admitted {
            return Outcome::Refused(RefusalReason::Fenced);
        }
        let mut stale = Vec::new();
        let held = self.letters(index, *node, *id, letters, &mut stale);
        let head = self.processors.get(id).map_or(Position(0), |processor| self.head(processor.definition.context));
        let to = to.filter(|to| self.processors.get(id).is_some_and(|processor| self.can_run(*to, processor)));
        if let Some(processor) = self.processors.get_mut(id)
            && let Some(share) = processor.segments.get_mut(segment)
        {
            share.token.advance(bounded(*next, *segment, head, &held));
            share.claim.give(to.filter(|_| share.reshape.is_none()), self.issued.next_epoch(), index);
            processor.changed = index;
        }
        self.reshape(index, *id, Some(*node));
        self.finish_replay(index, *id);
        self.mark_changed(index);
        Outcome::Advanced(stale)
    }

    /// Judges letters in order; returns the positions at which they hold back tokens.
    fn letters(
        &mut self,
        index: LogIndex,
        node: NodeId,
        id: ProcessorId,
        letters: &[LetterMove],
        stale: &mut Vec<Stale>,
    ) -> Held {
        let mut held = Held::new();
        for letter in letters {
            let segment = letter.segment();
            // Once a letter of a segment is refused, later ones of the segment must not overtake it.
            let refused = match segment.and_then(|segment| held.get(&segment)) {
                Some(_) => Err(RefusalReason::Fenced),
                None => self.letter(index, node, id, letter),
            };
            let Err(why) = refused else { continue };
            if let (Some(segment), Some(position)) = (segment, letter.holds()) {
                held.entry(segment).or_insert(position);
            }
            stale.push(Stale { processor: id, segment, reason: why });
        }
        held
    }

    /// Returns whether this session of the node is its present one.
    pub(super) fn is_active(&self, node: NodeId, session: SessionId) -> bool {
        self.sessions.get(&node).is_some_and(|live| live.session == session)
    }
}

/// Returns the new token: no further than the head, and not past a letter that was refused.
fn bounded(next: Position, segment: SegmentId, head: Position, held: &Held) -> Position {
    let next = next.min(head);
    held.get(&segment).map_or(next, |held| next.min(*held))
}
