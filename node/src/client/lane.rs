//! Natural batching: while some batches are under way, what else is to be appended waits and becomes the next
//! one. No timer: a lone append goes at once, and batches grow as the load does.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use evener_core::append::{self, Appended};
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    time::Instant,
};

use super::{Client, Told};
use crate::{
    codes,
    doubt::Doubt,
    engine::{Reply, Verb},
    error::ApiError,
    wire::{Call, append as json},
};

/// Appends of one batch.
pub const BATCH_APPENDS: usize = 1_024;
/// Bytes of one batch, unless one append alone has more.
pub const BATCH_BYTES: usize = 1 << 20;
/// Batches that are under way at one time.
pub const BATCHES_IN_FLIGHT: usize = 4;
/// Appends that wait for a batch; who comes then waits to wait.
const WAITING: usize = 16_384;

/// The queue in front of the batches.
#[derive(Debug)]
pub struct Lane(mpsc::Sender<Waiting>);

#[derive(Debug)]
struct Waiting {
    line: String,
    answer: oneshot::Sender<Result<Appended, ApiError>>,
}

impl Lane {
    /// Begins to take appends, until the last handle is dropped.
    pub fn start(client: Client) -> Self {
        let (queue, waiting) = mpsc::channel(WAITING);
        tokio::spawn(run(client, waiting));
        Self(queue)
    }

    /// Appends with the next batch, and again as long as that helps.
    pub async fn append(&self, request: &append::Request, patience: Duration) -> Result<Appended, ApiError> {
        let (begun, mut doubt) = (Instant::now(), Doubt::default());
        let mut line = json::write(request);
        line.push('\n');
        loop {
            let (answer, answered) = oneshot::channel();
            let sent = self.0.send(Waiting { line: line.clone(), answer }).await;
            let result = match sent {
                Ok(()) => answered.await.unwrap_or_else(|_| Err(stopped())),
                Err(_) => Err(stopped()),
            };
            match result.map_err(|error| doubt.weigh(error)) {
                Err(error) if error.may_repeat() && begun.elapsed() < patience => {
                    let wait = error.retry_after_ms.unwrap_or(25).min(500);
                    tokio::time::sleep(Duration::from_millis(u64::from(wait))).await;
                }
                result => return result,
            }
        }
    }
}

async fn run(client: Client, mut waiting: mpsc::Receiver<Waiting>) {
    let places = Arc::new(Semaphore::new(BATCHES_IN_FLIGHT));
    let mut taken = Vec::with_capacity(BATCH_APPENDS);
    let mut left = VecDeque::new();
    loop {
        let place = Arc::clone(&places).acquire_owned().await.expect("the places are never closed");
        if left.len() < BATCH_APPENDS {
            let none = left.is_empty();
            if none && waiting.recv_many(&mut taken, BATCH_APPENDS).await == 0 {
                return;
            }
            while !none && taken.len() < BATCH_APPENDS {
                let Ok(more) = waiting.try_recv() else { break };
                taken.push(more);
            }
            left.extend(taken.drain(..));
        }
        let batch = cut(&mut left);
        let client = client.clone();
        tokio::spawn(async move {
            send(&client, batch).await;
            drop(place);
        });
    }
}

/// The next batch: at least one append, and no more than a batch may have.
fn cut(left: &mut VecDeque<Waiting>) -> Vec<Waiting> {
    let mut bytes = 0;
    let fits = |waiting: &&Waiting| {
        bytes += waiting.line.len();
        bytes <= BATCH_BYTES
    };
    let count = left.iter().take(BATCH_APPENDS).take_while(fits).count().max(1);
    left.drain(..count.min(left.len())).collect()
}

async fn send(client: &Client, batch: Vec<Waiting>) {
    let body: Vec<u8> = batch.iter().flat_map(|waiting| waiting.line.bytes()).collect();
    let call = Call { body, ..Call::default() };
    match client.tell(Verb::AppendMany, &call).await {
        Ok(Told { reply: Reply::Many(answers), server, doubt }) if answers.len() == batch.len() => {
            // The batch was answered, and what it holds was not done: whoever asks again asks another server.
            if let Some(error) = answers.iter().filter_map(|answer| answer.as_ref().err()).find(|e| e.may_repeat()) {
                client.servers.failed(&server, error);
            }
            for (waiting, answer) in batch.into_iter().zip(answers) {
                // Whoever asked may have gone.
                let _ = waiting.answer.send(answer.map_err(|error| doubt.clone().weigh(error)));
            }
        }
        Ok(_) => fail(batch, &ApiError::new(&codes::NOT_EVENER, "the server did not answer each append of a batch")),
        Err(error) => fail(batch, &error),
    }
}

fn fail(batch: Vec<Waiting>, error: &ApiError) {
    for waiting in batch {
        let _ = waiting.answer.send(Err(error.clone()));
    }
}

fn stopped() -> ApiError {
    ApiError::new(&codes::OUTCOME_UNKNOWN, "the client was stopped while an append was under way")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(bytes: usize) -> Waiting {
        Waiting { line: "x".repeat(bytes), answer: oneshot::channel().0 }
    }

    #[test]
    fn a_batch_has_a_bound_in_appends_and_in_bytes() {
        let mut left: VecDeque<Waiting> = (0..BATCH_APPENDS + 3).map(|_| waiting(1)).collect();
        assert_eq!((cut(&mut left).len(), left.len()), (BATCH_APPENDS, 3));
        let mut left: VecDeque<Waiting> = (0..4).map(|_| waiting(BATCH_BYTES / 2)).collect();
        assert_eq!((cut(&mut left).len(), left.len()), (2, 2));
        let mut left: VecDeque<Waiting> = [BATCH_BYTES + 1, 1].map(waiting).into();
        assert_eq!((cut(&mut left).len(), left.len()), (1, 1), "one that is too large goes alone");
    }
}
