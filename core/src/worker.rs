//! A worker: handles the events of one segment, in order within each sequence.
//!
//! It is fed with events of its segment, calls the handler with a batch of them, and reports the results: events are
//! handled, or become letters in the log. A sequence whose event failed is *set aside* from that moment on: its later
//! events become letters too, while other sequences continue. Letters are tried again when they are due.
//!
//! A worker learns from [`Input::SetAside`] the state of the log: which of its sequences are set aside, as of which of
//! its own reports. A sequence that it reported itself stays set aside until a later input says that it is not.

mod flood;
mod message;
#[cfg(test)]
mod tests;

use alloc::{
    collections::{BTreeMap, VecDeque},
    format,
    string::String,
    vec::Vec,
};

use self::flood::Flood;
pub use self::{
    flood::{FLOOD_REST, FLOOD_SEQUENCES_MIN, FLOOD_WINDOW},
    message::{Effect, FLOODED, Fault, FaultKind, Input, Report, SetAsideSequence, Settings, Stalled, Status, Work},
};
use crate::{
    command::LetterMove,
    id::{Epoch, Position, SegmentId},
    letter::{Failure, SequenceKey, truncate},
    processor::OnError,
    time::Moment,
};

/// The number of letters that one worker tries at once.
pub const TRIES_MAX: usize = 16;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase<T> {
    /// No handler runs.
    Idle,
    /// The handler has these events; the first is at this attempt.
    Running(Vec<Work<T>>, u32),
    /// The segment waits until then with this event, after this many attempts: `on_error: stop`, or a handler that
    /// cannot be called.
    Stalled(Work<T>, u32, Moment, String),
    /// Too many sequences failed, the last for this cause: the segment is paused until then.
    Flooded(Moment, String),
}

/// A try of a letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Try {
    /// The handler has it.
    Running(SetAsideSequence),
    /// Reported to the log in this report.
    Reported(u64),
}

/// See the [module](self).
#[derive(Clone, Debug)]
pub struct Worker<T> {
    settings: Settings,
    phase: Phase<T>,
    queue: VecDeque<Work<T>>,
    /// What the log says is set aside.
    set_aside: BTreeMap<SequenceKey, SetAsideSequence>,
    /// Sequences reported as set aside, or as queued behind, in a report that the log has not judged yet.
    unjudged: BTreeMap<SequenceKey, u64>,
    tries: BTreeMap<SequenceKey, Try>,
    flood: Flood,
    paused: bool,
    /// Whether it has reported that it is paused and no handler runs.
    pause_reported: bool,
    draining: Draining,
    reports: u64,
    // The next report.
    done: usize,
    letters: Vec<LetterMove>,
}

/// Whether it was asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Draining {
    No,
    Asked,
    Reported,
}

impl<T: Clone> Worker<T> {
    /// Makes a worker with nothing to do.
    #[must_use]
    pub const fn new(settings: Settings) -> Self {
        Self {
            settings,
            phase: Phase::Idle,
            queue: VecDeque::new(),
            set_aside: BTreeMap::new(),
            unjudged: BTreeMap::new(),
            tries: BTreeMap::new(),
            flood: Flood::new(Moment(0)),
            paused: false,
            pause_reported: false,
            draining: Draining::No,
            reports: 0,
            done: 0,
            letters: Vec::new(),
        }
    }

    /// Takes one input and returns its effects.
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
            Input::SetAside { settled, sequences } => {
                self.unjudged.retain(|_, report| *report > settled);
                self.tries.retain(|_, tried| !matches!(tried, Try::Reported(report) if *report <= settled));
                self.set_aside = sequences;
            }
            Input::SetPaused(paused) => {
                (self.paused, self.pause_reported) = (paused, false);
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
            Input::Woken => {}
        }
        self.begin(now, &mut effects);
        self.begin_tries(now, &mut effects);
        if let Some(report) = self.report() {
            effects.push(Effect::Report(report));
        }
        if self.paused && !self.pause_reported && !self.runs() {
            self.pause_reported = true;
            effects.push(Effect::ReportPaused);
        }
        effects
    }

    /// Returns whether a handler runs.
    fn runs(&self) -> bool {
        matches!(self.phase, Phase::Running(..)) || self.tries.values().any(|tried| matches!(tried, Try::Running(_)))
    }

    /// Returns its status, for people.
    #[must_use]
    pub fn status(&self) -> Status {
        let (phase, attempt, retry_at, reason) = match &self.phase {
            _ if self.draining != Draining::No => ("handing-over", 0, None, None),
            _ if self.paused => ("paused", 0, None, Some("paused by an operator".into())),
            Phase::Running(_, attempt) => ("handling", *attempt, None, None),
            Phase::Stalled(_, attempt, until, cause) => ("stalled", *attempt, Some(*until), Some(cause.clone())),
            Phase::Flooded(until, cause) => {
                let reason = format!("paused because too many sequences fail; the last failure: {cause}");
                (FLOODED, 0, Some(*until), Some(reason))
            }
            Phase::Idle if self.set_aside.is_empty() => ("idle", 0, None, None),
            Phase::Idle => {
                let due = self.set_aside.values().filter_map(|waits| waits.due).min();
                ("waiting", 0, due, None)
            }
        };
        Status { phase, queue: self.queue.len(), attempt, retry_at, reason }
    }

    fn is_set_aside(&self, sequence: &SequenceKey) -> bool {
        self.set_aside.contains_key(sequence) || self.unjudged.contains_key(sequence)
    }

    /// Calls the handler with the next events, if it is free and there are any.
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
            let is_set_aside = self.is_set_aside(&work.sequence);
            // Its letters were dropped while one of them is being tried: later events wait until that try ends.
            if !is_set_aside && matches!(self.tries.get(&work.sequence), Some(Try::Running(_))) {
                break;
            }
            // Letters are reported in order with the handled events, and a stalled event is tried alone: a batch ends
            // there.
            if (is_set_aside || stalled.is_some_and(|stalled| position >= stalled.position)) && !works.is_empty() {
                break;
            }
            if self.resumes_stall(position) {
                return self.begin(now, effects);
            }
            let work = self.queue.pop_front().expect("its front was checked just now");
            if is_set_aside {
                self.report_queued(work);
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

    /// Resumes waiting with the event with which an earlier owner waited.
    fn resumes_stall(&mut self, front: Position) -> bool {
        let Some(stalled) = self.settings.stalled.filter(|stalled| front >= stalled.position) else { return false };
        self.settings.stalled = None;
        if front != stalled.position {
            return false;
        }
        let work = self.queue.pop_front().expect("its front was checked just now");
        self.phase =
            Phase::Stalled(work, stalled.attempts, stalled.due, "has waited since an earlier owner failed".into());
        true
    }

    fn ran(&mut self, now: Moment, handled: usize, fault: Option<Fault>) {
        let Phase::Running(works, attempt) = core::mem::replace(&mut self.phase, Phase::Idle) else {
            return; // an abandoned run
        };
        if attempt > 1 && handled == 0 && fault.is_none() {
            // Its retry was called off before it began: it waits as before.
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

    /// Handles the failure of an event.
    fn failed(&mut self, now: Moment, work: Work<T>, attempt: u32, fault: Fault) {
        let Some((segment, epoch)) = self.settings.claim else { return };
        let waits = match fault.kind {
            FaultKind::Unable => true,
            FaultKind::SetAside | FaultKind::Skip => false,
            FaultKind::Retry => self.settings.on_error == OnError::Stop,
        };
        if waits {
            return self.stall(now, segment, epoch, work, attempt, fault);
        }
        self.done += 1;
        if attempt > 1 {
            self.letters.push(LetterMove::Resume { segment, epoch, position: work.position });
        }
        if fault.kind == FaultKind::Skip {
            let Work { position, sequence, .. } = work;
            return self.letters.push(LetterMove::Skipped { segment, epoch, sequence, position });
        }
        let cause = fault.cause.clone();
        let failure = self.failure(self.attempt_seen(attempt), fault);
        self.flood.failed(now, work.hash);
        let Work { position, sequence, kind, .. } = work;
        // A skipped event is only counted by the log: no later event needs to wait for it.
        if !(self.settings.on_error == OnError::Skip && failure.last) {
            self.unjudged.insert(sequence.clone(), self.reports + 1);
        }
        self.letters.push(LetterMove::SetAside { segment, epoch, sequence, position, kind, failure });
        if self.flood.is_one() && self.draining == Draining::No {
            self.flood = Flood::new(now);
            self.phase = Phase::Flooded(now.after(FLOOD_REST), cause);
        }
    }

    /// Makes the segment wait with this event.
    fn stall(&mut self, now: Moment, segment: SegmentId, epoch: Epoch, work: Work<T>, attempt: u32, fault: Fault) {
        let unable = fault.kind == FaultKind::Unable;
        let failure = self.failure(attempt, fault);
        let (position, until, cause) = (work.position, now.after(failure.wait()), failure.cause.clone());
        self.letters.push(LetterMove::Stall { segment, epoch, position, failure, unable });
        if self.draining == Draining::No {
            self.phase = Phase::Stalled(work, attempt, until, cause);
        }
    }

    /// Returns the attempt that the handler receives for an event with which the segment waited. The handler was only
    /// called before if the segment stops for failures; otherwise it could not be called.
    fn attempt_seen(&self, attempt: u32) -> u32 {
        if self.settings.on_error == OnError::Stop { attempt } else { 1 }
    }

    fn report_queued(&mut self, work: Work<T>) {
        let Some((segment, epoch)) = self.settings.claim else { return };
        let Work { position, sequence, kind, .. } = work;
        self.unjudged.insert(sequence.clone(), self.reports + 1);
        self.letters.push(LetterMove::Queue { segment, epoch, sequence, position, kind });
        self.done += 1;
    }

    fn failure(&self, attempt: u32, fault: Fault) -> Failure {
        let backoff = self.settings.backoff;
        let wait = fault.after.unwrap_or_else(|| backoff.wait(attempt, fault.random));
        Failure {
            attempt,
            cause: truncate(&fault.cause, self.settings.cause_bytes_max),
            wait_ms: u32::try_from(wait.as_millis()).unwrap_or(u32::MAX),
            random: fault.random,
            last: match fault.kind {
                FaultKind::SetAside | FaultKind::Skip => true,
                // A segment that stops is tried without end: only the handler can make it continue.
                FaultKind::Retry => self.settings.on_error != OnError::Stop && attempt >= backoff.attempts,
                FaultKind::Unable => false,
            },
        }
    }

    /// Returns the failure for a letter whose handler could not be called: its attempts do not change, and the waits
    /// double.
    fn unable(&self, waits: &SetAsideSequence, fault: Fault) -> Failure {
        let wait = fault.after.unwrap_or_else(|| self.settings.backoff.after(waits.wait, fault.random));
        let fault = Fault { after: Some(wait), ..fault };
        Failure { attempt: waits.attempts, ..self.failure(waits.attempts + 1, fault) }
    }

    /// Tries the letters that are due.
    fn begin_tries(&mut self, now: Moment, effects: &mut Vec<Effect<T>>) {
        if self.draining != Draining::No || self.paused {
            return;
        }
        let mut running = self.tries.values().filter(|tried| matches!(tried, Try::Running(_))).count();
        let mut next = None;
        for (sequence, waits) in &self.set_aside {
            let (Some(due), Some(right)) = (waits.due, waits.right) else { continue };
            if self.tries.contains_key(sequence) {
                continue;
            }
            if due > now {
                next = Some(next.map_or(due, |next: Moment| next.min(due)));
            } else if running < TRIES_MAX {
                running += 1;
                self.tries.insert(sequence.clone(), Try::Running(*waits));
                let SetAsideSequence { position, attempts, mask, replaying, .. } = *waits;
                let (sequence, attempt) = (sequence.clone(), attempts + 1);
                effects.push(Effect::Try { sequence, position, attempt, right, mask, replaying });
            }
        }
        effects.extend(next.map(Effect::WakeAt));
    }

    fn tried(&mut self, sequence: SequenceKey, fault: Option<Fault>) {
        let Some(Try::Running(waits)) = self.tries.get(&sequence).copied() else { return };
        self.tries.insert(sequence.clone(), Try::Reported(self.reports + 1));
        let (position, Some(right)) = (waits.position, waits.right) else { return };
        let skipped = fault.as_ref().is_some_and(|fault| fault.kind == FaultKind::Skip);
        self.letters.push(match fault.filter(|_| !skipped) {
            None => LetterMove::Done { right, sequence, position, skipped },
            Some(fault) => {
                let unable = fault.kind == FaultKind::Unable;
                let failure = if unable { self.unable(&waits, fault) } else { self.failure(waits.attempts + 1, fault) };
                LetterMove::Tried { right, sequence, position, revision: waits.revision, failure, unable }
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

    /// Returns the next report, if there is anything to report.
    fn report(&mut self) -> Option<Report> {
        let drained = !self.runs() && self.draining == Draining::Asked;
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
