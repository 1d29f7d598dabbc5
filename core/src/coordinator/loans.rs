//! Letters lent to this node: sequences of other nodes' segments that failed there are tried here by one worker, under
//! the right that each loan gives.

use alloc::{collections::BTreeMap, vec::Vec};

use super::{Bounds, Effect, ProcessorView, WorkerId, outbox::Outbox};
use crate::{
    command::{LetterMove, Right},
    letter::SequenceKey,
    time::Moment,
    worker::{Report, SetAsideSequence},
};

/// The worker for letters lent to this node.
#[derive(Clone, Debug, Default)]
pub(super) struct Loans {
    pub worker: Option<WorkerId>,
    /// When a new worker is made, if the last one died.
    pub restart_at: Option<Moment>,
    /// What the worker reported and the log has not acknowledged.
    pub outbox: Outbox,
    /// What the worker knows to be lent, and the last report that it knows to be settled.
    set_aside: (u64, BTreeMap<SequenceKey, SetAsideSequence>),
    /// Whether the worker was asked to end, because the node leaves, ...
    drain_requested: bool,
    /// ... and whether it has ended.
    drained: bool,
}

impl Loans {
    /// Informs the worker of what is lent now; starts it, or stops it.
    pub(super) fn inform_worker<T>(
        &mut self,
        lent: BTreeMap<SequenceKey, SetAsideSequence>,
        view: &ProcessorView,
        bounds: Bounds,
        workers_started: &mut u64,
        effects: &mut Vec<Effect<T>>,
    ) {
        match self.worker {
            None if lent.is_empty() || self.restart_at.is_some() || !self.outbox.is_acknowledged() || view.draining => {
            }
            Some(worker) if lent.is_empty() && self.outbox.is_acknowledged() => {
                *self = Self::default();
                effects.push(Effect::Stop(worker));
            }
            Some(worker) if self.set_aside != (self.outbox.settled(), lent.clone()) => {
                self.set_aside = (self.outbox.settled(), lent.clone());
                effects.push(Effect::UpdateSetAside(worker, self.outbox.settled(), lent));
            }
            Some(_) => {}
            None => {
                *workers_started += 1;
                let worker = WorkerId { segment: None, number: *workers_started };
                *self = Self { worker: Some(worker), set_aside: (0, lent.clone()), ..Self::default() };
                effects.push(Effect::Start(worker, view.settings(None, None, bounds)));
                if view.paused {
                    effects.push(Effect::SetPaused(worker, true));
                }
                effects.push(Effect::UpdateSetAside(worker, 0, lent));
            }
        }
    }

    /// Takes a report of the worker.
    pub(super) fn reported(&mut self, report: Report) {
        self.drained |= report.drained;
        self.outbox.receive(report);
    }

    /// Handles the death of the worker.
    pub(super) fn died(&mut self, until: Moment) {
        (self.worker, self.restart_at) = (None, Some(until));
    }

    /// Handles a reset of the processor: the worker's letters no longer exist, and its context is that of an earlier
    /// reset.
    pub(super) fn reset<T>(&mut self, effects: &mut Vec<Effect<T>>) {
        effects.extend(self.worker.map(Effect::Stop));
        self.lose_session();
    }

    /// Handles the loss of the session: everything is void, and only the answer to what is in flight is still to come.
    pub(super) fn lose_session(&mut self) {
        let mut outbox = core::mem::take(&mut self.outbox);
        outbox.abandon();
        *self = Self { outbox, ..Self::default() };
    }

    /// Allows a new worker if the delay after the last one's death is over; returns whether it is.
    pub(super) fn restart_if_due(&mut self, now: Moment) -> bool {
        self.restart_at.take_if(|until| *until <= now).is_some()
    }

    /// Returns the loans of a node that leaves, once none of its handlers has any of their letters.
    pub(super) fn return_all<'a, T>(
        &mut self,
        lent: impl Iterator<Item = (Right, &'a SequenceKey)>,
        effects: &mut Vec<Effect<T>>,
    ) {
        match self.worker {
            Some(worker) if !self.drain_requested => {
                self.drain_requested = true;
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
