//! Shared helpers of the journal's tests.
#![allow(dead_code, clippy::unwrap_used, reason = "each test uses its part; the panic of a test is its report")]

use std::{
    collections::VecDeque,
    ops::Range,
    sync::{Arc, Mutex, mpsc::channel},
};

use bytes::Bytes;
use evener_core::{
    id::{ContextId, LogIndex, Position, Term},
    time::Timestamp,
};
use evener_store::{Done, Frame, FrameKind, Verdict, disk::Scheduler};

/// Returns a frame with two events and a payload derived from its index.
pub(crate) fn frame(index: u64) -> Frame {
    frame_of(index, 1)
}

/// Returns a frame of a given term, which changes the payload.
pub(crate) fn frame_of(index: u64, term: u64) -> Frame {
    let length = 20 + (index * 37 % 150) as usize;
    let payload: Vec<u8> = (0..length).map(|at| (index * 31 + term * 7 + at as u64) as u8).collect();
    Frame {
        index: LogIndex(index),
        term: Term(term),
        kind: FrameKind::Commands,
        context: ContextId(0),
        count: 2,
        payload: Bytes::from(payload),
    }
}

pub(crate) fn frames(range: Range<u64>) -> Vec<Frame> {
    range.map(frame).collect()
}

/// Returns the verdict of a frame. Of every third frame, one of the two events is rejected.
pub(crate) fn verdict(index: u64) -> Verdict {
    let events = |index: u64| if index.is_multiple_of(3) { 1 } else { 2 };
    Verdict {
        index: LogIndex(index),
        context: ContextId(0),
        first: Position((0..index).map(events).sum()),
        accepted: if index.is_multiple_of(3) { vec![1] } else { vec![0, 1] },
        events: events(index) as u32,
        recorded: Timestamp(1000 + index / 2),
    }
}

/// Waits until a request to the journal is done, and checks that it succeeded.
pub(crate) fn wait_for(request: impl FnOnce(Done)) {
    let (sender, result) = channel();
    request(Box::new(move |result| sender.send(result).unwrap()));
    result.recv().unwrap().unwrap();
}

type Job = Box<dyn FnOnce() + Send>;

/// Runs the jobs of disks one by one, on demand.
#[derive(Clone, Default)]
pub(crate) struct ManualScheduler {
    jobs: Arc<Mutex<VecDeque<Job>>>,
}

impl ManualScheduler {
    pub(crate) fn handle(&self) -> Scheduler {
        let jobs = self.jobs.clone();
        Arc::new(move |job| jobs.lock().unwrap().push_back(job))
    }

    /// Runs one job; returns false if there is none.
    pub(crate) fn step(&self) -> bool {
        let job = self.jobs.lock().unwrap().pop_front();
        job.map(|job| job()).is_some()
    }

    pub(crate) fn run(&self) {
        while self.step() {}
    }
}

/// A random source with a seed.
pub(crate) struct Rng(pub u64);

impl Rng {
    /// Returns a random number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}
