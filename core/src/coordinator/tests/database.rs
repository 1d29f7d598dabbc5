//! A user's database, fenced by the epochs that handlers receive: it keeps the highest epoch it has seen of each
//! segment, and refuses a write if a segment that shares hashes with the writer's has a higher one. The test also
//! records what the database cannot know: which right was valid when, and thus which write should have been refused.

use std::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

use crate::{
    command::Right,
    id::{Epoch, NodeId, SegmentId},
    letter::SequenceKey,
    processor::Processor,
    segment::Segment,
};

/// A handler's write, under its node's right.
#[derive(Clone, Debug)]
pub(super) struct Write {
    pub(super) node: NodeId,
    pub(super) right: Right,
    pub(super) mask: u32,
    pub(super) sequence: SequenceKey,
}

impl Write {
    fn segment(&self) -> Segment {
        Segment { id: self.right.claim().0.0, mask: self.mask }
    }
}

/// The rows with which the epoch of a write is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Rule {
    /// The rows of all segments that share hashes with the writer's.
    #[default]
    Overlap,
    /// The row of the segment with the same id, whatever its mask: this is not enough.
    SameId,
}

/// See the [module](self).
#[derive(Default)]
pub(super) struct Database {
    /// The state of the database itself.
    highest: BTreeMap<Segment, Epoch>,
    pub(super) rule: Rule,
    /// Counts steps.
    clock: u64,
    /// The epochs of the segments' claims.
    claims: BTreeMap<SegmentId, Epoch>,
    /// The valid rights, by their own epochs.
    rights: BTreeSet<Epoch>,
    /// When the other rights ended.
    ended: BTreeMap<Epoch, u64>,
    /// Accepted writes of valid rights: when, and whether their holder knew the claim's epoch.
    accepted: Vec<(u64, Write, bool)>,
    /// Delayed writes of handlers that were stopped, or that run on because their node does not know yet that it is
    /// fenced.
    pub(super) delayed: Vec<Write>,
    /// The number of refused writes of valid holders.
    pub(super) refused: usize,
}

impl Database {
    /// Updates the rights from the state of the log.
    pub(super) fn update(&mut self, processor: &Processor) {
        let claims = processor.segments.values().map(|share| &share.claim).filter(|claim| claim.owner.is_some());
        let loans = processor.set_aside.values().filter_map(|set_aside| set_aside.loan);
        let rights = claims.map(|claim| claim.epoch).chain(loans.map(|loan| loan.epoch)).collect();
        self.clock += 1;
        self.claims = processor.segments.iter().map(|(id, share)| (*id, share.claim.epoch)).collect();
        self.ended.extend(self.rights.difference(&rights).map(|ended| (*ended, self.clock)));
        assert!(self.ended.keys().all(|ended| !rights.contains(ended)), "an epoch was assigned twice");
        self.rights = rights;
    }

    /// Returns whether a right is still valid.
    pub(super) fn is_valid(&self, right: Right) -> bool {
        !self.ended.contains_key(&own_epoch(right))
    }

    /// Writes for a handler; returns whether the write is accepted.
    pub(super) fn write(&mut self, write: Write) -> bool {
        self.clock += 1;
        let (segment, epoch) = (write.segment(), write.right.claim().1);
        let rule = self.rule;
        let meets = |other: &Segment| match rule {
            Rule::Overlap => other.overlaps(segment),
            Rule::SameId => other.id == segment.id,
        };
        let accepted = self.highest.iter().all(|(other, highest)| !meets(other) || *highest <= epoch);
        if accepted {
            self.highest.insert(segment, epoch);
        }
        match self.ended.get(&own_epoch(write.right)) {
            Some(ended) if accepted => {
                let conflicts = |other: &Write, is_current: bool| {
                    other.sequence == write.sequence || (is_current && other.segment().overlaps(segment))
                };
                let newer = self.accepted.iter().find(|(at, other, current)| at > ended && conflicts(other, *current));
                assert!(newer.is_none(), "{write:?} was accepted after the newer {newer:?}");
            }
            Some(_) => {}
            None if accepted => {
                let is_current = self.claims.get(&segment.name()) == Some(&epoch);
                self.accepted.push((self.clock, write, is_current));
            }
            None => self.refused += 1,
        }
        accepted
    }

    /// Performs one of the delayed writes; returns whether it is accepted.
    pub(super) fn write_delayed(&mut self, which: usize) -> bool {
        if self.delayed.is_empty() {
            return false;
        }
        let write = self.delayed.swap_remove(which % self.delayed.len());
        self.write(write)
    }
}

/// Returns the epoch by which the log knows the right.
fn own_epoch(right: Right) -> Epoch {
    match right {
        Right::Claim(_, epoch) | Right::Loan { epoch, .. } => epoch,
    }
}
