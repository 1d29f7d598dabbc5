//! The root: supervises the balancer, the progress sender, and a coordinator for each processor that this node can run,
//! and restarts actors that failed.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use evener_core::{
    id::ProcessorId,
    processor::{Handler, Processor},
};
use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::{sync::OwnedSemaphorePermit, task::JoinSet};

use super::{
    NodeServices, Settings,
    balancer::Balancer,
    coordinator::{self, CoordinatorActor},
    progress_sender::{self, ProgressSender},
    status_row::StatusRow,
    watch::watch,
};
use crate::{exec::ExecRunner, handler::Runner};

/// The delay before a failed actor is restarted; it doubles up to the maximum.
const RESTART_DELAY: Duration = Duration::from_millis(200);
const RESTART_DELAY_MAX: Duration = Duration::from_secs(30);

/// See the [module](self).
pub(super) struct Root;

/// The messages of the root.
pub(super) enum Message {
    /// The state changed. The permit is the sender's credit.
    Refresh(OwnedSemaphorePermit),
    /// Restart this failed child.
    Restart(Child),
}

/// A child of the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Child {
    Balancer,
    ProgressSender,
    Coordinator(ProcessorId),
}

/// The arguments of the root.
pub(super) struct Arguments {
    pub services: Arc<NodeServices>,
    pub runners: BTreeMap<String, Arc<dyn Runner>>,
    pub settings: Settings,
}

/// The state of the running root.
pub(super) struct State {
    arguments: Arguments,
    children: BTreeMap<ActorId, (Child, ActorCell)>,
    progress_sender: Option<ActorRef<progress_sender::Message>>,
    restarts: BTreeMap<Child, (u64, Option<String>)>,
    _tasks: JoinSet<()>,
    row: StatusRow,
}

impl Actor for Root {
    type Msg = Message;
    type State = State;
    type Arguments = Arguments;

    async fn pre_start(&self, me: ActorRef<Message>, arguments: Arguments) -> Result<State, ActorProcessingErr> {
        let services = arguments.services.clone();
        let row = StatusRow::new(&services.board, "node", "node", None, services.wall());
        let mut tasks = JoinSet::new();
        tasks.spawn(watch_state(services, me.clone()));
        let mut state = State {
            arguments,
            children: BTreeMap::new(),
            progress_sender: None,
            restarts: BTreeMap::new(),
            _tasks: tasks,
            row,
        };
        state.start(&me, Child::ProgressSender).await?;
        state.start(&me, Child::Balancer).await?;
        Ok(state)
    }

    async fn handle(
        &self,
        me: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Refresh(_credit) => state.refresh(&me).await?,
            Message::Restart(child) => {
                state.start(&me, child).await?;
                if child == Child::ProgressSender {
                    // Coordinators hold a reference to the previous progress sender.
                    state.end_coordinators();
                    state.refresh(&me).await?;
                }
            }
        }
        state.row.set_phase(state.arguments.services.wall(), "running", 0, None);
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        me: ActorRef<Message>,
        event: SupervisionEvent,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        if let SupervisionEvent::ActorFailed(actor_cell, error) = event
            && let Some((child, _)) = state.children.remove(&actor_cell.get_id())
        {
            let (restarts, last_error) = state.restarts.entry(child).or_default();
            *restarts += 1;
            *last_error = Some(error.to_string());
            let doubled = RESTART_DELAY.saturating_mul(1 << (*restarts - 1).min(16));
            tracing::error!(?child, %error, restarts, "an actor failed; it is restarted");
            me.send_after(doubled.min(RESTART_DELAY_MAX), move || Message::Restart(child));
        }
        Ok(())
    }
}

/// Sends a refresh whenever processors may have been created or deleted.
async fn watch_state(services: Arc<NodeServices>, me: ActorRef<Message>) {
    let (seen, mut applied) = (services.applied(), services.applied());
    watch(me, Message::Refresh, move || seen.borrow().changed, async move || applied.changed().await.is_ok()).await;
}

impl State {
    /// Starts a coordinator for each processor that this node can run, and stops the others.
    async fn refresh(&mut self, me: &ActorRef<Message>) -> Result<(), ActorProcessingErr> {
        let runners = &self.arguments.runners;
        let wanted: Vec<ProcessorId> = self.arguments.services.look(|state, _| {
            let runnable = |processor: &&Processor| match processor.definition.handler {
                Handler::Exec(_) => true,
                Handler::Embedded => runners.contains_key(&processor.definition.name),
                Handler::Webhook(_) => false,
            };
            state.processors.values().filter(runnable).map(|processor| processor.id).collect()
        });
        let deleted = self.children.iter().filter(|(_, (child, _))| match child {
            Child::Coordinator(id) => !wanted.contains(id),
            Child::Balancer | Child::ProgressSender => false,
        });
        let deleted: Vec<ActorId> = deleted.map(|(actor, _)| *actor).collect();
        for actor in deleted {
            if let Some((child, cell)) = self.children.remove(&actor) {
                self.restarts.remove(&child);
                if let Child::Coordinator(id) = child {
                    self.arguments.services.set_busy(id, false);
                }
                cell.stop(Some("the processor was deleted".into()));
            }
        }
        for id in wanted {
            let child = Child::Coordinator(id);
            let is_running = self.children.values().any(|(known, _)| *known == child);
            // A failed coordinator that awaits its restart is not started here.
            let awaits_restart = !is_running && self.restarts.contains_key(&child);
            if !is_running && !awaits_restart {
                self.start(me, child).await?;
            }
        }
        Ok(())
    }

    fn end_coordinators(&mut self) {
        self.children.retain(|_, (child, cell)| {
            let ends = matches!(child, Child::Coordinator(_));
            if ends {
                cell.stop(Some("the progress sender was restarted".into()));
            }
            !ends
        });
    }

    async fn start(&mut self, me: &ActorRef<Message>, child: Child) -> Result<(), ActorProcessingErr> {
        let services = self.arguments.services.clone();
        let cell = match child {
            Child::Balancer => Actor::spawn_linked(None, Balancer, services, me.get_cell()).await?.0.get_cell(),
            Child::ProgressSender => {
                let (progress_sender, _) = Actor::spawn_linked(None, ProgressSender, services, me.get_cell()).await?;
                self.progress_sender = Some(progress_sender.clone());
                progress_sender.get_cell()
            }
            Child::Coordinator(id) => {
                let Some(arguments) = self.coordinator(child, id) else { return Ok(()) };
                let coordinator = Actor::spawn_linked(None, CoordinatorActor, arguments, me.get_cell()).await?.0;
                coordinator.get_cell()
            }
        };
        self.children.insert(cell.get_id(), (child, cell));
        Ok(())
    }

    fn coordinator(&self, child: Child, id: ProcessorId) -> Option<coordinator::Arguments> {
        let services = self.arguments.services.clone();
        let (name, handler) = services.look(|state, _| {
            let processor = state.processors.get(&id)?;
            Some((processor.definition.name.clone(), processor.definition.handler.clone()))
        })?;
        let runner = match handler {
            Handler::Embedded => self.arguments.runners.get(&name)?.clone(),
            Handler::Exec(command) => {
                let (node, settings) = (services.name(), self.arguments.settings.programs);
                Arc::new(ExecRunner::new(name.as_str(), command, node, settings)) as Arc<dyn Runner>
            }
            Handler::Webhook(_) => return None,
        };
        let (restarts, last_error) = self.restarts.get(&child).cloned().unwrap_or_default();
        let progress_sender = self.progress_sender.clone()?;
        let settings = self.arguments.settings;
        Some(coordinator::Arguments {
            services,
            id,
            name: name.into(),
            runner,
            progress_sender,
            settings,
            restarts,
            last_error,
        })
    }
}
