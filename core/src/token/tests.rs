//! Tokens against a naive model that knows of each event whether it was handled.

use alloc::{collections::BTreeSet, vec::Vec};

use proptest::{collection, prelude::*, sample::Index};

use super::*;

const EVENTS: u64 = 40;

fn hash_of(position: u64) -> u64 {
    position.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40
}

#[derive(Clone, Debug)]
enum Step {
    Advance(Index, u64),
    Split(Index),
    Merge(Index),
    /// All tokens are reset.
    Reset(u64),
    EndReplay,
}

fn step() -> impl Strategy<Value = Step> {
    let (at, segment) = (0..=EVENTS, any::<Index>);
    prop_oneof![
        4 => (segment(), at).prop_map(|(s, p)| Step::Advance(s, p)),
        2 => segment().prop_map(Step::Split),
        2 => segment().prop_map(Step::Merge),
        1 => (0..=EVENTS).prop_map(Step::Reset),
        1 => Just(Step::EndReplay),
    ]
}

/// The expected progress, event by event.
#[derive(Default)]
struct Naive {
    handled: BTreeSet<u64>,
    /// Events that were passed before a reset.
    passed: BTreeSet<u64>,
}

impl Naive {
    fn handle(&mut self, part: Segment, until: u64) {
        self.handled.extend((0..until).filter(|p| part.holds(hash_of(*p))));
    }
}

struct Model {
    tokens: Vec<(Segment, Token)>,
    naive: Naive,
}

impl Model {
    fn take(&mut self, step: &Step) {
        match step {
            Step::Advance(which, to) => {
                let (segment, token) = which.get_mut(&mut self.tokens);
                token.advance(Position(*to));
                self.naive.handle(*segment, *to);
            }
            Step::Split(which) => self.split(which.index(self.tokens.len())),
            Step::Merge(which) => self.merge(which.index(self.tokens.len())),
            Step::Reset(to) => {
                self.tokens.iter_mut().for_each(|(_, token)| token.reset(Position(*to)));
                self.naive.passed.append(&mut self.naive.handled);
                self.naive.handled = (0..*to).collect();
            }
            Step::EndReplay => {
                self.tokens.iter_mut().for_each(|(_, token)| token.end_replay());
                self.naive.handled.extend(&self.naive.passed);
            }
        }
    }

    fn split(&mut self, at: usize) {
        let (segment, token) = self.tokens.swap_remove(at);
        let (left, right) = token.split(segment).unwrap();
        let halves = segment.split().unwrap();
        assert_eq!(left.merge(halves.0, &right, halves.1, 64), Ok(token), "merging what was split gives it back");
        self.tokens.extend([(halves.0, left), (halves.1, right)]);
    }

    fn merge(&mut self, at: usize) {
        let (segment, token) = self.tokens[at].clone();
        let Some(other) = self.tokens.iter().position(|(other, _)| segment.merge(*other).is_some()) else { return };
        let (sibling, theirs) = self.tokens[other].clone();
        let merged = token.merge(segment, &theirs, sibling, 64).unwrap();
        let whole = segment.merge(sibling).unwrap();
        self.tokens.retain(|(part, _)| !whole.covers(*part));
        self.tokens.push((whole, merged));
    }

    fn token_of(&self, hash: u64) -> &Token {
        &self.tokens.iter().find(|(segment, _)| segment.holds(hash)).unwrap().1
    }

    fn check(&self) {
        for (segment, token) in &self.tokens {
            assert!(token.belongs_to(*segment), "{segment:?} {token:?}");
        }
        for position in 0..EVENTS {
            let (hash, place) = (hash_of(position), Position(position));
            let token = self.token_of(hash);
            let wanted = !self.naive.handled.contains(&position);
            assert_eq!(token.wants(hash, place), wanted, "event {position} of {token:?}");
            let replayed = self.naive.passed.contains(&position);
            assert!(!wanted || token.replays(hash, place) == replayed, "event {position} of {token:?}");
        }
        let left = |position: &&u64| !self.naive.handled.contains(position);
        let replaying = self.tokens.iter().any(|(_, token)| token.replay_end().is_some());
        assert!(replaying || self.naive.passed.iter().find(left).is_none(), "replays are left");
    }

    /// Returns the progress of each hash.
    fn heights(&self) -> Vec<Position> {
        (0..EVENTS).map(|p| self.token_of(hash_of(p)).item_of(hash_of(p)).unwrap().next).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn p5_nothing_is_lost_handled_twice_or_wrongly_marked(steps in collection::vec(step(), 0..60)) {
        let mut model =
            Model { tokens: [(Segment::ROOT, Token::new(Segment::ROOT, Position(0)))].into(), naive: Naive::default() };
        for step in steps {
            let before = model.heights();
            model.take(&step);
            model.check();
            let grows = before.iter().zip(model.heights()).all(|(a, b)| *a <= b);
            prop_assert!(grows || matches!(step, Step::Reset(_)), "tokens only grow");
        }
    }
}

#[test]
fn a_merge_with_too_many_items_is_refused() {
    let halves = Segment::ROOT.split().unwrap();
    let (left, right) = (Token::new(halves.0, Position(5)), Token::new(halves.1, Position(9)));
    assert_eq!(left.merge(halves.0, &right, halves.1, 1), Err(Error::TooManyItems(2)));
    let mut merged = left.merge(halves.0, &right, halves.1, 2).unwrap();
    assert_eq!(merged.low(), Position(5));
    merged.advance(Position(7));
    assert_eq!((merged.low(), merged.items().len()), (Position(7), 2));
    merged.advance(Position(9));
    assert_eq!(merged, Token::new(Segment::ROOT, Position(9)), "equal halves merge into one item");
}

#[test]
fn only_the_tokens_of_siblings_merge() {
    let token = Token::new(Segment { id: 1, mask: 3 }, Position(5));
    let other = Segment { id: 2, mask: 3 };
    let theirs = Token::new(other, Position(5));
    assert_eq!(token.merge(Segment { id: 1, mask: 3 }, &theirs, other, 64), Err(Error::NotSiblings));
}
