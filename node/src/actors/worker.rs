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
    worker::{Effect, FLOODED, Fault, Input, Meaning, Settings, Work, Worker},
};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::task::JoinSet;

use super::{
    World,
    coordinator::Message,
    publish::Row,
    skips::{self, Skips},
    timer::Timer,
};
use crate::{
    event::Stored,
    handler::{Delivery, Runner, Verdict},
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
        Ok(State { machine, arguments, tally, stop, tasks, timer, skips, row })
    }

    async fn handle(
        &self,
        me: ActorRef<Self::Msg>,
        input: Self::Msg,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let now = state.arguments.world.now();
        if let Input::Ran { fault: Some(fault), .. } | Input::Tried { fault: Some(fault), .. } = &input
            && fault.meaning == Meaning::Skip
        {
            state.skips.said(&fault.cause);
        }
        for effect in state.machine.step(now, input) {
            state.perform(&me, effect);
        }
        while state.tasks.try_join_next().is_some() {}
        state.publish();
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<Self::Msg>, state: &mut State) -> Result<(), ActorProcessingErr> {
        state.tasks.shutdown().await;
        let left = state.skips.flush(state.arguments.world.now());
        state.log(left);
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
                let deliver = self.delivery(right, mask);
                self.try_letter(me.clone(), sequence, position, move |event| deliver(event, attempt));
            }
            Effect::Report(report) => {
                let line = self.skips.add(self.arguments.world.now(), &self.arguments.settings, &report);
                self.log(line);
                self.tell(coordinator::Input::Report(self.arguments.id, report));
            }
            Effect::Rests => {
                // A program that is paused is ended: whoever lets it go on may have another in its place.
                self.close();
                self.tell(coordinator::Input::Rests(self.arguments.id));
            }
            Effect::WakeAt(at) => {
                let me = me.clone();
                self.timer.wake_at(self.arguments.world.now(), at, move || {
                    let _ = me.cast(Input::Woke);
                });
            }
        }
    }

    fn log(&self, line: Option<skips::Line>) {
        if let Some(line) = line {
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
        let deliver = self.delivery(Right::Claim(segment, epoch), self.arguments.settings.mask);
        self.tasks.spawn(async move {
            let mut handled = 0;
            let mut fault = None;
            for (nth, work) in works.into_iter().enumerate() {
                if stop.load(Relaxed) {
                    break;
                }
                world.holds(session).await;
                let attempt = if nth == 0 { attempt } else { 1 };
                let verdict = world.handlers.run(&runner, deliver(work.event, attempt)).await;
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
        deliver: impl FnOnce(Arc<Stored>) -> Delivery + Send + 'static,
    ) {
        let (world, runner) = (self.arguments.world.clone(), self.arguments.runner.clone());
        let (context, tally) = (self.arguments.context, self.tally.clone());
        let session = *world.session().borrow();
        self.tasks.spawn(async move {
            let fault = match world.event(context, position).await {
                Ok(event) => {
                    world.holds(session).await;
                    let verdict = world.handlers.run(&runner, deliver(event)).await;
                    fault_of(&world, &tally, verdict)
                }
                // The event was not read, so that its handler was not asked.
                Err(cause) => Some(Fault { cause, meaning: Meaning::Unable, after: None, draw: world.draw() }),
            };
            let _ = me.cast(Input::Tried { sequence, fault });
        });
    }

    fn delivery(&self, right: Right, mask: u32) -> impl Fn(Arc<Stored>, u32) -> Delivery + use<> {
        let processor = self.arguments.processor.clone();
        let (segment, epoch) = right.claim();
        move |stored, attempt| Delivery {
            processor: processor.clone(),
            segment,
            mask,
            epoch,
            lent: right.is_lent(),
            attempt,
            replaying: false,
            stored,
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
    let fault = |cause, meaning, after| Some(Fault { cause, meaning, after, draw });
    match verdict {
        Verdict::Handled => {
            tally.handled();
            None
        }
        Verdict::Retry { cause, after } => {
            tally.failed("retry");
            fault(cause, Meaning::Retry, after)
        }
        Verdict::SetAside { cause } => {
            tally.failed("set-aside");
            fault(cause, Meaning::SetAside, None)
        }
        Verdict::Skip { cause } => {
            tally.failed("skip");
            fault(cause, Meaning::Skip, None)
        }
        Verdict::Unable { cause } => {
            tally.failed("unable");
            fault(cause, Meaning::Unable, None)
        }
    }
}
