//! A server that accepts a request and does not answer: is it working, or is it dead? An append may wait ten seconds
//! for a majority, and a frozen process has its connections taken by the kernel. So a silent server is asked whether
//! it is alive: a working server confirms that at once, however long its answer takes.

use std::{pin::pin, time::Duration};

use tokio::time::{Instant, timeout, timeout_at};

use super::Client;

/// After this time without an answer a server is asked whether it is alive.
pub(super) const CHECK_AFTER: Duration = Duration::from_secs(2);
/// A tail where nothing comes says so every five seconds; only one that does not is asked.
pub(super) const TAIL_CHECK_AFTER: Duration = Duration::from_secs(7);
/// A live server answers within this time: it needs neither the disk nor other nodes for it.
pub(super) const CHECK_TIMEOUT: Duration = Duration::from_secs(1);

/// The server is not alive.
#[derive(Debug)]
pub(super) struct NoAnswer(
    /// How long nothing was heard.
    pub Duration,
);

impl Client {
    /// As [`hear`](Self::hear), and not beyond `until`: where that is soon, who is silent is asked sooner, so that
    /// there is time left for the next.
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

    /// What comes of `work` that `server` does. Where there is another server to go to, it is looked after every
    /// `silence` whether this one is still alive.
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
