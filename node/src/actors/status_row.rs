//! An actor's row on the status board: published when it changes, removed when the actor stops.

use evener_core::time::Timestamp;

use crate::status::{ActorStatus, Standstill, StatusBoard};

/// An actor's row.
#[derive(Debug)]
pub(super) struct StatusRow {
    board: StatusBoard,
    shown: ActorStatus,
    standstills: Vec<Standstill>,
}

impl StatusRow {
    /// Publishes a row for a starting actor.
    pub(super) fn new(board: &StatusBoard, name: &str, kind: &str, parent: Option<&str>, now: Timestamp) -> Self {
        let shown = ActorStatus {
            name: name.into(),
            kind: kind.into(),
            phase: "starting".into(),
            parent: parent.map(Into::into),
            since: now,
            ..ActorStatus::default()
        };
        board.publish(shown.clone());
        Self { board: board.clone(), shown, standstills: Vec::new() }
    }

    /// Publishes the actor's phase, queue length and last error.
    pub(super) fn set_phase(&mut self, now: Timestamp, phase: &str, queue: u64, last_error: Option<String>) {
        let error = last_error.or_else(|| self.shown.last_error.clone());
        if self.shown.phase == phase && self.shown.queue == queue && self.shown.last_error == error {
            return;
        }
        if self.shown.phase != phase {
            self.shown.since = now;
            self.shown.phase = phase.into();
        }
        (self.shown.queue, self.shown.last_error) = (queue, error);
        self.board.publish(self.shown.clone());
    }

    /// Publishes the segments that are not progressing.
    pub(super) fn set_standstills(&mut self, standstills: Vec<Standstill>) {
        if self.standstills != standstills {
            self.board.set_standstills(&self.shown.name, standstills.clone());
            self.standstills = standstills;
        }
    }

    /// Publishes the number of restarts, and the cause of the last one.
    pub(super) fn restarted(&mut self, restarts: u64, cause: Option<String>) {
        self.shown.restarts = restarts;
        if cause.is_some() {
            self.shown.last_error = cause;
        }
        self.board.publish(self.shown.clone());
    }
}

impl Drop for StatusRow {
    fn drop(&mut self) {
        self.board.remove(&self.shown.name);
    }
}
