//! Selection of events: lists of postings, intersected from the rarest one and merged, forwards or backwards.
//!
//! Backwards is forwards on mirrored numbers: the cursors ascend over *keys*, and a key is an ordinal or its
//! complement. A search step ends after [`PROBES_MAX`] probes and returns where to continue, so that two frequent tags
//! that never coincide cost many short steps and delay no other request.

use evener_core::{
    criteria::{Criteria, Criterion},
    id::{ContextId, Position},
};

use super::{
    context::ContextIndex,
    locations::EventLocation,
    postings::{Ordinal, rank},
    view::BackwardSearch,
};

/// Probes of postings in one search step: well under a millisecond.
pub const PROBES_MAX: usize = 4_096;

/// The events to select.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'q> {
    /// The context.
    pub context: ContextId,
    /// The criteria.
    pub criteria: &'q Criteria,
    /// The stream, or `None` for all events.
    pub stream: Option<&'q str>,
    /// Whether the last event comes first.
    pub backwards: bool,
}

/// The result of one search step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selected {
    /// The locations of the events in the requested order.
    pub locations: Vec<EventLocation>,
    /// The boundary of the search: `locations` has all matching events before it (backwards: at or after it).
    pub reached: Position,
    /// The probes of postings in this step.
    pub probes: usize,
}

impl Selected {
    /// Returns an empty result up to `reached`.
    #[must_use]
    pub const fn nothing(reached: Position) -> Self {
        Self { locations: Vec::new(), reached, probes: 0 }
    }
}

impl ContextIndex {
    /// Selects at most `max` matching events in `[from, to)`, from one end, in one search step.
    pub(super) fn select(&self, wanted: &Wanted<'_>, from: Position, to: Position, max: usize) -> Selected {
        let to = to.min(self.head());
        if from >= to || max == 0 {
            return Selected::nothing(if wanted.backwards { to } else { from });
        }
        let direction = if wanted.backwards { Direction::Backward } else { Direction::Forward };
        let (start, end) = direction.range(from.0, to.0);
        let Collected { keys, reached, probes } = collect(self.items(wanted, direction, start), start, end, max);
        let ordinals: Vec<Ordinal> = keys.into_iter().map(|key| direction.ordinal(key)).collect();
        Selected { locations: self.locations_of(&ordinals), reached: direction.boundary(reached), probes }
    }

    /// Searches for the last event in `[from, to)` that `item` matches, in one search step. The range must not be empty
    /// or exceed the head.
    pub(super) fn search_backward(&self, item: &Criterion, from: Position, to: Position) -> BackwardSearch {
        let (start, end) = Direction::Backward.range(from.0, to.0);
        let Collected { keys, reached, probes } =
            collect(vec![self.item(item, None, Direction::Backward, start)], start, end, 1);
        let found = keys.first().map(|key| Direction::Backward.ordinal(*key));
        let found = found.map(|at| (Position(u64::from(at)), self.kind_at(at).to_string()));
        BackwardSearch { found, reached: Direction::Backward.boundary(reached), probes }
    }

    fn items<'i>(&'i self, wanted: &Wanted<'_>, direction: Direction, start: u64) -> Vec<CriterionCursor<'i>> {
        let items = &wanted.criteria.0;
        if wanted.criteria.is_any() {
            return vec![self.item(&Criterion::default(), wanted.stream, direction, start)];
        }
        items.iter().map(|item| self.item(item, wanted.stream, direction, start)).collect()
    }

    fn item<'i>(
        &'i self,
        item: &Criterion,
        stream: Option<&str>,
        direction: Direction,
        start: u64,
    ) -> CriterionCursor<'i> {
        let one = |list: &'i [Ordinal]| UnionCursor(vec![PostingsCursor::new(list, direction, start)]);
        let mut unions: Vec<UnionCursor<'i>> = item.tags.iter().map(|tag| one(self.of_tag(tag))).collect();
        unions.extend(stream.map(|stream| one(self.of_stream(stream))));
        if !item.types.is_empty() {
            let lists = item.types.iter().map(|kind| PostingsCursor::new(self.of_kind(kind), direction, start));
            unions.push(UnionCursor(lists.collect()));
        }
        unions.sort_by_key(UnionCursor::len);
        CriterionCursor { unions, next: NextMatch::NotBefore(0) }
    }
}

/// The direction of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Forward,
    Backward,
}

/// The key of ordinal 0 in a backward search.
const KEY_MAX: u64 = u32::MAX as u64;

impl Direction {
    /// Returns the keys of the positions `[from, to)`.
    fn range(self, from: u64, to: u64) -> (u64, u64) {
        match self {
            Self::Forward => (from, to),
            Self::Backward => (KEY_MAX + 1 - to, KEY_MAX + 1 - from),
        }
    }

    fn ordinal(self, key: u64) -> Ordinal {
        let ordinal = if self == Self::Forward { key } else { KEY_MAX - key };
        Ordinal::try_from(ordinal).expect("a key within the range belongs to an ordinal")
    }

    /// Returns the position that separates the keys before this one from the rest.
    fn boundary(self, key: u64) -> Position {
        Position(if self == Self::Forward { key } else { KEY_MAX + 1 - key })
    }
}

/// A cursor over a list of postings in one direction.
#[derive(Debug)]
struct PostingsCursor<'i> {
    list: &'i [Ordinal],
    direction: Direction,
    /// The number of items that were passed.
    at: usize,
}

impl<'i> PostingsCursor<'i> {
    fn new(list: &'i [Ordinal], direction: Direction, start: u64) -> Self {
        let at = match direction {
            Direction::Forward => rank(list, start),
            Direction::Backward => list.len() - rank(list, KEY_MAX + 1 - start),
        };
        Self { list, direction, at }
    }

    fn key(&self, nth: usize) -> Option<u64> {
        match self.direction {
            Direction::Forward => self.list.get(nth).map(|ordinal| u64::from(*ordinal)),
            Direction::Backward => self.list.len().checked_sub(nth + 1).map(|nth| KEY_MAX - u64::from(self.list[nth])),
        }
    }

    /// Moves to the first key at or after `key`, by a galloping search.
    fn seek(&mut self, key: u64) -> Option<u64> {
        let before = |cursor: &Self, nth| cursor.key(nth).is_some_and(|found| found < key);
        let mut leap = 1;
        let mut low = self.at;
        while before(self, low + leap - 1) {
            low += leap;
            leap *= 2;
        }
        // The items before `low` are before the key; the item at `low + leap - 1` is not.
        let mut high = (low + leap - 1).min(self.list.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if before(self, middle) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        self.at = low;
        self.key(low)
    }
}

/// A union of lists: the types of an item, or a single tag.
#[derive(Debug)]
struct UnionCursor<'i>(Vec<PostingsCursor<'i>>);

impl UnionCursor<'_> {
    fn len(&self) -> usize {
        self.0.iter().map(|cursor| cursor.list.len()).sum()
    }

    fn seek(&mut self, key: u64) -> Option<u64> {
        self.0.iter_mut().filter_map(|cursor| cursor.seek(key)).min()
    }
}

/// A cursor over the matches of one criterion: the intersection of its unions, the rarest first. Without unions, every
/// event matches.
#[derive(Debug)]
struct CriterionCursor<'i> {
    unions: Vec<UnionCursor<'i>>,
    /// The last result. It is valid for every key up to its own.
    next: NextMatch,
}

/// The next match.
#[derive(Clone, Copy, Debug)]
enum NextMatch {
    /// At this key.
    At(u64),
    /// Not before this key; the search ended there.
    NotBefore(u64),
}

impl CriterionCursor<'_> {
    /// Returns the number of lists that a probe reads.
    fn lists(&self) -> usize {
        self.unions.iter().map(|union| union.0.len()).sum::<usize>().max(1)
    }

    /// Returns the first match at or after `key` and before `end`, and the probes spent: about `probes_max` at most,
    /// but enough to make progress.
    fn next(&mut self, key: u64, end: u64, probes_max: usize) -> (NextMatch, usize) {
        let key = match self.next {
            NextMatch::At(at) if at >= key => return (self.next, 0),
            NextMatch::NotBefore(bound) => key.max(bound),
            NextMatch::At(_) => key,
        };
        let (next, spent) = self.search(key, end, probes_max);
        self.next = next;
        (next, spent)
    }

    fn search(&mut self, mut key: u64, end: u64, probes_max: usize) -> (NextMatch, usize) {
        let lists = self.lists();
        let mut spent = 0;
        while key < end {
            let start_key = key;
            for union in &mut self.unions {
                match union.seek(key) {
                    Some(found) if found < end => key = found,
                    _ => return (NextMatch::NotBefore(end), spent + lists),
                }
            }
            spent += lists;
            if key == start_key {
                return (NextMatch::At(key), spent);
            }
            if spent >= probes_max {
                return (NextMatch::NotBefore(key), spent);
            }
        }
        (NextMatch::NotBefore(end), spent)
    }
}

/// The keys found.
struct Collected {
    /// The keys in order.
    keys: Vec<u64>,
    /// The boundary: `keys` has all matches before it.
    reached: u64,
    /// The probes of postings, including the one that opens each list.
    probes: usize,
}

/// Returns the keys in `[start, end)` that any item matches, and the boundary up to which they are complete.
fn collect(mut items: Vec<CriterionCursor<'_>>, start: u64, end: u64, max: usize) -> Collected {
    // Every item has its own share of the probes, so that every step makes progress.
    let probes_max = PROBES_MAX / items.len().max(1);
    let lists: usize = items.iter().map(CriterionCursor::lists).sum();
    let (mut keys, mut key, mut probes) = (Vec::new(), start, 0);
    while key < end && keys.len() < max && probes < PROBES_MAX {
        let (mut nearest, mut known) = (None, end);
        for item in &mut items {
            let (next, spent) = item.next(key, end, probes_max);
            probes += spent;
            match next {
                NextMatch::At(at) => nearest = Some(nearest.map_or(at, |nearest: u64| nearest.min(at))),
                NextMatch::NotBefore(bound) => known = known.min(bound),
            }
        }
        key = match nearest.filter(|nearest| *nearest < known) {
            Some(nearest) => {
                keys.push(nearest);
                nearest + 1
            }
            None => known,
        };
    }
    Collected { keys, reached: key, probes: probes + lists }
}
