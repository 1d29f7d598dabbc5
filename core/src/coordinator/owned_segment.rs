//! One of the node's segments, as its coordinator sees it.

use alloc::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    string::String,
    vec::Vec,
};

use super::{Bounds, Effect, ProcessorView, Room, SegmentView, WorkerId, outbox::Outbox};
use core::time::Duration;

use crate::{
    claim::Motion,
    command::LetterMove,
    id::{Epoch, Position, SegmentId},
    letter::SequenceKey,
    reason::LimitReached,
    segment::Segment,
    time::Moment,
    token::Token,
    worker::{Report, SetAsideSequence, Work},
};

/// One of the node's segments.
#[derive(Clone, Debug)]
pub(super) struct OwnedSegment {
    segment: Segment,
    pub(super) epoch: Epoch,
    /// The token when the node got the segment: events that it has passed are not wanted again.
    token: Token,
    pub(super) phase: Phase,
    /// The next position to read.
    pub(super) from: Position,
    /// The present worker, if any.
    pub(super) worker: Option<WorkerId>,
    /// Whether the worker is paused and none of its handlers runs.
    pub(super) is_paused: bool,
    /// Events fed and not reported done. Reports always cover the first of them.
    unfinished: VecDeque<Position>,
    /// When it ran out of work.
    idle_since: Option<Moment>,
    /// What its worker reported and the log has not acknowledged.
    pub(super) outbox: Outbox,
    /// When a hand-over that may not have been judged is sent again.
    hand_over_after: Moment,
    /// The last report that the worker knows to be settled.
    pub(super) known_settled: u64,
    /// What the worker knows to be set aside.
    pub(super) set_aside: BTreeMap<SequenceKey, SetAsideSequence>,
}

/// The wait before a hand-over that may not have been judged is sent again.
const HAND_OVER_AGAIN: Duration = Duration::from_millis(200);

/// What is being done with the segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Events are read and fed.
    Owned,
    /// Its worker finishes the running handlers, since then.
    Draining(Moment),
    /// No handler runs any more.
    Drained,
    /// The entry that hands it over is in flight.
    HandingOver,
    /// Its handler runs too long: the move is postponed until the handler ends.
    Postponed,
    /// Its worker died: it continues at that moment, with a new one.
    WaitingToRestart(Moment, String),
}

/// The phase of a segment that does not proceed, because a limit is reached or its worker died.
pub const STALLED: &str = "stalled";

/// The phase of a segment that waits until a replay is prepared.
pub const PREPARING: &str = "preparing";

/// The reason why a segment does not proceed, or why its move does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Halt {
    /// A limit is reached.
    Limit(LimitReached),
    /// Its move is postponed: the handler runs too long.
    HandOverPostponed,
    /// Its worker died, for this reason.
    WorkerDied(String),
    /// The hook that prepares the replay has not ended.
    Preparing,
    /// The hook that prepares the replay failed, for this reason.
    HookFailed(String),
}

/// The status of a segment, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentStatus {
    /// The segment.
    pub segment: SegmentId,
    /// The epoch of its claim.
    pub epoch: Epoch,
    /// The phase, as one word.
    pub phase: &'static str,
    /// Its position, whether or not it was sent already.
    pub next: Position,
    /// Events fed and not done.
    pub unfinished: usize,
    /// Whether it has a worker.
    pub has_worker: bool,
    /// The reason why it does not proceed, if it does not, ...
    pub reason: Option<Halt>,
    /// ... and until when, if the wait ends by itself.
    pub until: Option<Moment>,
}

impl OwnedSegment {
    pub(super) fn new(segment_view: &SegmentView) -> Self {
        let from = segment_view.token.low();
        Self {
            segment: segment_view.segment,
            epoch: segment_view.epoch,
            token: segment_view.token.clone(),
            phase: Phase::Owned,
            from,
            worker: None,
            is_paused: false,
            unfinished: VecDeque::new(),
            idle_since: None,
            outbox: Outbox::new(from),
            hand_over_after: Moment(0),
            known_settled: 0,
            set_aside: BTreeMap::new(),
        }
    }

    pub(super) fn status(&self) -> SegmentStatus {
        let (phase, reason, until) = match &self.phase {
            Phase::Owned if let Some((limit, until)) = self.outbox.refusal() => {
                (STALLED, limit.cloned().map(Halt::Limit), Some(until))
            }
            Phase::Owned if !self.unfinished.is_empty() => ("handling", None, None),
            Phase::Owned if !self.set_aside.is_empty() => ("waiting", None, None),
            Phase::Owned => ("idle", None, None),
            Phase::Draining(_) | Phase::Drained | Phase::HandingOver => ("handing-over", None, None),
            Phase::Postponed => ("handling", Some(Halt::HandOverPostponed), None),
            Phase::WaitingToRestart(until, why) => (STALLED, Some(Halt::WorkerDied(why.clone())), Some(*until)),
        };
        let (segment, epoch, next) = (self.segment.name(), self.epoch, self.token());
        let (unfinished, has_worker) = (self.unfinished.len(), self.worker.is_some());
        SegmentStatus { segment, epoch, phase, next, unfinished, has_worker, reason, until }
    }

    /// Starts its worker.
    pub(super) fn start<T>(
        &mut self,
        now: Moment,
        number: u64,
        view: &ProcessorView,
        bounds: Bounds,
        effects: &mut Vec<Effect<T>>,
    ) -> WorkerId {
        let worker = WorkerId { segment: Some(self.segment.name()), number };
        (self.worker, self.is_paused) = (Some(worker), false);
        self.outbox.restart();
        self.known_settled = 0;
        self.set_aside.clear();
        let stalled = view.segments.get(&self.segment.name()).and_then(|segment_view| segment_view.stalled);
        let stalled = stalled.map(|(position, attempts, wait)| (position, attempts, wait, now));
        let settings = view.settings(Some((self.segment, self.epoch)), stalled, bounds);
        effects.push(Effect::Start(worker, settings));
        if view.paused {
            effects.push(Effect::SetPaused(worker, true));
        }
        worker
    }

    /// Stops its worker, if it has one.
    pub(super) fn stop<T>(&mut self, effects: &mut Vec<Effect<T>>) {
        effects.extend(self.worker.take().map(Effect::Stop));
    }

    /// Stops a worker that has had nothing to do for a while; returns when to check again.
    pub(super) fn stop_if_idle<T>(
        &mut self,
        now: Moment,
        wait: Duration,
        effects: &mut Vec<Effect<T>>,
    ) -> Option<Moment> {
        let busy = !self.unfinished.is_empty()
            || !self.outbox.is_empty()
            || !self.set_aside.is_empty()
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

    /// Takes new information of the log about it, under the same epoch.
    pub(super) fn update<T>(&mut self, now: Moment, segment_view: &SegmentView, effects: &mut Vec<Effect<T>>) {
        if self.phase == Phase::Owned && segment_view.motion != Motion::Stay {
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

    /// Continues a segment that does not move any more, once the log has acknowledged everything of it. Returns whether
    /// it continues.
    pub(super) fn cancel_leaving<T>(&mut self, effects: &mut Vec<Effect<T>>) -> bool {
        let stays = self.phase == Phase::Drained && self.outbox.is_acknowledged();
        if stays {
            self.stop(effects);
            self.resume();
        }
        stays
    }

    /// Handles the death of its worker. Everything reported remains valid; all other events are handled again.
    pub(super) fn died(&mut self, until: Moment, why: String) {
        self.worker = None;
        self.phase = match self.phase {
            Phase::Owned | Phase::WaitingToRestart(..) => Phase::WaitingToRestart(until, why),
            Phase::Draining(_) | Phase::Postponed | Phase::Drained => Phase::Drained,
            Phase::HandingOver => Phase::HandingOver,
        };
    }

    /// Continues after the death of its worker, if the restart is due; returns whether it does.
    pub(super) fn restart_if_due(&mut self, now: Moment) -> bool {
        let restarts =
            matches!(self.phase, Phase::WaitingToRestart(until, _) if until <= now) && self.outbox.is_acknowledged();
        if restarts {
            self.resume();
        }
        restarts
    }

    /// Continues with a new worker, which is fed what the previous one left. The new worker does not know what the
    /// previous one reported, so the log must have acknowledged all of that.
    fn resume(&mut self) {
        debug_assert!(self.worker.is_none() && self.outbox.is_acknowledged());
        self.phase = Phase::Owned;
        self.from = self.done_until();
        self.unfinished.clear();
        self.set_aside.clear();
    }

    /// Returns whether none of its handlers runs, and everything reported is acknowledged.
    pub(super) fn is_settled(&self) -> bool {
        let still =
            self.worker.is_none() || self.is_paused || (self.unfinished.is_empty() && self.set_aside.is_empty());
        still && self.outbox.is_acknowledged()
    }

    /// Returns whether it may be fed.
    ///
    /// At least half a batch must fit, so that reads are worthwhile.
    pub(super) fn has_room(&self, batch: usize) -> bool {
        self.phase == Phase::Owned && self.outbox.refusal().is_none() && self.unacknowledged_events() * 2 <= batch
    }

    /// Returns how many events would be handled again if the node were killed now.
    fn unacknowledged_events(&self) -> usize {
        self.unfinished.len() + self.outbox.unacknowledged_events()
    }

    /// Takes the events of the segment from a block that ends at `to`, as far as there is room.
    pub(super) fn take<T: Clone>(
        &mut self,
        to: Position,
        works: &[Work<T>],
        batch: usize,
        unhandled: &BTreeSet<(SequenceKey, Position)>,
    ) -> Vec<Work<T>> {
        let room = batch - self.unacknowledged_events();
        let begin = works.partition_point(|work| work.position < self.from);
        let mut own = works[begin..]
            .iter()
            .filter(|work| self.segment.holds(work.hash) && self.token.wants(work.hash, work.position));
        let token = &self.token;
        let replayed = |work: Work<T>| {
            let passed = token.replays(work.hash, work.position);
            let replaying = passed && !unhandled.contains(&(work.sequence.clone(), work.position));
            Work { replaying, ..work }
        };
        let taken: Vec<_> = own.by_ref().take(room).cloned().map(replayed).collect();
        self.from = own.next().map_or(to, |left| left.position);
        self.unfinished.extend(taken.iter().map(|work| work.position));
        taken
    }

    /// Returns the position before which all events are done.
    pub(super) fn token(&self) -> Position {
        match self.outbox.refusal() {
            Some(_) => self.outbox.acknowledged_position(),
            None => self.done_until(),
        }
    }

    /// Returns the position before which all events were reported done.
    fn done_until(&self) -> Position {
        self.unfinished.front().copied().unwrap_or(self.from)
    }

    /// Returns by how many positions it has moved since the last acknowledgement.
    pub(super) fn unacknowledged_positions(&self) -> u64 {
        self.token().0.saturating_sub(self.outbox.acknowledged_position().0)
    }

    pub(super) fn reported(&mut self, report: Report) {
        self.unfinished.drain(..report.done.min(self.unfinished.len()));
        if report.drained && matches!(self.phase, Phase::Draining(_) | Phase::Postponed) {
            self.phase = Phase::Drained;
        }
        self.outbox.receive(report);
    }

    /// Sends what was reported, as far as there is room, and returns the new token.
    pub(super) fn send(&mut self, now: Moment, room: &mut Room, letters: &mut Vec<LetterMove>) -> Position {
        self.outbox.send(now, self.done_until(), room, letters)
    }

    pub(super) fn hand_over_failed(&mut self, now: Moment) {
        if self.phase == Phase::HandingOver {
            self.phase = Phase::Drained;
            self.hand_over_after = now.after(HAND_OVER_AGAIN);
        }
    }

    /// Continues to leave; returns the final token once everything is acknowledged. Refused letters are not waited for:
    /// the next owner handles their events again.
    pub(super) fn leave<T>(
        &mut self,
        now: Moment,
        bounds: Bounds,
        draining: bool,
        in_flight: bool,
        effects: &mut Vec<Effect<T>>,
    ) -> Option<Position> {
        match self.phase {
            Phase::Owned => self.begin_leaving(now, effects),
            Phase::Draining(_) | Phase::Postponed if draining && self.runs_too_long(now, bounds) => {
                self.stop(effects);
                self.phase = Phase::Drained;
            }
            Phase::Draining(_) if self.runs_too_long(now, bounds) => self.phase = Phase::Postponed,
            Phase::WaitingToRestart(..) => self.phase = Phase::Drained,
            _ => {}
        }
        match self.phase {
            Phase::Draining(since) => effects.push(Effect::WakeAt(since.after(bounds.hand_over_wait))),
            Phase::Drained if now < self.hand_over_after => effects.push(Effect::WakeAt(self.hand_over_after)),
            Phase::Drained if !in_flight && self.outbox.is_acknowledged() => {
                self.phase = Phase::HandingOver;
                return Some(self.token());
            }
            _ => {}
        }
        None
    }

    /// Returns whether its handler has been waited for long enough.
    fn runs_too_long(&self, now: Moment, bounds: Bounds) -> bool {
        match self.phase {
            Phase::Draining(since) => since.after(bounds.hand_over_wait) <= now,
            _ => self.phase == Phase::Postponed,
        }
    }
}
