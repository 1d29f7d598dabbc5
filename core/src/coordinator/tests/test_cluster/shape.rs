//! Splits and merges without a command: every new segment has an epoch above all previous ones.

use std::vec::Vec;

use super::TestCluster;
use crate::{
    claim::Claim,
    id::{LogIndex, NodeId, ProcessorId, SegmentId},
    processor::{Share, Stall},
    segment::Segment,
    token::Token,
};

/// The greatest mask: segments are split into eighths at most.
const MASK_MAX: u32 = 7;

impl TestCluster {
    /// Splits one of the segments, if it can be split. Both halves stay with its owner.
    pub(in super::super) fn split(&mut self, which: usize) {
        let ids = self.segment_ids();
        let share = self.processor().segments[&ids[which % ids.len()]].clone();
        let Some((low, high)) = share.segment.split().filter(|_| share.segment.mask < MASK_MAX) else { return };
        let (first, second) = share.token.split(share.segment).expect("its segment can be split");
        let owner = share.claim.owner;
        self.replace(&[share.segment.name()], [(low, first, owner), (high, second, owner)], share.stalled);
    }

    /// Merges one of the segments with its sibling, if that is one of the segments.
    pub(in super::super) fn merge(&mut self, which: usize) {
        let ids = self.segment_ids();
        let segments = &self.processor().segments;
        let share = segments[&ids[which % ids.len()]].clone();
        let sibling = share.segment.sibling().and_then(|sibling| segments.get(&sibling.name())).cloned();
        let Some(other) = sibling else { return };
        let Some(whole) = share.segment.merge(other.segment) else { return };
        if share.stalled.is_some() && other.stalled.is_some() {
            return;
        }
        let Ok(token) = share.token.merge(share.segment, &other.token, other.segment, 64) else { return };
        let removed = [share.segment.name(), other.segment.name()];
        self.replace(&removed, [(whole, token, share.claim.owner)], share.stalled.or(other.stalled));
    }

    /// Returns the ids of the segments, in order.
    pub(in super::super) fn segment_ids(&self) -> Vec<SegmentId> {
        self.processor().segments.keys().copied().collect()
    }

    fn replace(
        &mut self,
        removed: &[SegmentId],
        new: impl IntoIterator<Item = (Segment, Token, Option<NodeId>)>,
        stalled: Option<Stall>,
    ) {
        self.index += 1;
        self.kills += 1; // events that run under the old claims are handled again
        let waits = stalled.map(|stall| (crate::hash::sequence(self.log[stall.position.0 as usize].as_bytes()), stall));
        let index = LogIndex(self.index);
        let processor = self.state.processors.get_mut(&ProcessorId(1)).expect("it was created");
        removed.iter().for_each(|id| drop(processor.segments.remove(id)));
        for (segment, token, owner) in new {
            self.state.issued.epoch = self.state.issued.epoch.next();
            let mut claim = Claim::default();
            claim.give(owner, self.state.issued.epoch, index);
            let stalled = waits.clone().filter(|(hash, _)| segment.holds(*hash)).map(|(_, stall)| stall);
            processor.segments.insert(segment.name(), Share { segment, token, claim, stalled, reshape: None });
        }
        processor.changed = index;
        self.state.changed = index;
        self.state.generation = self.state.generation.next();
        self.database.update(self.state.processor("p").expect("it was created"));
    }
}
