//! The actor around a worker: calls the handler, and reports the results.

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
    NodeServices,
    coordinator_message::CoordinatorMessage,
    failures::{self, Failures},
    skips::{self, Skips},
    status_row::StatusRow,
    timer::Timer,
};
use crate::{
    event::Stored,
    handler::{Delivery, Runner, SequenceGuard, Verdict},
    metrics::HandlerMetrics,
    status::Standstill,
};

/// See the [module](self).
pub(super) struct WorkerActor;

/// What a worker is started with.
pub(super) struct Arguments {
    pub services: Arc<NodeServices>,
    pub coordinator: ActorRef<CoordinatorMessage>,
    pub id: WorkerId,
    pub name: String,
    pub processor: Arc<str>,
    pub context: ContextId,
    /// The context of the processor's latest reset, as JSON. A reset starts all workers again.
    pub replay_context: Option<Arc<str>>,
    pub runner: Arc<dyn Runner>,
    pub settings: Settings,
}

/// A worker at work.
pub(super) struct State {
    machine: Worker<Arc<Stored>>,
    arguments: Arguments,
    handler_metrics: HandlerMetrics,
    /// Raised to end a run after the event that is being handled.
    stop: Arc<AtomicBool>,
    tasks: JoinSet<()>,
    timer: Timer,
    skips: Skips,
    failures: Failures,
    /// When it is woken for folded lines.
    log_at: Option<Moment>,
    row: StatusRow,
}

impl Actor for WorkerActor {
    type Msg = Input<Arc<Stored>>;
    type State = State;
    type Arguments = Arguments;

    async fn pre_start(&self, _: ActorRef<Self::Msg>, arguments: Arguments) -> Result<State, ActorProcessingErr> {
        let services = &arguments.services;
        let handler_metrics = services.metrics.handler_metrics(&arguments.processor);
        let row =
            StatusRow::new(&services.board, &arguments.name, "worker", Some(&arguments.processor), services.wall());
        let machine = Worker::new(arguments.settings);
        let stop = Arc::default();
        let (tasks, timer, skips) = (JoinSet::new(), Timer::default(), Skips::default());
        let failures = Failures::new(&arguments.settings);
        Ok(State { machine, arguments, handler_metrics, stop, tasks, timer, skips, failures, log_at: None, row })
    }

    async fn handle(
        &self,
        me: ActorRef<Self::Msg>,
        input: Self::Msg,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let now = state.arguments.services.now();
        if let Input::Ran { fault: Some(fault), .. } | Input::Tried { fault: Some(fault), .. } = &input
            && fault.kind == FaultKind::Skip
        {
            state.skips.set_handler_cause(&fault.cause);
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
        let now = state.arguments.services.now();
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
            Effect::Try { sequence, position, attempt, right, mask, replaying } => {
                let deliver = self.delivery(right, mask, true);
                let deliver = move |event, guard| deliver(event, attempt, replaying, guard);
                self.try_letter(me.clone(), sequence, position, deliver);
            }
            Effect::Report(report) => {
                let line = self.skips.add(self.arguments.services.now(), &self.arguments.settings, &report);
                self.log(line);
                self.failures.add(&self.arguments.settings, &report);
                self.notify_coordinator(coordinator::Input::Report(self.arguments.id, report));
            }
            Effect::ReportPaused => {
                // A paused program is ended: the operator may install another version before resuming.
                self.close();
                self.notify_coordinator(coordinator::Input::WorkerPaused(self.arguments.id));
            }
            Effect::WakeAt(at) => {
                let me = me.clone();
                self.timer.wake_at(self.arguments.services.now(), at, move || {
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

    /// Logs failures, and schedules a wake-up for folded ones.
    fn log_failures(&mut self, me: &ActorRef<Input<Arc<Stored>>>, now: Moment) {
        self.log_at.take_if(|at| *at <= now);
        let lines = self.failures.due(now, false);
        self.log_all(lines);
        if self.failures.has_pending() && self.log_at.is_none() {
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
            drop(self.arguments.services.handlers.close(&self.arguments.runner, segment));
        }
    }

    fn notify_coordinator(&self, input: coordinator::Input<Arc<Stored>>) {
        let _ = self.arguments.coordinator.cast(CoordinatorMessage::Input(input));
    }

    /// The handler gets one event after the other, until one fails or the run is to end.
    fn run(&mut self, me: ActorRef<Input<Arc<Stored>>>, works: Vec<Work<Arc<Stored>>>, attempt: u32) {
        let stop = Arc::new(AtomicBool::new(false));
        self.stop = stop.clone();
        let (services, runner) = (self.arguments.services.clone(), self.arguments.runner.clone());
        let handler_metrics = self.handler_metrics.clone();
        let session = *services.session().borrow();
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
                let guard = services.handlers.sequence_locks().lock(&processor, &work.sequence).await;
                services.ensure_session(session).await;
                let attempt = if nth == 0 { attempt } else { 1 };
                let begun = Instant::now();
                let verdict = services.handlers.run(&runner, deliver(work.event, attempt, work.replaying, guard)).await;
                handler_metrics.observe(begun.elapsed());
                fault = fault_of(&services, &handler_metrics, verdict);
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
        deliver: impl FnOnce(Arc<Stored>, SequenceGuard) -> Delivery + Send + 'static,
    ) {
        let (services, runner) = (self.arguments.services.clone(), self.arguments.runner.clone());
        let (context, handler_metrics, processor) =
            (self.arguments.context, self.handler_metrics.clone(), self.arguments.processor.clone());
        let session = *services.session().borrow();
        self.tasks.spawn(async move {
            let fault = match services.event(context, position).await {
                Ok(event) => {
                    let guard = services.handlers.sequence_locks().lock(&processor, &sequence).await;
                    services.ensure_session(session).await;
                    let begun = Instant::now();
                    let verdict = services.handlers.run(&runner, deliver(event, guard)).await;
                    handler_metrics.observe(begun.elapsed());
                    fault_of(&services, &handler_metrics, verdict)
                }
                // The event was not read, so that its handler was not asked.
                Err(cause) => Some(Fault { cause, kind: FaultKind::Unable, after: None, random: services.random() }),
            };
            let _ = me.cast(Input::Tried { sequence, fault });
        });
    }

    fn delivery(
        &self,
        right: Right,
        mask: u32,
        is_set_aside: bool,
    ) -> impl Fn(Arc<Stored>, u32, bool, SequenceGuard) -> Delivery + use<> {
        let (processor, replay_context) = (self.arguments.processor.clone(), self.arguments.replay_context.clone());
        let (segment, epoch) = right.claim();
        move |stored, attempt, replaying, guard| Delivery {
            processor: processor.clone(),
            segment,
            mask,
            epoch,
            lent: right.is_lent(),
            attempt,
            is_set_aside,
            replaying,
            replay_context: replay_context.clone().filter(|_| replaying),
            stored,
            guard,
        }
    }

    fn publish(&mut self) {
        let status = self.machine.status();
        let services = &self.arguments.services;
        let flood = (status.phase == FLOODED).then_some(self.arguments.settings.claim).flatten();
        let still = flood.map(|(segment, epoch)| Standstill {
            processor: self.arguments.processor.to_string(),
            segment: segment.0,
            epoch: epoch.0,
            state: FLOODED.into(),
            reason: status.reason.clone().unwrap_or_default(),
            retry_at: status.retry_at.map(|at| services.wall_at(at)),
        });
        self.row.set_standstills(still.into_iter().collect());
        self.row.set_phase(self.arguments.services.wall(), status.phase, status.queue as u64, status.reason);
    }
}

/// What a verdict means to the machine; none means that the event is done. It is counted.
fn fault_of(services: &NodeServices, handler_metrics: &HandlerMetrics, verdict: Verdict) -> Option<Fault> {
    let draw = services.random();
    let fault = |cause, kind, after| Some(Fault { cause, kind, after, random: draw });
    match verdict {
        Verdict::Handled => {
            handler_metrics.handled();
            None
        }
        Verdict::Retry { cause, after } => {
            handler_metrics.failed("retry");
            fault(cause, FaultKind::Retry, after)
        }
        Verdict::SetAside { cause } => {
            handler_metrics.failed("set-aside");
            fault(cause, FaultKind::SetAside, None)
        }
        Verdict::Skip { cause } => {
            handler_metrics.failed("skip");
            fault(cause, FaultKind::Skip, None)
        }
        Verdict::Unable { cause } => {
            handler_metrics.failed("unable");
            fault(cause, FaultKind::Unable, None)
        }
    }
}
