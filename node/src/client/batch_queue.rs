//! Natural batching: while some batches are in flight, further appends wait and become the next
//! batch. No timer: a lone append is sent at once, and batches grow with the load.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use evener_core::append::{self, Appended};
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    time::Instant,
};

use super::{Answer, Client};
use crate::{
    codes,
    engine::{Reply, Verb},
    error::ApiError,
    unknown_outcome::UnknownOutcome,
    wire::{Call, append as json},
};

/// Appends of one batch.
pub const BATCH_APPENDS: usize = 1_024;
/// Bytes of one batch, unless one append alone has more.
pub const BATCH_BYTES: usize = 1 << 20;
/// Maximum number of batches in flight.
pub const BATCHES_IN_FLIGHT: usize = 4;
/// Maximum number of appends in the queue; further callers wait for space in it.
const QUEUE_APPENDS_MAX: usize = 16_384;

/// The queue in front of the batches.
#[derive(Debug)]
pub(super) struct BatchQueue(mpsc::Sender<PendingAppend>);

#[derive(Debug)]
struct PendingAppend {
    line: String,
    answer: oneshot::Sender<Result<Appended, ApiError>>,
}

impl BatchQueue {
    /// Starts a task that sends queued appends until the last handle is dropped.
    pub(super) fn start(client: Client) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE_APPENDS_MAX);
        tokio::spawn(run(client, waiting));
        Self(queue)
    }

    /// Appends with the next batch, and retries as long as that may help.
    pub(super) async fn append(&self, request: &append::Request, retry_time: Duration) -> Result<Appended, ApiError> {
        let (begun, mut unknown) = (Instant::now(), UnknownOutcome::default());
        let mut line = json::write(request);
        line.push('\n');
        loop {
            let (answer, answered) = oneshot::channel();
            let sent = self.0.send(PendingAppend { line: line.clone(), answer }).await;
            let result = match sent {
                Ok(()) => answered.await.unwrap_or_else(|_| Err(stopped())),
                Err(_) => Err(stopped()),
            };
            match result.map_err(|error| unknown.apply(error)) {
                Err(error) if error.may_repeat() && begun.elapsed() < retry_time => {
                    let wait = error.retry_after_ms.unwrap_or(25).min(500);
                    tokio::time::sleep(Duration::from_millis(u64::from(wait))).await;
                }
                result => return result,
            }
        }
    }
}

async fn run(client: Client, mut waiting: mpsc::Receiver<PendingAppend>) {
    let slots = Arc::new(Semaphore::new(BATCHES_IN_FLIGHT));
    let mut taken = Vec::with_capacity(BATCH_APPENDS);
    let mut backlog = VecDeque::new();
    loop {
        let slot = Arc::clone(&slots).acquire_owned().await.expect("the places are never closed");
        if backlog.len() < BATCH_APPENDS {
            let none = backlog.is_empty();
            if none && waiting.recv_many(&mut taken, BATCH_APPENDS).await == 0 {
                return;
            }
            while !none && taken.len() < BATCH_APPENDS {
                let Ok(more) = waiting.try_recv() else { break };
                taken.push(more);
            }
            backlog.extend(taken.drain(..));
        }
        let batch = next_batch(&mut backlog);
        let client = client.clone();
        tokio::spawn(async move {
            send(&client, batch).await;
            drop(slot);
        });
    }
}

/// Takes the next batch: at least one append, and no more than fit a batch.
fn next_batch(backlog: &mut VecDeque<PendingAppend>) -> Vec<PendingAppend> {
    let mut bytes = 0;
    let fits = |waiting: &&PendingAppend| {
        bytes += waiting.line.len();
        bytes <= BATCH_BYTES
    };
    let count = backlog.iter().take(BATCH_APPENDS).take_while(fits).count().max(1);
    backlog.drain(..count.min(backlog.len())).collect()
}

async fn send(client: &Client, batch: Vec<PendingAppend>) {
    let body: Vec<u8> = batch.iter().flat_map(|waiting| waiting.line.bytes()).collect();
    let call = Call { body, ..Call::default() };
    match client.request(Verb::AppendMany, &call).await {
        Ok(Answer { reply: Reply::Many(answers), server, unknown }) if answers.len() == batch.len() => {
            // The batch was answered and not executed: a retry goes to another server.
            if let Some(error) = answers.iter().filter_map(|answer| answer.as_ref().err()).find(|e| e.may_repeat()) {
                client.servers.failed(&server, error);
            }
            for (waiting, answer) in batch.into_iter().zip(answers) {
                // The caller may have been dropped.
                let _ = waiting.answer.send(answer.map_err(|error| unknown.clone().apply(error)));
            }
        }
        Ok(_) => fail(batch, &ApiError::new(&codes::NOT_EVENER, "the server did not answer each append of a batch")),
        Err(error) => fail(batch, &error),
    }
}

fn fail(batch: Vec<PendingAppend>, error: &ApiError) {
    for waiting in batch {
        let _ = waiting.answer.send(Err(error.clone()));
    }
}

fn stopped() -> ApiError {
    ApiError::new(&codes::OUTCOME_UNKNOWN, "the client was stopped while an append was in flight")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(bytes: usize) -> PendingAppend {
        PendingAppend { line: "x".repeat(bytes), answer: oneshot::channel().0 }
    }

    #[test]
    fn a_batch_has_a_bound_in_appends_and_in_bytes() {
        let mut backlog: VecDeque<PendingAppend> = (0..BATCH_APPENDS + 3).map(|_| waiting(1)).collect();
        assert_eq!((next_batch(&mut backlog).len(), backlog.len()), (BATCH_APPENDS, 3));
        let mut backlog: VecDeque<PendingAppend> = (0..4).map(|_| waiting(BATCH_BYTES / 2)).collect();
        assert_eq!((next_batch(&mut backlog).len(), backlog.len()), (2, 2));
        let mut backlog: VecDeque<PendingAppend> = [BATCH_BYTES + 1, 1].map(waiting).into();
        assert_eq!((next_batch(&mut backlog).len(), backlog.len()), (1, 1), "one that is too large goes alone");
    }
}
