//! An actor's row on the status board: put up when it changes, taken down when the actor ends.

use evener_core::time::Timestamp;

use crate::status::{ActorStatus, Standstill, StatusBoard};

/// An actor's row.
#[derive(Debug)]
pub struct Row {
    board: StatusBoard,
    shown: ActorStatus,
    still: Vec<Standstill>,
}

impl Row {
    /// A row for an actor that starts now.
    pub fn new(board: &StatusBoard, name: &str, kind: &str, parent: Option<&str>, now: Timestamp) -> Self {
        let shown = ActorStatus {
            name: name.into(),
            kind: kind.into(),
            phase: "starting".into(),
            parent: parent.map(Into::into),
            since: now,
            ..ActorStatus::default()
        };
        board.publish(shown.clone());
        Self { board: board.clone(), shown, still: Vec::new() }
    }

    /// What the actor is doing now.
    pub fn show(&mut self, now: Timestamp, phase: &str, queue: u64, last_error: Option<String>) {
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

    /// What it knows to stand still now.
    pub fn stand_still(&mut self, still: Vec<Standstill>) {
        if self.still != still {
            self.board.stand_still(&self.shown.name, still.clone());
            self.still = still;
        }
    }

    /// How often it was started again, and why the last time.
    pub fn restarted(&mut self, restarts: u64, why: Option<String>) {
        self.shown.restarts = restarts;
        if why.is_some() {
            self.shown.last_error = why;
        }
        self.board.publish(self.shown.clone());
    }
}

impl Drop for Row {
    fn drop(&mut self) {
        self.board.remove(&self.shown.name);
    }
}
