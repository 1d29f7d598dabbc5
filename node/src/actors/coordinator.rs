//! The coat of a coordinator: looks at the replicated state, reads the log, and makes workers.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use evener_core::{
    command::{Command, HandOver, Outcome, Progress},
    coordinator::{Coordinator, Effect, Hook, Input, PREPARING, ProcessorView, STALLED, SegmentStatus, WorkerId},
    criteria::Matcher,
    hash,
    id::{ComponentId, LogIndex, NodeId, Position, ProcessorId, SessionId},
    letter::SequenceKey,
    processor::{Definition, Processor},
    replay::HookDone,
    state::State as Replicated,
    time::Moment,
    worker::{self, Work},
};
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

use super::{
    NodeServices, Settings, TICK,
    coordinator_message::{CoordinatorMessage, SendError, SendResult},
    progress_sender::{self, PendingProgress},
    status_row::StatusRow,
    takeover::KnownOwners,
    timer::Timer,
    watch::watch,
    worker::WorkerActor,
};
use crate::{
    describe,
    event::Stored,
    handler::{Reset, Runner},
    status::Standstill,
};
use evener_store::events::BLOCK_BYTES_MAX;

/// How long to wait before telling again what may not have arrived, ...
const RETRY_DELAY: Duration = Duration::from_millis(100);
/// ... and, at most, what was refused: it hardly is otherwise the next time.
const RETRY_DELAY_MAX: Duration = Duration::from_secs(60);

/// See the [module](self).
pub(super) struct CoordinatorActor;

/// What a coordinator is started with.
#[derive(Clone)]
pub(super) struct Arguments {
    pub services: Arc<NodeServices>,
    pub id: ProcessorId,
    pub name: Arc<str>,
    pub runner: Arc<dyn Runner>,
    pub progress_sender: ActorRef<progress_sender::Message>,
    pub settings: Settings,
    pub restarts: u64,
    pub last_error: Option<String>,
}

/// A coordinator at work.
pub(super) struct State {
    machine: Coordinator,
    arguments: Arguments,
    workers: BTreeMap<WorkerId, ActorRef<worker::Input<Arc<Stored>>>>,
    /// The processor's last change that was seen, the session, and whether the node was stopping.
    seen: Option<(LogIndex, SessionId, bool)>,
    owners: KnownOwners,
    definition: Option<Arc<Definition>>,
    ticking: bool,
    /// Why the log refuses the progress, and how often it has done so.
    refusal: Option<(String, u32)>,
    /// The last usage of the set-aside limits, if this node reports it.
    limits: super::limits::LimitWatch,
    /// The context of the processor's latest reset.
    replay_context: Option<Arc<str>>,
    /// The hook of a replay that runs here.
    hook: Option<AbortOnDropHandle<()>>,
    tasks: JoinSet<()>,
    timer: Timer,
    row: StatusRow,
}

impl Actor for CoordinatorActor {
    type Msg = CoordinatorMessage;
    type State = State;
    type Arguments = Arguments;

    async fn pre_start(
        &self,
        me: ActorRef<CoordinatorMessage>,
        arguments: Arguments,
    ) -> Result<State, ActorProcessingErr> {
        let services = &arguments.services;
        let mut row = StatusRow::new(&services.board, &arguments.name, "coordinator", Some("node"), services.wall());
        row.restarted(arguments.restarts, arguments.last_error.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(watch_log(services.clone(), me));
        Ok(State {
            machine: Coordinator::new(arguments.id, arguments.settings.bounds),
            arguments,
            workers: BTreeMap::new(),
            seen: None,
            owners: KnownOwners::default(),
            definition: None,
            ticking: false,
            refusal: None,
            limits: super::limits::LimitWatch::default(),
            replay_context: None,
            hook: None,
            tasks,
            timer: Timer::default(),
            row,
        })
    }

    async fn handle(
        &self,
        me: ActorRef<CoordinatorMessage>,
        message: CoordinatorMessage,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            CoordinatorMessage::Refresh(_credit) => state.refresh(&me).await,
            CoordinatorMessage::ProgressJudged(answer) => state.on_progress_judged(&me, answer).await,
            CoordinatorMessage::RetrySend => {
                state.refresh(&me).await;
                state.step(&me, Input::ProgressJudged(Err(()))).await;
            }
            CoordinatorMessage::Input(input) => {
                if input == Input::Tick {
                    state.ticking = false;
                }
                state.step(&me, input).await;
            }
        }
        while state.tasks.try_join_next().is_some() {}
        state.publish();
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        me: ActorRef<CoordinatorMessage>,
        event: SupervisionEvent,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        if let SupervisionEvent::ActorFailed(actor, error) = event {
            let died = state.workers.iter().find(|(_, worker)| worker.get_id() == actor.get_id());
            if let Some((id, _)) = died.map(|(id, worker)| (*id, worker.clone())) {
                state.workers.remove(&id);
                tracing::error!(processor = %state.arguments.name, %error, "a worker failed; it is restarted");
                state.step(&me, Input::WorkerDied(id, error.to_string())).await;
            }
        }
        Ok(())
    }
}

/// Says *look* whenever the log or the session moved.
async fn watch_log(services: Arc<NodeServices>, me: ActorRef<CoordinatorMessage>) {
    let (mut applied, mut session, mut stopping) =
        (services.applied(), services.session(), services.stopping.subscribe());
    let seen = (applied.clone(), session.clone(), stopping.clone());
    let seen = move || (seen.0.borrow().index, *seen.1.borrow(), *seen.2.borrow());
    let moved = async move || {
        tokio::select! {
            moved = applied.changed() => moved.is_ok(),
            moved = session.changed() => moved.is_ok(),
            moved = stopping.changed() => moved.is_ok(),
        }
    };
    watch(me, CoordinatorMessage::Refresh, seen, moved).await;
}

impl State {
    /// Reads the current applied state and session.
    async fn refresh(&mut self, me: &ActorRef<CoordinatorMessage>) {
        let services = self.arguments.services.clone();
        let (node, id) = (services.me(), self.arguments.id);
        let stopping = *services.stopping.borrow();
        let session = *services.session().borrow();
        let Some(session) = session else {
            if self.seen.take().is_some() {
                self.step(me, Input::SessionLost).await;
            }
            return;
        };
        let (seen, owners) = (self.seen, &mut self.owners);
        let (table, lost, head, limit_usage) = services.look(|state, index| {
            let Some(processor) = state.processors.get(&id) else { return (None, Vec::new(), Position(0), None) };
            let now = (processor.changed, session, stopping);
            // A draining node is a change of the table that touches no processor.
            let draining = state.sessions.get(&node).is_some_and(|session| session.draining);
            let is_current_session = state.sessions.get(&node).is_some_and(|live| live.session == session);
            let has_changed = is_current_session && (seen != Some(now) || draining);
            let table = has_changed.then(|| ProcessorView::of(state, index, id, node)).flatten();
            let lost = if has_changed { taken_over(owners, state, processor, node) } else { Vec::new() };
            // Only the owner of the first segment reports this.
            let reports_limits =
                has_changed && processor.segments.values().next().is_some_and(|share| share.claim.owner == Some(node));
            let limit_usage = reports_limits.then(|| processor.limit_usage(&state.limits));
            (table.map(|table| (now, table)), lost, state.head(processor.definition.context), limit_usage)
        });
        if let Some((letters, sequences)) = limit_usage {
            self.limits.update(&self.arguments.name, letters, sequences);
        }
        if let Some((now, mut table)) = table {
            if seen.is_some_and(|(_, before, _)| before != session) {
                self.step(me, Input::SessionLost).await;
            }
            self.seen = Some(now);
            table.paused |= stopping;
            if self.definition.as_deref() != Some(&table.definition) {
                self.definition = Some(Arc::new(table.definition.clone()));
            }
            self.replay_context = table.replay_context.as_deref().map(Arc::from);
            self.step(me, Input::ProcessorView(table)).await;
        }
        for owner in lost {
            services.metrics.takeover.observe(services.missed_for(owner).as_secs_f64());
        }
        self.step(me, Input::Head(head)).await;
    }

    /// Handles the log's judgement of sent progress. Progress without one is sent again after a while; a refusal is
    /// logged once.
    async fn on_progress_judged(&mut self, me: &ActorRef<CoordinatorMessage>, answer: SendResult) {
        let processor = &self.arguments.name;
        let wait = match answer {
            Ok(stale) => {
                if self.refusal.take().is_some() {
                    tracing::info!(%processor, "the log accepts the progress of a processor again");
                }
                self.refresh(me).await;
                return self.step(me, Input::ProgressJudged(Ok(stale))).await;
            }
            Err(SendError::Unknown) => RETRY_DELAY,
            Err(SendError::Refused(cause)) => {
                let times = self.refusal.take().filter(|(known, _)| *known == cause).map_or(0, |(_, times)| times + 1);
                if times == 0 {
                    tracing::error!(
                        %processor, cause,
                        "the log refuses the progress of a processor; its segments are stalled, and it is sent again"
                    );
                }
                self.refusal = Some((cause, times));
                RETRY_DELAY.saturating_mul(1 << times.min(20)).min(RETRY_DELAY_MAX)
            }
        };
        me.send_after(wait, || CoordinatorMessage::RetrySend);
    }

    async fn step(&mut self, me: &ActorRef<CoordinatorMessage>, input: Input<Arc<Stored>>) {
        let now = self.arguments.services.now();
        for effect in self.machine.step(now, input) {
            self.perform(me, effect).await;
        }
    }

    async fn perform(&mut self, me: &ActorRef<CoordinatorMessage>, effect: Effect<Arc<Stored>>) {
        match effect {
            Effect::Read { from, events_max } => self.read(me.clone(), from, events_max),
            Effect::Start(id, settings) => self.start(me, id, settings).await,
            Effect::Feed(id, works) => self.cast(id, worker::Input::Feed(works)),
            Effect::UpdateSetAside(id, settled, sequences) => {
                self.cast(id, worker::Input::SetAside { settled, sequences })
            }
            Effect::SetPaused(id, paused) => self.cast(id, worker::Input::SetPaused(paused)),
            Effect::Drain(id) => self.cast(id, worker::Input::Drain),
            Effect::Stop(id) => {
                if let Some(worker) = self.workers.remove(&id) {
                    // At once: its further messages are ignored, and its handler is ended.
                    worker.stop(None);
                }
            }
            Effect::RequestTick if self.ticking => {}
            Effect::RequestTick => {
                self.ticking = true;
                me.send_after(TICK, || CoordinatorMessage::Input(Input::Tick));
            }
            Effect::SendProgress { as_of, progress } => self.send_progress(me, as_of, progress),
            Effect::HandOver { segment, epoch, next, to } => {
                let hand_over = (segment, epoch, next, to);
                self.hand_over(me.clone(), hand_over);
            }
            Effect::RunHook(hook) => self.run_hook(me.clone(), hook),
            Effect::StopHook => drop(self.hook.take()),
            Effect::WakeAt(at) => {
                let me = me.clone();
                self.timer.wake_at(self.arguments.services.now(), at, move || {
                    let _ = me.cast(CoordinatorMessage::Input(Input::Woken));
                });
            }
        }
    }

    fn cast(&self, id: WorkerId, input: worker::Input<Arc<Stored>>) {
        if let Some(worker) = self.workers.get(&id) {
            let _ = worker.cast(input);
        }
    }

    fn read(&mut self, me: ActorRef<CoordinatorMessage>, from: Position, events_max: usize) {
        let Some(definition) = self.definition.clone() else { return };
        let services = self.arguments.services.clone();
        self.tasks.spawn(async move {
            let (to, works) = match services.block(definition.context, from, events_max, BLOCK_BYTES_MAX).await {
                Ok(block) => (block.next(), matching_work(&definition, block.events())),
                Err(error) => {
                    let error = super::services::error_chain(&error);
                    tracing::error!(error, position = from.0, "failed to read the log; retrying");
                    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                    (from, Vec::new())
                }
            };
            let _ = me.cast(CoordinatorMessage::Input(Input::Block { from, to, works }));
        });
    }

    async fn start(&mut self, me: &ActorRef<CoordinatorMessage>, id: WorkerId, settings: worker::Settings) {
        let Some(definition) = &self.definition else { return };
        let processor = self.arguments.name.clone();
        let share = id.segment.map_or_else(|| "loans".to_owned(), |segment| segment.to_string());
        let arguments = super::worker::Arguments {
            services: self.arguments.services.clone(),
            coordinator: me.clone(),
            id,
            name: format!("{processor}/{share}"),
            processor,
            context: definition.context,
            replay_context: self.replay_context.clone(),
            runner: self.arguments.runner.clone(),
            settings,
        };
        match Actor::spawn_linked(None, WorkerActor, arguments, me.get_cell()).await {
            Ok((worker, _)) => {
                self.workers.insert(id, worker);
            }
            Err(error) => {
                let died =
                    CoordinatorMessage::Input(Input::WorkerDied(id, format!("a worker could not be started: {error}")));
                let _ = me.cast(died);
            }
        }
    }

    /// Runs the hook of a replay, and reports to the log that it has run.
    fn run_hook(&mut self, me: ActorRef<CoordinatorMessage>, hook: Hook) {
        let Some((_, session, _)) = self.seen else { return };
        let (services, runner) = (self.arguments.services.clone(), self.arguments.runner.clone());
        let (processor, name) = (self.arguments.id, self.arguments.name.clone());
        self.hook = Some(AbortOnDropHandle::new(tokio::spawn(async move {
            let (phase, generation) = (hook.phase, hook.generation);
            tracing::info!(processor = %name, ?phase, "runs a hook of a replay");
            let reset = Reset::new(name.clone(), &hook);
            let result = services.handlers.run_hook(runner, phase, reset).await.map_err(|error| error.to_string());
            if let Err(cause) = &result {
                tracing::warn!(processor = %name, ?phase, cause, "a hook of a replay failed; it is run again");
            } else {
                let done = HookDone { node: services.me(), session, processor, generation, phase };
                // A refusal means that the log has another state by now, which the view shows.
                while services.propose(Command::HookDone(done)).await.is_err() {
                    tokio::time::sleep(RETRY_DELAY).await;
                }
            }
            let _ = me.cast(CoordinatorMessage::Input(Input::HookRan(hook, result)));
        })));
    }

    fn send_progress(&self, me: &ActorRef<CoordinatorMessage>, as_of: LogIndex, progress: Progress) {
        let pending = PendingProgress { as_of, progress, from: me.clone() };
        let _ = self.arguments.progress_sender.cast(progress_sender::Message::Send(pending));
    }

    fn hand_over(
        &mut self,
        me: ActorRef<CoordinatorMessage>,
        (segment, epoch, next, to): (evener_core::id::SegmentId, evener_core::id::Epoch, Position, Option<NodeId>),
    ) {
        let Some((_, session, _)) = self.seen else { return };
        let (services, processor) = (self.arguments.services.clone(), self.arguments.id);
        self.tasks.spawn(async move {
            let node = services.me();
            let letters = Vec::new();
            let hand_over = HandOver { node, session, processor, segment, epoch, next, to, letters };
            let answer = match services.propose(Command::HandOver(hand_over)).await {
                // Fenced: the applied state has another owner by now.
                Ok(Outcome::Advanced(_) | Outcome::Refused(_)) => Ok(()),
                Ok(_) | Err(_) => Err(()),
            };
            let _ = me.cast(CoordinatorMessage::Input(Input::HandOverJudged(segment, answer)));
        });
    }

    fn publish(&mut self) {
        let (mut busy, mut open, mut count, mut reason, mut still) = (false, 0, 0, None, Vec::new());
        for segment in self.machine.segments() {
            count += 1;
            open += segment.unfinished as u64;
            busy |= segment.unfinished > 0;
            let why = segment.reason.as_ref().map(describe::halt);
            if [STALLED, PREPARING].contains(&segment.phase) {
                still.push(self.standstill(&segment, why.clone().unwrap_or_default(), segment.until));
            } else if let Some((cause, _)) = &self.refusal {
                still.push(self.standstill(&segment, format!("the log refuses its progress: {cause}"), None));
            }
            reason = reason.or(why.map(|why| format!("segment {}: {why}", segment.segment)));
        }
        let phase = match count {
            _ if self.seen.is_none() => "without a session",
            0 => "without segments",
            _ if busy => "handling",
            _ => "idle",
        };
        self.arguments.services.set_busy(self.arguments.id, !self.machine.is_settled());
        let refusal = self.refusal.as_ref().map(|(cause, _)| format!("the log refuses its progress: {cause}"));
        let reason = refusal.or(reason);
        self.row.set_standstills(still);
        self.row.set_phase(self.arguments.services.wall(), phase, open, reason);
    }

    fn standstill(&self, segment: &SegmentStatus, reason: String, until: Option<Moment>) -> Standstill {
        Standstill {
            processor: self.arguments.name.to_string(),
            segment: segment.segment.0,
            epoch: segment.epoch.0,
            state: if segment.phase == PREPARING { PREPARING } else { STALLED }.into(),
            reason,
            retry_at: until.map(|until| self.arguments.services.wall_at(until)),
        }
    }
}

/// Returns the previous owners of the segments that this node has taken over since the last call.
fn taken_over(owners: &mut KnownOwners, state: &Replicated, processor: &Processor, node: NodeId) -> Vec<NodeId> {
    let now = processor.segments.iter().map(|(segment, share)| (*segment, share.claim.owner)).collect();
    owners.update(node, &now, |node| state.sessions.get(&node).map(|live| live.session))
}

/// The events a processor wants, each with its sequence.
fn matching_work(definition: &Definition, events: &[Arc<Stored>]) -> Vec<Work<Arc<Stored>>> {
    let criteria = Matcher::new(&definition.criteria);
    let wanted = events.iter().filter(|stored| criteria.matches(&stored.event.kind, &stored.event.tags));
    let works = wanted.map(|stored| {
        let name = definition.sequencing.name(&stored.event);
        let hash = hash::sequence(name.as_bytes());
        let sequence = SequenceKey { component: ComponentId(0), name: name.into_owned() };
        let (position, kind, event) = (stored.position, stored.event.kind.clone(), stored.clone());
        Work { position, sequence, hash, kind, replaying: false, event }
    });
    works.collect()
}
