//! What is lent to this node: sequences of other nodes' segments that failed there, tried here by one worker, under
//! the right that each loan gives.

use alloc::{collections::BTreeMap, vec::Vec};

use super::{Bounds, Effect, Table, WorkerId, outbox::Outbox};
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
    /// What it reported and the log has not acknowledged.
    pub outbox: Outbox,
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
            None if lent.is_empty() || self.rests.is_some() || !self.outbox.is_acknowledged() || table.draining => {}
            Some(worker) if lent.is_empty() && self.outbox.is_acknowledged() => {
                *self = Self::default();
                effects.push(Effect::Stop(worker));
            }
            Some(worker) if self.aside != (self.outbox.settled(), lent.clone()) => {
                self.aside = (self.outbox.settled(), lent.clone());
                effects.push(Effect::Aside(worker, self.outbox.settled(), lent));
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
        self.drained |= report.drained;
        self.outbox.receive(report);
    }

    /// Its worker died.
    pub fn died(&mut self, until: Moment) {
        (self.worker, self.rests) = (None, Some(until));
    }

    /// The session is lost: nothing of it holds, and only the answer to what is in flight is still to come.
    pub fn lose(&mut self) {
        let mut outbox = core::mem::take(&mut self.outbox);
        outbox.abandon();
        *self = Self { outbox, ..Self::default() };
    }

    /// Whether a rest is over.
    pub fn recovers(&mut self, now: Moment) -> bool {
        self.rests.take_if(|until| *until <= now).is_some()
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
            _ if !self.outbox.is_acknowledged() => {}
            _ => {
                let back =
                    |(right, sequence): (_, &SequenceKey)| LetterMove::Return { right, sequence: sequence.clone() };
                self.outbox.add_letters(lent.map(back));
            }
        }
    }
}
