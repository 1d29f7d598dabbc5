//! What every actor of this node is doing: each publishes a plain value here, and the status endpoint reads
//! it. Nobody is asked, so a stuck actor is seen as it stood when it got stuck.

use std::{collections::BTreeMap, sync::Arc};

use evener_core::time::Timestamp;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// What one actor is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActorStatus {
    /// Unique on the node, `balances/3`.
    pub name: String,
    /// What it is: `coordinator`, `worker`, `balancer`, …
    pub kind: String,
    /// Which phase of its machine it is in.
    pub phase: String,
    /// Who supervises it; none for the root.
    pub parent: Option<String>,
    /// How much waits for it.
    pub queue: u64,
    /// How often it was started again.
    pub restarts: u64,
    /// What went wrong last.
    pub last_error: Option<String>,
    /// Since when it is in this phase, in milliseconds since the Unix epoch.
    pub since: Timestamp,
}

/// A segment that stands still, for a reason that its owner knows and the log does not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standstill {
    /// Of which processor.
    pub processor: String,
    /// Which segment.
    pub segment: u32,
    /// The claim under which it stands still.
    pub epoch: u64,
    /// `flooded` or `stalled`.
    pub state: String,
    /// Why.
    pub reason: String,
    /// When it is tried again, in milliseconds since the Unix epoch.
    pub retry_at: Option<Timestamp>,
}

/// A processor whose program on this node asks for another number of segments than it was created with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentsWanted {
    /// Which processor.
    pub processor: String,
    /// How many segments it was created with.
    pub stored: u32,
    /// How many the program asks for.
    pub wanted: u32,
}

impl SegmentsWanted {
    /// What differs, and what to do.
    #[must_use]
    pub fn text(&self) -> String {
        let Self { processor, stored, wanted } = self;
        format!(
            "processor {processor} has {stored} segments, as it was created, and the program asks for {wanted}: the \
             {stored} stay; change the program to `.segments({stored})`"
        )
    }
}

/// Where actors publish. A clone is the same board.
#[derive(Clone, Debug, Default)]
pub struct StatusBoard(Arc<Board>);

#[derive(Debug, Default)]
struct Board {
    actors: Mutex<BTreeMap<String, ActorStatus>>,
    /// By the actor that says so.
    standstills: Mutex<BTreeMap<String, Vec<Standstill>>>,
    /// By the processor that this node's program has handlers of.
    segments_wanted: Mutex<BTreeMap<String, u32>>,
}

impl StatusBoard {
    /// Puts up what an actor is doing, in place of what it did before.
    pub fn publish(&self, status: ActorStatus) {
        self.0.actors.lock().insert(status.name.clone(), status);
    }

    /// Puts up what an actor knows to stand still, in place of what it knew before.
    pub fn stand_still(&self, actor: &str, standstills: Vec<Standstill>) {
        let mut board = self.0.standstills.lock();
        if standstills.is_empty() {
            board.remove(actor);
        } else {
            board.insert(actor.to_owned(), standstills);
        }
    }

    /// Puts up how many segments the program of this node asks for.
    pub fn want_segments(&self, processor: &str, wanted: u32) {
        self.0.segments_wanted.lock().insert(processor.to_owned(), wanted);
    }

    /// Takes down what an actor that ended did and knew.
    pub fn remove(&self, name: &str) {
        self.0.actors.lock().remove(name);
        self.0.standstills.lock().remove(name);
    }

    /// What all are doing, by name.
    #[must_use]
    pub fn list(&self) -> Vec<ActorStatus> {
        self.0.actors.lock().values().cloned().collect()
    }

    /// How many segments the program of this node asks for, of each processor that it has handlers of.
    #[must_use]
    pub fn segments_wanted(&self) -> BTreeMap<String, u32> {
        self.0.segments_wanted.lock().clone()
    }

    /// What stands still here.
    #[must_use]
    pub fn standstills(&self) -> Vec<Standstill> {
        self.0.standstills.lock().values().flatten().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_number_of_segments_than_is_stored_is_told_with_both_and_what_to_do() {
        let told = SegmentsWanted { processor: "balances".into(), stored: 8, wanted: 16 }.text();
        assert!(told.contains("has 8 segments") && told.contains("asks for 16"), "{told}");
        assert!(told.contains("`.segments(8)`"), "{told}");
    }

    #[test]
    fn the_latest_status_of_each_actor_stands_on_the_board() {
        let board = StatusBoard::default();
        let worker = ActorStatus { name: "balances/3".into(), phase: "idle".into(), ..ActorStatus::default() };
        board.publish(worker.clone());
        board.clone().publish(ActorStatus { phase: "handling".into(), ..worker.clone() });
        board.publish(ActorStatus { name: "balances".into(), ..worker });
        let listed: Vec<_> = board.list().into_iter().map(|status| (status.name, status.phase)).collect();
        assert_eq!(listed, [("balances".into(), "idle".into()), ("balances/3".to_string(), "handling".to_string())]);
        board.stand_still("balances/3", vec![Standstill::default()]);
        assert_eq!(board.standstills().len(), 1);
        board.remove("balances/3");
        assert_eq!((board.list().len(), board.standstills().len()), (1, 0));
    }
}
