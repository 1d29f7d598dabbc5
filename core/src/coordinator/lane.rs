//! A lane: one of the node's segments, as its coordinator sees it.

use alloc::{
    collections::{BTreeMap, VecDeque},
    string::String,
    vec::Vec,
};

use super::{Bounds, Effect, Mine, Room, Table, WorkerId};
use core::time::Duration;

use crate::{
    claim::Motion,
    command::LetterMove,
    id::{Epoch, Position, SegmentId},
    letter::SequenceKey,
    reason::Reached,
    segment::Segment,
    time::Moment,
    token::Token,
    worker::{Report, Waits, Work},
};

/// One of the node's segments.
#[derive(Clone, Debug)]
pub(super) struct Lane {
    segment: Segment,
    pub(super) epoch: Epoch,
    /// As the log had it when the lane was made: what it has passed is not wanted again.
    token: Token,
    pub(super) phase: Phase,
    /// The next position to read.
    pub(super) from: Position,
    /// The worker, where one lives.
    pub(super) worker: Option<WorkerId>,
    /// That is paused, and nothing of it runs.
    pub(super) rests: bool,
    /// Events fed and not reported done. What is done is always the first of them.
    open: VecDeque<Position>,
    /// Since when it has had nothing to do.
    idle_since: Option<Moment>,
    /// Events reported done and not sent, ...
    done: usize,
    /// ... or sent and not acknowledged.
    sent: Option<Sent>,
    /// What the log has acknowledged.
    pub(super) durable: Position,
    letters: Vec<LetterMove>,
    /// Letters that the log has no room for.
    refused: Option<Refused>,
    /// A hand-over that may not have been judged is told again then.
    hand_over_after: Moment,
    /// The last report that came.
    reported: u64,
    /// The last report that the log has judged, ...
    pub(super) settled: u64,
    /// ... and the worker was told that it has.
    pub(super) told_aside: u64,
    /// What the worker was told is set aside.
    pub(super) aside: BTreeMap<SequenceKey, Waits>,
}

/// What is on its way to the log.
#[derive(Clone, Debug, Default)]
struct Sent {
    token: Position,
    done: usize,
    reported: u64,
    /// How often these letters were refused before, ...
    times: u32,
    /// ... and for want of what room.
    why: Option<Reached>,
    letters: Vec<LetterMove>,
}

/// No longer than this between two tellings of letters that are refused.
const REFUSED_WAIT_MAX: Duration = Duration::from_secs(60);
/// How long until a hand-over that may not have been judged is told again.
const HAND_OVER_AGAIN: Duration = Duration::from_millis(200);

/// Letters that the log has no room for: a limit is reached. They wait here and are told again. The token stays
/// before them, and nothing is fed; but letters are tried on, since that is what makes room.
#[derive(Clone, Debug)]
struct Refused {
    letters: Vec<LetterMove>,
    until: Moment,
    times: u32,
    why: Option<Reached>,
}

/// What a lane is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// It is read for and fed.
    Owned,
    /// Its worker ends what runs, since then.
    Draining(Moment),
    /// Nothing runs any more.
    Drained,
    /// The entry that passes it on is on its way.
    HandingOver,
    /// Its handler runs too long: the move is put off until it ends.
    PutOff,
    /// Its worker died: it goes on then.
    Resting(Moment, String),
}

/// The phase of a lane that stands still: a limit is reached, or its worker died.
pub const STALLED: &str = "stalled";

/// Why a lane stands still, or its move does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Halt {
    /// A limit is reached.
    Limit(Reached),
    /// Its move is put off: the handler runs too long.
    PutOff,
    /// Its worker died, for this reason.
    WorkerDied(String),
}

/// What a lane is doing, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneStatus {
    /// Which segment.
    pub segment: SegmentId,
    /// Under which epoch.
    pub epoch: Epoch,
    /// In a word.
    pub phase: &'static str,
    /// How far it has come, told or not.
    pub next: Position,
    /// Events fed and not done.
    pub open: usize,
    /// A worker lives.
    pub works: bool,
    /// Why it stands still, where it does, ...
    pub reason: Option<Halt>,
    /// ... and until when, where it does so by itself.
    pub until: Option<Moment>,
}

impl Lane {
    pub(super) fn new(mine: &Mine) -> Self {
        let from = mine.token.low();
        Self {
            segment: mine.segment,
            epoch: mine.epoch,
            token: mine.token.clone(),
            phase: Phase::Owned,
            from,
            worker: None,
            rests: false,
            open: VecDeque::new(),
            idle_since: None,
            done: 0,
            sent: None,
            durable: from,
            letters: Vec::new(),
            refused: None,
            hand_over_after: Moment(0),
            reported: 0,
            settled: 0,
            told_aside: 0,
            aside: BTreeMap::new(),
        }
    }

    pub(super) fn status(&self) -> LaneStatus {
        let (phase, reason, until) = match &self.phase {
            Phase::Owned if let Some(refused) = &self.refused => {
                (STALLED, refused.why.clone().map(Halt::Limit), Some(refused.until))
            }
            Phase::Owned if !self.open.is_empty() => ("handling", None, None),
            Phase::Owned if !self.aside.is_empty() => ("waiting", None, None),
            Phase::Owned => ("idle", None, None),
            Phase::Draining(_) | Phase::Drained | Phase::HandingOver => ("handing-over", None, None),
            Phase::PutOff => ("handling", Some(Halt::PutOff), None),
            Phase::Resting(until, why) => (STALLED, Some(Halt::WorkerDied(why.clone())), Some(*until)),
        };
        let (segment, epoch, next) = (self.segment.name(), self.epoch, self.token());
        let (open, works) = (self.open.len(), self.worker.is_some());
        LaneStatus { segment, epoch, phase, next, open, works, reason, until }
    }

    /// Makes its worker.
    pub(super) fn start<T>(
        &mut self,
        now: Moment,
        life: u64,
        table: &Table,
        bounds: Bounds,
        effects: &mut Vec<Effect<T>>,
    ) -> WorkerId {
        let worker = WorkerId { segment: Some(self.segment.name()), life };
        (self.worker, self.rests) = (Some(worker), false);
        (self.reported, self.settled, self.told_aside) = (0, 0, 0);
        // What is on its way was reported by an earlier one: its being judged settles nothing of this one's.
        if let Some(sent) = &mut self.sent {
            sent.reported = 0;
        }
        self.aside.clear();
        let stalled = table.mine.get(&self.segment.name()).and_then(|mine| mine.stalled);
        let stalled = stalled.map(|(position, attempts, wait)| (position, attempts, wait, now));
        let settings = table.settings(Some((self.segment, self.epoch)), stalled, bounds);
        effects.push(Effect::Start(worker, settings));
        if table.paused {
            effects.push(Effect::Paused(worker, true));
        }
        worker
    }

    /// Ends its worker, if one lives.
    pub(super) fn stop<T>(&mut self, effects: &mut Vec<Effect<T>>) {
        effects.extend(self.worker.take().map(Effect::Stop));
    }

    /// Ends a worker that has had nothing to do for a while; answers when to look again.
    pub(super) fn linger<T>(&mut self, now: Moment, wait: Duration, effects: &mut Vec<Effect<T>>) -> Option<Moment> {
        let busy = !self.open.is_empty()
            || self.done > 0
            || !self.letters.is_empty()
            || self.refused.is_some()
            || self.sent.is_some()
            || !self.aside.is_empty()
            || self.reported != self.settled
            || self.phase != Phase::Owned;
        if busy || self.worker.is_none() {
            self.idle_since = None;
            return None;
        }
        let until = self.idle_since.get_or_insert(now).after(wait);
        if until > now {
            return Some(until);
        }
        self.idle_since = None;
        self.stop(effects);
        None
    }

    /// The log says something new of it, under the same epoch.
    pub(super) fn looked<T>(&mut self, now: Moment, mine: &Mine, effects: &mut Vec<Effect<T>>) {
        if self.phase == Phase::Owned && mine.motion != Motion::Rest {
            self.begin_leaving(now, effects);
        }
    }

    fn begin_leaving<T>(&mut self, now: Moment, effects: &mut Vec<Effect<T>>) {
        self.phase = match self.worker {
            Some(worker) => {
                effects.push(Effect::Drain(worker));
                Phase::Draining(now)
            }
            None => Phase::Drained,
        };
    }

    /// The plan has changed its mind: once all of it is told it goes on. Says whether it did.
    pub(super) fn stay<T>(&mut self, effects: &mut Vec<Effect<T>>) -> bool {
        let stays = self.phase == Phase::Drained && self.is_told();
        if stays {
            self.stop(effects);
            self.go_on();
        }
        stays
    }

    /// Its worker died. What that reported holds; what it had not reported is handled again.
    pub(super) fn died(&mut self, until: Moment, why: String) {
        self.worker = None;
        self.phase = match self.phase {
            Phase::Owned | Phase::Resting(..) => Phase::Resting(until, why),
            Phase::Draining(_) | Phase::PutOff | Phase::Drained => Phase::Drained,
            Phase::HandingOver => Phase::HandingOver,
        };
    }

    /// Goes on after its worker's death, if the rest is over; says whether it did.
    pub(super) fn recovers(&mut self, now: Moment) -> bool {
        let recovers = matches!(self.phase, Phase::Resting(until, _) if until <= now) && self.is_told();
        if recovers {
            self.go_on();
        }
        recovers
    }

    /// With a new worker, which is fed what the last one left. That knows nothing of what the last one told, so
    /// the log must know all of it.
    fn go_on(&mut self) {
        debug_assert!(self.worker.is_none() && self.is_told());
        self.phase = Phase::Owned;
        self.from = self.open.front().copied().unwrap_or(self.from);
        self.open.clear();
        self.aside.clear();
    }

    /// Whether nothing of it runs, and all that ran is told.
    pub(super) fn is_settled(&self) -> bool {
        let still = self.worker.is_none() || self.rests || (self.open.is_empty() && self.aside.is_empty());
        still && self.is_told()
    }

    /// Whether the log knows all that it can know.
    fn is_told(&self) -> bool {
        self.sent.is_none() && (self.refused.is_some() || self.done == 0) && self.letters.is_empty()
    }

    /// Whether it may be fed.
    ///
    /// Half a batch at least, so that reads are worth their while.
    pub(super) fn has_room(&self, batch: usize) -> bool {
        self.phase == Phase::Owned && self.refused.is_none() && self.undurable() * 2 <= batch
    }

    /// Events that would be handled again if the node were killed now.
    fn undurable(&self) -> usize {
        self.open.len() + self.done + self.sent.as_ref().map_or(0, |sent| sent.done)
    }

    /// Takes what is its of a block that ends at `to`, as far as there is room.
    pub(super) fn take<T: Clone>(&mut self, to: Position, works: &[Work<T>], batch: usize) -> Vec<Work<T>> {
        let room = batch - self.undurable();
        let begin = works.partition_point(|work| work.position < self.from);
        let mut mine = works[begin..]
            .iter()
            .filter(|work| self.segment.holds(work.hash) && self.token.wants(work.hash, work.position));
        let taken: Vec<_> = mine.by_ref().take(room).cloned().collect();
        self.from = mine.next().map_or(to, |left| left.position);
        self.open.extend(taken.iter().map(|work| work.position));
        taken
    }

    /// All before this place is done.
    pub(super) fn token(&self) -> Position {
        match self.refused {
            Some(_) => self.durable,
            None => self.open.front().copied().unwrap_or(self.from),
        }
    }

    /// Whether there is more to tell than foreign events.
    pub(super) fn has_worked(&self, now: Moment) -> bool {
        match &self.refused {
            Some(refused) => refused.until <= now || self.letters.iter().any(|letter| letter.holds().is_none()),
            None => self.done > 0 || !self.letters.is_empty(),
        }
    }

    /// When it is to be told again what was refused.
    pub(super) fn refused_until(&self) -> Option<Moment> {
        self.refused.as_ref().map(|refused| refused.until)
    }

    /// Sequences that count as set aside though the log has had no room for them yet.
    pub(super) fn refused_sequences(&self) -> impl Iterator<Item = (SequenceKey, Position)> {
        let again = self.sent.iter().filter(|sent| sent.times > 0).flat_map(|sent| &sent.letters);
        let letters = self.refused.iter().flat_map(|refused| &refused.letters).chain(again);
        letters.filter_map(|letter| match letter {
            LetterMove::SetAside { sequence, position, .. } | LetterMove::Queue { sequence, position, .. } => {
                Some((sequence.clone(), *position))
            }
            _ => None,
        })
    }

    /// How many positions it has come since it was last told.
    pub(super) fn untold(&self) -> u64 {
        self.token().0.saturating_sub(self.durable.0)
    }

    pub(super) fn reported(&mut self, report: Report) {
        self.reported = report.number;
        self.open.drain(..report.done.min(self.open.len()));
        self.done += report.done;
        self.add_letters(report.letters);
        if report.drained && matches!(self.phase, Phase::Draining(_) | Phase::PutOff) {
            self.phase = Phase::Drained;
        }
    }

    /// Whether there are letters that were not sent, and are not waiting for room under a limit.
    pub(super) fn has_letters(&self) -> bool {
        !self.letters.is_empty()
    }

    /// Sends what is to be told of it, as far as there is room, and returns how far its token moves: up to the first
    /// letter that is left behind.
    pub(super) fn send(&mut self, now: Moment, room: &mut Room, letters: &mut Vec<LetterMove>) -> Position {
        let rests = self.refused.as_ref().is_some_and(|refused| now < refused.until);
        let mut sent = Sent { token: self.durable, reported: self.settled, ..Sent::default() };
        // What was tried goes first: it makes room, and does not depend on whether there is any.
        let (mut tries, mut holding, mut stalls) = sorted(core::mem::take(&mut self.letters));
        let mut all = room.fill(&mut tries, &mut sent.letters);
        let mut known = all;
        let tried = sent.letters.len();
        if let Some(refused) = self.refused.as_mut().filter(|_| rests) {
            refused.letters.extend(holding.drain(..));
        } else {
            if let Some(Refused { letters, times, why, .. }) = self.refused.take() {
                (sent.times, sent.why) = (times, why);
                letters.into_iter().rev().for_each(|letter| holding.push_front(letter));
            }
            all = all && room.fill(&mut holding, &mut sent.letters);
            // What was refused before counts as set aside also while it waits for its turn.
            known &= holding.is_empty() || sent.times > 0;
            let left = holding.front().and_then(LetterMove::holds);
            sent.token = self.token().min(left.unwrap_or(Position(u64::MAX))).max(self.durable);
        }
        // A stall may pass the claim on, on which all else that is told of the segment stands.
        let mut stall = Vec::new();
        known = known && room.fill(&mut stalls, &mut stall);
        sent.letters.splice(tried..tried, stall);
        if known {
            sent.reported = self.reported;
        }
        if all && !rests {
            sent.done = core::mem::take(&mut self.done);
        }
        if sent.times > 0 && !holding.is_empty() {
            let (letters, times, why) = (holding.drain(..).collect(), sent.times, sent.why.clone());
            self.refused = Some(Refused { letters, until: now, times, why });
        }
        self.letters.extend(tries.into_iter().chain(stalls).chain(holding));
        letters.extend(sent.letters.iter().cloned());
        self.sent.insert(sent).token
    }

    /// What was sent holds.
    pub(super) fn acknowledged(&mut self) {
        if let Some(sent) = self.sent.take() {
            self.durable = self.durable.max(sent.token);
            self.settled = sent.reported;
        }
    }

    /// There was no room for its letters: the token stands at `low`, before the first that was refused.
    pub(super) fn refused(&mut self, now: Moment, rest: Duration, why: Reached, low: Position) {
        let Some(sent) = self.sent.take() else { return };
        self.durable = self.durable.max(low);
        self.settled = sent.reported;
        self.done += sent.done;
        let wait = rest.saturating_mul(1 << sent.times.min(5)).min(REFUSED_WAIT_MAX);
        let letters = sent.letters.into_iter().filter(|letter| letter.holds().is_some_and(|place| place >= low));
        // Of those that were refused before, some may not have been sent yet.
        let letters = letters.chain(self.refused.take().into_iter().flat_map(|refused| refused.letters)).collect();
        self.refused = Some(Refused { letters, until: now.after(wait), times: sent.times + 1, why: Some(why) });
    }

    /// What was sent may not have arrived: it is told again. What had been refused before is refused until then, or
    /// its sequences would be free meanwhile.
    pub(super) fn take_back(&mut self, now: Moment) {
        let Some(Sent { done, times, why, mut letters, .. }) = self.sent.take() else { return };
        self.done += done;
        if times > 0 {
            let (tries, mut refused): (_, Vec<_>) = letters.into_iter().partition(|letter| letter.holds().is_none());
            letters = tries;
            refused.extend(self.refused.take().into_iter().flat_map(|refused| refused.letters));
            self.refused = Some(Refused { letters: refused, until: now, times, why });
        }
        let newer = core::mem::replace(&mut self.letters, letters);
        self.add_letters(newer);
    }

    /// Adds letters behind those there are. Of what the segment waits with only the latest counts: a handler that is
    /// asked again and again while nothing can be told adds nothing.
    fn add_letters(&mut self, newer: Vec<LetterMove>) {
        for letter in newer {
            if is_of_stall(&letter) {
                self.letters.retain(|letter| !is_of_stall(letter));
            }
            self.letters.push(letter);
        }
    }

    pub(super) fn hand_over_failed(&mut self, now: Moment) {
        if self.phase == Phase::HandingOver {
            self.phase = Phase::Drained;
            self.hand_over_after = now.after(HAND_OVER_AGAIN);
        }
    }

    /// Goes on leaving; the final token once everything of it is acknowledged. What was refused is not waited
    /// for: the next owner meets those events again.
    pub(super) fn leave<T>(
        &mut self,
        now: Moment,
        bounds: Bounds,
        draining: bool,
        telling: bool,
        effects: &mut Vec<Effect<T>>,
    ) -> Option<Position> {
        match self.phase {
            Phase::Owned => self.begin_leaving(now, effects),
            Phase::Draining(_) | Phase::PutOff if draining && self.runs_too_long(now, bounds) => {
                self.stop(effects);
                self.phase = Phase::Drained;
            }
            Phase::Draining(_) if self.runs_too_long(now, bounds) => self.phase = Phase::PutOff,
            Phase::Resting(..) => self.phase = Phase::Drained,
            _ => {}
        }
        match self.phase {
            Phase::Draining(since) => effects.push(Effect::WakeAt(since.after(bounds.hand_over_wait))),
            Phase::Drained if now < self.hand_over_after => effects.push(Effect::WakeAt(self.hand_over_after)),
            Phase::Drained if !telling && self.is_told() => {
                self.phase = Phase::HandingOver;
                return Some(self.token());
            }
            _ => {}
        }
        None
    }

    /// Whether its handler has been waited for long enough.
    fn runs_too_long(&self, now: Moment, bounds: Bounds) -> bool {
        match self.phase {
            Phase::Draining(since) => since.after(bounds.hand_over_wait) <= now,
            _ => self.phase == Phase::PutOff,
        }
    }
}

/// Sorts letters: what was tried, or goes on; those that hold the token; the segment's own stall.
fn sorted(letters: Vec<LetterMove>) -> (VecDeque<LetterMove>, VecDeque<LetterMove>, VecDeque<LetterMove>) {
    let (holding, others): (VecDeque<_>, VecDeque<_>) =
        letters.into_iter().partition(|letter| letter.holds().is_some());
    let (stalls, tries) = others.into_iter().partition(|letter| matches!(letter, LetterMove::Stall { .. }));
    (tries, holding, stalls)
}

/// Whether it says what the segment waits with, or that it goes on.
const fn is_of_stall(letter: &LetterMove) -> bool {
    matches!(letter, LetterMove::Stall { .. } | LetterMove::Resume { .. })
}
