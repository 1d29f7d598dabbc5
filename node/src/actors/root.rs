//! The root: keeps the balancer, the teller, and a coordinator for each processor that this node can run, and
//! starts again what died.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use evener_core::{
    id::ProcessorId,
    processor::{Handler, Processor},
};
use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::{sync::OwnedSemaphorePermit, task::JoinSet};

use super::{
    Settings, World,
    balancer::Balancer,
    coordinator::{self, CoordinatorActor},
    publish::Row,
    teller::{self, Teller},
    watch::watch,
};
use crate::{exec::ExecRunner, handler::Runner};

/// The wait before an actor that died is started again: doubles up to the greatest.
const RESTART_WAIT: Duration = Duration::from_millis(200);
const RESTART_WAIT_MAX: Duration = Duration::from_secs(30);

/// See the [module](self).
pub struct Root;

/// What the root is told.
pub enum Message {
    /// The table changed: look. The permit is the credit of whoever says so.
    Look(OwnedSemaphorePermit),
    /// Start again what died.
    Restart(Child),
}

/// Which child.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Child {
    Balancer,
    Teller,
    Coordinator(ProcessorId),
}

/// What the root is started with.
pub struct Arguments {
    pub world: Arc<World>,
    pub runners: BTreeMap<String, Arc<dyn Runner>>,
    pub settings: Settings,
}

/// The root at work.
pub struct State {
    arguments: Arguments,
    children: BTreeMap<ActorId, (Child, ActorCell)>,
    teller: Option<ActorRef<teller::Message>>,
    restarts: BTreeMap<Child, (u64, Option<String>)>,
    _tasks: JoinSet<()>,
    row: Row,
}

impl Actor for Root {
    type Msg = Message;
    type State = State;
    type Arguments = Arguments;

    async fn pre_start(&self, me: ActorRef<Message>, arguments: Arguments) -> Result<State, ActorProcessingErr> {
        let world = arguments.world.clone();
        let row = Row::new(&world.board, "node", "node", None, world.wall());
        let mut tasks = JoinSet::new();
        tasks.spawn(watch_table(world, me.clone()));
        let mut state =
            State { arguments, children: BTreeMap::new(), teller: None, restarts: BTreeMap::new(), _tasks: tasks, row };
        state.start(&me, Child::Teller).await?;
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
            Message::Look(_credit) => state.look(&me).await?,
            Message::Restart(child) => {
                state.start(&me, child).await?;
                if child == Child::Teller {
                    // Coordinators tell the one they were made with.
                    state.end_coordinators();
                    state.look(&me).await?;
                }
            }
        }
        state.row.show(state.arguments.world.wall(), "running", 0, None);
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        me: ActorRef<Message>,
        event: SupervisionEvent,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        if let SupervisionEvent::ActorFailed(who, error) = event
            && let Some((child, _)) = state.children.remove(&who.get_id())
        {
            let (restarts, last_error) = state.restarts.entry(child).or_default();
            *restarts += 1;
            *last_error = Some(error.to_string());
            let doubled = RESTART_WAIT.saturating_mul(1 << (*restarts - 1).min(16));
            tracing::error!(?child, %error, restarts, "an actor died; it is started again");
            me.send_after(doubled.min(RESTART_WAIT_MAX), move || Message::Restart(child));
        }
        Ok(())
    }
}

/// Says *look* whenever processors may have come or gone.
async fn watch_table(world: Arc<World>, me: ActorRef<Message>) {
    let (seen, mut applied) = (world.applied(), world.applied());
    watch(me, Message::Look, move || seen.borrow().changed, async move || applied.changed().await.is_ok()).await;
}

impl State {
    /// A coordinator for each processor this node can run, none for others.
    async fn look(&mut self, me: &ActorRef<Message>) -> Result<(), ActorProcessingErr> {
        let runners = &self.arguments.runners;
        let wanted: Vec<ProcessorId> = self.arguments.world.look(|state, _| {
            let runnable = |processor: &&Processor| match processor.definition.handler {
                Handler::Exec(_) => true,
                Handler::Embedded => runners.contains_key(&processor.definition.name),
                Handler::Webhook(_) => false,
            };
            state.processors.values().filter(runnable).map(|processor| processor.id).collect()
        });
        let gone = self.children.iter().filter(|(_, (child, _))| match child {
            Child::Coordinator(id) => !wanted.contains(id),
            Child::Balancer | Child::Teller => false,
        });
        let gone: Vec<ActorId> = gone.map(|(actor, _)| *actor).collect();
        for actor in gone {
            if let Some((child, cell)) = self.children.remove(&actor) {
                self.restarts.remove(&child);
                if let Child::Coordinator(id) = child {
                    self.arguments.world.set_busy(id, false);
                }
                cell.stop(Some("the processor was deleted".into()));
            }
        }
        for id in wanted {
            let child = Child::Coordinator(id);
            let there = self.children.values().any(|(known, _)| *known == child);
            // One that died and waits for its restart is not started by the way.
            let dead = !there && self.restarts.contains_key(&child);
            if !there && !dead {
                self.start(me, child).await?;
            }
        }
        Ok(())
    }

    fn end_coordinators(&mut self) {
        self.children.retain(|_, (child, cell)| {
            let ends = matches!(child, Child::Coordinator(_));
            if ends {
                cell.stop(Some("the teller was started again".into()));
            }
            !ends
        });
    }

    async fn start(&mut self, me: &ActorRef<Message>, child: Child) -> Result<(), ActorProcessingErr> {
        let world = self.arguments.world.clone();
        let cell = match child {
            Child::Balancer => Actor::spawn_linked(None, Balancer, world, me.get_cell()).await?.0.get_cell(),
            Child::Teller => {
                let (teller, _) = Actor::spawn_linked(None, Teller, world, me.get_cell()).await?;
                self.teller = Some(teller.clone());
                teller.get_cell()
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
        let world = self.arguments.world.clone();
        let (name, handler) = world.look(|state, _| {
            let processor = state.processors.get(&id)?;
            Some((processor.definition.name.clone(), processor.definition.handler.clone()))
        })?;
        let runner = match handler {
            Handler::Embedded => self.arguments.runners.get(&name)?.clone(),
            Handler::Exec(command) => {
                let (node, settings) = (world.name(), self.arguments.settings.programs);
                Arc::new(ExecRunner::new(name.as_str(), command, node, settings)) as Arc<dyn Runner>
            }
            Handler::Webhook(_) => return None,
        };
        let (restarts, last_error) = self.restarts.get(&child).cloned().unwrap_or_default();
        let teller = self.teller.clone()?;
        let settings = self.arguments.settings;
        Some(coordinator::Arguments { world, id, name: name.into(), runner, teller, settings, restarts, last_error })
    }
}
