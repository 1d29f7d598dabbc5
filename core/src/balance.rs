//! The balance plan: who should own which segment (P7).
//!
//! [`plan`] starts from what is and moves the least: it counts segments where they are going, leaves those that
//! may stay, and planned again it moves nothing. What is to be reached:
//!
//! ```text
//!   per processor   |segments of a node - its weighted share| < 1, among nodes that can run it and stay
//!   over all        the same for the totals: the ones left over of each processor are dealt evenly
//!   pins            win over both, while the pinned node is there
//!   bars            are kept, even if a segment has no owner until they end; then `why_unowned` says so
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

pub use unowned::{Unowned, Why, why_unowned};

/// All that a plan is made from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// For the bars.
    pub now: Timestamp,
    /// Nodes with a session.
    pub nodes: Vec<Candidate>,
    /// What is to be shared.
    pub processors: Vec<Table>,
}

/// A node that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which.
    pub node: NodeId,
    /// Its share, relative to others.
    pub weight: u32,
    /// It is leaving: it is to be emptied.
    pub draining: bool,
}

/// The claims of one processor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Which.
    pub processor: ProcessorId,
    /// Nodes that can run it.
    pub capable: BTreeSet<NodeId>,
    /// Its segments.
    pub claims: BTreeMap<SegmentId, Claim>,
}

impl State {
    /// What a plan is made from. `now` is the planner's own clock, since the log's stands still while nothing
    /// happens: a bar that has ended must not wait for the next entry.
    #[must_use]
    pub fn balance_view(&self, now: Timestamp) -> View {
        let candidate = |(node, session): (&NodeId, &Session)| Candidate {
            node: *node,
            weight: session.weight,
            draining: session.draining,
        };
        let capable = |processor: &Processor| -> BTreeSet<NodeId> {
            let able = self.sessions.iter().filter(|(_, session)| Self::capable(session, processor));
            able.map(|(node, _)| *node).collect()
        };
        let table = |processor: &Processor| Table {
            processor: processor.id,
            capable: capable(processor),
            claims: processor.segments.iter().map(|(id, share)| (*id, share.claim.clone())).collect(),
        };
        View {
            now: now.max(self.recorded),
            nodes: self.sessions.iter().map(candidate).collect(),
            processors: self.processors.values().map(table).collect(),
        }
    }
}

impl View {
    /// When the next bar ends: a plan made then may come out otherwise. None if no bar stands.
    #[must_use]
    pub fn next_bar_end(&self) -> Option<Timestamp> {
        let bars = self.processors.iter().flat_map(|table| table.claims.values()).flat_map(|claim| &claim.bars);
        bars.map(|bar| bar.until).filter(|until| *until > self.now).min()
    }
}

/// The moves that share all segments evenly, the fewest there are.
#[must_use]
pub fn plan(view: &View) -> Vec<Move> {
    let nodes: Vec<Candidate> = {
        let mut nodes: Vec<_> = view.nodes.iter().filter(|c| !c.draining && c.weight > 0).copied().collect();
        nodes.sort_unstable_by_key(|candidate| candidate.node);
        nodes
    };
    let mut boards: Vec<place::Board> =
        view.processors.iter().map(|table| place::Board::new(table, &nodes, view.now)).collect();
    // Bars can keep a board from its targets, and then other targets may cost less. A few rounds settle that, so
    // that a plan made after this one finds nothing to do.
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

/// One round reaches the targets where no bar stands in the way.
const ROUNDS_MAX: usize = 8;

/// Where a claim will be once what was asked of its owner is done.
fn going(claim: &Claim) -> Option<NodeId> {
    match claim.motion {
        Motion::Rest => claim.owner,
        Motion::To(node) => Some(node),
        Motion::Release => None,
    }
}
