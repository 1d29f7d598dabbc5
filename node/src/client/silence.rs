//! A server that takes a request and says nothing: is it at work, or is there nobody? An append may wait ten seconds
//! for a majority, and a frozen process has its connections taken by the kernel. So a silent server is asked whether
//! it lives: one that works says so at once, however long its answer takes.

use std::{pin::pin, time::Duration};

use tokio::time::{Instant, timeout, timeout_at};

use super::Client;

/// A server that has said nothing for so long is asked whether it lives.
pub const SILENCE: Duration = Duration::from_secs(2);
/// A tail where nothing comes says so every five seconds; only one that does not is asked.
pub const TAIL_SILENCE: Duration = Duration::from_secs(7);
/// One that lives says so within this time: it looks nothing up and asks nobody.
pub const LIVES: Duration = Duration::from_secs(1);

/// Nobody is there.
#[derive(Debug)]
pub struct Silent(
    /// How long nothing was heard.
    pub Duration,
);

impl Client {
    /// As [`hear`](Self::hear), and not beyond `until`: where that is soon, who is silent is asked sooner, so that
    /// there is time left for the next.
    pub(super) async fn hear_until<T>(
        &self,
        server: &str,
        until: Option<Instant>,
        work: impl Future<Output = T>,
    ) -> Result<T, Silent> {
        let begun = Instant::now();
        let Some(until) = until else { return self.hear(server, SILENCE, work).await };
        let silence = SILENCE.min(until.saturating_duration_since(begun) / 4);
        let heard = timeout_at(until, self.hear(server, silence, work)).await;
        heard.unwrap_or_else(|_| Err(Silent(begun.elapsed())))
    }

    /// What comes of `work` that `server` does. Where there is another server to go to, it is looked after every
    /// `silence` whether this one still lives.
    pub(super) async fn hear<T>(
        &self,
        server: &str,
        silence: Duration,
        work: impl Future<Output = T>,
    ) -> Result<T, Silent> {
        if self.servers.len() == 1 {
            return Ok(work.await);
        }
        let (mut work, lives) = (pin!(work), LIVES.min(silence / 2));
        loop {
            if let Ok(done) = timeout(silence, &mut work).await {
                return Ok(done);
            }
            tokio::select! {
                done = &mut work => return Ok(done),
                yes = self.lives(server, lives) => if !yes { return Err(Silent(silence + lives)) },
            }
        }
    }

    /// Whether a server says within this time that it lives.
    async fn lives(&self, server: &str, within: Duration) -> bool {
        self.http.get(format!("{server}/livez")).timeout(within).send().await.is_ok()
    }
}
