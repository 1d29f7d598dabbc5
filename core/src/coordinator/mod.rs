//! A coordinator: one processor on one node. It knows which segments the node owns, reads the log for them, feeds their
//! workers, and reports their progress to the log.
//!
//! **Reading.** Each segment has a position to read from. The lowest position among the segments with room is read, one
//! block at a time, and offered to every segment with room whose position is in the block: segments at the same
//! position share a read, and a slow segment delays only itself (P6).
//!
//! **Progress.** One [`Progress`] at a time is in flight. No segment is fed more than a batch beyond what the log has
//! acknowledged, so when a node is killed, at most one batch per segment is handled again. Progress over foreign events
//! alone may wait; without new events nothing is sent and no timer runs.
//!
//! **Handing over.** A segment that must leave is drained first: its worker finishes its running handlers, the last
//! progress is acknowledged, and then one entry passes on token and claim.

mod hook;
mod loans;
mod outbox;
mod owned_segment;
mod processor_view;
mod room;
#[cfg(test)]
mod tests;

use alloc::{
    collections::{BTreeMap, btree_map},
    string::String,
    vec::Vec,
};
use core::time::Duration;

pub use self::{
    hook::Hook,
    owned_segment::{Halt, PREPARING, STALLED, SegmentStatus},
    processor_view::{ProcessorView, SegmentView, SequenceView},
};
use self::{
    hook::HookRun,
    loans::Loans,
    outbox::Outbox,
    owned_segment::{OwnedSegment, Phase},
    room::Room,
};
use crate::{
    claim::Motion,
    command::{Progress, RefusalReason, Stale, TokenMove},
    id::{Epoch, LogIndex, NodeId, Position, ProcessorId, SegmentId},
    letter::SequenceKey,
    time::Moment,
    worker::{Report, SetAsideSequence, Settings, Work},
};

/// The bounds of one coordinator, each with its reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Events that a segment may be ahead of what the log has acknowledged: if the node is killed, these are handled
    /// again.
    pub batch_events_max: usize,
    /// Events covered by one read.
    pub block_events_max: usize,
    /// How long progress over foreign events alone may wait, ...
    pub foreign_wait: Duration,
    /// ... and for how many positions.
    pub foreign_events_max: u64,
    /// How long a running handler is waited for before a move is postponed.
    pub hand_over_wait: Duration,
    /// How long a worker without work is kept.
    pub idle_timeout: Duration,
    /// The wait before a segment continues after its worker died, or after it reached a limit for the first time.
    pub restart_delay: Duration,
    /// Bytes of the letters of one progress: the remainder is sent with the next one. An entry of the log has at most 1
    /// MiB.
    pub progress_bytes_max: usize,
    /// Letters of one progress: each is judged by every node.
    pub progress_letters_max: usize,
    /// Tokens of one progress.
    pub progress_tokens_max: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            batch_events_max: 64,
            block_events_max: 1_024,
            foreign_wait: Duration::from_secs(1),
            foreign_events_max: 65_536,
            hand_over_wait: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(10),
            restart_delay: Duration::from_secs(2),
            progress_bytes_max: 192 << 10,
            progress_letters_max: 4_096,
            progress_tokens_max: 4_096,
        }
    }
}

/// Identifies a worker: reports of an earlier one of the same segment are ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WorkerId {
    /// Its segment; `None` for the worker that tries letters lent to this node.
    pub segment: Option<SegmentId>,
    /// The number of the worker within its coordinator.
    pub number: u64,
}

/// An input of a coordinator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input<T> {
    /// The state of the processor as seen from this node. Sent whenever it changed.
    ProcessorView(ProcessorView),
    /// The session is lost: nothing may be handled until a later view.
    SessionLost,
    /// There are events before this position.
    Head(Position),
    /// The answer to [`Effect::Read`]: the events in `[from, to)` that the processor wants, in order.
    Block {
        /// The first position of the block.
        from: Position,
        /// The end of the block; `from` if nothing could be read.
        to: Position,
        /// The events that match the criteria.
        works: Vec<Work<T>>,
    },
    /// A worker reports.
    Report(WorkerId, Report),
    /// A worker is paused, and none of its handlers runs.
    WorkerPaused(WorkerId),
    /// A worker died; a new one is started after [`Bounds::restart_delay`].
    WorkerDied(WorkerId, String),
    /// The progress in flight was judged; a view that includes it was sent just before. `Err` means that it may or may
    /// not have been judged: it is sent again.
    ProgressJudged(Result<Vec<Stale>, ()>),
    /// A hand-over was judged, or may have been.
    HandOverJudged(SegmentId, Result<(), ()>),
    /// The hook of a replay was run. If it succeeded, that was reported to the log.
    HookRan(Hook, Result<(), String>),
    /// The tick: new progress may be sent now.
    Tick,
    /// A requested moment has come.
    Woken,
}

/// What a coordinator requests, in order, before the next input.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "effects must be performed, in order"]
pub enum Effect<T> {
    /// Read this many events from a position. Answered by [`Input::Block`]; one read at a time.
    Read {
        /// The first position.
        from: Position,
        /// The maximum number of events.
        events_max: usize,
    },
    /// Start a worker.
    Start(WorkerId, Settings),
    /// Feed events to a worker.
    Feed(WorkerId, Vec<Work<T>>),
    /// Inform a worker of what is set aside.
    UpdateSetAside(WorkerId, u64, BTreeMap<SequenceKey, SetAsideSequence>),
    /// Inform a worker that the processor is paused, or resumed.
    SetPaused(WorkerId, bool),
    /// Ask a worker to end.
    Drain(WorkerId),
    /// Stop a worker at once: its later reports are ignored.
    Stop(WorkerId),
    /// There is something to send at the next tick.
    RequestTick,
    /// Send progress to the log. Answered by [`Input::ProgressJudged`].
    SendProgress {
        /// Claims that were given later are not affected.
        as_of: LogIndex,
        /// The progress.
        progress: Progress,
    },
    /// Hand a claim over. Answered by [`Input::HandOverJudged`].
    HandOver {
        /// The segment.
        segment: SegmentId,
        /// The epoch of its claim.
        epoch: Epoch,
        /// The final token.
        next: Position,
        /// The next owner; `None` releases the claim.
        to: Option<NodeId>,
    },
    /// Run the hook of a replay, and report to the log that it has run. Answered by [`Input::HookRan`].
    RunHook(Hook),
    /// Stop the hook that runs: its result does not count.
    StopHook,
    /// Send [`Input::Woken`] at that moment.
    WakeAt(Moment),
}

/// See the [module](self).
#[derive(Clone, Debug)]
pub struct Coordinator {
    processor: ProcessorId,
    bounds: Bounds,
    view: Option<ProcessorView>,
    head: Position,
    segments: BTreeMap<SegmentId, OwnedSegment>,
    loans: Loans,
    /// The number of workers made so far.
    workers_started: u64,
    reading: bool,
    /// Since when progress over foreign events waits.
    foreign_since: Option<Moment>,
    /// The segment with which the next progress begins: the first one for which the last progress had no room.
    first_unsent: Option<SegmentId>,
    /// When each sequence that is set aside is due, kept as long as the log says the same about it.
    due: BTreeMap<SequenceKey, (SequenceView, Option<Moment>)>,
    hook: HookRun,
}

impl Coordinator {
    /// Makes a coordinator that knows nothing yet.
    #[must_use]
    pub fn new(processor: ProcessorId, bounds: Bounds) -> Self {
        Self {
            processor,
            bounds,
            view: None,
            head: Position(0),
            segments: BTreeMap::new(),
            loans: Loans::default(),
            workers_started: 0,
            reading: false,
            foreign_since: None,
            first_unsent: None,
            due: BTreeMap::new(),
            hook: HookRun::None,
        }
    }

    /// Takes one input and returns its effects.
    pub fn step<T: Clone>(&mut self, now: Moment, input: Input<T>) -> Vec<Effect<T>> {
        let mut effects = Vec::new();
        let mut tick = false;
        match input {
            Input::ProcessorView(view) => self.apply_view(now, view, &mut effects),
            Input::SessionLost => self.lose_session(&mut effects),
            Input::Head(head) => self.head = self.head.max(head),
            Input::Block { from, to, works } => self.block(now, from, to, works, &mut effects),
            Input::Report(worker, report) => self.report(worker, report),
            Input::WorkerPaused(worker) => {
                if let Some(owned) = self.segment_of_worker(worker) {
                    owned.is_paused = true;
                }
            }
            Input::WorkerDied(worker, cause) => self.died(now, worker, cause),
            Input::ProgressJudged(answer) => self.progress_judged(now, answer, &mut effects),
            Input::HandOverJudged(segment, answer) => self.hand_over_judged(now, segment, answer),
            Input::HookRan(hook, result) => self.hook.ran(now, &hook, result, self.bounds.restart_delay),
            Input::Tick => tick = true,
            Input::Woken => {}
        }
        self.wake(now, &mut effects);
        self.read(&mut effects);
        self.hand_over(now, &mut effects);
        self.return_loans(&mut effects);
        self.send_progress(now, tick, &mut effects);
        effects
    }

    /// Returns the status of its segments, for people.
    pub fn segments(&self) -> impl Iterator<Item = SegmentStatus> {
        let (preparing, failure) = (self.view.as_ref().is_some_and(|view| view.preparing), self.hook.failure());
        self.segments.values().map(move |owned| match owned.status() {
            status if preparing => SegmentStatus {
                phase: if failure.is_some() { STALLED } else { PREPARING },
                reason: Some(failure.map_or(Halt::Preparing, |(cause, _)| Halt::HookFailed(cause.into()))),
                until: failure.map(|(_, until)| until),
                ..status
            },
            status => status,
        })
    }

    /// Returns whether no handler runs whose result the log could get, and the log has acknowledged all results: a node
    /// that ends has nothing to wait for. Events that paused workers hold, or wait with, are left to the next owner.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let lent = !self.loans.outbox.has_letters();
        !self.is_in_flight() && self.segments.values().all(OwnedSegment::is_settled) && lent
    }

    /// Returns whether a progress awaits its answer. The outbox of the loans takes part in every progress, if only with
    /// nothing, and outlives sessions: so this is recorded there and nowhere else.
    const fn is_in_flight(&self) -> bool {
        self.loans.outbox.is_in_flight()
    }

    /// Returns its workers.
    fn workers(&self) -> impl Iterator<Item = WorkerId> {
        self.segments.values().filter_map(|owned| owned.worker).chain(self.loans.worker)
    }

    /// Applies the present state of the log: segments are added, removed, moved or kept.
    fn apply_view<T>(&mut self, now: Moment, view: ProcessorView, effects: &mut Vec<Effect<T>>) {
        let removed: Vec<_> = self
            .segments
            .iter()
            .filter(|(id, owned)| view.segments.get(id).is_none_or(|segment| segment.epoch != owned.epoch))
            .map(|(id, _)| *id)
            .collect();
        for id in removed {
            if let Some(mut owned) = self.segments.remove(&id) {
                owned.stop(effects);
            }
        }
        let paused = self.view.as_ref().is_some_and(|before| before.paused != view.paused);
        if self.view.as_ref().is_some_and(|before| before.generation != view.generation) {
            self.loans.reset(effects);
        }
        self.hook.update(view.hook.as_ref(), effects);
        self.update_due(now, &view);
        for (id, segment) in &view.segments {
            match self.segments.entry(*id) {
                btree_map::Entry::Vacant(place) => {
                    place.insert(OwnedSegment::new(segment));
                }
                btree_map::Entry::Occupied(mut place) => place.get_mut().update(now, segment, effects),
            }
        }
        if paused {
            self.segments.values_mut().for_each(|owned| owned.is_paused = false);
            effects.extend(self.workers().map(|worker| Effect::SetPaused(worker, view.paused)));
        }
        self.view = Some(view);
        self.inform_workers(now, effects);
    }

    /// Remembers when each sequence that is set aside is due. That is computed once, when the log first says so, and
    /// measured on this node's own clock from then on: the same information again does not change it.
    fn update_due(&mut self, now: Moment, view: &ProcessorView) {
        let mut due = BTreeMap::new();
        for (sequence, set_aside) in &view.set_aside {
            let known = self.due.remove(sequence).filter(|(known, _)| known.same_try(set_aside));
            let at = known.map_or_else(|| set_aside.remaining.map(|wait| now.after(wait)), |(_, at)| at);
            due.insert(sequence.clone(), (*set_aside, at));
        }
        self.due = due;
    }

    /// Informs every worker of what is set aside in its segment; starts workers that only letters need.
    fn inform_workers<T>(&mut self, now: Moment, effects: &mut Vec<Effect<T>>) {
        let Some(view) = &self.view else { return };
        let mut sets = BTreeMap::<SegmentId, BTreeMap<SequenceKey, SetAsideSequence>>::new();
        let mut lent = BTreeMap::new();
        for (sequence, (set_aside, due)) in &self.due {
            let SequenceView { position, attempts, mask, revision, wait, replaying, .. } = *set_aside;
            let waits =
                |right| SetAsideSequence { position, attempts, due: *due, right, mask, revision, wait, replaying };
            if let Some(right) = set_aside.loan_right {
                lent.insert(sequence.clone(), waits(Some(right)));
            }
            if set_aside.is_owned {
                sets.entry(set_aside.segment).or_default().insert(sequence.clone(), waits(set_aside.own_right));
            }
        }
        for (id, owned) in &mut self.segments {
            let mut set = sets.remove(id).unwrap_or_default();
            for (sequence, position) in owned.outbox.refused_sequences() {
                set.entry(sequence).or_insert(SetAsideSequence::untried(position));
            }
            if set == owned.set_aside && owned.outbox.settled() == owned.known_settled {
                continue;
            }
            if owned.worker.is_none() && !set.is_empty() && owned.phase == Phase::Owned {
                self.workers_started += 1;
                owned.start(now, self.workers_started, view, self.bounds, effects);
            }
            if let Some(worker) = owned.worker {
                effects.push(Effect::UpdateSetAside(worker, owned.outbox.settled(), set.clone()));
                owned.known_settled = owned.outbox.settled();
                owned.set_aside = set;
            }
        }
        self.loans.inform_worker(lent, view, self.bounds, &mut self.workers_started, effects);
    }

    fn lose_session<T>(&mut self, effects: &mut Vec<Effect<T>>) {
        effects.extend(self.workers().map(Effect::Stop));
        self.segments.clear();
        self.hook.update(None, effects);
        self.loans.lose_session();
        self.view = None;
        self.foreign_since = None;
    }

    /// Restarts segments whose restart is due, and stops workers that have been idle for long.
    fn wake<T>(&mut self, now: Moment, effects: &mut Vec<Effect<T>>) {
        if self.view.is_none() {
            return;
        }
        let mut woken = self.loans.restart_if_due(now);
        let mut next = self.loans.restart_at.into_iter().chain(self.hook.wake(now, effects)).min();
        for owned in self.segments.values_mut() {
            woken |= owned.restart_if_due(now);
            let until = match owned.phase {
                Phase::WaitingToRestart(until, _) => Some(until),
                _ => owned
                    .stop_if_idle(now, self.bounds.idle_timeout, effects)
                    .or(owned.outbox.refusal().map(|(_, until)| until)),
            };
            let until = until.filter(|until| *until > now);
            next = until.into_iter().chain(next).min();
        }
        effects.extend(next.map(Effect::WakeAt));
        if woken {
            self.inform_workers(now, effects);
        }
    }

    /// Reads for segments that have room and are behind: the lowest position first.
    fn read<T>(&mut self, effects: &mut Vec<Effect<T>>) {
        if self.reading || self.view.as_ref().is_none_or(|view| view.paused) {
            return;
        }
        let batch = self.bounds.batch_events_max;
        let places = self.segments.values().filter(|owned| owned.has_room(batch)).map(|owned| owned.from);
        if let Some(from) = places.min().filter(|from| *from < self.head) {
            self.reading = true;
            effects.push(Effect::Read { from, events_max: self.bounds.block_events_max });
        }
    }

    /// Offers a block to every segment with room whose position is in it.
    fn block<T: Clone>(
        &mut self,
        now: Moment,
        from: Position,
        to: Position,
        works: Vec<Work<T>>,
        effects: &mut Vec<Effect<T>>,
    ) {
        self.reading = false;
        let Some(view) = &self.view else { return };
        if view.paused || to <= from {
            return;
        }
        for owned in self.segments.values_mut() {
            if !owned.has_room(self.bounds.batch_events_max) || owned.from < from || owned.from >= to {
                continue;
            }
            let fed = owned.take(to, &works, self.bounds.batch_events_max, &view.unhandled);
            if fed.is_empty() {
                continue;
            }
            let worker = owned.worker.unwrap_or_else(|| {
                self.workers_started += 1;
                owned.start(now, self.workers_started, view, self.bounds, effects)
            });
            effects.push(Effect::Feed(worker, fed));
        }
    }

    fn report(&mut self, worker: WorkerId, report: Report) {
        if self.loans.worker == Some(worker) {
            self.loans.reported(report);
        } else if let Some(owned) = self.segment_of_worker(worker) {
            owned.reported(report);
        }
    }

    fn died(&mut self, now: Moment, worker: WorkerId, cause: String) {
        let until = now.after(self.bounds.restart_delay);
        if self.loans.worker == Some(worker) {
            self.loans.died(until);
        } else if let Some(owned) = self.segment_of_worker(worker) {
            owned.died(until, cause);
        }
    }

    fn segment_of_worker(&mut self, worker: WorkerId) -> Option<&mut OwnedSegment> {
        self.segments.get_mut(&worker.segment?).filter(|owned| owned.worker == Some(worker))
    }

    /// Takes the log's judgement of the progress in flight.
    fn progress_judged<T>(&mut self, now: Moment, answer: Result<Vec<Stale>, ()>, effects: &mut Vec<Effect<T>>) {
        let Ok(stale) = answer else {
            self.outboxes().for_each(|outbox| outbox.take_back(now));
            return self.inform_workers(now, effects);
        };
        // Any other refusal means that the log has a newer state, which the view shows.
        for Stale { segment, reason, .. } in stale {
            let (Some(segment), RefusalReason::Limit(limit)) = (segment, reason) else { continue };
            let low =
                self.view.as_ref().and_then(|view| view.segments.get(&segment)).map(|segment| segment.token.low());
            if let (Some(owned), Some(low)) = (self.segments.get_mut(&segment), low) {
                owned.outbox.refuse(now, self.bounds.restart_delay, limit, low);
            }
        }
        self.outboxes().for_each(Outbox::acknowledge);
        self.inform_workers(now, effects);
    }

    /// Returns all outboxes. Each takes part in every progress.
    fn outboxes(&mut self) -> impl Iterator<Item = &mut Outbox> {
        self.segments.values_mut().map(|owned| &mut owned.outbox).chain([&mut self.loans.outbox])
    }

    fn hand_over_judged(&mut self, now: Moment, segment: SegmentId, answer: Result<(), ()>) {
        if let Some(owned) = self.segments.get_mut(&segment)
            && answer.is_err()
        {
            owned.hand_over_failed(now);
        }
    }

    /// Continues with segments that must leave: drains, waits, hands over, or postpones.
    fn hand_over<T>(&mut self, now: Moment, effects: &mut Vec<Effect<T>>) {
        let Some(view) = &self.view else { return };
        let (in_flight, mut stayed) = (self.is_in_flight(), false);
        for (id, owned) in &mut self.segments {
            let Some(segment) = view.segments.get(id) else { continue };
            let to = match segment.motion {
                Motion::Stay => {
                    stayed |= !in_flight && owned.cancel_leaving(effects);
                    continue;
                }
                Motion::To(node) => Some(node),
                Motion::Release => None,
            };
            let Some(next) = owned.leave(now, self.bounds, view.draining, in_flight, effects) else { continue };
            effects.push(Effect::HandOver { segment: *id, epoch: owned.epoch, next, to });
        }
        if stayed {
            self.inform_workers(now, effects);
            self.read(effects);
        }
    }

    /// Returns the loans of a leaving node, once none of its handlers has any of their letters.
    fn return_loans<T>(&mut self, effects: &mut Vec<Effect<T>>) {
        if self.view.as_ref().is_none_or(|view| !view.draining) {
            return;
        }
        let lent = self.due.iter().filter_map(|(sequence, (set_aside, _))| Some((set_aside.loan_right?, sequence)));
        self.loans.return_all(lent, effects);
    }

    /// Sends progress to the log, if there is any and it may be sent now.
    fn send_progress<T>(&mut self, now: Moment, tick: bool, effects: &mut Vec<Effect<T>>) {
        let Some(view) = &self.view else { return };
        if self.is_in_flight() {
            return;
        }
        let worked = self.loans.outbox.has_letters()
            || self.segments.values().any(|owned| owned.outbox.has_something_to_send(now));
        let behind = self.segments.values().map(OwnedSegment::unacknowledged_positions).max().unwrap_or_default();
        if !worked && behind == 0 {
            (self.foreign_since, self.first_unsent) = (None, None);
            return;
        }
        let since = *self.foreign_since.get_or_insert(now);
        let until = since.after(self.bounds.foreign_wait);
        let ripe = worked || self.first_unsent.is_some() || behind >= self.bounds.foreign_events_max || until <= now;
        if !ripe {
            return effects.push(Effect::WakeAt(until));
        }
        if !tick {
            return effects.push(Effect::RequestTick);
        }
        self.foreign_since = None;
        let as_of = view.as_of;
        let progress = self.progress(now);
        effects.push(Effect::SendProgress { as_of, progress });
    }

    /// Returns the progress, as far as one command has room for it. A remainder holds back the token of its segment,
    /// and follows once this part is judged: sending it in parts has the same result as sending it at once.
    fn progress(&mut self, now: Moment) -> Progress {
        // If all segments might have to be named, only those that moved are, and nothing is said of the others.
        let names_all = self.segments.len() <= self.bounds.progress_tokens_max;
        let scanned = self.segments.values().map(OwnedSegment::token).max().filter(|_| names_all);
        let mut progress = Progress { processor: self.processor, scanned, tokens: Vec::new(), letters: Vec::new() };
        let ((mut own, mut lent), first) = (Room::of(self.bounds), self.first_unsent.take().unwrap_or_default());
        let (before, from): (Vec<_>, Vec<_>) = self.segments.iter_mut().partition(|(id, _)| **id < first);
        let mut left = None;
        for (id, owned) in from.into_iter().chain(before) {
            if !names_all && progress.tokens.len() >= self.bounds.progress_tokens_max {
                left.get_or_insert(*id);
                break;
            }
            let letters = progress.letters.len();
            let next = owned.send(now, &mut own, &mut progress.letters);
            if owned.outbox.has_letters() {
                left.get_or_insert(*id);
            }
            let moved = next != owned.outbox.acknowledged_position() || progress.letters.len() > letters;
            if Some(next) != scanned && (names_all || moved) {
                progress.tokens.push(TokenMove { segment: *id, epoch: owned.epoch, next });
            }
        }
        self.first_unsent = left;
        self.loans.outbox.send(now, Position(0), &mut lent, &mut progress.letters);
        debug_assert!(progress.bytes() <= self.bounds.progress_bytes_max(), "every part is bounded");
        progress
    }
}
