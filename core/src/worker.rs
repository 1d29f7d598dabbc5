//! A worker: handles the events of one segment, in order within each sequence.
//!
//! It is fed with events that are its segment's, calls the handler with a batch of them, and reports what
//! became of them: handled, or told to the log as a letter. A sequence whose event failed is *aside* from that
//! moment on: its later events become letters too, the others flow. Letters are tried again when they are due.
//!
//! What a worker knows of the log it is told by [`Input::Aside`]: which of its sequences are set aside, and up
//! to which of its own reports that is. A sequence it reported itself stays aside until a later answer says
//! that it is not.

mod flood;
#[cfg(test)]
mod tests;

use alloc::{
    collections::{BTreeMap, VecDeque},
    format,
    string::String,
    vec::Vec,
};
use core::time::Duration;

use self::flood::Flood;
pub use self::flood::{FLOOD_REST, FLOOD_SEQUENCES_MIN, FLOOD_WINDOW};
use crate::{
    backoff::Backoff,
    command::{LetterMove, Right},
    id::{Epoch, Position, SegmentId},
    letter::{Failure, SequenceKey},
    processor::OnError,
    time::Moment,
};

/// Tries of letters that run at once in one worker.
pub const TRIES_MAX: usize = 16;

/// An event on its way to a handler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Work<T> {
    /// Where it stands.
    pub position: Position,
    /// What it must be handled in order with.
    pub sequence: SequenceKey,
    /// Of the sequence.
    pub hash: u64,
    /// Its type.
    pub kind: String,
    /// The event itself, in whatever form the handler takes it.
    pub event: T,
}

/// What a worker is made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The claim it works under; none where it only tries letters that are lent to its node.
    pub claim: Option<(SegmentId, Epoch)>,
    /// What a failure comes to.
    pub on_error: OnError,
    /// How failed work is tried again.
    pub backoff: Backoff,
    /// Events handed to the handler at once.
    pub batch_events_max: usize,
    /// The event it waits with since an earlier owner's failure (`on_error: stop`).
    pub stalled: Option<Stalled>,
}

/// An event that a segment waits with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stalled {
    /// Which event.
    pub position: Position,
    /// How often it was tried.
    pub attempts: u32,
    /// When it is tried again.
    pub due: Moment,
}

/// A sequence set aside, as the log knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waits {
    /// Its first letter.
    pub position: Position,
    /// How often that was tried.
    pub attempts: u32,
    /// When it is tried next; none if it waits for a person.
    pub due: Option<Moment>,
    /// By which right this worker may try it; none while it is lent to another node.
    pub right: Option<Right>,
}

/// What a failed handling comes to, as the handler says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// In the handler's words.
    pub cause: String,
    /// What it says of the event.
    pub meaning: Meaning,
    /// The handler's own wait before the next attempt.
    pub after: Option<Duration>,
    /// Drawn by the caller.
    pub draw: u16,
}

/// What a failure says of the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// Another attempt may help.
    Retry,
    /// Try no more by itself.
    SetAside,
    /// Nothing: the handler never saw it. Whatever `on_error` is, the segment waits with the event until some node
    /// can ask, so that no handler that is missing makes a letter of a healthy event.
    Unable,
}

/// What happens to a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input<T> {
    /// Events of its segment, in log order, after all it was fed before.
    Feed(Vec<Work<T>>),
    /// The run is over: so many were handled, then one failed, or the run was stopped, or none was left.
    Ran {
        /// How many were handled (or skipped, as the handler said).
        handled: usize,
        /// How the next one failed.
        fault: Option<Fault>,
    },
    /// A try of a letter is over.
    Tried {
        /// Which sequence.
        sequence: SequenceKey,
        /// How it failed, if it did.
        fault: Option<Fault>,
    },
    /// The sequences of its segment that are set aside, as of the log with its reports up to `settled` in it.
    Aside {
        /// The last of its reports that the log has judged.
        settled: u64,
        /// All of them.
        sequences: BTreeMap<SequenceKey, Waits>,
    },
    /// A person paused the processor, or let it go on.
    Paused(bool),
    /// The claim is to be handed over: end what runs, drop the rest.
    Drain,
    /// A moment asked for has come.
    Woke,
}

/// What a worker wants done, in order, before the next input.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "effects are wishes: somebody has to carry them out"]
pub enum Effect<T> {
    /// Call the handler with these, one after the other, until one fails. Answered by [`Input::Ran`].
    Run {
        /// In order; never empty.
        works: Vec<Work<T>>,
        /// Which attempt this is, of the first; the others are at their first.
        attempt: u32,
    },
    /// End the run after the event that is being handled.
    StopRun,
    /// Call the handler with the first letter of a sequence. Answered by [`Input::Tried`].
    Try {
        /// Which sequence.
        sequence: SequenceKey,
        /// Its first letter.
        position: Position,
        /// Which attempt this is.
        attempt: u32,
        /// Under which right.
        right: Right,
    },
    /// Tell the coordinator.
    Report(Report),
    /// Send [`Input::Woke`] then.
    WakeAt(Moment),
}

/// What became of events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Counts this worker's reports, from 1.
    pub number: u64,
    /// Events done since the last report: handled, or letters by now. Always the first ones of what it was fed
    /// and had not reported before.
    pub done: usize,
    /// What is to be told to the log, in order.
    pub letters: Vec<LetterMove>,
    /// Nothing runs any more and nothing will: the answer to [`Input::Drain`].
    pub drained: bool,
}

/// The phase of a worker that rests, as too many sequences fail.
pub const FLOODED: &str = "flooded";

/// What a worker is doing, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// In a word.
    pub phase: &'static str,
    /// Events fed and not begun.
    pub queue: usize,
    /// The attempt that runs or is waited for.
    pub attempt: u32,
    /// When something is tried again.
    pub retry_at: Option<Moment>,
    /// Why it stands still, where it does.
    pub reason: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase<T> {
    /// Nothing runs.
    Idle,
    /// The handler has these; the first is at this attempt.
    Running(Vec<Work<T>>, u32),
    /// Waits with this event, tried so often, until then: `on_error: stop`, or a handler that cannot be asked.
    Stalled(Work<T>, u32, Moment, String),
    /// Too many sequences failed, the last for this cause: rests until then.
    Flooded(Moment, String),
}

/// A try of a letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Try {
    /// The handler has it.
    Running(Waits),
    /// Told to the log by this report.
    Told(u64),
}

/// See the [module](self).
#[derive(Clone, Debug)]
pub struct Worker<T> {
    settings: Settings,
    phase: Phase<T>,
    queue: VecDeque<Work<T>>,
    /// What the log says is set aside.
    aside: BTreeMap<SequenceKey, Waits>,
    /// Sequences told to be set aside, or queued behind, by a report the log has not judged yet.
    told: BTreeMap<SequenceKey, u64>,
    tries: BTreeMap<SequenceKey, Try>,
    flood: Flood,
    paused: bool,
    draining: Draining,
    reports: u64,
    // The report in the making.
    done: usize,
    letters: Vec<LetterMove>,
}

/// Whether it is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Draining {
    No,
    Asked,
    Reported,
}

impl<T: Clone> Worker<T> {
    /// A worker with nothing to do.
    #[must_use]
    pub const fn new(settings: Settings) -> Self {
        Self {
            settings,
            phase: Phase::Idle,
            queue: VecDeque::new(),
            aside: BTreeMap::new(),
            told: BTreeMap::new(),
            tries: BTreeMap::new(),
            flood: Flood::new(Moment(0)),
            paused: false,
            draining: Draining::No,
            reports: 0,
            done: 0,
            letters: Vec::new(),
        }
    }

    /// Takes one input and answers with what is to be done about it.
    pub fn step(&mut self, now: Moment, input: Input<T>) -> Vec<Effect<T>> {
        let mut effects = Vec::new();
        match input {
            Input::Feed(works) => {
                if self.draining == Draining::No {
                    self.queue.extend(works);
                }
            }
            Input::Ran { handled, fault } => self.ran(now, handled, fault),
            Input::Tried { sequence, fault } => self.tried(sequence, fault),
            Input::Aside { settled, sequences } => {
                self.told.retain(|_, report| *report > settled);
                self.tries.retain(|_, tried| !matches!(tried, Try::Told(report) if *report <= settled));
                self.aside = sequences;
            }
            Input::Paused(paused) => {
                self.paused = paused;
                if paused && matches!(self.phase, Phase::Running(..)) {
                    effects.push(Effect::StopRun);
                }
            }
            Input::Drain => {
                if matches!(self.phase, Phase::Running(..)) {
                    effects.push(Effect::StopRun);
                }
                self.drain();
            }
            Input::Woke => {}
        }
        self.begin(now, &mut effects);
        self.begin_tries(now, &mut effects);
        if let Some(report) = self.report() {
            effects.push(Effect::Report(report));
        }
        effects
    }

    /// Whether nothing is fed, runs, waits or is set aside: such a worker need not live.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Idle)
            && self.queue.is_empty()
            && self.aside.is_empty()
            && self.told.is_empty()
            && self.tries.is_empty()
    }

    /// For people.
    #[must_use]
    pub fn status(&self) -> Status {
        let (phase, attempt, retry_at, reason) = match &self.phase {
            _ if self.draining != Draining::No => ("handing-over", 0, None, None),
            _ if self.paused => ("paused", 0, None, Some("paused by a person".into())),
            Phase::Running(_, attempt) => ("handling", *attempt, None, None),
            Phase::Stalled(_, attempt, until, cause) => ("stalled", *attempt, Some(*until), Some(cause.clone())),
            Phase::Flooded(until, cause) => {
                let reason = format!("so many sequences fail that it rests; the last failed so: {cause}");
                (FLOODED, 0, Some(*until), Some(reason))
            }
            Phase::Idle if self.aside.is_empty() => ("idle", 0, None, None),
            Phase::Idle => {
                let due = self.aside.values().filter_map(|waits| waits.due).min();
                ("waiting", 0, due, None)
            }
        };
        Status { phase, queue: self.queue.len(), attempt, retry_at, reason }
    }

    fn is_aside(&self, sequence: &SequenceKey) -> bool {
        self.aside.contains_key(sequence) || self.told.contains_key(sequence)
    }

    /// Gives the handler something to do, if it has nothing and may have something.
    fn begin(&mut self, now: Moment, effects: &mut Vec<Effect<T>>) {
        if self.draining != Draining::No || self.paused {
            return;
        }
        match &self.phase {
            Phase::Running(..) => return,
            Phase::Flooded(until, _) if now < *until => return effects.push(Effect::WakeAt(*until)),
            Phase::Flooded(..) => self.phase = Phase::Idle,
            Phase::Stalled(_, _, until, _) if now < *until => return effects.push(Effect::WakeAt(*until)),
            Phase::Stalled(work, attempts, ..) => {
                let (works, attempt) = (Vec::from([work.clone()]), attempts + 1);
                self.phase = Phase::Running(works.clone(), attempt);
                return effects.push(Effect::Run { works, attempt: self.attempt_seen(attempt) });
            }
            Phase::Idle => {}
        }
        let mut works = Vec::new();
        while let Some(work) = self.queue.front()
            && works.len() < self.settings.batch_events_max
        {
            let (position, stalled) = (work.position, self.settings.stalled);
            let aside = self.is_aside(&work.sequence);
            // Its letters were dropped while one is being tried: what comes behind waits for the end of that.
            if !aside && matches!(self.tries.get(&work.sequence), Some(Try::Running(_))) {
                break;
            }
            // Letters are told in order with what runs, and a stalled event is tried alone: a batch ends there.
            if (aside || stalled.is_some_and(|stalled| position >= stalled.position)) && !works.is_empty() {
                break;
            }
            if self.resumes_stall(position) {
                return self.begin(now, effects);
            }
            let work = self.queue.pop_front().expect("its front was looked at just now");
            if aside {
                self.tell_queued(work);
            } else {
                self.flood.saw(now, work.hash);
                works.push(work);
            }
        }
        if !works.is_empty() {
            self.phase = Phase::Running(works.clone(), 1);
            effects.push(Effect::Run { works, attempt: 1 });
        }
    }

    /// An earlier owner waited with this event: so do we.
    fn resumes_stall(&mut self, front: Position) -> bool {
        let Some(stalled) = self.settings.stalled.filter(|stalled| front >= stalled.position) else { return false };
        self.settings.stalled = None;
        if front != stalled.position {
            return false;
        }
        let work = self.queue.pop_front().expect("its front was looked at just now");
        self.phase = Phase::Stalled(work, stalled.attempts, stalled.due, "waits since an earlier owner failed".into());
        true
    }

    fn ran(&mut self, now: Moment, handled: usize, fault: Option<Fault>) {
        let Phase::Running(works, attempt) = core::mem::replace(&mut self.phase, Phase::Idle) else {
            return; // a run that was given up
        };
        if attempt > 1 && handled == 0 && fault.is_none() {
            // Its retry was called off before it began: it waits on as it was.
            if let Some(work) = works.into_iter().next().filter(|_| self.draining == Draining::No) {
                self.phase = Phase::Stalled(work, attempt - 1, now, "its retry was interrupted".into());
            }
            return;
        }
        let mut works = works.into_iter();
        self.done += handled.min(works.len());
        let first = works.as_slice().first().map(|work| work.position);
        if handled > 0
            && attempt > 1
            && let (Some(position), Some((segment, epoch))) = (first, self.settings.claim)
        {
            self.letters.push(LetterMove::Resume { segment, epoch, position });
        }
        let mut rest = works.by_ref().skip(handled);
        if let Some(fault) = fault
            && let Some(work) = rest.next()
        {
            self.failed(now, work, if handled == 0 { attempt } else { 1 }, fault);
        }
        let rest: Vec<_> = rest.collect();
        if self.draining == Draining::No {
            rest.into_iter().rev().for_each(|work| self.queue.push_front(work));
        }
    }

    /// An event failed at its place in the order.
    fn failed(&mut self, now: Moment, work: Work<T>, attempt: u32, fault: Fault) {
        let Some((segment, epoch)) = self.settings.claim else { return };
        let waits = match fault.meaning {
            Meaning::Unable => true,
            Meaning::SetAside => false,
            Meaning::Retry => self.settings.on_error == OnError::Stop,
        };
        if waits {
            return self.stall(now, segment, epoch, work, attempt, fault);
        }
        let cause = fault.cause.clone();
        let failure = self.failure(self.attempt_seen(attempt), fault);
        self.flood.failed(now, work.hash);
        let Work { position, sequence, kind, .. } = work;
        if attempt > 1 {
            self.letters.push(LetterMove::Resume { segment, epoch, position });
        }
        // The log only counts one that is skipped: nothing need wait behind it.
        if !(self.settings.on_error == OnError::Skip && failure.last) {
            self.told.insert(sequence.clone(), self.reports + 1);
        }
        self.letters.push(LetterMove::SetAside { segment, epoch, sequence, position, kind, failure });
        self.done += 1;
        if self.flood.is_one() && self.draining == Draining::No {
            self.flood = Flood::new(now);
            self.phase = Phase::Flooded(now.after(FLOOD_REST), cause);
        }
    }

    /// The segment waits with this event.
    fn stall(&mut self, now: Moment, segment: SegmentId, epoch: Epoch, work: Work<T>, attempt: u32, fault: Fault) {
        let failure = self.failure(attempt, fault);
        let (position, until, cause) = (work.position, now.after(failure.wait()), failure.cause.clone());
        self.letters.push(LetterMove::Stall { segment, epoch, position, failure });
        if self.draining == Draining::No {
            self.phase = Phase::Stalled(work, attempt, until, cause);
        }
    }

    /// Which attempt the handler sees in one that the segment waited with. Only where it stops for failures was the
    /// handler asked before; else it could not be.
    fn attempt_seen(&self, attempt: u32) -> u32 {
        if self.settings.on_error == OnError::Stop { attempt } else { 1 }
    }

    fn tell_queued(&mut self, work: Work<T>) {
        let Some((segment, epoch)) = self.settings.claim else { return };
        let Work { position, sequence, kind, .. } = work;
        self.told.insert(sequence.clone(), self.reports + 1);
        self.letters.push(LetterMove::Queue { segment, epoch, sequence, position, kind });
        self.done += 1;
    }

    fn failure(&self, attempt: u32, fault: Fault) -> Failure {
        let backoff = self.settings.backoff;
        let wait = fault.after.unwrap_or_else(|| backoff.wait(attempt, fault.draw));
        Failure {
            attempt,
            cause: fault.cause,
            wait_ms: u32::try_from(wait.as_millis()).unwrap_or(u32::MAX),
            draw: fault.draw,
            last: match fault.meaning {
                Meaning::SetAside => true,
                // A segment that stops is tried for ever: nobody but the handler can tell it to go on.
                Meaning::Retry => self.settings.on_error != OnError::Stop && attempt >= backoff.attempts,
                Meaning::Unable => false,
            },
        }
    }

    /// Tries the letters that are due.
    fn begin_tries(&mut self, now: Moment, effects: &mut Vec<Effect<T>>) {
        if self.draining != Draining::No || self.paused {
            return;
        }
        let mut running = self.tries.values().filter(|tried| matches!(tried, Try::Running(_))).count();
        let mut next = None;
        for (sequence, waits) in &self.aside {
            let (Some(due), Some(right)) = (waits.due, waits.right) else { continue };
            if self.tries.contains_key(sequence) {
                continue;
            }
            if due > now {
                next = Some(next.map_or(due, |next: Moment| next.min(due)));
            } else if running < TRIES_MAX {
                running += 1;
                self.tries.insert(sequence.clone(), Try::Running(*waits));
                let (sequence, position, attempt) = (sequence.clone(), waits.position, waits.attempts + 1);
                effects.push(Effect::Try { sequence, position, attempt, right });
            }
        }
        effects.extend(next.map(Effect::WakeAt));
    }

    fn tried(&mut self, sequence: SequenceKey, fault: Option<Fault>) {
        let Some(Try::Running(waits)) = self.tries.get(&sequence).copied() else { return };
        self.tries.insert(sequence.clone(), Try::Told(self.reports + 1));
        let (position, Some(right)) = (waits.position, waits.right) else { return };
        self.letters.push(match fault {
            None => LetterMove::Done { right, sequence, position, skipped: false },
            Some(fault) => {
                let failure = self.failure(waits.attempts + 1, fault);
                LetterMove::Failed { right, sequence, position, failure }
            }
        });
    }

    fn drain(&mut self) {
        if !matches!(self.phase, Phase::Running(..)) {
            self.phase = Phase::Idle;
        }
        self.queue.clear();
        if self.draining == Draining::No {
            self.draining = Draining::Asked;
        }
    }

    /// What there is to tell, if there is anything.
    fn report(&mut self) -> Option<Report> {
        let running = self.tries.values().any(|tried| matches!(tried, Try::Running(_)));
        let idle = !running && !matches!(self.phase, Phase::Running(..));
        let drained = idle && self.draining == Draining::Asked;
        if self.done == 0 && self.letters.is_empty() && !drained {
            return None;
        }
        if drained {
            self.draining = Draining::Reported;
        }
        self.reports += 1;
        let (number, done) = (self.reports, core::mem::take(&mut self.done));
        Some(Report { number, done, letters: core::mem::take(&mut self.letters), drained })
    }
}
