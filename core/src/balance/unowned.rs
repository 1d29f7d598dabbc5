//! The reason why a segment has no owner, which P7 requires to be stated.

use alloc::{collections::BTreeMap, vec::Vec};
use core::fmt;

use super::{BalanceView, ProcessorClaims, plan};
use crate::{
    id::{NodeId, ProcessorId, SegmentId},
    time::Timestamp,
};

/// A segment without an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnownedSegment {
    /// The processor.
    pub processor: ProcessorId,
    /// The segment.
    pub segment: SegmentId,
    /// The reason.
    pub reason: UnownedReason,
}

/// The reason why a segment has no owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnownedReason {
    /// The plan gives it to this node; the entry is in flight.
    GivenTo(NodeId),
    /// No active node can run the processor.
    NoCapableNode,
    /// All nodes that can run it are leaving.
    AllLeaving,
    /// All nodes that could have it are barred; the first bar ends then.
    BarredUntil(Timestamp),
    /// All nodes that can run it have the weight 0.
    NoWeight,
}

/// Returns the reason for each segment that has no owner.
#[must_use]
pub fn unowned_segments(view: &BalanceView) -> Vec<UnownedSegment> {
    let claims = |table: &ProcessorClaims| table.claims.values().any(|claim| claim.owner.is_none());
    if !view.processors.iter().any(claims) {
        return Vec::new();
    }
    let given: BTreeMap<_, _> = plan(view).into_iter().map(|m| ((m.processor, m.segment), m.to)).collect();
    let mut reasons = Vec::new();
    for table in &view.processors {
        for (segment, claim) in table.claims.iter().filter(|(_, claim)| claim.owner.is_none()) {
            let why = match given.get(&(table.processor, *segment)) {
                Some(node) => UnownedReason::GivenTo(*node),
                None => why_no_node(view, table, claim),
            };
            reasons.push(UnownedSegment { processor: table.processor, segment: *segment, reason: why });
        }
    }
    reasons
}

/// Returns why the plan has no node for a claim.
fn why_no_node(view: &BalanceView, table: &ProcessorClaims, claim: &crate::claim::Claim) -> UnownedReason {
    let can: Vec<_> = view.nodes.iter().filter(|c| table.capable.contains(&c.node)).collect();
    if can.is_empty() {
        return UnownedReason::NoCapableNode;
    }
    if can.iter().all(|c| c.draining) {
        return UnownedReason::AllLeaving;
    }
    let stay = |node: NodeId| can.iter().any(|c| c.node == node && !c.draining && c.weight > 0);
    let bars = claim.bars.iter().filter(|bar| view.now < bar.until && stay(bar.node));
    bars.map(|bar| bar.until).min().map_or(UnownedReason::NoWeight, UnownedReason::BarredUntil)
}

impl fmt::Display for UnownedReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GivenTo(node) => write!(f, "it is being given to node {node}"),
            Self::NoCapableNode => write!(f, "no active node can run this processor"),
            Self::AllLeaving => write!(f, "all nodes that can run this processor are leaving"),
            Self::BarredUntil(until) => {
                write!(f, "the nodes that can run this processor may not have it before {} ms", until.0)
            }
            Self::NoWeight => write!(f, "all nodes that can run this processor have the weight 0"),
        }
    }
}
