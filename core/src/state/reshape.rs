//! Segments are split and merged.
//!
//! A change only marks the segments. Their owners then finish what their handlers run, and hand the claims over with
//! the final tokens, as for a move; the last of these entries also cuts or joins the segments. So no event is handled
//! again, and none out of order. A segment without an owner needs no hand-over.

use alloc::vec::Vec;

use super::{State, invalid, not_found, processor_not_found};
use crate::{
    claim::Claim,
    command::{Outcome, RefusalReason},
    id::{LogIndex, NodeId, ProcessorId, SegmentId},
    limits::{LimitName, Limits},
    processor::{Processor, Reshape, Share},
    reason::{Invalid, LimitReached, NotFound},
    token::Error,
};

impl State {
    /// Marks a segment to be split: the named one, else the best candidate.
    pub(super) fn split(&mut self, index: LogIndex, name: &str, segment: Option<SegmentId>) -> Outcome {
        let limits = self.limits;
        let Some(processor) = self.names.get(name).and_then(|id| self.processors.get_mut(id)) else {
            return processor_not_found(name);
        };
        let pending = processor.segments.values().filter(|share| share.reshape == Some(Reshape::Split)).count();
        let Some(segment) = segment.or_else(|| processor.best_split()) else {
            return invalid(Invalid::NothingToSplit(name.into()));
        };
        let Some(share) = processor.segments.get_mut(&segment) else {
            return not_found(NotFound::Segment { processor: name.into(), segment });
        };
        match share.reshape {
            Some(Reshape::Split) => return Outcome::Changed(0),
            Some(Reshape::Merge) => return invalid(Invalid::Reshaping { processor: name.into(), segment }),
            None => {}
        }
        if share.segment.split().is_none() {
            return invalid(Invalid::CannotSplit { processor: name.into(), segment });
        }
        share.reshape = Some(Reshape::Split);
        if processor.segments.len() + pending >= limits.segments_max as usize {
            processor.segments.entry(segment).and_modify(|share| share.reshape = None);
            return Outcome::Refused(RefusalReason::Limit(LimitReached::new(LimitName::Segments, limits.segments_max)));
        }
        self.begin_reshape(index, name)
    }

    /// Marks a segment and its sibling to be merged: the named one, else the best candidate.
    pub(super) fn merge(&mut self, index: LogIndex, name: &str, segment: Option<SegmentId>) -> Outcome {
        let limits = self.limits;
        let Some(processor) = self.names.get(name).and_then(|id| self.processors.get_mut(id)) else {
            return processor_not_found(name);
        };
        let Some(segment) = segment.or_else(|| processor.best_merge(&limits)) else {
            return invalid(Invalid::NothingToMerge(name.into()));
        };
        let Some(share) = processor.segments.get(&segment) else {
            return not_found(NotFound::Segment { processor: name.into(), segment });
        };
        let Some(other) = processor.sibling_of(share) else {
            return invalid(Invalid::NoSibling { processor: name.into(), segment });
        };
        match (share.reshape, other.reshape) {
            (Some(Reshape::Merge), Some(Reshape::Merge)) => return Outcome::Changed(0),
            (None, None) => {}
            _ => return invalid(Invalid::Reshaping { processor: name.into(), segment }),
        }
        if let Err(Error::TooManyItems(_)) = merged(share, other, limits.token_items_max) {
            let limit = LimitReached::new(LimitName::TokenItems, limits.token_items_max);
            return Outcome::Refused(RefusalReason::Limit(limit));
        }
        for id in [segment, other.segment.name()] {
            processor.segments.entry(id).and_modify(|share| share.reshape = Some(Reshape::Merge));
        }
        self.begin_reshape(index, name)
    }

    fn begin_reshape(&mut self, index: LogIndex, name: &str) -> Outcome {
        if let Some(id) = self.names.get(name).copied() {
            self.processors.entry(id).and_modify(|processor| processor.changed = index);
            self.reshape(index, id, None);
        }
        self.mark_changed(index);
        Outcome::Changed(1)
    }

    /// Splits and merges the marked segments that have no owner any more. `node`, which has just handed one over, owns
    /// the result if it may.
    pub(super) fn reshape(&mut self, index: LogIndex, id: ProcessorId, node: Option<NodeId>) {
        let Some(processor) = self.processors.get(&id) else { return };
        let owner = node.filter(|node| self.can_run(*node, processor));
        let free = |share: &&Share| share.reshape.is_some() && share.claim.owner.is_none();
        let ready: Vec<Share> = processor.segments.values().filter(free).cloned().collect();
        let mut epochs = core::iter::repeat_with(|| self.issued.next_epoch());
        let Some(processor) = self.processors.get_mut(&id) else { return };
        for share in ready {
            // It may have been merged with its sibling just now.
            if !processor.segments.contains_key(&share.segment.name()) {
                continue;
            }
            let made = match share.reshape {
                Some(Reshape::Split) => split(&share),
                _ => processor.merge_with_sibling(&share),
            };
            let Some(made) = made else { continue };
            processor.segments.retain(|_, old| !made.iter().any(|new| overlap(old, new)));
            for mut share in made {
                let epoch = epochs.next().expect("there is always another epoch");
                share.claim.give(owner.filter(|node| !share.claim.bars(*node, self.recorded)), epoch, index);
                processor.segments.insert(share.segment.name(), share);
            }
            processor.changed = index;
        }
    }
}

fn overlap(old: &Share, new: &Share) -> bool {
    old.segment.covers(new.segment) || new.segment.covers(old.segment)
}

/// Returns the halves of a segment. An event with which it waits is tried again by the half that contains it.
fn split(share: &Share) -> Option<Vec<Share>> {
    let (low, high) = share.segment.split()?;
    let (first, second) = share.token.split(share.segment)?;
    let half = |segment, token| Share { segment, token, claim: share.claim.clone(), stalled: None, reshape: None };
    Some(Vec::from([half(low, first), half(high, second)]))
}

fn merged(share: &Share, other: &Share, items_max: u32) -> Result<Share, Error> {
    let token = share.token.merge(share.segment, &other.token, other.segment, items_max)?;
    let segment = share.segment.merge(other.segment).ok_or(Error::NotSiblings)?;
    // If an operator pinned one of them, the result is pinned to that node. The bars of both remain.
    let newest = if share.claim.epoch > other.claim.epoch { &share.claim } else { &other.claim };
    let mut bars = share.claim.bars.clone();
    for bar in &other.claim.bars {
        match bars.iter_mut().find(|known| known.node == bar.node) {
            Some(known) if known.until >= bar.until => {}
            Some(known) => *known = *bar,
            None => bars.push(*bar),
        }
    }
    let pin = share.claim.pin.clone().or_else(|| other.claim.pin.clone());
    let claim = Claim { bars, pin, ..newest.clone() };
    Ok(Share { segment, token, claim, stalled: None, reshape: None })
}

impl Processor {
    /// Returns the other half of the segment from which this one was split, if it is not split itself.
    fn sibling_of(&self, share: &Share) -> Option<&Share> {
        let sibling = share.segment.sibling()?;
        self.segments.get(&sibling.name()).filter(|other| other.segment == sibling)
    }

    /// Returns a segment merged with its sibling, if that is free, too.
    fn merge_with_sibling(&self, share: &Share) -> Option<Vec<Share>> {
        let other = self.sibling_of(share)?;
        let is_free = other.reshape == Some(Reshape::Merge) && other.claim.owner.is_none();
        // The limit was checked when they were marked; a lower one must not leave them without an owner.
        is_free.then(|| merged(share, other, u32::MAX).ok()).flatten().map(|share| Vec::from([share]))
    }

    /// Returns the segment that most needs to be split: the one that covers the most keys, and of these the one that
    /// is furthest behind.
    fn best_split(&self) -> Option<SegmentId> {
        let whole = self.segments.values().filter(|share| share.reshape.is_none() && share.segment.split().is_some());
        let best = whole.min_by_key(|share| (share.segment.mask, share.token.low(), share.segment.id));
        best.map(|share| share.segment.name())
    }

    /// Returns the segment to merge first: of those that cover the fewest keys, the one whose sibling is nearest.
    fn best_merge(&self, limits: &Limits) -> Option<SegmentId> {
        let pairs = self.segments.values().filter_map(|share| {
            let other = self.sibling_of(share).filter(|other| other.segment.id > share.segment.id)?;
            let can = share.reshape.is_none()
                && other.reshape.is_none()
                && merged(share, other, limits.token_items_max).is_ok();
            can.then_some((share, share.token.low().0.abs_diff(other.token.low().0)))
        });
        let best = pairs.min_by_key(|(share, apart)| (u32::MAX - share.segment.mask, *apart, share.segment.id));
        best.map(|(share, _)| share.segment.name())
    }
}
