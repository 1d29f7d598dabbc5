//! The progress sender: the progress of all processors is sent together, in as few commands as the size limit allows.
//! An error in the progress of one processor does not affect the others.

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

use super::{
    NodeServices,
    coordinator_message::{CoordinatorMessage, SendError, SendResult},
    status_row::StatusRow,
};

/// The maximum bytes of a command with the progress of several processors: as many as the proposer batches into an
/// entry. The progress of a single processor may be larger and still fits an entry.
const ADVANCE_BYTES_MAX: usize = 256 << 10;
/// The maximum number of processors in one command.
const ADVANCE_ITEMS_MAX: usize = 1_024;

/// See the [module](self).
pub(super) struct ProgressSender;

/// Progress that a coordinator wants to send.
pub(super) struct PendingProgress {
    /// The log index up to which claims are known; later claims are not meant.
    pub as_of: LogIndex,
    /// The progress.
    pub progress: Progress,
    /// The coordinator that receives the result.
    pub from: ActorRef<CoordinatorMessage>,
}

/// The outcome of a command.
type Judged = Result<Outcome, Error>;

/// Proposes these items as one command.
type Propose = dyn Fn(Vec<Progress>) -> BoxFuture<'static, Judged> + Send + Sync;

/// The messages of the progress sender.
pub(super) enum Message {
    /// A coordinator sends progress.
    Send(PendingProgress),
    /// The proposals under way were answered.
    Answered,
}

/// The state of the running progress sender.
pub(super) struct State {
    services: Arc<NodeServices>,
    waiting: Vec<PendingProgress>,
    is_sending: bool,
    row: StatusRow,
}

impl Actor for ProgressSender {
    type Msg = Message;
    type State = State;
    type Arguments = Arc<NodeServices>;

    async fn pre_start(&self, _: ActorRef<Message>, services: Arc<NodeServices>) -> Result<State, ActorProcessingErr> {
        let row = StatusRow::new(&services.board, "progress-sender", "progress-sender", Some("node"), services.wall());
        Ok(State { services, waiting: Vec::new(), is_sending: false, row })
    }

    async fn handle(
        &self,
        me: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Send(pending) => state.waiting.push(pending),
            Message::Answered => state.is_sending = false,
        }
        if !state.is_sending && !state.waiting.is_empty() {
            state.is_sending = true;
            tokio::spawn(send(state.services.clone(), std::mem::take(&mut state.waiting), me));
        }
        let phase = if state.is_sending { "sending" } else { "idle" };
        state.row.set_phase(state.services.wall(), phase, state.waiting.len() as u64, None);
        Ok(())
    }
}

/// Proposes the pending progress and answers each coordinator once it is applied on this node.
async fn send(services: Arc<NodeServices>, waiting: Vec<PendingProgress>, me: ActorRef<Message>) {
    let session = *services.session().borrow();
    let Some(session) = session else {
        return answer(waiting.into_iter().map(|pending| (pending.from, Err(SendError::Unknown))), &me);
    };
    // If a processor has not changed since `as_of`, its claims are the same, so `as_of` may be the current index and
    // its progress is sent with the others.
    let mut groups = BTreeMap::<LogIndex, Vec<(Progress, ActorRef<CoordinatorMessage>)>>::new();
    services.look(|state, index| {
        for PendingProgress { as_of, progress, from } in waiting {
            let processor = state.processors.get(&progress.processor);
            let unchanged = processor.is_some_and(|processor| processor.changed <= as_of);
            groups.entry(if unchanged { index } else { as_of }).or_default().push((progress, from));
        }
    });
    let node = services.me();
    let results = groups.into_iter().map(|(as_of, group)| {
        let services = services.clone();
        let propose = move |items| -> BoxFuture<'static, Judged> {
            let services = services.clone();
            async move { services.propose(Command::Advance(Advance { node, session, as_of, items })).await }.boxed()
        };
        let (items, from): (Vec<_>, Vec<_>) = group.into_iter().unzip();
        async move { from.into_iter().zip(advance(&propose, items).await).collect::<Vec<_>>() }
    });
    answer(join_all(results).await.into_iter().flatten(), &me);
}

/// Proposes items in commands of a bounded size, and returns how each was judged. The items of a refused command are
/// sent one by one, so that only the invalid one is refused.
async fn advance(propose: &Propose, items: Vec<Progress>) -> Vec<SendResult> {
    let sizes: Vec<usize> = items.iter().map(Progress::bytes).collect();
    let mut results = Vec::new();
    for range in commands_of(&sizes, ADVANCE_BYTES_MAX, ADVANCE_ITEMS_MAX) {
        let items = items[range].to_vec();
        results.push(async move {
            match propose(items.clone()).await {
                Err(error) if error.class == Class::Invalid && items.len() > 1 => {
                    let alone = items.into_iter().map(|item| propose(vec![item]));
                    join_all(alone).await.into_iter().map(judged_alone).collect()
                }
                outcome => judged(&items, outcome),
            }
        });
    }
    join_all(results).await.into_iter().flatten().collect()
}

/// Returns the result of each item of a command.
fn judged(items: &[Progress], outcome: Judged) -> Vec<SendResult> {
    let all = judged_alone(outcome);
    let of = |item: &Progress| {
        let mine =
            |stale: &Vec<Stale>| stale.iter().filter(|stale| stale.processor == item.processor).cloned().collect();
        all.as_ref().map(mine).map_err(SendError::clone)
    };
    items.iter().map(of).collect()
}

fn judged_alone(outcome: Judged) -> SendResult {
    match outcome {
        Ok(Outcome::Advanced(stale)) => Ok(stale),
        Err(error) if error.class == Class::Invalid => Err(SendError::Refused(error.message)),
        Ok(_) | Err(_) => Err(SendError::Unknown),
    }
}

fn answer(answers: impl Iterator<Item = (ActorRef<CoordinatorMessage>, SendResult)>, me: &ActorRef<Message>) {
    for (from, answer) in answers {
        let _ = from.cast(CoordinatorMessage::ProgressJudged(answer));
    }
    let _ = me.cast(Message::Answered);
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
        let results = seen.clone();
        let propose = move |items: Vec<Progress>| {
            let bytes: usize = items.iter().map(Progress::bytes).sum();
            assert!(bytes <= ADVANCE_BYTES_MAX || items.len() == 1, "{bytes} bytes");
            results.lock().unwrap().push(processors(&items));
            let stale = items.iter().map(|item| Stale {
                processor: item.processor,
                segment: None,
                reason: RefusalReason::Fenced,
            });
            ready(Ok(Outcome::Advanced(stale.collect()))).boxed()
        };
        let items = [100_000, 100_000, 100_000, 500_000, 10].into_iter().zip(1..).map(|(bytes, id)| item(id, bytes));
        let results = advance(&propose, items.collect()).await;
        assert_eq!(*seen.lock().unwrap(), [vec![1, 2], vec![3], vec![4], vec![5]]);
        for (id, results) in (1..).zip(results) {
            let stale = results.unwrap();
            assert_eq!((stale.len(), stale[0].processor), (1, ProcessorId(id)), "each sender gets its own result");
        }
    }

    #[tokio::test]
    async fn p10_what_is_wrong_with_one_processor_fails_no_other() {
        let propose = |items: Vec<Progress>| {
            let wrong = processors(&items).contains(&2);
            let refused = Error::new(Class::Invalid, "too large");
            ready(if wrong { Err(refused) } else { Ok(Outcome::Advanced(Vec::new())) }).boxed()
        };
        let results = advance(&propose, (1..=3).map(|id| item(id, 10)).collect()).await;
        assert_eq!(results, [Ok(vec![]), Err(SendError::Refused("too large".into())), Ok(vec![])]);
        let away = |_| ready(Err(Error::new(Class::Overloaded, "there is no leader"))).boxed();
        assert_eq!(
            advance(&away, vec![item(1, 10)]).await,
            [Err(SendError::Unknown)],
            "the same progress is sent again"
        );
    }
}
