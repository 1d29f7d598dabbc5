//! A recorded run is interrupted at each of its writes and syncs, with random subsets of the unsynced changes. The
//! recovered log is compared with the acknowledged requests (P1) and with all requests.
#![allow(clippy::unwrap_used, reason = "the panic of a test is its report")]

mod common;

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use common::{ManualScheduler, Rng, frame_of, verdict};
use evener_core::id::{LogIndex, Term};
use evener_store::{
    Checkpoint, Done, Frame, Journal, JournalSettings, Recovered,
    disk::{DiskImage, FaultyDisk, Op},
};

const SMALL_CHUNKS: JournalSettings = JournalSettings { chunk_bytes: 4096, recent_bytes_max: 3000 };

/// A request and the log after it: the term of each frame.
#[derive(Clone, Debug)]
struct Request {
    kind: RequestKind,
    /// The number of operations performed before it.
    at: u64,
    log: Vec<u64>,
}

#[derive(Clone, Debug, PartialEq)]
enum RequestKind {
    Append,
    Truncate,
    Vote(u64),
    Checkpoint(u64),
}

/// A recorded run.
#[derive(Default)]
struct Scenario {
    requests: Vec<Request>,
    /// The number of operations performed when each request was acknowledged, in order.
    acknowledged: Arc<Mutex<Vec<u64>>>,
    ops: Vec<Op>,
}

struct Run {
    scheduler: ManualScheduler,
    disk: FaultyDisk,
    journal: Journal,
    scenario: Scenario,
    log: Vec<u64>,
    term: u64,
    applied: u64,
}

impl Run {
    fn start(seed: u64) -> Scenario {
        let scheduler = ManualScheduler::default();
        let disk = FaultyDisk::new(DiskImage::default(), scheduler.handle());
        disk.record();
        let (journal, _) = Journal::open(Arc::new(disk.clone()), SMALL_CHUNKS).unwrap();
        let mut run =
            Self { scheduler, disk, journal, scenario: Scenario::default(), log: vec![], term: 1, applied: 0 };
        let mut rng = Rng(seed);
        for _ in 0..120 {
            run.act(&mut rng);
        }
        run.scheduler.run();
        run.scenario.ops = run.disk.recorded();
        let acknowledged = run.scenario.acknowledged.lock().unwrap().len();
        assert_eq!(acknowledged, run.scenario.requests.len(), "every request is acknowledged");
        run.scenario
    }

    fn act(&mut self, rng: &mut Rng) {
        match rng.below(20) {
            0..8 => self.append(1 + rng.below(12)),
            8..14 => _ = (0..rng.below(12)).all(|_| self.scheduler.step()),
            14 => self.truncate(rng),
            15 => self.vote(),
            16..18 => self.apply(rng),
            18 => self.checkpoint(),
            _ => self.journal.save_committed(LogIndex(self.applied)),
        }
    }

    fn request(&mut self, kind: RequestKind) -> Done {
        self.scenario.requests.push(Request { kind, at: self.disk.performed(), log: self.log.clone() });
        let (disk, acknowledged) = (self.disk.clone(), self.scenario.acknowledged.clone());
        let number = self.scenario.requests.len() - 1;
        Box::new(move |result| {
            result.unwrap();
            let mut acknowledged = acknowledged.lock().unwrap();
            assert_eq!(acknowledged.len(), number, "completions come in order");
            acknowledged.push(disk.performed());
        })
    }

    fn append(&mut self, count: u64) {
        let first = self.log.len() as u64;
        self.log.extend((0..count).map(|_| self.term));
        let frames = (first..first + count).map(|index| frame_of(index, self.term)).collect();
        let done = self.request(RequestKind::Append);
        self.journal.append(frames, done).unwrap();
        assert_eq!(logged(&self.journal), self.log, "readable at return");
    }

    fn truncate(&mut self, rng: &mut Rng) {
        let keep = self.applied + rng.below(self.log.len() as u64 - self.applied + 1);
        self.log.truncate(keep as usize);
        self.term += 1;
        let done = self.request(RequestKind::Truncate);
        self.journal.truncate_after(keep.checked_sub(1).map(LogIndex), done);
        assert_eq!(logged(&self.journal), self.log, "removed at return");
    }

    fn vote(&mut self) {
        self.term += 1;
        let done = self.request(RequestKind::Vote(self.term));
        self.journal.save_vote(Bytes::from(self.term.to_string()), done);
    }

    fn apply(&mut self, rng: &mut Rng) {
        let durable = self.journal.durable().map_or(0, |index| index.0 + 1);
        let to = self.applied + rng.below(durable.saturating_sub(self.applied) + 1);
        self.journal.applied((self.applied..to).map(verdict).collect());
        self.applied = to;
    }

    fn checkpoint(&mut self) {
        let Some(index) = self.applied.checked_sub(1) else { return };
        let done = self.request(RequestKind::Checkpoint(index));
        self.journal.save_checkpoint(checkpoint(index, self.log[index as usize]), done);
    }
}

fn checkpoint(index: u64, term: u64) -> Checkpoint {
    let image = Bytes::from(vec![index as u8; 700]);
    Checkpoint { index: LogIndex(index), term: Term(term), membership: Bytes::from_static(b"us"), image }
}

/// Returns the terms of all frames, and checks their content.
fn logged(journal: &Journal) -> Vec<u64> {
    let frames = journal.read(LogIndex(0), LogIndex(u64::MAX), usize::MAX).unwrap();
    frames.iter().enumerate().for_each(|(index, frame)| check_frame(index as u64, frame));
    frames.iter().map(|frame| frame.term.0).collect()
}

fn check_frame(index: u64, frame: &Frame) {
    assert_eq!(*frame, frame_of(index, frame.term.0));
}

impl Scenario {
    /// Checks a log recovered from a crash after `performed` operations.
    fn check(&self, performed: u64, journal: &Journal, recovered: &Recovered, case: &str) {
        let acknowledged = self.acknowledged.lock().unwrap().iter().filter(|at| **at <= performed).count();
        let requested = self.requests.iter().filter(|request| request.at <= performed).count();
        let found = logged(journal);
        let empty = Vec::new();
        let log = |number: usize| if number == 0 { &empty } else { &self.requests[number - 1].log };
        // It is a prefix of the log after one of the requests, and no shorter than the next request, half done, allows.
        let mut least = usize::MAX;
        let fits = (acknowledged..=requested).any(|number| {
            least = least.min(log(number).len()).min(log((number + 1).min(requested)).len());
            found.len() >= least && log(number).starts_with(&found)
        });
        assert!(
            fits,
            "{case}: found {found:?}, acknowledged {:?}, requested {:?}",
            log(acknowledged),
            (acknowledged..=requested).map(log).collect::<Vec<_>>()
        );
        self.check_vote(acknowledged, requested, journal, case);
        self.check_checkpoint(acknowledged, requested, journal, recovered, case);
    }

    fn check_vote(&self, acknowledged: usize, requested: usize, journal: &Journal, case: &str) {
        let vote = |request: &Request| match request.kind {
            RequestKind::Vote(term) => Some(Bytes::from(term.to_string())),
            _ => None,
        };
        let least = self.requests[..acknowledged].iter().rev().find_map(vote);
        let mut may_be = self.requests[acknowledged..requested].iter().map(vote);
        let found = journal.vote();
        assert!(found == least || may_be.any(|vote| vote == found), "{case}: vote {found:?}, least {least:?}");
    }

    fn check_checkpoint(
        &self,
        acknowledged: usize,
        requested: usize,
        journal: &Journal,
        recovered: &Recovered,
        case: &str,
    ) {
        let index = |request: &Request| match request.kind {
            RequestKind::Checkpoint(index) => Some(index),
            _ => None,
        };
        let least = self.requests[..acknowledged].iter().rev().find_map(index);
        let most = self.requests[..requested].iter().rev().find_map(index);
        let found = recovered.checkpoint.as_ref().map(|found| found.index.0);
        assert!(found >= least && found <= most, "{case}: checkpoint {found:?}, {least:?} to {most:?}");
        let Some(found) = &recovered.checkpoint else { return };
        assert_eq!(*found, checkpoint(found.index.0, found.term.0), "{case}");
        for index in 0..=found.index.0 {
            assert_eq!(journal.verdict(LogIndex(index)).unwrap(), Some(verdict(index)), "{case}: verdict {index}");
        }
    }
}

/// Starts a journal on the content that a crash left.
fn start(image: DiskImage, case: &str) -> (ManualScheduler, FaultyDisk, Journal, Recovered) {
    let scheduler = ManualScheduler::default();
    let disk = FaultyDisk::new(image, scheduler.handle());
    disk.record();
    let opened = Journal::open(Arc::new(disk.clone()), SMALL_CHUNKS);
    let (journal, recovered) = opened.unwrap_or_else(|error| panic!("{case}: {error}"));
    (scheduler, disk, journal, recovered)
}

/// Continues a recovered node: replays the frames after its checkpoint, and appends one frame, then many. A power cut
/// loses none of it, and restores no truncated frame.
fn continue_running(
    scheduler: &ManualScheduler,
    disk: &FaultyDisk,
    journal: &Journal,
    recovered: &Recovered,
    case: &str,
) {
    let mut log = logged(journal);
    let from = recovered.checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.index.0 + 1);
    journal.applied((from..log.len() as u64).map(verdict).collect());
    for count in [1, 30] {
        let next = log.len() as u64;
        log.resize(log.len() + count, 99);
        let frames = (next..log.len() as u64).map(|index| frame_of(index, 99)).collect();
        journal.append(frames, Box::new(Result::unwrap)).unwrap();
        scheduler.run();
        let (.., again, _) = start(disk.image().crash(0), case);
        assert_eq!(logged(&again), log, "{case}: after continuing");
    }
}

#[test]
fn p1_every_acknowledged_frame_is_found_after_a_crash_at_any_operation() {
    let (mut torn, mut sealed, mut lowered) = (0, 0, 0);
    for seed in 1..=16 {
        let scenario = Run::start(seed);
        let mut image = DiskImage::default();
        for performed in 0..=scenario.ops.len() {
            if let Some(op) = performed.checked_sub(1).map(|last| &scenario.ops[last]) {
                image.perform(op.clone()).unwrap();
            }
            // A crash that loses all unsynced changes, one that loses none, and some random ones.
            for crash in [0, 1, 2, 3 + performed as u64, 1000 + performed as u64 * 7] {
                let case = format!("run {seed} interrupted after {performed} operations, crash {crash}");
                let (scheduler, disk, journal, recovered) = start(image.crash(crash), &case);
                scenario.check(performed as u64, &journal, &recovered, &case);
                torn += usize::from(recovered.torn.is_some());
                sealed += usize::from(journal.chunks().iter().any(|chunk| chunk.hash.is_some()));
                if (performed + crash as usize).is_multiple_of(5) {
                    continue_running(&scheduler, &disk, &journal, &recovered, &case);
                }
            }
        }
        lowered += scenario.ops.iter().filter(|op| matches!(op, Op::Remove { .. })).count();
    }
    // A run in which the faults had no effect proves nothing.
    assert!(torn > 500 && sealed > 500 && lowered > 50, "{torn} torn tails, {sealed} seals, {lowered} deletions");
}

#[test]
fn p1_frames_found_after_a_kill_survive_the_next_power_cut() {
    let scenario = Run::start(5);
    let mut image = DiskImage::default();
    for (performed, op) in scenario.ops.iter().enumerate() {
        image.perform(op.clone()).unwrap();
        let case = format!("killed after {performed} operations");
        let (_, disk, journal, recovered) = start(image.clone(), &case);
        scenario.check(performed as u64 + 1, &journal, &recovered, &case);
        for crash in [0, 2 + performed as u64] {
            let (.., after, _) = start(disk.image().crash(crash), &case);
            assert_eq!((logged(&after), after.vote()), (logged(&journal), journal.vote()), "{case}, crash {crash}");
        }
    }
}

#[test]
fn p1_a_crash_during_a_start_loses_nothing() {
    let scenario = Run::start(9);
    let mut image = DiskImage::default();
    for performed in 0..=scenario.ops.len() {
        if let Some(op) = performed.checked_sub(1).map(|last| &scenario.ops[last]) {
            image.perform(op.clone()).unwrap();
        }
        if !performed.is_multiple_of(3) {
            continue;
        }
        let crashed = image.crash(2 + performed as u64);
        let case = format!("interrupted after {performed} operations");
        let (_, disk, ..) = start(crashed.clone(), &case);
        let mut recovering = crashed;
        for (again, op) in disk.recorded().into_iter().enumerate() {
            recovering.perform(op).unwrap();
            for crash in [0, 5 + again as u64] {
                let case = format!("{case}, then after {again} of the start, crash {crash}");
                let (.., journal, recovered) = start(recovering.crash(crash), &case);
                scenario.check(performed as u64, &journal, &recovered, &case);
            }
        }
    }
}

#[test]
fn p1_a_failed_write_or_sync_stops_the_node_and_nothing_is_acknowledged_after_it() {
    let whole = {
        let scheduler = ManualScheduler::default();
        let disk = FaultyDisk::new(DiskImage::default(), scheduler.handle());
        let (journal, _) = Journal::open(Arc::new(disk.clone()), SMALL_CHUNKS).unwrap();
        let before = disk.performed();
        few_appends(&journal, &scheduler);
        disk.performed() - before
    };
    for at in 0..whole {
        let scheduler = ManualScheduler::default();
        let disk = FaultyDisk::new(DiskImage::default(), scheduler.handle());
        let (journal, _) = Journal::open(Arc::new(disk.clone()), SMALL_CHUNKS).unwrap();
        disk.fail_after(at);
        let results = few_appends(&journal, &scheduler);
        let good = results.iter().take_while(|result| result.is_ok()).count();
        assert!(results[good..].iter().all(Result::is_err), "after operation {at} failed: {results:?}");
        let reason = journal.stopped().unwrap_or_else(|| panic!("operation {at} failed unnoticed"));
        assert!(reason.contains("the disk failed"), "{reason}");
        let refused = journal.append(vec![], Box::new(|_| ())).unwrap_err().to_string();
        assert!(refused.contains("restart this node"), "{refused}");
        drop(journal);

        let (.., journal, _) = start(disk.crash(0).image(), "after a failed operation");
        assert!(logged(&journal).len() >= 10 * good, "acknowledged frames are found");
    }
}

/// No callback waits for the watermark, and a group may be right behind it.
#[test]
fn p1_a_failed_watermark_stops_the_node_and_the_group_behind_it_completes_once() {
    let scheduler = ManualScheduler::default();
    let disk = FaultyDisk::new(DiskImage::default(), scheduler.handle());
    let (journal, _) = Journal::open(Arc::new(disk.clone()), SMALL_CHUNKS).unwrap();
    let results = Arc::new(Mutex::new(Vec::new()));
    let append = |index| {
        let results = results.clone();
        journal
            .append(vec![frame_of(index, 1)], Box::new(move |result| results.lock().unwrap().push(result.is_ok())))
            .unwrap();
    };
    append(0);
    while results.lock().unwrap().is_empty() {
        assert!(scheduler.step());
    }
    disk.fail_after(0);
    append(1);
    scheduler.run();
    assert_eq!(*results.lock().unwrap(), [true, false]);
    assert!(journal.stopped().is_some());
}

/// Appends ten groups of ten frames and returns the result of each.
fn few_appends(journal: &Journal, scheduler: &ManualScheduler) -> Vec<Result<(), String>> {
    let results = Arc::new(Mutex::new(vec![Err("not completed".to_owned()); 10]));
    for group in 0..10 {
        let answers = results.clone();
        let done: Done = Box::new(move |result| {
            answers.lock().unwrap()[group] = result.map_err(|error| error.to_string());
        });
        let first = group as u64 * 10;
        if journal.append((first..first + 10).map(|index| frame_of(index, 1)).collect(), done).is_err() {
            continue;
        }
        scheduler.run();
    }
    let results = results.lock().unwrap();
    results.clone()
}
