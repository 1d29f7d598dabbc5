//! Proposals of commands, and linearizable reads.

use std::time::Duration;

use bytes::Bytes;
use evener_core::{
    append::Refusal,
    command::{Command, Outcome},
    id::{ContextId, LogIndex},
};
use evener_store::codec;
use tokio::time::{Instant, sleep, timeout_at};

use super::Cluster;
use crate::{
    error::{Class, Error},
    message::Kind,
    messages::ReadAt,
    proposal::Group,
    raft::WriteError,
};

/// How long to wait before asking the leader again.
pub(super) const RETRY_DELAY: Duration = Duration::from_millis(20);

impl Cluster {
    /// Proposes one command to the log, and returns its outcome.
    ///
    /// # Errors
    ///
    /// As [`Cluster::append`].
    pub async fn propose(&self, command: Command) -> Result<Outcome, Error> {
        let (_, outcomes) = self.propose_all(&[command]).await?;
        outcomes.into_iter().next().ok_or_else(|| Error::unknown("the answer is empty"))
    }

    /// Proposes commands to the log in one entry, and returns the entry's index and the outcomes.
    ///
    /// # Errors
    ///
    /// As [`Cluster::append`].
    pub async fn propose_all(&self, commands: &[Command]) -> Result<(LogIndex, Vec<Outcome>), Error> {
        self.check_running()?;
        if let Some(passed) = commands.iter().find_map(|command| command.may_be_proposed().err()) {
            return Err(Refusal::Limit(passed).into());
        }
        let (level, needed) = (self.applied_state.view.state().level, commands.iter().map(Command::level).max());
        if let Some(needed) = needed.filter(|needed| *needed > level) {
            return Err(Error::new(
                Class::Refused,
                format!(
                    "the cluster is at feature level {level}, and this needs level {needed}: upgrade all members first"
                ),
            ));
        }
        self.proposer.propose(Group::new(ContextId::DEFAULT, commands)).await
    }

    /// Waits until everything committed before this call is applied here: reads after it are linearizable.
    ///
    /// # Errors
    ///
    /// No leader, or no quorum.
    pub async fn barrier(&self) -> Result<LogIndex, Error> {
        self.check_running()?;
        let wait = self.config.proposer.deadline;
        let deadline = Instant::now() + wait;
        let asked = async {
            loop {
                if let Some(no_decision) = self.leadership.borrow().lasting_no_decision() {
                    return Err(Error::no_majority(no_decision));
                }
                if let Some(index) = self.read_index(deadline).await {
                    self.applied_state.view.wait_applied(index).await;
                    return Ok(index);
                }
                sleep(RETRY_DELAY).await;
            }
        };
        timeout_at(deadline, asked).await.unwrap_or_else(|_| Err(Error::no_leader(wait)))
    }

    async fn read_index(&self, deadline: Instant) -> Option<LogIndex> {
        let leader = self.leadership.borrow().leader?;
        if leader == self.me() {
            return self.consensus.read_index().await.ok();
        }
        let within = deadline.saturating_duration_since(Instant::now());
        let answer =
            self.links.request(leader, Kind::READ_INDEX, Bytes::new(), within.min(self.config.raft.election_max));
        match codec::decode_message(&answer.await.ok()?) {
            Ok(ReadAt::Index(index)) => Some(index),
            Ok(ReadAt::NotLeader) | Err(_) => None,
        }
    }

    /// Answers a peer's request to the leader for a read index.
    pub(crate) async fn serve_read_index(&self) -> ReadAt {
        match self.consensus.read_index().await {
            Ok(index) => ReadAt::Index(index),
            Err(WriteError::NotLeader(_) | WriteError::Unknown(_)) => ReadAt::NotLeader,
        }
    }

    /// Returns an error if this node has stopped.
    pub(super) fn check_running(&self) -> Result<(), Error> {
        match &*self.stopped.borrow() {
            Some(why) => Err(Error::stopped(why)),
            None => Ok(()),
        }
    }
}
