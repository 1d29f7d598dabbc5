//! A server that takes a request and says nothing: is it at work, or is there nobody? An append may wait ten seconds
//! for a majority, and a frozen process has its connections taken by the kernel. So a silent server is asked whether
//! it lives: one that works says so at once, however long its answer takes.

use std::{pin::pin, time::Duration};

use tokio::time::timeout;

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
        let mut work = pin!(work);
        loop {
            if let Ok(done) = timeout(silence, &mut work).await {
                return Ok(done);
            }
            tokio::select! {
                done = &mut work => return Ok(done),
                lives = self.lives(server) => if !lives { return Err(Silent(silence + LIVES)) },
            }
        }
    }

    async fn lives(&self, server: &str) -> bool {
        self.http.get(format!("{server}/livez")).timeout(LIVES).send().await.is_ok()
    }
}
