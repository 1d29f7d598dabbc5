//! The balance plan: which node should own which segment (P7).
//!
//! [`plan`] starts from the current owners and moves the least: it counts segments where they are going, leaves those
//! that may stay, and when planned again it moves nothing. Its goals:
//!
//! ```text
//!   per processor   |segments of a node - its weighted share| < 1, among nodes that can run it and are not leaving
//!   over all        the same for the totals: the remainders of the processors are distributed evenly
//!   pins            take precedence over both, while the pinned node is active
//!   bars            are kept, even if a segment has no owner until they end; then `unowned_segments` says so
//! ```

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

use crate::{
    claim::{Claim, Motion},
    command::Move,
    id::{NodeId, ProcessorId, SegmentId},
    processor::Processor,
    session::Session,
    state::State,
    time::Timestamp,
};

mod place;
mod targets;
#[cfg(test)]
mod tests;
mod unowned;

pub use unowned::{UnownedReason, UnownedSegment, unowned_segments};

/// Everything from which a plan is made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BalanceView {
    /// The time, to which the ends of bars are compared.
    pub now: Timestamp,
    /// Nodes with a session.
    pub nodes: Vec<Candidate>,
    /// The processors whose segments are distributed.
    pub processors: Vec<ProcessorClaims>,
}

/// A node that can be given segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The node.
    pub node: NodeId,
    /// Its share, relative to other nodes.
    pub weight: u32,
    /// Whether the node is leaving: all its segments are moved away.
    pub draining: bool,
}

/// The claims of one processor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessorClaims {
    /// The processor.
    pub processor: ProcessorId,
    /// Nodes that can run it.
    pub capable: BTreeSet<NodeId>,
    /// The claims of its segments.
    pub claims: BTreeMap<SegmentId, Claim>,
}

impl State {
    /// Returns the view from which a plan is made. `now` is the planner's own clock, since the log's clock does not
    /// move while nothing happens: a bar that has ended must not wait for the next entry.
    #[must_use]
    pub fn balance_view(&self, now: Timestamp) -> BalanceView {
        let candidate = |(node, session): (&NodeId, &Session)| Candidate {
            node: *node,
            weight: session.weight,
            draining: session.draining,
        };
        let capable = |processor: &Processor| -> BTreeSet<NodeId> {
            let able = self.sessions.iter().filter(|(_, session)| Self::capable(session, processor));
            able.map(|(node, _)| *node).collect()
        };
        let table = |processor: &Processor| ProcessorClaims {
            processor: processor.id,
            capable: capable(processor),
            claims: {
                // Segments that are being split or merged stay where they are until that is done.
                let whole = processor.segments.iter().filter(|(_, share)| share.reshape.is_none());
                whole.map(|(id, share)| (*id, share.claim.clone())).collect()
            },
        };
        BalanceView {
            now: now.max(self.recorded),
            nodes: self.sessions.iter().map(candidate).collect(),
            processors: self.processors.values().map(table).collect(),
        }
    }
}

impl BalanceView {
    /// Returns when the next bar ends, because a plan made then may differ; `None` if there are no bars.
    #[must_use]
    pub fn next_bar_end(&self) -> Option<Timestamp> {
        let bars = self.processors.iter().flat_map(|table| table.claims.values()).flat_map(|claim| &claim.bars);
        bars.map(|bar| bar.until).filter(|until| *until > self.now).min()
    }
}

/// Returns the moves that distribute all segments evenly, as few as possible.
#[must_use]
pub fn plan(view: &BalanceView) -> Vec<Move> {
    let nodes: Vec<Candidate> = {
        let mut nodes: Vec<_> = view.nodes.iter().filter(|c| !c.draining && c.weight > 0).copied().collect();
        nodes.sort_unstable_by_key(|candidate| candidate.node);
        nodes
    };
    let mut boards: Vec<place::Board> =
        view.processors.iter().map(|table| place::Board::new(table, &nodes, view.now)).collect();
    // Bars can make a target unreachable, and then other targets may cost less. A few rounds settle that, so that a
    // plan made after this one is empty.
    for _ in 0..ROUNDS_MAX {
        let demands: Vec<_> = boards.iter().map(place::Board::demand).collect();
        let targets = targets::targets(&demands, nodes.len());
        let mut moved = false;
        for (board, target) in boards.iter_mut().zip(&targets) {
            moved |= board.reach(target);
        }
        if !moved {
            break;
        }
    }
    let moves = view.processors.iter().zip(&boards).flat_map(|(table, board)| {
        let placed = table.claims.iter().zip(board.places());
        placed.filter_map(|((segment, claim), place)| {
            let to = nodes[place?].node;
            (going(claim) != Some(to)).then_some(Move { processor: table.processor, segment: *segment, to })
        })
    });
    moves.collect()
}

/// One round reaches the targets if no bar prevents it.
const ROUNDS_MAX: usize = 8;

/// Returns the node that will own a claim once its present owner has done what it was asked to do.
fn going(claim: &Claim) -> Option<NodeId> {
    match claim.motion {
        Motion::Stay => claim.owner,
        Motion::To(node) => Some(node),
        Motion::Release => None,
    }
}
