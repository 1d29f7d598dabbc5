//! The coat of a worker: calls the handler, and tells what came of it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use evener_core::{
    command::Right,
    coordinator::{self, WorkerId},
    id::{ContextId, Position},
    letter::SequenceKey,
    time::Moment,
    worker::{Effect, FLOODED, Fault, FaultKind, Input, Settings, Work, Worker},
};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::{task::JoinSet, time::Instant};

use super::{
    World,
    coordinator::Message,
    failures::{self, Failures},
    publish::Row,
    skips::{self, Skips},
    timer::Timer,
};
use crate::{
    event::Stored,
    handler::{Delivery, Runner, Turn, Verdict},
    metrics::Tally,
    status::Standstill,
};

/// See the [module](self).
pub struct WorkerActor;

/// What a worker is started with.
pub struct Arguments {
    pub world: Arc<World>,
    pub coordinator: ActorRef<Message>,
    pub id: WorkerId,
    pub name: String,
    pub processor: Arc<str>,
    pub context: ContextId,
    pub runner: Arc<dyn Runner>,
    pub settings: Settings,
}

/// A worker at work.
pub struct State {
    machine: Worker<Arc<Stored>>,
    arguments: Arguments,
    tally: Tally,
    /// Raised to end a run after the event that is being handled.
    stop: Arc<AtomicBool>,
    tasks: JoinSet<()>,
    timer: Timer,
    skips: Skips,
    failures: Failures,
    /// When it is woken for folded lines.
    log_at: Option<Moment>,
    row: Row,
}

impl Actor for WorkerActor {
    type Msg = Input<Arc<Stored>>;
    type State = State;
    type Arguments = Arguments;

    async fn pre_start(&self, _: ActorRef<Self::Msg>, arguments: Arguments) -> Result<State, ActorProcessingErr> {
        let world = &arguments.world;
        let tally = world.metrics.tally(&arguments.processor);
        let row = Row::new(&world.board, &arguments.name, "worker", Some(&arguments.processor), world.wall());
        let machine = Worker::new(arguments.settings);
        let stop = Arc::default();
        let (tasks, timer, skips) = (JoinSet::new(), Timer::default(), Skips::default());
        let failures = Failures::new(&arguments.settings);
        Ok(State { machine, arguments, tally, stop, tasks, timer, skips, failures, log_at: None, row })
    }

    async fn handle(
        &self,
        me: ActorRef<Self::Msg>,
        input: Self::Msg,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let now = state.arguments.world.now();
        if let Input::Ran { fault: Some(fault), .. } | Input::Tried { fault: Some(fault), .. } = &input
            && fault.kind == FaultKind::Skip
        {
            state.skips.said(&fault.cause);
        }
        for effect in state.machine.step(now, input) {
            state.perform(&me, effect);
        }
        while state.tasks.try_join_next().is_some() {}
        state.log_failures(&me, now);
        state.publish();
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<Self::Msg>, state: &mut State) -> Result<(), ActorProcessingErr> {
        state.tasks.shutdown().await;
        let now = state.arguments.world.now();
        let left = state.skips.flush(now);
        state.log(left);
        let left = state.failures.due(now, true);
        state.log_all(left);
        state.close();
        Ok(())
    }
}

impl State {
    fn perform(&mut self, me: &ActorRef<Input<Arc<Stored>>>, effect: Effect<Arc<Stored>>) {
        match effect {
            Effect::Run { works, attempt } => self.run(me.clone(), works, attempt),
            Effect::StopRun => self.stop.store(true, Relaxed),
            Effect::Try { sequence, position, attempt, right, mask } => {
                let deliver = self.delivery(right, mask, true);
                self.try_letter(me.clone(), sequence, position, move |event, turn| deliver(event, attempt, turn));
            }
            Effect::Report(report) => {
                let line = self.skips.add(self.arguments.world.now(), &self.arguments.settings, &report);
                self.log(line);
                self.failures.add(&self.arguments.settings, &report);
                self.tell(coordinator::Input::Report(self.arguments.id, report));
            }
            Effect::ReportPaused => {
                // A program that is paused is ended: whoever lets it go on may have another in its place.
                self.close();
                self.tell(coordinator::Input::WorkerPaused(self.arguments.id));
            }
            Effect::WakeAt(at) => {
                let me = me.clone();
                self.timer.wake_at(self.arguments.world.now(), at, move || {
                    let _ = me.cast(Input::Woken);
                });
            }
        }
    }

    fn log(&self, line: Option<skips::Line>) {
        if let Some(line) = line {
            line.log(&self.arguments.processor, self.arguments.id.segment.map(|segment| segment.0));
        }
    }

    /// Logs what failed, and wakes itself for what is folded.
    fn log_failures(&mut self, me: &ActorRef<Input<Arc<Stored>>>, now: Moment) {
        self.log_at.take_if(|at| *at <= now);
        let lines = self.failures.due(now, false);
        self.log_all(lines);
        if self.failures.is_waiting() && self.log_at.is_none() {
            self.log_at = Some(now.after(failures::LINE_WAIT));
            me.send_after(failures::LINE_WAIT, || Input::Woken);
        }
    }

    fn log_all(&self, lines: Vec<failures::Line>) {
        for line in lines {
            line.log(&self.arguments.processor, self.arguments.id.segment.map(|segment| segment.0));
        }
    }

    fn close(&self) {
        if let Some(segment) = self.arguments.id.segment {
            drop(self.arguments.world.handlers.close(&self.arguments.runner, segment));
        }
    }

    fn tell(&self, input: coordinator::Input<Arc<Stored>>) {
        let _ = self.arguments.coordinator.cast(Message::Input(input));
    }

    /// The handler gets one event after the other, until one fails or the run is to end.
    fn run(&mut self, me: ActorRef<Input<Arc<Stored>>>, works: Vec<Work<Arc<Stored>>>, attempt: u32) {
        let stop = Arc::new(AtomicBool::new(false));
        self.stop = stop.clone();
        let (world, runner) = (self.arguments.world.clone(), self.arguments.runner.clone());
        let tally = self.tally.clone();
        let session = *world.session().borrow();
        let (segment, epoch) = self.arguments.settings.claim.unwrap_or_default();
        let deliver = self.delivery(Right::Claim(segment, epoch), self.arguments.settings.mask, false);
        let processor = self.arguments.processor.clone();
        self.tasks.spawn(async move {
            let mut handled = 0;
            let mut fault = None;
            for (nth, work) in works.into_iter().enumerate() {
                if stop.load(Relaxed) {
                    break;
                }
                let turn = world.handlers.turns().take(&processor, &work.sequence).await;
                world.holds(session).await;
                let attempt = if nth == 0 { attempt } else { 1 };
                let begun = Instant::now();
                let verdict = world.handlers.run(&runner, deliver(work.event, attempt, turn)).await;
                tally.took(begun.elapsed());
                fault = fault_of(&world, &tally, verdict);
                if fault.is_some() {
                    break;
                }
                handled += 1;
            }
            let _ = me.cast(Input::Ran { handled, fault });
        });
    }

    /// The handler gets the first letter of a sequence.
    fn try_letter(
        &mut self,
        me: ActorRef<Input<Arc<Stored>>>,
        sequence: SequenceKey,
        position: Position,
        deliver: impl FnOnce(Arc<Stored>, Turn) -> Delivery + Send + 'static,
    ) {
        let (world, runner) = (self.arguments.world.clone(), self.arguments.runner.clone());
        let (context, tally, processor) =
            (self.arguments.context, self.tally.clone(), self.arguments.processor.clone());
        let session = *world.session().borrow();
        self.tasks.spawn(async move {
            let fault = match world.event(context, position).await {
                Ok(event) => {
                    let turn = world.handlers.turns().take(&processor, &sequence).await;
                    world.holds(session).await;
                    let begun = Instant::now();
                    let verdict = world.handlers.run(&runner, deliver(event, turn)).await;
                    tally.took(begun.elapsed());
                    fault_of(&world, &tally, verdict)
                }
                // The event was not read, so that its handler was not asked.
                Err(cause) => Some(Fault { cause, kind: FaultKind::Unable, after: None, random: world.draw() }),
            };
            let _ = me.cast(Input::Tried { sequence, fault });
        });
    }

    fn delivery(
        &self,
        right: Right,
        mask: u32,
        is_set_aside: bool,
    ) -> impl Fn(Arc<Stored>, u32, Turn) -> Delivery + use<> {
        let processor = self.arguments.processor.clone();
        let (segment, epoch) = right.claim();
        move |stored, attempt, turn| Delivery {
            processor: processor.clone(),
            segment,
            mask,
            epoch,
            lent: right.is_lent(),
            attempt,
            is_set_aside,
            replaying: false,
            stored,
            turn,
        }
    }

    fn publish(&mut self) {
        let status = self.machine.status();
        let world = &self.arguments.world;
        let flood = (status.phase == FLOODED).then_some(self.arguments.settings.claim).flatten();
        let still = flood.map(|(segment, epoch)| Standstill {
            processor: self.arguments.processor.to_string(),
            segment: segment.0,
            epoch: epoch.0,
            state: FLOODED.into(),
            reason: status.reason.clone().unwrap_or_default(),
            retry_at: status.retry_at.map(|at| world.wall_at(at)),
        });
        self.row.stand_still(still.into_iter().collect());
        self.row.show(self.arguments.world.wall(), status.phase, status.queue as u64, status.reason);
    }
}

/// What a verdict means to the machine; none means that the event is done. It is counted.
fn fault_of(world: &World, tally: &Tally, verdict: Verdict) -> Option<Fault> {
    let draw = world.draw();
    let fault = |cause, kind, after| Some(Fault { cause, kind, after, random: draw });
    match verdict {
        Verdict::Handled => {
            tally.handled();
            None
        }
        Verdict::Retry { cause, after } => {
            tally.failed("retry");
            fault(cause, FaultKind::Retry, after)
        }
        Verdict::SetAside { cause } => {
            tally.failed("set-aside");
            fault(cause, FaultKind::SetAside, None)
        }
        Verdict::Skip { cause } => {
            tally.failed("skip");
            fault(cause, FaultKind::Skip, None)
        }
        Verdict::Unable { cause } => {
            tally.failed("unable");
            fault(cause, FaultKind::Unable, None)
        }
    }
}
