//! The teller: what moved of all processors travels together, one [`Advance`] at a time.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use evener_core::{
    command::{Advance, Command, Outcome, Progress, Stale},
    id::LogIndex,
};
use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::{World, coordinator, publish::Row};

/// How long to wait before telling again what may not have arrived.
const AGAIN: Duration = Duration::from_millis(100);

/// See the [module](self).
pub struct Teller;

/// What one coordinator has to tell.
pub struct Tell {
    /// Claims given later are not meant.
    pub as_of: LogIndex,
    /// What moved.
    pub progress: Progress,
    /// Who wants the answer.
    pub from: ActorRef<coordinator::Message>,
}

/// What the teller is told.
pub enum Message {
    /// A coordinator has something to tell.
    Tell(Tell),
    /// What was on its way has arrived, or not.
    Arrived,
}

/// The teller at work.
pub struct State {
    world: Arc<World>,
    waiting: Vec<Tell>,
    telling: bool,
    row: Row,
}

impl Actor for Teller {
    type Msg = Message;
    type State = State;
    type Arguments = Arc<World>;

    async fn pre_start(&self, _: ActorRef<Message>, world: Arc<World>) -> Result<State, ActorProcessingErr> {
        let row = Row::new(&world.board, "teller", "teller", Some("node"), world.wall());
        Ok(State { world, waiting: Vec::new(), telling: false, row })
    }

    async fn handle(
        &self,
        me: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Tell(tell) => state.waiting.push(tell),
            Message::Arrived => state.telling = false,
        }
        if !state.telling && !state.waiting.is_empty() {
            state.telling = true;
            tokio::spawn(tell(state.world.clone(), std::mem::take(&mut state.waiting), me));
        }
        let phase = if state.telling { "telling" } else { "idle" };
        state.row.show(state.world.wall(), phase, state.waiting.len() as u64, None);
        Ok(())
    }
}

/// Proposes what waits, and answers each who told it once it is applied here.
async fn tell(world: Arc<World>, waiting: Vec<Tell>, me: ActorRef<Message>) {
    let session = *world.session().borrow();
    let Some(session) = session else {
        return answer(waiting.into_iter().map(|tell| (tell.from, Err(()))), &me);
    };
    // What a processor's claims were then they are still, if nothing of it has changed since: then `as_of` may be
    // now, and all travel in one command.
    let mut commands = BTreeMap::<LogIndex, (Vec<Progress>, Vec<ActorRef<coordinator::Message>>)>::new();
    world.look(|state, index| {
        for Tell { as_of, progress, from } in waiting {
            let processor = state.processors.get(&progress.processor);
            let unchanged = processor.is_some_and(|processor| processor.changed <= as_of);
            let group = commands.entry(if unchanged { index } else { as_of }).or_default();
            group.0.push(progress);
            group.1.push(from);
        }
    });
    let node = world.me();
    let told = commands.into_iter().map(|(as_of, (items, from))| {
        let processors: Vec<_> = items.iter().map(|progress| progress.processor).collect();
        let proposed = world.propose(Command::Advance(Advance { node, session, as_of, items }));
        async move { (processors, from, proposed.await) }
    });
    let mut failed = false;
    let mut answers = Vec::new();
    for (processors, from, outcome) in futures::future::join_all(told).await {
        let stale = match outcome {
            Ok(Outcome::Advanced(stale)) => Ok(stale),
            Ok(_) | Err(_) => Err(()),
        };
        failed |= stale.is_err();
        for (processor, from) in processors.into_iter().zip(from) {
            let mine = stale
                .clone()
                .map(|stale| stale.into_iter().filter(|stale| stale.processor == processor).collect::<Vec<Stale>>());
            answers.push((from, mine));
        }
    }
    if failed {
        tokio::time::sleep(AGAIN).await;
    }
    answer(answers.into_iter(), &me);
}

type Answer = (ActorRef<coordinator::Message>, Result<Vec<Stale>, ()>);

fn answer(answers: impl Iterator<Item = Answer>, me: &ActorRef<Message>) {
    for (from, answer) in answers {
        let _ = from.cast(coordinator::Message::Told(answer));
    }
    let _ = me.cast(Message::Arrived);
}
