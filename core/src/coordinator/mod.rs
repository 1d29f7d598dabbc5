//! A coordinator: one processor on one node. It knows which segments are this node's, reads the log for them,
//! feeds their workers, and tells the log how far they have come.
//!
//! **Reading.** Each segment has a place to read from. Among those that have room the least place is read, one
//! block, and offered to every segment with room whose place lies in it: segments that stand together share
//! one read, and a slow one delays itself only (P6).
//!
//! **Telling.** One [`Progress`] at a time is on its way. No segment is fed more than a batch beyond what the
//! log has acknowledged, so a node that is killed leaves at most one batch per segment to be handled again.
//! Progress over foreign events alone may wait; where nothing is new nothing is told and nobody wakes.
//!
//! **Handing over.** A segment that must leave is drained first: its worker ends what runs, the last progress is
//! acknowledged, and then one entry passes token and claim on.

mod lane;
mod loans;
mod outbox;
mod room;
mod table;
#[cfg(test)]
mod tests;

use alloc::{
    collections::{BTreeMap, btree_map},
    string::String,
    vec::Vec,
};
use core::time::Duration;

pub use self::{
    lane::{Halt, LaneStatus, STALLED},
    table::{Aside, Mine, Table},
};
use self::{
    lane::{Lane, Phase},
    loans::Loans,
    outbox::Outbox,
    room::Room,
};
use crate::{
    claim::Motion,
    command::{Progress, Stale, TokenMove, Why},
    id::{Epoch, LogIndex, NodeId, Position, ProcessorId, SegmentId},
    letter::SequenceKey,
    time::Moment,
    worker::{Report, Settings, Waits, Work},
};

/// Bounds of one coordinator, each with its reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Events a segment may be ahead of what the log has acknowledged: what a killed node leaves to be handled
    /// again, per segment.
    pub batch_events_max: usize,
    /// Events looked at by one read.
    pub block_events_max: usize,
    /// Progress over foreign events alone waits so long, ...
    pub foreign_wait: Duration,
    /// ... or so many positions.
    pub foreign_events_max: u64,
    /// A running handler is waited for so long before a move is put off.
    pub hand_over_wait: Duration,
    /// A worker without work is kept so long.
    pub linger: Duration,
    /// A segment whose worker died rests so long; one that reached a limit so long the first time.
    pub rest: Duration,
    /// Bytes of the letters of one progress: what there is more of follows in the next one. An entry of the log has
    /// 1 MiB at most.
    pub told_bytes_max: usize,
    /// Letters of one progress: each is judged by every node.
    pub told_letters_max: usize,
    /// Tokens of one progress.
    pub told_tokens_max: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            batch_events_max: 64,
            block_events_max: 1_024,
            foreign_wait: Duration::from_secs(1),
            foreign_events_max: 65_536,
            hand_over_wait: Duration::from_secs(5),
            linger: Duration::from_secs(10),
            rest: Duration::from_secs(2),
            told_bytes_max: 192 << 10,
            told_letters_max: 4_096,
            told_tokens_max: 4_096,
        }
    }
}

/// Which worker: what an earlier one of the same segment says means nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WorkerId {
    /// Of this segment; none for the one that tries letters lent to this node.
    pub segment: Option<SegmentId>,
    /// Counts the workers of a coordinator.
    pub life: u64,
}

/// What happens to a coordinator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input<T> {
    /// What the log says of the processor, from this node's side. Told whenever it changed.
    Table(Table),
    /// The session is lost: nothing may be handled until a later table says otherwise.
    Lost,
    /// There are events before this position.
    Head(Position),
    /// The answer to [`Effect::Read`]: the events in `[from, to)` that the processor wants, in order.
    Block {
        /// Where the block begins.
        from: Position,
        /// Where it ends; `from` if nothing could be read.
        to: Position,
        /// Those that match the criteria.
        works: Vec<Work<T>>,
    },
    /// A worker reports.
    Report(WorkerId, Report),
    /// A worker is paused, and nothing of it runs.
    Rests(WorkerId),
    /// A worker died; a new one will be made after a rest.
    Died(WorkerId, String),
    /// The progress on its way was judged; a table that has it in it was told just before. `Err` means that it
    /// may or may not have been: it is told again.
    Told(Result<Vec<Stale>, ()>),
    /// A hand-over was judged, or may have been.
    HandedOver(SegmentId, Result<(), ()>),
    /// The tick: what is new may be told now.
    Tick,
    /// A moment asked for has come.
    Woke,
}

/// What a coordinator wants done, in order, before the next input.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "effects are wishes: somebody has to carry them out"]
pub enum Effect<T> {
    /// Read so many events from here. Answered by [`Input::Block`]; one read at a time.
    Read {
        /// The first position.
        from: Position,
        /// How many events at most.
        events_max: usize,
    },
    /// Make a worker.
    Start(WorkerId, Settings),
    /// Feed it.
    Feed(WorkerId, Vec<Work<T>>),
    /// Tell it what is set aside.
    Aside(WorkerId, u64, BTreeMap<SequenceKey, Waits>),
    /// Tell it that the processor is paused, or goes on.
    Paused(WorkerId, bool),
    /// Tell it to end.
    Drain(WorkerId),
    /// End it at once: what it says from now on means nothing.
    Stop(WorkerId),
    /// There is something to tell at the next tick.
    WantTick,
    /// Tell the log. Answered by [`Input::Told`].
    Tell {
        /// Claims given later are not meant.
        as_of: LogIndex,
        /// What moved.
        progress: Progress,
    },
    /// Pass a claim on. Answered by [`Input::HandedOver`].
    HandOver {
        /// Which segment.
        segment: SegmentId,
        /// Under which epoch.
        epoch: Epoch,
        /// The final token.
        next: Position,
        /// To whom; none gives it up.
        to: Option<NodeId>,
    },
    /// Send [`Input::Woke`] then.
    WakeAt(Moment),
}

/// See the [module](self).
#[derive(Clone, Debug)]
pub struct Coordinator {
    processor: ProcessorId,
    bounds: Bounds,
    table: Option<Table>,
    head: Position,
    lanes: BTreeMap<SegmentId, Lane>,
    loans: Loans,
    /// Workers made so far.
    lives: u64,
    reading: bool,
    /// Since when something foreign waits to be told.
    foreign_since: Option<Moment>,
    /// The segment that the next progress begins with: the first one for which there was no room in the last.
    told_next: Option<SegmentId>,
    /// When each sequence set aside is due, kept while the log says the same of it.
    due: BTreeMap<SequenceKey, (Aside, Option<Moment>)>,
}

impl Coordinator {
    /// A coordinator that knows nothing yet.
    #[must_use]
    pub fn new(processor: ProcessorId, bounds: Bounds) -> Self {
        Self {
            processor,
            bounds,
            table: None,
            head: Position(0),
            lanes: BTreeMap::new(),
            loans: Loans::default(),
            lives: 0,
            reading: false,
            foreign_since: None,
            told_next: None,
            due: BTreeMap::new(),
        }
    }

    /// Takes one input and answers with what is to be done about it.
    pub fn step<T: Clone>(&mut self, now: Moment, input: Input<T>) -> Vec<Effect<T>> {
        let mut effects = Vec::new();
        let mut tick = false;
        match input {
            Input::Table(table) => self.look(now, table, &mut effects),
            Input::Lost => self.lose(&mut effects),
            Input::Head(head) => self.head = self.head.max(head),
            Input::Block { from, to, works } => self.block(now, from, to, works, &mut effects),
            Input::Report(worker, report) => self.report(worker, report),
            Input::Rests(worker) => {
                if let Some(lane) = self.lane_of(worker) {
                    lane.rests = true;
                }
            }
            Input::Died(worker, cause) => self.died(now, worker, cause),
            Input::Told(answer) => self.told(now, answer, &mut effects),
            Input::HandedOver(segment, answer) => self.handed_over(now, segment, answer),
            Input::Tick => tick = true,
            Input::Woke => {}
        }
        self.wake(now, &mut effects);
        self.read(&mut effects);
        self.hand_over(now, &mut effects);
        self.return_loans(&mut effects);
        self.tell(now, tick, &mut effects);
        effects
    }

    /// What its segments are doing, for people.
    pub fn lanes(&self) -> impl Iterator<Item = LaneStatus> {
        self.lanes.values().map(Lane::status)
    }

    /// Whether nothing runs that the log could be told of, and it knows all that ran: a node that ends has nothing
    /// to wait for. Events that paused workers hold, or wait with, are the next owner's.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let lent = !self.loans.outbox.has_letters();
        !self.is_in_flight() && self.lanes.values().all(Lane::is_settled) && lent
    }

    /// Whether a progress awaits its answer. The outbox of the loans takes part in each, if only with nothing, and
    /// outlives sessions: so what is in flight is known there, and nowhere else.
    const fn is_in_flight(&self) -> bool {
        self.loans.outbox.is_in_flight()
    }

    /// Its workers.
    fn workers(&self) -> impl Iterator<Item = WorkerId> {
        self.lanes.values().filter_map(|lane| lane.worker).chain(self.loans.worker)
    }

    /// What the log says now: lanes come and go, move or stay.
    fn look<T>(&mut self, now: Moment, table: Table, effects: &mut Vec<Effect<T>>) {
        let gone: Vec<_> = self
            .lanes
            .iter()
            .filter(|(id, lane)| table.mine.get(id).is_none_or(|mine| mine.epoch != lane.epoch))
            .map(|(id, _)| *id)
            .collect();
        for id in gone {
            if let Some(mut lane) = self.lanes.remove(&id) {
                lane.stop(effects);
            }
        }
        let paused = self.table.as_ref().is_some_and(|before| before.paused != table.paused);
        self.remember_due(now, &table);
        for (id, mine) in &table.mine {
            match self.lanes.entry(*id) {
                btree_map::Entry::Vacant(place) => {
                    place.insert(Lane::new(mine));
                }
                btree_map::Entry::Occupied(mut place) => place.get_mut().looked(now, mine, effects),
            }
        }
        if paused {
            self.lanes.values_mut().for_each(|lane| lane.rests = false);
            effects.extend(self.workers().map(|worker| Effect::Paused(worker, table.paused)));
        }
        self.table = Some(table);
        self.tell_asides(now, effects);
    }

    /// When what is set aside is due. It is computed once, when the log first says so, and runs on this node's
    /// own clock from there: the same sequence told again keeps its time.
    fn remember_due(&mut self, now: Moment, table: &Table) {
        let mut due = BTreeMap::new();
        for (sequence, aside) in &table.aside {
            let known = self.due.remove(sequence).filter(|(known, _)| known.same_try(aside));
            let at = known.map_or_else(|| aside.remaining.map(|wait| now.after(wait)), |(_, at)| at);
            due.insert(sequence.clone(), (*aside, at));
        }
        self.due = due;
    }

    /// Tells every worker what is set aside in its segment; makes those that only letters need.
    fn tell_asides<T>(&mut self, now: Moment, effects: &mut Vec<Effect<T>>) {
        let Some(table) = &self.table else { return };
        let mut sets = BTreeMap::<SegmentId, BTreeMap<SequenceKey, Waits>>::new();
        let mut lent = BTreeMap::new();
        for (sequence, (aside, due)) in &self.due {
            let Aside { position, attempts, mask, revision, wait, .. } = *aside;
            let waits = |right| Waits { position, attempts, due: *due, right, mask, revision, wait };
            if let Some(right) = aside.lent_to_me {
                lent.insert(sequence.clone(), waits(Some(right)));
            }
            if aside.mine {
                sets.entry(aside.segment).or_default().insert(sequence.clone(), waits(aside.own_right));
            }
        }
        for (id, lane) in &mut self.lanes {
            let mut set = sets.remove(id).unwrap_or_default();
            for (sequence, position) in lane.outbox.refused_sequences() {
                set.entry(sequence).or_insert(Waits::of_nobody(position));
            }
            if set == lane.aside && lane.outbox.settled() == lane.told_aside {
                continue;
            }
            if lane.worker.is_none() && !set.is_empty() && lane.phase == Phase::Owned {
                self.lives += 1;
                lane.start(now, self.lives, table, self.bounds, effects);
            }
            if let Some(worker) = lane.worker {
                effects.push(Effect::Aside(worker, lane.outbox.settled(), set.clone()));
                lane.told_aside = lane.outbox.settled();
                lane.aside = set;
            }
        }
        self.loans.tell(lent, table, self.bounds, &mut self.lives, effects);
    }

    fn lose<T>(&mut self, effects: &mut Vec<Effect<T>>) {
        effects.extend(self.workers().map(Effect::Stop));
        self.lanes.clear();
        self.loans.lose();
        self.table = None;
        self.foreign_since = None;
    }

    /// Lanes whose rest is over begin anew; workers that have long had nothing to do end.
    fn wake<T>(&mut self, now: Moment, effects: &mut Vec<Effect<T>>) {
        if self.table.is_none() {
            return;
        }
        let mut woken = self.loans.recovers(now);
        let mut next = self.loans.rests;
        for lane in self.lanes.values_mut() {
            woken |= lane.recovers(now);
            let until = match lane.phase {
                Phase::Resting(until, _) => Some(until),
                _ => lane.linger(now, self.bounds.linger, effects).or(lane.outbox.refusal().map(|(_, until)| until)),
            };
            let until = until.filter(|until| *until > now);
            next = until.into_iter().chain(next).min();
        }
        effects.extend(next.map(Effect::WakeAt));
        if woken {
            self.tell_asides(now, effects);
        }
    }

    /// Reads for those that have room and are behind: the least place first.
    fn read<T>(&mut self, effects: &mut Vec<Effect<T>>) {
        if self.reading || self.table.as_ref().is_none_or(|table| table.paused) {
            return;
        }
        let batch = self.bounds.batch_events_max;
        let places = self.lanes.values().filter(|lane| lane.has_room(batch)).map(|lane| lane.from);
        if let Some(from) = places.min().filter(|from| *from < self.head) {
            self.reading = true;
            effects.push(Effect::Read { from, events_max: self.bounds.block_events_max });
        }
    }

    /// A block is offered to every lane with room whose place lies in it.
    fn block<T: Clone>(
        &mut self,
        now: Moment,
        from: Position,
        to: Position,
        works: Vec<Work<T>>,
        effects: &mut Vec<Effect<T>>,
    ) {
        self.reading = false;
        let Some(table) = &self.table else { return };
        if table.paused || to <= from {
            return;
        }
        for lane in self.lanes.values_mut() {
            if !lane.has_room(self.bounds.batch_events_max) || lane.from < from || lane.from >= to {
                continue;
            }
            let fed = lane.take(to, &works, self.bounds.batch_events_max);
            if fed.is_empty() {
                continue;
            }
            let worker = lane.worker.unwrap_or_else(|| {
                self.lives += 1;
                lane.start(now, self.lives, table, self.bounds, effects)
            });
            effects.push(Effect::Feed(worker, fed));
        }
    }

    fn report(&mut self, worker: WorkerId, report: Report) {
        if self.loans.worker == Some(worker) {
            self.loans.reported(report);
        } else if let Some(lane) = self.lane_of(worker) {
            lane.reported(report);
        }
    }

    fn died(&mut self, now: Moment, worker: WorkerId, cause: String) {
        let until = now.after(self.bounds.rest);
        if self.loans.worker == Some(worker) {
            self.loans.died(until);
        } else if let Some(lane) = self.lane_of(worker) {
            lane.died(until, cause);
        }
    }

    fn lane_of(&mut self, worker: WorkerId) -> Option<&mut Lane> {
        self.lanes.get_mut(&worker.segment?).filter(|lane| lane.worker == Some(worker))
    }

    /// The log has judged what was told.
    fn told<T>(&mut self, now: Moment, answer: Result<Vec<Stale>, ()>, effects: &mut Vec<Effect<T>>) {
        let Ok(stale) = answer else {
            self.outboxes().for_each(|outbox| outbox.take_back(now));
            return self.tell_asides(now, effects);
        };
        // Anything else that was refused is refused because the log knows better by now: the table says so.
        for Stale { segment, why, .. } in stale {
            let (Some(segment), Why::Limit(limit)) = (segment, why) else { continue };
            let low = self.table.as_ref().and_then(|table| table.mine.get(&segment)).map(|mine| mine.token.low());
            if let (Some(lane), Some(low)) = (self.lanes.get_mut(&segment), low) {
                lane.outbox.refuse(now, self.bounds.rest, limit, low);
            }
        }
        self.outboxes().for_each(Outbox::acknowledge);
        self.tell_asides(now, effects);
    }

    /// All outboxes: what takes part in each progress.
    fn outboxes(&mut self) -> impl Iterator<Item = &mut Outbox> {
        self.lanes.values_mut().map(|lane| &mut lane.outbox).chain([&mut self.loans.outbox])
    }

    fn handed_over(&mut self, now: Moment, segment: SegmentId, answer: Result<(), ()>) {
        if let Some(lane) = self.lanes.get_mut(&segment)
            && answer.is_err()
        {
            lane.hand_over_failed(now);
        }
    }

    /// Moves on what must leave: drains, waits, passes on, or puts off.
    fn hand_over<T>(&mut self, now: Moment, effects: &mut Vec<Effect<T>>) {
        let Some(table) = &self.table else { return };
        let (in_flight, mut stayed) = (self.is_in_flight(), false);
        for (id, lane) in &mut self.lanes {
            let Some(mine) = table.mine.get(id) else { continue };
            let to = match mine.motion {
                Motion::Rest => {
                    stayed |= !in_flight && lane.stay(effects);
                    continue;
                }
                Motion::To(node) => Some(node),
                Motion::Release => None,
            };
            let Some(next) = lane.leave(now, self.bounds, table.draining, in_flight, effects) else { continue };
            effects.push(Effect::HandOver { segment: *id, epoch: lane.epoch, next, to });
        }
        if stayed {
            self.tell_asides(now, effects);
            self.read(effects);
        }
    }

    /// A node that leaves gives back what is lent to it, once nothing of that runs.
    fn return_loans<T>(&mut self, effects: &mut Vec<Effect<T>>) {
        if self.table.as_ref().is_none_or(|table| !table.draining) {
            return;
        }
        let lent = self.due.iter().filter_map(|(sequence, (aside, _))| Some((aside.lent_to_me?, sequence)));
        self.loans.give_back(lent, effects);
    }

    /// Tells the log what moved, if something did and it may be told now.
    fn tell<T>(&mut self, now: Moment, tick: bool, effects: &mut Vec<Effect<T>>) {
        let Some(table) = &self.table else { return };
        if self.is_in_flight() {
            return;
        }
        let worked =
            self.loans.outbox.has_letters() || self.lanes.values().any(|lane| lane.outbox.has_something_to_send(now));
        let behind = self.lanes.values().map(Lane::untold).max().unwrap_or_default();
        if !worked && behind == 0 {
            (self.foreign_since, self.told_next) = (None, None);
            return;
        }
        let since = *self.foreign_since.get_or_insert(now);
        let until = since.after(self.bounds.foreign_wait);
        let ripe = worked || self.told_next.is_some() || behind >= self.bounds.foreign_events_max || until <= now;
        if !ripe {
            return effects.push(Effect::WakeAt(until));
        }
        if !tick {
            return effects.push(Effect::WantTick);
        }
        self.foreign_since = None;
        let as_of = table.as_of;
        let progress = self.progress(now);
        effects.push(Effect::Tell { as_of, progress });
    }

    /// Returns what moved, as far as one progress has room for it. What is left over keeps its segment's token where
    /// it is, and follows once this one is judged: so what is told in parts comes to the same as if told at once.
    fn progress(&mut self, now: Moment) -> Progress {
        // Where all of them may have to be named, only those that moved are, and nothing is said of the others.
        let names_all = self.lanes.len() <= self.bounds.told_tokens_max;
        let scanned = self.lanes.values().map(Lane::token).max().filter(|_| names_all);
        let mut progress = Progress { processor: self.processor, scanned, tokens: Vec::new(), letters: Vec::new() };
        let (mut own, mut lent) = Room::of(self.bounds);
        let first = self.told_next.take().unwrap_or_default();
        let (before, from): (Vec<_>, Vec<_>) = self.lanes.iter_mut().partition(|(id, _)| **id < first);
        let mut left = None;
        for (id, lane) in from.into_iter().chain(before) {
            if !names_all && progress.tokens.len() >= self.bounds.told_tokens_max {
                left.get_or_insert(*id);
                break;
            }
            let letters = progress.letters.len();
            let next = lane.send(now, &mut own, &mut progress.letters);
            if lane.outbox.has_letters() {
                left.get_or_insert(*id);
            }
            let moved = next != lane.outbox.acknowledged_position() || progress.letters.len() > letters;
            if Some(next) != scanned && (names_all || moved) {
                progress.tokens.push(TokenMove { segment: *id, epoch: lane.epoch, next });
            }
        }
        self.told_next = left;
        self.loans.outbox.send(now, Position(0), &mut lent, &mut progress.letters);
        debug_assert!(progress.bytes() <= self.bounds.progress_bytes_max(), "every part is bounded");
        progress
    }
}
