//! A small cluster around the state machines: nodes with a coordinator and its workers, handlers that fail as planned,
//! and the real replicated state as their log. The test chooses each next step, so that any interleaving
//! can occur and be repeated.

mod handlers;
mod shape;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    string::{String, ToString},
    vec,
    vec::Vec,
};

use uuid::Uuid;

use super::database::Database;
use crate::{
    append::Append,
    backoff::Backoff,
    command::{
        Admit, Advance, Assign, Begin, Change, Command, Entry, Found, HandOver, LetterChange, Operate, Outcome, Right,
        Selection,
    },
    coordinator::{Bounds, Coordinator, Effect, Input, ProcessorView, WorkerId},
    criteria::Criteria,
    event::Event,
    hash,
    id::{
        ClusterId, ComponentId, ContextId, Epoch, FeatureLevel, Incarnation, LogIndex, NodeId, Position, ProcessorId,
        SegmentId, SessionId,
    },
    letter::SequenceKey,
    limits::Limits,
    processor::{Definition, Handler, OnError, Processor, Start},
    sequence::Sequencing,
    state::State,
    time::{Moment, Timestamp},
    worker::{self, Work, Worker},
};

pub(super) const BACKOFF: Backoff = Backoff { first_ms: 1_000, max_ms: 8_000, attempts: 6 };
pub(super) const BATCH: usize = 4;
pub(super) const NODES: u64 = 3;

/// The behaviour of the handlers.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults {
    /// How many tries of an event fail before one succeeds.
    pub(super) fail: BTreeMap<u64, u32>,
    /// Events for which the handler returns *set aside* instead of a plain failure.
    pub(super) refuse: BTreeSet<u64>,
    /// Events for which the handler returns *skip*, once it does not fail.
    pub(super) skip: BTreeSet<u64>,
    /// How many tries of an event find no handler to call.
    pub(super) unable: BTreeMap<u64, u32>,
    /// Letters and tokens for which one progress has room, if not the usual number.
    pub(super) room: Option<usize>,
    /// The minimum size of each cause.
    pub(super) cause_bytes: usize,
}

pub(super) struct TestCluster {
    pub(super) state: State,
    pub(super) index: u64,
    pub(super) now: u64,
    pub(super) nodes: BTreeMap<NodeId, Node>,
    pub(super) faults: Faults,
    /// The sequences of the events, by position.
    pub(super) log: Vec<String>,
    /// Every call of a handler: event, node, attempt, time, whether it succeeded.
    pub(super) calls: Vec<Call>,
    /// How often a node was killed or fenced, times the number of its segments then.
    pub(super) kills: usize,
    /// Nodes whose handlers hang.
    pub(super) slow: BTreeSet<NodeId>,
    /// How often an operator changed letters.
    pub(super) operator_changes: usize,
    /// The database to which the handlers write.
    pub(super) database: Database,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub(super) position: u64,
    pub(super) node: NodeId,
    pub(super) attempt: u32,
    pub(super) at: u64,
    pub(super) ok: bool,
    /// The epoch that the handler received.
    pub(super) epoch: Epoch,
    /// Whether the event was marked as a replay.
    pub(super) replaying: bool,
}

pub(super) struct Node {
    session: SessionId,
    pub(super) coordinator: Coordinator,
    mail: VecDeque<Input<()>>,
    workers: BTreeMap<WorkerId, TestWorker>,
    seen: Option<(LogIndex, bool)>,
    read: Option<(Position, usize)>,
    pub(super) progress: Option<(LogIndex, crate::command::Progress)>,
    hand_overs: VecDeque<(SegmentId, Epoch, Position, Option<NodeId>)>,
    wants_tick: bool,
    wake: Option<u64>,
}

struct TestWorker {
    machine: Worker<()>,
    claim: Option<Right>,
    mask: u32,
    mail: VecDeque<worker::Input<()>>,
    run: Option<Run>,
    tries: VecDeque<(SequenceKey, Position, u32, Right, u32, bool)>,
    wake: Option<u64>,
}

struct Run {
    works: Vec<Work<()>>,
    attempt: u32,
    handled: usize,
    stop: bool,
}

/// A possible next step.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    Mail(NodeId),
    WorkerMail(NodeId, WorkerId),
    Handle(NodeId, WorkerId),
    Try(NodeId, WorkerId),
    Read(NodeId),
    Tick(NodeId),
    JudgeProgress(NodeId),
    /// The progress is judged, and the answer is lost.
    LoseProgressAnswer(NodeId),
    HandOver(NodeId),
    /// The hand-over is judged or lost, and the answer is lost.
    LoseHandOverAnswer(NodeId, bool),
    UpdateView(NodeId),
}

impl TestCluster {
    pub(super) fn new(segments: u32, on_error: OnError, limits: Limits, faults: Faults) -> Self {
        let mut cluster = Self {
            state: State::default(),
            index: 0,
            now: 1_000,
            nodes: BTreeMap::new(),
            faults,
            log: Vec::new(),
            calls: Vec::new(),
            kills: 0,
            slow: BTreeSet::new(),
            operator_changes: 0,
            database: Database::default(),
        };
        cluster.apply(Command::Found(Found { cluster: ClusterId(Uuid::from_u128(1)), limits, first: admit(1) }));
        for node in 1..=NODES {
            cluster.apply(Command::Admit(admit(node)));
            cluster.begin(node);
        }
        let definition = Definition {
            name: "p".into(),
            context: ContextId::DEFAULT,
            handler: Handler::Exec("true".into()),
            segments,
            start: Start::Beginning,
            criteria: Criteria::ANY,
            sequencing: Sequencing::KeyElseStream,
            on_error,
            backoff: BACKOFF,
        };
        cluster.change(Change::Create(definition.into()));
        cluster.balance();
        cluster
    }

    pub(super) fn apply(&mut self, command: Command) -> Outcome {
        self.index += 1;
        let entry = Entry { proposed: Timestamp(self.now), context: ContextId::DEFAULT, commands: vec![command] };
        let outcome = self.state.apply(LogIndex(self.index), &entry).remove(0);
        if let Some(processor) = self.state.processor("p") {
            self.database.update(processor);
        }
        outcome
    }

    pub(super) fn change(&mut self, change: Change) -> Outcome {
        let operation = Uuid::from_u128(u128::from(self.index) << 64 | 1);
        self.apply(Command::Operate(Operate { operation, principal: None, reason: None, change }))
    }

    pub(super) fn processor(&self) -> &Processor {
        self.state.processor("p").expect("it was created")
    }

    pub(super) fn append(&mut self, sequence: &str) {
        let event = Event {
            id: Uuid::from_u128(self.log.len() as u128 + 1),
            kind: "t".into(),
            stream: Some(sequence.into()),
            ..Event::default()
        };
        let checked_to = self.state.head(ContextId::DEFAULT);
        self.apply(Command::Append(Append { checked_to, events: vec![event], ..Append::default() }));
        self.log.push(sequence.into());
    }

    pub(super) fn balance(&mut self) {
        let moves = crate::balance::plan(&self.state.balance_view(Timestamp(self.now)));
        if !moves.is_empty() {
            let generation = self.state.generation;
            self.apply(Command::Assign(Assign { generation, moves }));
        }
    }

    pub(super) fn begin(&mut self, node: u64) {
        let Admit { incarnation, peer, http, level, .. } = admit(node);
        let nonce = Uuid::from_u128(u128::from(self.index) << 64);
        let (node, capabilities) = (NodeId(node), BTreeMap::new());
        let begin = Begin { node, incarnation, peer, http, level, capabilities, weight: 1, nonce };
        let Outcome::Begun(session) = self.apply(Command::Begin(begin)) else { panic!("a process begins") };
        let mut bounds = Bounds { batch_events_max: BATCH, block_events_max: 3, ..Bounds::default() };
        if let Some(room) = self.faults.room {
            (bounds.progress_letters_max, bounds.progress_tokens_max, bounds.progress_bytes_max) =
                (room, room, room * 300);
        }
        let coordinator = Coordinator::new(ProcessorId(1), bounds);
        self.nodes.insert(
            node,
            Node {
                session,
                coordinator,
                mail: VecDeque::new(),
                workers: BTreeMap::new(),
                seen: None,
                read: None,
                progress: None,
                hand_overs: VecDeque::new(),
                wants_tick: false,
                wake: None,
            },
        );
    }

    /// Kills a node; its session is ended in the log.
    pub(super) fn kill(&mut self, node: NodeId) {
        if let Some(killed) = self.nodes.remove(&node) {
            self.kills += 1;
            killed.workers.values().for_each(|test_worker| self.database.delayed.extend(test_worker.writes(node)));
            self.apply(Command::Expire(node, killed.session));
        }
    }

    /// Ends a node's lease while it runs: the node stops before the log ends its session.
    pub(super) fn fence(&mut self, node: NodeId) {
        let Some(fenced) = self.nodes.get_mut(&node) else { return };
        self.kills += 1;
        let session = fenced.session;
        fenced.mail.push_back(Input::SessionLost);
        self.read_mail(node);
        self.apply(Command::Expire(node, session));
        let Admit { incarnation, peer, http, level, .. } = admit(node.0);
        let nonce = Uuid::from_u128(u128::from(self.index) << 64 | 7);
        let begin = Begin { node, incarnation, peer, http, level, capabilities: BTreeMap::new(), weight: 1, nonce };
        let Outcome::Begun(session) = self.apply(Command::Begin(begin)) else { panic!("a process begins") };
        let fenced = self.nodes.get_mut(&node).unwrap();
        (fenced.session, fenced.seen) = (session, None);
    }

    /// Kills a worker's actor, with its handlers.
    pub(super) fn worker_dies(&mut self, node: NodeId) {
        let Some(node) = self.nodes.get_mut(&node) else { return };
        if let Some((worker, _)) = node.workers.pop_first() {
            self.kills += 1;
            node.mail.push_back(Input::WorkerDied(worker, "planned".to_string()));
        }
    }

    pub(super) fn drain(&mut self, node: NodeId) {
        if let Some(session) = self.nodes.get(&node).map(|node| node.session) {
            self.apply(Command::Drain(node, session));
        }
    }

    /// Changes the letters of a sequence, if it is set aside.
    pub(super) fn change_letters(&mut self, sequence: &str, change: LetterChange) {
        self.operator_changes += 1;
        let selection = Selection::Sequence(ComponentId(0), sequence.into());
        self.change(Change::Letters("p".into(), selection, change));
    }

    pub(super) fn retry_all(&mut self) {
        self.change(Change::Letters("p".into(), Selection::All, LetterChange::Retry));
    }

    /// Returns all steps that are possible without time passing.
    pub(super) fn enabled(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        let changed = self.processor().changed;
        for (id, node) in &self.nodes {
            let draining = self.state.sessions.get(id).is_some_and(|session| session.draining);
            if node.seen != Some((changed, draining)) || node.coordinator.head < self.head() {
                steps.push(Step::UpdateView(*id));
            }
            for (step, ready) in [
                (Step::Mail(*id), !node.mail.is_empty()),
                (Step::Read(*id), node.read.is_some()),
                (Step::Tick(*id), node.wants_tick),
                (Step::JudgeProgress(*id), node.progress.is_some()),
                (Step::HandOver(*id), !node.hand_overs.is_empty()),
            ] {
                if ready {
                    steps.push(step);
                }
            }
            for (worker, test_worker) in &node.workers {
                if !test_worker.mail.is_empty() {
                    steps.push(Step::WorkerMail(*id, *worker));
                }
                if test_worker.run.is_some() && !self.slow.contains(id) {
                    steps.push(Step::Handle(*id, *worker));
                }
                if !test_worker.tries.is_empty() && !self.slow.contains(id) {
                    steps.push(Step::Try(*id, *worker));
                }
            }
        }
        steps
    }

    fn head(&self) -> Position {
        Position(self.log.len() as u64)
    }

    pub(super) fn take(&mut self, step: Step) {
        self.now += 1;
        match step {
            Step::Mail(node) => self.mail(node),
            Step::WorkerMail(node, worker) => self.worker_mail(node, worker),
            Step::Handle(node, worker) => self.handle(node, worker),
            Step::Try(node, worker) => self.try_letter(node, worker),
            Step::Read(node) => self.read(node),
            Step::Tick(node) => {
                let node = self.node(node);
                node.wants_tick = false;
                node.mail.push_back(Input::Tick);
            }
            Step::JudgeProgress(node) => self.judge_progress(node, true),
            Step::LoseProgressAnswer(node) => self.judge_progress(node, false),
            Step::HandOver(node) => self.hand_over(node, true, true),
            Step::LoseHandOverAnswer(node, judged) => self.hand_over(node, judged, false),
            Step::UpdateView(node) => self.update_view(node),
        }
    }

    fn node(&mut self, node: NodeId) -> &mut Node {
        self.nodes.get_mut(&node).expect("the node runs")
    }

    fn update_view(&mut self, id: NodeId) {
        let draining = self.state.sessions.get(&id).is_some_and(|session| session.draining);
        let seen = Some((self.processor().changed, draining));
        let view = ProcessorView::of(&self.state, LogIndex(self.index), ProcessorId(1), id);
        let head = self.head();
        let node = self.node(id);
        if node.seen != seen {
            node.seen = seen;
            node.mail.extend(view.map(Input::ProcessorView));
        }
        node.mail.push_back(Input::Head(head));
        // The node processes its view at once, before any other step.
        self.read_mail(id);
    }

    fn read_mail(&mut self, id: NodeId) {
        while !self.node(id).mail.is_empty() {
            self.mail(id);
        }
    }

    fn read(&mut self, id: NodeId) {
        let (from, max) = self.node(id).read.take().expect("a read was asked for");
        let to = (from.0 + max as u64).min(self.head().0);
        let works = (from.0..to).map(|position| self.work(position)).collect();
        self.node(id).mail.push_back(Input::Block { from, to: Position(to), works });
    }

    fn work(&self, position: u64) -> Work<()> {
        let name = self.log[position as usize].clone();
        let hash = hash::sequence(name.as_bytes());
        let sequence = SequenceKey { component: ComponentId(0), name };
        Work { position: Position(position), sequence, hash, kind: "t".into(), replaying: false, event: () }
    }

    fn judge_progress(&mut self, id: NodeId, answered: bool) {
        let (as_of, progress) = self.node(id).progress.take().expect("progress was sent");
        let (node, session) = (id, self.node(id).session);
        let outcome = self.apply(Command::Advance(Advance { node, session, as_of, items: vec![progress] }));
        self.update_view(id);
        let answer = match outcome {
            Outcome::Advanced(stale) if answered => Ok(stale),
            _ => Err(()),
        };
        self.node(id).mail.push_back(Input::ProgressJudged(answer));
        self.mail(id);
    }

    fn hand_over(&mut self, id: NodeId, judged: bool, answered: bool) {
        let (segment, epoch, next, to) = self.node(id).hand_overs.pop_front().expect("a claim is handed over");
        let (session, processor, letters) = (self.node(id).session, ProcessorId(1), Vec::new());
        let command = HandOver { node: id, session, processor, segment, epoch, next, to, letters };
        if judged {
            self.apply(Command::HandOver(command));
        }
        self.node(id).mail.push_back(Input::HandOverJudged(segment, if answered { Ok(()) } else { Err(()) }));
    }

    fn mail(&mut self, id: NodeId) {
        let (now, bounds) = (Moment(self.now), Bounds::default());
        let node = self.node(id);
        let Some(input) = node.mail.pop_front() else { return };
        let mut delayed = Vec::new();
        for effect in node.coordinator.step(now, input) {
            match effect {
                Effect::Read { from, events_max } => assert!(node.read.replace((from, events_max)).is_none()),
                Effect::Start(worker, settings) => {
                    let machine = Worker::new(settings);
                    let claim = settings.claim.map(|(segment, epoch)| Right::Claim(segment, epoch));
                    let (mail, tries) = (VecDeque::new(), VecDeque::new());
                    let test_worker =
                        TestWorker { machine, claim, mask: settings.mask, mail, run: None, tries, wake: None };
                    node.workers.insert(worker, test_worker);
                }
                Effect::Feed(worker, works) => node.send_to_worker(worker, worker::Input::Feed(works)),
                Effect::UpdateSetAside(worker, settled, sequences) => {
                    node.send_to_worker(worker, worker::Input::SetAside { settled, sequences });
                }
                Effect::SetPaused(worker, paused) => node.send_to_worker(worker, worker::Input::SetPaused(paused)),
                Effect::Drain(worker) => node.send_to_worker(worker, worker::Input::Drain),
                // The worker may have died, with the message about that still in flight.
                Effect::Stop(worker) => {
                    delayed.extend(node.workers.remove(&worker).iter().flat_map(|test_worker| test_worker.writes(id)))
                }
                Effect::RequestTick => node.wants_tick = true,
                Effect::SendProgress { as_of, progress } => {
                    assert!(progress.bytes() <= bounds.progress_bytes_max(), "{} bytes", progress.bytes());
                    assert!(node.progress.replace((as_of, progress)).is_none());
                }
                Effect::HandOver { segment, epoch, next, to } => node.hand_overs.push_back((segment, epoch, next, to)),
                Effect::RunHook(_) | Effect::StopHook => unreachable!("a program has no hooks"),
                Effect::WakeAt(at) => {
                    assert!(at > now, "a coordinator wakes later, not at once");
                    node.wake = Some(node.wake.map_or(at.0, |wake| wake.min(at.0)));
                }
            }
        }
        self.database.delayed.extend(delayed);
    }

    fn worker_mail(&mut self, id: NodeId, worker: WorkerId) {
        let now = Moment(self.now);
        let node = self.node(id);
        let test_worker = node.workers.get_mut(&worker).expect("the worker runs");
        let Some(input) = test_worker.mail.pop_front() else { return };
        for effect in test_worker.machine.step(now, input) {
            match effect {
                worker::Effect::Run { works, attempt } => {
                    assert!(
                        !works.is_empty() && works.len() <= BATCH && test_worker.run.is_none(),
                        "one run at a time"
                    );
                    test_worker.run = Some(Run { works, attempt, handled: 0, stop: false });
                }
                worker::Effect::StopRun => {
                    if let Some(run) = &mut test_worker.run {
                        run.stop = true;
                    }
                }
                worker::Effect::Try { sequence, position, attempt, right, mask, replaying } => {
                    test_worker.tries.push_back((sequence, position, attempt, right, mask, replaying));
                }
                worker::Effect::Report(report) => node.mail.push_back(Input::Report(worker, report)),
                worker::Effect::ReportPaused => node.mail.push_back(Input::WorkerPaused(worker)),
                worker::Effect::WakeAt(at) => {
                    assert!(at > now, "a worker wakes later, not at once");
                    test_worker.wake = Some(test_worker.wake.map_or(at.0, |wake| wake.min(at.0)));
                }
            }
        }
    }

    /// Returns the next moment for which a timer is set.
    pub(super) fn next_wake(&self) -> Option<u64> {
        let workers =
            self.nodes.values().flat_map(|node| node.workers.values().filter_map(|test_worker| test_worker.wake));
        self.nodes.values().filter_map(|node| node.wake).chain(workers).min()
    }

    /// Advances the time.
    pub(super) fn pass(&mut self, until: u64) {
        self.now = self.now.max(until);
        let now = self.now;
        for node in self.nodes.values_mut() {
            if node.wake.take_if(|wake| *wake <= now).is_some() {
                node.mail.push_back(Input::Woken);
            }
            for test_worker in node.workers.values_mut() {
                if test_worker.wake.take_if(|wake| *wake <= now).is_some() {
                    test_worker.mail.push_back(worker::Input::Woken);
                }
            }
        }
    }

    /// Takes steps until a condition holds.
    pub(super) fn run_until(&mut self, condition: impl Fn(&Self) -> bool) {
        while !condition(self) {
            match self.enabled().first().cloned() {
                Some(step) => self.take(step),
                None => self.pass(self.next_wake().expect("a timer is set")),
            }
        }
    }

    /// Takes all steps, in turn, until no timer is set; returns whether that was before `until`.
    pub(super) fn settle(&mut self, until: u64) -> bool {
        for round in 0..20_000 {
            if let Some(step) = self.enabled().get(round % 7).or(self.enabled().first()).cloned() {
                self.take(step);
                continue;
            }
            self.balance();
            if !self.enabled().is_empty() {
                continue;
            }
            let Some(wake) = self.next_wake() else { return true };
            if wake > until {
                return false;
            }
            self.pass(wake);
        }
        panic!("the cluster does not settle: {:?} at {}", self.enabled(), self.now);
    }
}

impl Node {
    fn send_to_worker(&mut self, worker: WorkerId, input: worker::Input<()>) {
        if let Some(test_worker) = self.workers.get_mut(&worker) {
            test_worker.mail.push_back(input);
        }
    }
}

fn admit(node: u64) -> Admit {
    Admit {
        name: std::format!("n{node}"),
        incarnation: Incarnation(Uuid::from_u128(u128::from(node))),
        peer: String::new(),
        http: String::new(),
        level: FeatureLevel::CURRENT,
    }
}
