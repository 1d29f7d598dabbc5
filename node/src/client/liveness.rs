//! Liveness checks for a server that accepts a request and does not answer. An append may wait ten seconds for a
//! majority, and the kernel accepts connections for a stopped process. So the client requests `/livez`: a working
//! server answers that at once, however long the request takes.

use std::{pin::pin, time::Duration};

use tokio::time::{Instant, timeout, timeout_at};

use super::Client;

/// The liveness of a server is checked after this time without an answer.
pub(super) const CHECK_AFTER: Duration = Duration::from_secs(2);
/// As [`CHECK_AFTER`] for a tail, whose server sends a comment every few seconds if there is no event.
pub(super) const TAIL_CHECK_AFTER: Duration = Duration::from_secs(7);
/// A live server answers within this time: it needs neither the disk nor other nodes for it.
pub(super) const CHECK_TIMEOUT: Duration = Duration::from_secs(1);

/// A server that did not confirm that it is alive.
#[derive(Debug)]
pub(super) struct NoAnswer(
    /// Time without an answer.
    pub Duration,
);

impl Client {
    /// As [`answer_of`](Self::answer_of), but no longer than `until`: if that is near, the liveness is checked
    /// earlier, so that there is time left for the next server.
    pub(super) async fn answer_until<T>(
        &self,
        server: &str,
        until: Option<Instant>,
        work: impl Future<Output = T>,
    ) -> Result<T, NoAnswer> {
        let begun = Instant::now();
        let Some(until) = until else { return self.answer_of(server, CHECK_AFTER, work).await };
        let check_after = CHECK_AFTER.min(until.saturating_duration_since(begun) / 4);
        let answer = timeout_at(until, self.answer_of(server, check_after, work)).await;
        answer.unwrap_or_else(|_| Err(NoAnswer(begun.elapsed())))
    }

    /// Waits for `work` of `server`. If there is another server to try, checks every `check_after` whether this one is
    /// still alive.
    pub(super) async fn answer_of<T>(
        &self,
        server: &str,
        check_after: Duration,
        work: impl Future<Output = T>,
    ) -> Result<T, NoAnswer> {
        if self.servers.len() == 1 {
            return Ok(work.await);
        }
        let (mut work, check_timeout) = (pin!(work), CHECK_TIMEOUT.min(check_after / 2));
        loop {
            if let Ok(done) = timeout(check_after, &mut work).await {
                return Ok(done);
            }
            tokio::select! {
                done = &mut work => return Ok(done),
                is_up = self.is_up(server, check_timeout) => if !is_up {
                    return Err(NoAnswer(check_after + check_timeout));
                },
            }
        }
    }

    /// Returns whether a server confirms within this time that it is alive.
    async fn is_up(&self, server: &str, within: Duration) -> bool {
        self.http.get(format!("{server}/livez")).timeout(within).send().await.is_ok()
    }
}
