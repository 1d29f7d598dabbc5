//! What is lent to this node: sequences of other nodes' segments that failed there, tried here by one worker, under
//! the right that each loan gives.

use alloc::{collections::BTreeMap, vec::Vec};
use core::mem;

use super::{Bounds, Effect, Room, Table, WorkerId};
use crate::{
    command::{LetterMove, Right},
    letter::SequenceKey,
    time::Moment,
    worker::{Report, Waits},
};

/// The worker for letters lent to this node.
#[derive(Clone, Debug, Default)]
pub(super) struct Loans {
    pub worker: Option<WorkerId>,
    /// It died: another one is made then.
    pub rests: Option<Moment>,
    /// Its last report that came, was sent, was judged.
    reported: u64,
    sent: Option<u64>,
    settled: u64,
    letters: Vec<LetterMove>,
    sent_letters: Vec<LetterMove>,
    /// What it was told, as of which judged report.
    aside: (u64, BTreeMap<SequenceKey, Waits>),
    /// The node leaves: the worker was told to end, ...
    drains: bool,
    /// ... and has.
    drained: bool,
}

impl Loans {
    /// Tells the worker what is lent now; makes it, or ends it.
    pub fn tell<T>(
        &mut self,
        lent: BTreeMap<SequenceKey, Waits>,
        table: &Table,
        bounds: Bounds,
        lives: &mut u64,
        effects: &mut Vec<Effect<T>>,
    ) {
        match self.worker {
            None if lent.is_empty() || self.rests.is_some() || !self.is_told() || table.draining => {}
            Some(worker) if lent.is_empty() && self.is_told() => {
                *self = Self::default();
                effects.push(Effect::Stop(worker));
            }
            Some(worker) if self.aside != (self.settled, lent.clone()) => {
                self.aside = (self.settled, lent.clone());
                effects.push(Effect::Aside(worker, self.settled, lent));
            }
            Some(_) => {}
            None => {
                *lives += 1;
                let worker = WorkerId { segment: None, life: *lives };
                *self = Self { worker: Some(worker), aside: (0, lent.clone()), ..Self::default() };
                effects.push(Effect::Start(worker, table.settings(None, None, bounds)));
                if table.paused {
                    effects.push(Effect::Paused(worker, true));
                }
                effects.push(Effect::Aside(worker, 0, lent));
            }
        }
    }

    /// Its worker reports.
    pub fn reported(&mut self, report: Report) {
        self.reported = report.number;
        self.letters.extend(report.letters);
        self.drained |= report.drained;
        if self.sent.is_none() {
            self.settle(self.settled);
        }
    }

    /// The log has judged all up to this report. Those since then that have no letters are nothing for it to judge.
    fn settle(&mut self, judged: u64) {
        self.settled = if self.letters.is_empty() { self.reported } else { judged };
    }

    /// Its worker died.
    pub fn died(&mut self, until: Moment) {
        (self.worker, self.rests) = (None, Some(until));
    }

    /// Whether a rest is over.
    pub fn recovers(&mut self, now: Moment) -> bool {
        self.rests.take_if(|until| *until <= now).is_some()
    }

    /// Whether there is something to tell the log.
    pub const fn has_worked(&self) -> bool {
        !self.letters.is_empty()
    }

    /// Sends what there is to tell, as far as there is room.
    pub fn send(&mut self, room: &mut Room, letters: &mut Vec<LetterMove>) {
        let mut left = mem::take(&mut self.letters).into();
        let all = room.fill(&mut left, &mut self.sent_letters);
        // While a part is left nothing new counts as judged.
        self.sent = Some(if all { self.reported } else { self.settled });
        self.letters = left.into();
        letters.extend(self.sent_letters.iter().cloned());
    }

    /// What was sent is judged.
    pub fn acknowledged(&mut self) {
        if let Some(sent) = self.sent.take() {
            self.settle(sent);
        }
        self.sent_letters.clear();
    }

    /// What was sent may not have come: it is told again, before what came since.
    pub fn take_back(&mut self) {
        self.sent = None;
        let letters = mem::take(&mut self.letters);
        self.letters = mem::take(&mut self.sent_letters);
        self.letters.extend(letters);
        self.settle(self.settled);
    }

    /// The node leaves: what it has is given back, once nothing of that runs.
    pub fn give_back<'a, T>(
        &mut self,
        lent: impl Iterator<Item = (Right, &'a SequenceKey)>,
        effects: &mut Vec<Effect<T>>,
    ) {
        match self.worker {
            Some(worker) if !self.drains => {
                self.drains = true;
                effects.push(Effect::Drain(worker));
            }
            Some(_) if !self.drained => {}
            _ if !self.is_told() => {}
            _ => {
                let back =
                    |(right, sequence): (_, &SequenceKey)| LetterMove::Return { right, sequence: sequence.clone() };
                self.letters.extend(lent.map(back));
            }
        }
    }

    /// Whether the log knows all that it can know.
    const fn is_told(&self) -> bool {
        self.letters.is_empty() && self.sent.is_none() && self.settled == self.reported
    }
}
