//! Assigns segments to nodes so that each node reaches its target with the fewest moves.

use alloc::{collections::VecDeque, vec, vec::Vec};

use super::{Candidate, ProcessorClaims, going, targets::Demand};
use crate::{claim::Motion, time::Timestamp};

/// The segments of one processor and the nodes they are assigned to. Nodes and segments are numbered from 0.
pub(super) struct Board {
    weights: Vec<u64>,
    slots: Vec<Slot>,
    /// The segments of each node. Those that are already moving come last: to redirect them disturbs no running
    /// handler.
    on: Vec<Vec<usize>>,
}

struct Slot {
    place: Option<usize>,
    /// The present owner of a segment that cannot move to where it was going. It is the first choice, since then
    /// nothing moves at all.
    home: Option<usize>,
    pinned: bool,
    /// The nodes that may not have a segment, per node; empty if none is barred.
    barred: Vec<bool>,
}

impl Board {
    pub(super) fn new(table: &ProcessorClaims, nodes: &[Candidate], now: Timestamp) -> Self {
        let able = |candidate: &Candidate| table.capable.contains(&candidate.node);
        let weights: Vec<u64> = nodes.iter().map(|c| if able(c) { u64::from(c.weight) } else { 0 }).collect();
        let mut slots = Vec::with_capacity(table.claims.len());
        let mut on: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
        let mut moving = Vec::new();
        for claim in table.claims.values() {
            let barred = match claim.bars.iter().any(|bar| now < bar.until) {
                true => nodes.iter().map(|c| claim.bars(c.node, now)).collect(),
                false => Vec::new(),
            };
            let mut slot = Slot { place: None, home: None, pinned: false, barred };
            let find = |node| nodes.iter().position(|c| c.node == node);
            let fits = |place: &usize| weights[*place] > 0 && slot.admits(*place);
            let pin = claim.pinned_to().and_then(find).filter(fits);
            let owner = claim.owner.filter(|_| claim.motion != Motion::Release);
            let place = pin.or_else(|| going(claim).and_then(find).filter(fits));
            let home = owner.and_then(find).filter(fits);
            (slot.place, slot.home, slot.pinned) = (place, home, pin.is_some());
            match place {
                Some(place) if claim.motion == Motion::Stay => on[place].push(slots.len()),
                Some(place) => moving.push((place, slots.len())),
                None => {}
            }
            slots.push(slot);
        }
        for (place, slot) in moving {
            on[place].push(slot);
        }
        Self { weights, slots, on }
    }

    /// Segments that no node may have do not count.
    pub(super) fn demand(&self) -> Demand {
        let possible = |slot: &&Slot| (0..self.weights.len()).any(|n| self.weights[n] > 0 && slot.admits(n));
        let pinned = |on: &Vec<usize>| on.iter().filter(|slot| self.slots[**slot].pinned).count() as u64;
        Demand {
            count: self.slots.iter().filter(possible).count() as u64,
            weights: self.weights.clone(),
            held: self.on.iter().map(|on| on.len() as u64).collect(),
            pinned: self.on.iter().map(pinned).collect(),
        }
    }

    /// Returns the node of each segment.
    pub(super) fn places(&self) -> impl Iterator<Item = Option<usize>> {
        self.slots.iter().map(|slot| slot.place)
    }

    /// Brings every node as near to its target as bars and pins allow; returns whether anything moved.
    pub(super) fn reach(&mut self, target: &[u64]) -> bool {
        let mut moved = false;
        let mut unplaced: Vec<usize> = (0..self.slots.len()).filter(|s| self.slots[*s].place.is_none()).collect();
        // Segments with fewer permitted nodes choose first.
        unplaced.sort_by_key(|slot| self.slots[*slot].barred.is_empty());
        for slot in unplaced {
            moved |= self.settle(slot, target);
        }
        for node in 0..self.on.len() {
            while self.on[node].len() as u64 > target[node] {
                let Some(path) = self.path(&[node], target) else { break };
                self.shift(&path);
                moved = true;
            }
        }
        moved
    }

    /// Assigns a node to a segment that has none.
    fn settle(&mut self, slot: usize, target: &[u64]) -> bool {
        let may = |node: &usize| self.weights[*node] > 0 && self.slots[slot].admits(*node);
        let open: Vec<usize> = (0..self.on.len()).filter(may).collect();
        let Some(least) = open.iter().copied().min_by_key(|node| self.excess(*node, target)) else { return false };
        let lacks = |node: &usize| self.excess(*node, target) < 0;
        let path = match self.slots[slot].home.filter(lacks).or(Some(least).filter(lacks)) {
            Some(node) => vec![node],
            // All permitted nodes have reached their targets: one of them passes a segment on, if that helps.
            None => self.path(&open, target).unwrap_or_else(|| vec![least]),
        };
        self.shift(&path);
        self.put(slot, path[0]);
        true
    }

    /// Returns a shortest path from one of `starts` to a node that lacks segments, along which a segment can be moved
    /// at each step.
    fn path(&self, starts: &[usize], target: &[u64]) -> Option<Vec<usize>> {
        let mut came: Vec<Option<usize>> = vec![None; self.on.len()];
        let mut queue: VecDeque<usize> = starts.iter().copied().collect();
        let mut nodes: Vec<usize> = (0..self.on.len()).filter(|node| self.weights[*node] > 0).collect();
        nodes.sort_by_key(|node| self.excess(*node, target)); // the node that lacks the most segments first
        while let Some(from) = queue.pop_front() {
            for to in nodes.iter().copied() {
                if came[to].is_some() || starts.contains(&to) || self.movable(from, to).is_none() {
                    continue;
                }
                came[to] = Some(from);
                if self.excess(to, target) < 0 {
                    let mut path: Vec<usize> = core::iter::successors(Some(to), |node| came[*node]).collect();
                    path.reverse();
                    return Some(path);
                }
                queue.push_back(to);
            }
        }
        None
    }

    /// Moves one segment along each step of the path, from its end.
    fn shift(&mut self, path: &[usize]) {
        for step in path.windows(2).rev() {
            let at = self.movable(step[0], step[1]).expect("each step of a path moves a segment");
            let slot = self.on[step[0]].remove(at);
            self.put(slot, step[1]);
        }
    }

    fn put(&mut self, slot: usize, node: usize) {
        self.slots[slot].place = Some(node);
        self.on[node].push(slot);
    }

    /// Returns the segment at `from` that may move to `to`, if there is one.
    fn movable(&self, from: usize, to: usize) -> Option<usize> {
        self.on[from].iter().rposition(|slot| !self.slots[*slot].pinned && self.slots[*slot].admits(to))
    }

    /// Returns by how many segments a node exceeds its target.
    fn excess(&self, node: usize, target: &[u64]) -> i64 {
        self.on[node].len() as i64 - target[node] as i64
    }
}

impl Slot {
    fn admits(&self, node: usize) -> bool {
        self.barred.get(node).is_none_or(|barred| !barred)
    }
}
