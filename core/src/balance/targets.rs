//! The number of segments of each processor that each node should have.
//!
//! Every share is rounded up or down so that rows (processors) and columns (nodes) both add up, and among all such
//! roundings one is taken that moves the least. That is a flow problem: each processor sends its remainders to nodes
//! whose share has a fraction; a node takes at least the floor and at most the ceiling of its total. A remainder that
//! stays at its present node saves a move, so it costs one less. Successive shortest paths keep the flow the cheapest
//! at every step.

use alloc::{collections::VecDeque, vec, vec::Vec};

/// The segments and nodes of one processor. Nodes are numbered from 0.
#[derive(Clone, Debug)]
pub(super) struct Demand {
    /// Segments to be placed.
    pub(super) count: u64,
    /// The weight of each node; 0 if it cannot run the processor.
    pub(super) weights: Vec<u64>,
    /// The number of segments that each node has now.
    pub(super) held: Vec<u64>,
    /// The number of those that are pinned to the node.
    pub(super) pinned: Vec<u64>,
}

/// The cost of a remainder that stays: it saves a move.
const STAYS: i64 = -1;
/// The cost of bringing a node's total to its floor, or (positive) beyond its ceiling: outweighs any number of moves.
const TOTAL: i64 = 1 << 28;
/// The cost of keeping a pinned segment: outweighs any number of totals.
const PINNED: i64 = -(1 << 56);

/// One row of a processor: what each node gets in any case, and which nodes may get one more.
struct Row {
    base: Vec<u64>,
    over: u64,
    cost: Vec<Option<i64>>,
    extra: Vec<bool>,
}

/// Returns the target of each processor and node.
pub(super) fn targets(demands: &[Demand], nodes: usize) -> Vec<Vec<u64>> {
    let mut totals = vec![Total::default(); nodes];
    let rows: Vec<Row> = demands.iter().map(|demand| Row::new(demand, &mut totals)).collect();
    let mut flow = Flow { wanted: Vec::with_capacity(nodes), given: vec![0; nodes], rows };
    for (node, total) in totals.iter().enumerate() {
        let base: u64 = flow.rows.iter().map(|row| row.base[node]).sum();
        flow.wanted.push((total.floor().saturating_sub(base), total.ceiling().saturating_sub(base)));
    }
    for row in 0..flow.rows.len() {
        for _ in 0..flow.rows[row].over {
            flow.send(row);
        }
    }
    let count = |row: &Row, node: usize| row.base[node] + u64::from(row.extra[node]);
    flow.rows.iter().map(|row| (0..nodes).map(|node| count(row, node)).collect()).collect()
}

impl Row {
    fn new(demand: &Demand, totals: &mut [Total]) -> Self {
        let nodes = demand.weights.len();
        let mut row = Self { base: vec![0; nodes], over: 0, cost: vec![None; nodes], extra: vec![false; nodes] };
        let mut open: Vec<usize> = (0..nodes).filter(|node| demand.weights[*node] > 0).collect();
        let mut count = demand.count;
        // A node with more pinned segments than its share has exactly those; the other nodes share the rest.
        loop {
            let weight: u64 = open.iter().map(|node| demand.weights[*node]).sum();
            let beyond = |node: &usize| demand.pinned[*node] > (count * demand.weights[*node]).div_ceil(weight);
            let Some(at) = open.iter().position(beyond) else { break };
            let node = open.remove(at);
            row.base[node] = demand.pinned[node];
            totals[node].add(demand.pinned[node], 1);
            count -= demand.pinned[node];
        }
        let weight: u64 = open.iter().map(|node| demand.weights[*node]).sum();
        for node in open {
            let share = count * demand.weights[node];
            row.base[node] = share / weight;
            row.over += share % weight;
            totals[node].add(share, weight);
            if !share.is_multiple_of(weight) {
                let stays = if demand.held[node] > row.base[node] { STAYS } else { 0 };
                let pinned = if demand.pinned[node] > row.base[node] { PINNED } else { 0 };
                row.cost[node] = Some(stays + pinned);
            }
        }
        row.over = row.over.checked_div(weight).unwrap_or(0);
        row
    }
}

/// An exact sum of shares: a whole number, and parts by their denominator.
#[derive(Clone, Debug, Default)]
struct Total {
    whole: u64,
    parts: Vec<(u64, u64)>,
}

impl Total {
    fn add(&mut self, share: u64, weight: u64) {
        self.whole += share / weight;
        match self.parts.iter_mut().find(|(_, of)| *of == weight) {
            Some((part, _)) => *part += share % weight,
            None => self.parts.push((share % weight, weight)),
        }
    }

    /// Returns the whole number, and whether there is a remainder. Denominators too great to be exact with (there would
    /// have to be dozens of different ones) round down: then a total may be one off its share.
    fn split(&self) -> (u64, bool) {
        let (mut whole, mut rest) = (self.whole, (0_u128, 1_u128));
        for (part, weight) in &self.parts {
            whole += part / weight;
            let (part, weight) = (u128::from(part % weight), u128::from(*weight));
            let sum = rest.1.checked_mul(weight).and_then(|below| {
                let above = rest.0.checked_mul(weight)?.checked_add(part.checked_mul(rest.1)?)?;
                Some((above, below))
            });
            let Some((above, below)) = sum else { return (whole, true) };
            whole += u64::try_from(above / below).expect("two fractions are less than two");
            let above = above % below;
            let common = common(above, below);
            rest = (above / common, below / common);
        }
        (whole, rest.0 > 0)
    }

    fn floor(&self) -> u64 {
        self.split().0
    }

    fn ceiling(&self) -> u64 {
        let (whole, rest) = self.split();
        whole + u64::from(rest)
    }
}

/// Returns the greatest common divisor.
const fn common(mut a: u128, mut b: u128) -> u128 {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}

struct Flow {
    rows: Vec<Row>,
    /// Per node, the least and the greatest number of remainders that its total allows.
    wanted: Vec<(u64, u64)>,
    given: Vec<u64>,
}

impl Flow {
    /// Sends one more from `start` along the cheapest path: from row to node, and further if a node gives up a
    /// remainder of another row.
    fn send(&mut self, start: usize) {
        let nodes = self.wanted.len();
        let mut best: Vec<Option<(i64, usize)>> = vec![None; nodes]; // cost of reaching a node, and from which row
        let mut rows: Vec<Option<i64>> = vec![None; self.rows.len()];
        let mut back: Vec<Option<usize>> = vec![None; self.rows.len()]; // which node sent us to the row
        let mut queue = VecDeque::from([start]);
        rows[start] = Some(0);
        while let Some(row) = queue.pop_front() {
            let here = rows[row].expect("a queued row was reached");
            for (node, best) in best.iter_mut().enumerate() {
                let Some(cost) = self.rows[row].cost[node].filter(|_| !self.rows[row].extra[node]) else { continue };
                if best.is_some_and(|(known, _)| known <= here + cost) {
                    continue;
                }
                *best = Some((here + cost, row));
                for (other, theirs) in self.rows.iter().enumerate().filter(|(_, other)| other.extra[node]) {
                    let there = here + cost - theirs.cost[node].unwrap_or(0);
                    if rows[other].is_none_or(|known| there < known) {
                        rows[other] = Some(there);
                        back[other] = Some(node);
                        queue.push_back(other);
                    }
                }
            }
        }
        let reached = (0..nodes).filter_map(|node| Some((best[node]?.0 + self.price(node), node)));
        let Some((_, last)) = reached.min() else { return };
        self.given[last] += 1;
        let mut node = last;
        loop {
            let row = best[node].expect("the path leads through reached nodes").1;
            self.rows[row].extra[node] = true;
            if row == start {
                return;
            }
            node = back[row].expect("only the start has no predecessor");
            self.rows[row].extra[node] = false;
        }
    }

    /// Returns what one more costs a node.
    fn price(&self, node: usize) -> i64 {
        let ((least, most), given) = (self.wanted[node], self.given[node]);
        match given {
            given if given < least => -TOTAL,
            given if given < most => 0,
            _ => TOTAL,
        }
    }
}
