//! The handlers: they fail as planned, otherwise they write to the database.

use std::{string::ToString, vec::Vec};

use super::{Call, TestCluster, TestWorker};
use crate::{
    coordinator::{WorkerId, tests::database::Write},
    id::{NodeId, Position},
    worker::{self, Fault, FaultKind, Work},
};

impl TestCluster {
    /// Passes the next event of a run to the handler.
    pub(super) fn handle(&mut self, id: NodeId, worker: WorkerId) {
        let test_worker = self.node(id).workers.get_mut(&worker).expect("the worker runs");
        let run = test_worker.run.as_mut().expect("a run is active");
        if run.stop || run.handled == run.works.len() {
            let handled = run.handled;
            test_worker.run = None;
            return test_worker.mail.push_back(worker::Input::Ran { handled, fault: None });
        }
        let Work { position, hash, sequence, replaying, .. } = run.works[run.handled].clone();
        let write = Write {
            node: id,
            right: test_worker.claim.expect("its segment's worker"),
            mask: test_worker.mask,
            sequence,
        };
        let attempt = if run.handled == 0 { run.attempt } else { 1 };
        let (_, share) = self.processor().share_of(hash).expect("every hash has a segment");
        let is_wanted = share.token.wants(hash, position) || !self.database.is_valid(write.right);
        assert!(is_wanted, "event {position} is handled though the token has passed it");
        let fault = self.call(position, attempt, replaying, write);
        let test_worker = self.node(id).workers.get_mut(&worker).expect("the worker runs");
        let run = test_worker.run.as_mut().expect("a run is active");
        if fault.is_some() {
            let handled = run.handled;
            test_worker.run = None;
            test_worker.mail.push_back(worker::Input::Ran { handled, fault });
        } else {
            run.handled += 1;
        }
    }

    pub(super) fn try_letter(&mut self, id: NodeId, worker: WorkerId) {
        let test_worker = self.node(id).workers.get_mut(&worker).expect("the worker runs");
        let (sequence, position, attempt, right, mask, replaying) =
            test_worker.tries.pop_front().expect("a letter is tried");
        let write = Write { node: id, right, mask, sequence: sequence.clone() };
        if self.database.is_valid(right) {
            let first = self.processor().set_aside.get(&sequence).map(|set_aside| set_aside.first().position);
            let skipped = first.is_none_or(|first| first > position) && self.operator_changes > 0;
            assert!(first == Some(position) || skipped, "the first letter of {sequence:?} is tried, and nothing else");
        }
        let fault = self.call(position, attempt, replaying, write);
        let test_worker = self.node(id).workers.get_mut(&worker).expect("the worker runs");
        test_worker.mail.push_back(worker::Input::Tried { sequence, fault });
    }

    /// Calls the handler: it fails as planned, otherwise it writes.
    fn call(&mut self, position: Position, attempt: u32, replaying: bool, write: Write) -> Option<Fault> {
        if let Some(left) = self.faults.unable.get_mut(&position.0).filter(|left| **left > 0) {
            *left -= 1;
            return self.fault("the handler cannot be called", FaultKind::Unable);
        }
        let left = self.faults.fail.get_mut(&position.0).filter(|left| **left > 0);
        let (planned, node, epoch) = (left.is_some(), write.node, write.right.claim().1);
        if let Some(left) = left {
            *left -= 1;
        }
        let skips = !planned && self.faults.skip.contains(&position.0);
        let ok = skips || !planned && self.database.write(write);
        self.calls.push(Call { position: position.0, node, attempt, at: self.now, ok, epoch, replaying });
        if skips {
            return self.fault("planned", FaultKind::Skip);
        }
        if ok {
            return None;
        }
        let last = planned && self.faults.refuse.contains(&position.0);
        self.fault("planned or refused", if last { FaultKind::SetAside } else { FaultKind::Retry })
    }

    fn fault(&self, cause: &str, kind: FaultKind) -> Option<Fault> {
        let cause = cause.to_string() + &".".repeat(self.faults.cause_bytes);
        Some(Fault { cause, kind, after: None, random: 0 })
    }

    /// Returns whether a handler of the node is trying a letter.
    pub(in super::super) fn is_trying(&self, node: NodeId) -> bool {
        self.nodes[&node].workers.values().any(|test_worker| !test_worker.tries.is_empty())
    }

    /// Returns whether a handler of the node is handling an event in order.
    pub(in super::super) fn is_running(&self, node: NodeId) -> bool {
        self.nodes[&node].workers.values().any(|test_worker| test_worker.run.is_some())
    }
}

impl TestWorker {
    /// Returns the next writes of its handlers.
    pub(super) fn writes(&self, node: NodeId) -> Vec<Write> {
        let next = self.run.iter().filter_map(|run| run.works.get(run.handled));
        let runs = next.filter_map(|work| Some((self.claim?, self.mask, work.sequence.clone())));
        let tries = self.tries.iter().map(|(sequence, _, _, right, mask, _)| (*right, *mask, sequence.clone()));
        runs.chain(tries).map(|(right, mask, sequence)| Write { node, right, mask, sequence }).collect()
    }
}
