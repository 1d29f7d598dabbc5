//! The balancer: while this node leads, it compares what is with the plan, for ever.

use std::{sync::Arc, time::Duration};

use evener_core::{
    balance::plan,
    command::{Assign, Command},
};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::{sync::OwnedSemaphorePermit, task::JoinSet};

use super::{World, publish::Row, timer::Timer, watch::watch};

/// How long to wait before planning again what could not be proposed.
const AGAIN: Duration = Duration::from_millis(200);

/// See the [module](self).
pub struct Balancer;

/// What the balancer is told.
pub enum Message {
    /// The table or the leader may have changed: look. The permit is the credit of whoever says so.
    Look(Option<OwnedSemaphorePermit>),
    /// The plan that was on its way was judged, or not.
    Judged(Result<(), String>),
}

/// The balancer at work.
pub struct State {
    world: Arc<World>,
    proposing: bool,
    _tasks: JoinSet<()>,
    timer: Timer,
    row: Row,
}

impl Actor for Balancer {
    type Msg = Message;
    type State = State;
    type Arguments = Arc<World>;

    async fn pre_start(&self, me: ActorRef<Message>, world: Arc<World>) -> Result<State, ActorProcessingErr> {
        let row = Row::new(&world.board, "balancer", "balancer", Some("node"), world.wall());
        let mut tasks = JoinSet::new();
        tasks.spawn(watch_table(world.clone(), me));
        Ok(State { world, proposing: false, _tasks: tasks, timer: Timer::default(), row })
    }

    async fn handle(
        &self,
        me: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let mut error = None;
        match message {
            Message::Look(_credit) => {}
            Message::Judged(judged) => {
                state.proposing = false;
                error = judged.err();
            }
        }
        if error.is_some() {
            state.wake(&me, AGAIN);
        } else if !state.proposing && state.world.leads() {
            state.balance(&me);
        }
        let phase = match state.world.leads() {
            false => "resting: another node leads",
            true if state.proposing => "moving",
            true => "even",
        };
        state.row.show(state.world.wall(), phase, 0, error);
        Ok(())
    }
}

/// Says *look* whenever the table or the leader changed.
async fn watch_table(world: Arc<World>, me: ActorRef<Message>) {
    let (mut applied, mut leadership) = (world.applied(), world.leadership());
    let seen = (applied.clone(), leadership.clone());
    let seen = move || (seen.0.borrow().changed, seen.1.borrow().leader);
    let moved = async move || {
        tokio::select! {
            moved = applied.changed() => moved.is_ok(),
            moved = leadership.changed() => moved.is_ok(),
        }
    };
    watch(me, |permit| Message::Look(Some(permit)), seen, moved).await;
}

impl State {
    fn balance(&mut self, me: &ActorRef<Message>) {
        let now = self.world.log_time();
        let (generation, moves, bar) = self.world.look(|state, _| {
            let view = state.balance_view(now);
            (state.generation, plan(&view), view.next_bar_end())
        });
        if let Some(until) = bar {
            // When a bar ends, the plan may be another.
            self.wake(me, until.since(now) + Duration::from_millis(1));
        }
        if moves.is_empty() {
            return;
        }
        self.proposing = true;
        let (world, me) = (self.world.clone(), me.clone());
        self._tasks.spawn(async move {
            let judged = world.propose(Command::Assign(Assign { generation, moves })).await;
            let _ = me.cast(Message::Judged(judged.map(drop).map_err(|error| error.message)));
        });
    }

    fn wake(&mut self, me: &ActorRef<Message>, wait: Duration) {
        let (now, me) = (self.world.now(), me.clone());
        self.timer.wake_at(now, now.after(wait), move || {
            let _ = me.cast(Message::Look(None));
        });
    }
}
