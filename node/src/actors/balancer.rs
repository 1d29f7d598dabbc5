//! The balancer: while this node is the leader, it continuously reconciles the claims with the plan.

use std::{sync::Arc, time::Duration};

use evener_core::{
    balance::plan,
    command::{Assign, Command},
};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::{sync::OwnedSemaphorePermit, task::JoinSet};

use super::{NodeServices, status_row::StatusRow, timer::Timer, watch::watch};

/// The delay before planning again after a failed proposal.
const RETRY_DELAY: Duration = Duration::from_millis(200);

/// See the [module](self).
pub(super) struct Balancer;

/// The messages of the balancer.
pub(super) enum Message {
    /// The state or the leader may have changed. The permit is the sender's credit.
    Refresh(Option<OwnedSemaphorePermit>),
    /// The result of the proposed plan.
    Judged(Result<(), String>),
}

/// The state of the running balancer.
pub(super) struct State {
    services: Arc<NodeServices>,
    proposing: bool,
    _tasks: JoinSet<()>,
    timer: Timer,
    row: StatusRow,
}

impl Actor for Balancer {
    type Msg = Message;
    type State = State;
    type Arguments = Arc<NodeServices>;

    async fn pre_start(&self, me: ActorRef<Message>, services: Arc<NodeServices>) -> Result<State, ActorProcessingErr> {
        let row = StatusRow::new(&services.board, "balancer", "balancer", Some("node"), services.wall());
        let mut tasks = JoinSet::new();
        tasks.spawn(watch_state(services.clone(), me));
        Ok(State { services, proposing: false, _tasks: tasks, timer: Timer::default(), row })
    }

    async fn handle(
        &self,
        me: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let mut error = None;
        match message {
            Message::Refresh(_credit) => {}
            Message::Judged(judged) => {
                state.proposing = false;
                error = judged.err();
            }
        }
        if error.is_some() {
            state.wake(&me, RETRY_DELAY);
        } else if !state.proposing && state.services.leads() {
            state.balance(&me);
        }
        let phase = match state.services.leads() {
            false => "resting: another node leads",
            true if state.proposing => "moving",
            true => "even",
        };
        state.row.set_phase(state.services.wall(), phase, 0, error);
        Ok(())
    }
}

/// Sends a refresh whenever the state or the leader changes.
async fn watch_state(services: Arc<NodeServices>, me: ActorRef<Message>) {
    let (mut applied, mut leadership) = (services.applied(), services.leadership());
    let seen = (applied.clone(), leadership.clone());
    let seen = move || (seen.0.borrow().changed, seen.1.borrow().leader);
    let moved = async move || {
        tokio::select! {
            moved = applied.changed() => moved.is_ok(),
            moved = leadership.changed() => moved.is_ok(),
        }
    };
    watch(me, |permit| Message::Refresh(Some(permit)), seen, moved).await;
}

impl State {
    fn balance(&mut self, me: &ActorRef<Message>) {
        let now = self.services.log_time();
        let (generation, moves, bar) = self.services.look(|state, _| {
            let view = state.balance_view(now);
            (state.generation, plan(&view), view.next_bar_end())
        });
        if let Some(until) = bar {
            // The plan may change when a bar ends.
            self.wake(me, until.since(now) + Duration::from_millis(1));
        }
        if moves.is_empty() {
            return;
        }
        self.proposing = true;
        let (services, me) = (self.services.clone(), me.clone());
        self._tasks.spawn(async move {
            let judged = services.propose(Command::Assign(Assign { generation, moves })).await;
            let _ = me.cast(Message::Judged(judged.map(drop).map_err(|error| error.message)));
        });
    }

    fn wake(&mut self, me: &ActorRef<Message>, wait: Duration) {
        let (now, me) = (self.services.now(), me.clone());
        self.timer.wake_at(now, now.after(wait), move || {
            let _ = me.cast(Message::Refresh(None));
        });
    }
}
