//! The status board: each actor of this node publishes a plain value, and the status endpoint reads it. Actors are
//! never queried, so a stuck actor still shows its last status.

use std::{collections::BTreeMap, sync::Arc};

use evener_core::time::Timestamp;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// The status of one actor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActorStatus {
    /// The name, unique on the node: `balances/3`.
    pub name: String,
    /// The kind: `coordinator`, `worker`, `balancer`, …
    pub kind: String,
    /// The phase of its state machine.
    pub phase: String,
    /// The name of its supervisor; none for the root.
    pub parent: Option<String>,
    /// The number of queued items.
    pub queue: u64,
    /// The number of restarts.
    pub restarts: u64,
    /// The last error.
    pub last_error: Option<String>,
    /// When it entered this phase, in milliseconds since the Unix epoch.
    pub since: Timestamp,
}

/// A segment that is not progressing, for a reason that only its owner knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standstill {
    /// The processor.
    pub processor: String,
    /// The segment.
    pub segment: u32,
    /// The epoch of the claim.
    pub epoch: u64,
    /// `flooded` or `stalled`.
    pub state: String,
    /// The reason.
    pub reason: String,
    /// When it is retried, in milliseconds since the Unix epoch.
    pub retry_at: Option<Timestamp>,
}

/// A processor for which the program on this node requests a different number of segments than it was created with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentsWanted {
    /// The processor.
    pub processor: String,
    /// The number of segments that it was created with.
    pub stored: u32,
    /// The number that the program requests.
    pub wanted: u32,
}

impl SegmentsWanted {
    /// Describes the difference and what to do.
    #[must_use]
    pub fn text(&self) -> String {
        let Self { processor, stored, wanted } = self;
        format!(
            "processor {processor} has {stored} segments, as it was created, and the program asks for {wanted}: the \
             {stored} stay; change the program to `.segments({stored})`"
        )
    }
}

/// The board on which actors publish. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct StatusBoard(Arc<Board>);

#[derive(Debug, Default)]
struct Board {
    actors: Mutex<BTreeMap<String, ActorStatus>>,
    /// By the actor that reports them.
    standstills: Mutex<BTreeMap<String, Vec<Standstill>>>,
    /// By the processor for which this node's program has handlers.
    segments_wanted: Mutex<BTreeMap<String, u32>>,
}

impl StatusBoard {
    /// Replaces the status of an actor.
    pub fn publish(&self, status: ActorStatus) {
        self.0.actors.lock().insert(status.name.clone(), status);
    }

    /// Replaces the standstills that an actor reports.
    pub fn set_standstills(&self, actor: &str, standstills: Vec<Standstill>) {
        let mut board = self.0.standstills.lock();
        if standstills.is_empty() {
            board.remove(actor);
        } else {
            board.insert(actor.to_owned(), standstills);
        }
    }

    /// Sets the number of segments that the program of this node requests.
    pub fn set_segments_wanted(&self, processor: &str, wanted: u32) {
        self.0.segments_wanted.lock().insert(processor.to_owned(), wanted);
    }

    /// Removes the status and standstills of a stopped actor.
    pub fn remove(&self, name: &str) {
        self.0.actors.lock().remove(name);
        self.0.standstills.lock().remove(name);
    }

    /// Returns the status of all actors, by name.
    #[must_use]
    pub fn list(&self) -> Vec<ActorStatus> {
        self.0.actors.lock().values().cloned().collect()
    }

    /// Returns the number of segments that the program of this node requests, by processor.
    #[must_use]
    pub fn segments_wanted(&self) -> BTreeMap<String, u32> {
        self.0.segments_wanted.lock().clone()
    }

    /// Returns all standstills on this node.
    #[must_use]
    pub fn standstills(&self) -> Vec<Standstill> {
        self.0.standstills.lock().values().flatten().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mismatch_of_segments_is_described_with_both_numbers_and_a_hint() {
        let text = SegmentsWanted { processor: "balances".into(), stored: 8, wanted: 16 }.text();
        assert!(text.contains("has 8 segments") && text.contains("asks for 16"), "{text}");
        assert!(text.contains("`.segments(8)`"), "{text}");
    }

    #[test]
    fn the_board_has_the_latest_status_of_each_actor() {
        let board = StatusBoard::default();
        let worker = ActorStatus { name: "balances/3".into(), phase: "idle".into(), ..ActorStatus::default() };
        board.publish(worker.clone());
        board.clone().publish(ActorStatus { phase: "handling".into(), ..worker.clone() });
        board.publish(ActorStatus { name: "balances".into(), ..worker });
        let listed: Vec<_> = board.list().into_iter().map(|status| (status.name, status.phase)).collect();
        assert_eq!(listed, [("balances".into(), "idle".into()), ("balances/3".to_string(), "handling".to_string())]);
        board.set_standstills("balances/3", vec![Standstill::default()]);
        assert_eq!(board.standstills().len(), 1);
        board.remove("balances/3");
        assert_eq!((board.list().len(), board.standstills().len()), (1, 0));
    }
}
