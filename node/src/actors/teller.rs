//! The teller: what moved of all processors travels together, in as few commands as their size allows. What is wrong
//! with the progress of one processor concerns no other.

use std::{collections::BTreeMap, sync::Arc};

use evener_cluster::{Class, Error};
use evener_core::{
    command::{Advance, Command, Outcome, Progress, Stale, commands_of},
    id::LogIndex,
};
use futures::{
    FutureExt,
    future::{BoxFuture, join_all},
};
use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::{World, coordinator, publish::Row};

/// Bytes of a command that joins the progress of several processors: as many as an entry joins of what waits. One
/// processor's alone may have more, and still fits an entry.
const ADVANCE_BYTES_MAX: usize = 256 << 10;
/// Processors whose progress one command joins.
const ADVANCE_ITEMS_MAX: usize = 1_024;

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

/// Why what was told is not known to have been judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Untold {
    /// It may have been, or will be when it is told again.
    Unknown,
    /// It cannot be judged as it is, for this reason.
    Refused(String),
}

/// How what was told was judged.
pub type Told = Result<Vec<Stale>, Untold>;

/// How a command was judged, if it was.
type Judged = Result<Outcome, Error>;

/// Proposes these items as one command.
type Propose = dyn Fn(Vec<Progress>) -> BoxFuture<'static, Judged> + Send + Sync;

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
        return answer(waiting.into_iter().map(|tell| (tell.from, Err(Untold::Unknown))), &me);
    };
    // What a processor's claims were then they are still, if nothing of it has changed since: then `as_of` may be
    // now, and all travel together.
    let mut groups = BTreeMap::<LogIndex, Vec<(Progress, ActorRef<coordinator::Message>)>>::new();
    world.look(|state, index| {
        for Tell { as_of, progress, from } in waiting {
            let processor = state.processors.get(&progress.processor);
            let unchanged = processor.is_some_and(|processor| processor.changed <= as_of);
            groups.entry(if unchanged { index } else { as_of }).or_default().push((progress, from));
        }
    });
    let node = world.me();
    let told = groups.into_iter().map(|(as_of, group)| {
        let world = world.clone();
        let propose = move |items| -> BoxFuture<'static, Judged> {
            let world = world.clone();
            async move { world.propose(Command::Advance(Advance { node, session, as_of, items })).await }.boxed()
        };
        let (items, from): (Vec<_>, Vec<_>) = group.into_iter().unzip();
        async move { from.into_iter().zip(advance(&propose, items).await).collect::<Vec<_>>() }
    });
    answer(join_all(told).await.into_iter().flatten(), &me);
}

/// Proposes items in commands of a bounded size, and returns how each was judged. The items of a command that cannot be
/// judged are told one by one, so that only the one to blame is refused.
async fn advance(propose: &Propose, items: Vec<Progress>) -> Vec<Told> {
    let sizes: Vec<usize> = items.iter().map(Progress::bytes).collect();
    let mut told = Vec::new();
    for range in commands_of(&sizes, ADVANCE_BYTES_MAX, ADVANCE_ITEMS_MAX) {
        let items = items[range].to_vec();
        told.push(async move {
            match propose(items.clone()).await {
                Err(error) if error.class == Class::Invalid && items.len() > 1 => {
                    let alone = items.into_iter().map(|item| propose(vec![item]));
                    join_all(alone).await.into_iter().map(judged_alone).collect()
                }
                outcome => judged(&items, outcome),
            }
        });
    }
    join_all(told).await.into_iter().flatten().collect()
}

/// Returns what was said of each item of a command.
fn judged(items: &[Progress], outcome: Judged) -> Vec<Told> {
    let all = judged_alone(outcome);
    let of = |item: &Progress| {
        let mine =
            |stale: &Vec<Stale>| stale.iter().filter(|stale| stale.processor == item.processor).cloned().collect();
        all.as_ref().map(mine).map_err(Untold::clone)
    };
    items.iter().map(of).collect()
}

fn judged_alone(outcome: Judged) -> Told {
    match outcome {
        Ok(Outcome::Advanced(stale)) => Ok(stale),
        Err(error) if error.class == Class::Invalid => Err(Untold::Refused(error.message)),
        Ok(_) | Err(_) => Err(Untold::Unknown),
    }
}

fn answer(answers: impl Iterator<Item = (ActorRef<coordinator::Message>, Told)>, me: &ActorRef<Message>) {
    for (from, answer) in answers {
        let _ = from.cast(coordinator::Message::Told(answer));
    }
    let _ = me.cast(Message::Arrived);
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use evener_core::{
        command::{LetterMove, RefusalReason},
        id::{ComponentId, Epoch, Position, ProcessorId, SegmentId},
        letter::SequenceKey,
    };

    use futures::future::ready;

    use super::*;

    fn item(processor: u32, name_bytes: usize) -> Progress {
        let sequence = SequenceKey { component: ComponentId(0), name: "x".repeat(name_bytes) };
        let (segment, epoch, position) = (SegmentId(0), Epoch(1), Position(0));
        let letters = vec![LetterMove::Skipped { segment, epoch, sequence, position }];
        Progress { processor: ProcessorId(processor), scanned: None, tokens: Vec::new(), letters }
    }

    fn processors(items: &[Progress]) -> Vec<u32> {
        items.iter().map(|item| item.processor.0).collect()
    }

    #[tokio::test]
    async fn p10_progress_of_many_processors_is_split_by_size() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let told = seen.clone();
        let propose = move |items: Vec<Progress>| {
            let bytes: usize = items.iter().map(Progress::bytes).sum();
            assert!(bytes <= ADVANCE_BYTES_MAX || items.len() == 1, "{bytes} bytes");
            told.lock().unwrap().push(processors(&items));
            let stale = items.iter().map(|item| Stale {
                processor: item.processor,
                segment: None,
                reason: RefusalReason::Fenced,
            });
            ready(Ok(Outcome::Advanced(stale.collect()))).boxed()
        };
        let items = [100_000, 100_000, 100_000, 500_000, 10].into_iter().zip(1..).map(|(bytes, id)| item(id, bytes));
        let told = advance(&propose, items.collect()).await;
        assert_eq!(*seen.lock().unwrap(), [vec![1, 2], vec![3], vec![4], vec![5]]);
        for (id, told) in (1..).zip(told) {
            let stale = told.unwrap();
            assert_eq!((stale.len(), stale[0].processor), (1, ProcessorId(id)), "each hears of its own");
        }
    }

    #[tokio::test]
    async fn p10_what_is_wrong_with_one_processor_fails_no_other() {
        let propose = |items: Vec<Progress>| {
            let wrong = processors(&items).contains(&2);
            let refused = Error::new(Class::Invalid, "too large");
            ready(if wrong { Err(refused) } else { Ok(Outcome::Advanced(Vec::new())) }).boxed()
        };
        let told = advance(&propose, (1..=3).map(|id| item(id, 10)).collect()).await;
        assert_eq!(told, [Ok(vec![]), Err(Untold::Refused("too large".into())), Ok(vec![])]);
        let away = |_| ready(Err(Error::new(Class::Overloaded, "nobody leads"))).boxed();
        assert_eq!(advance(&away, vec![item(1, 10)]).await, [Err(Untold::Unknown)], "it is told again as it is");
    }
}
