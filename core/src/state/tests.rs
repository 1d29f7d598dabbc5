//! The state against naive models, and the promises at the lowest level that can break them.

mod appends;
mod bounds;
mod claims;
mod letters;
mod loans;
mod members;
mod operations;
mod reset;

use std::{string::String, vec, vec::Vec};

use uuid::Uuid;

use super::State;
use crate::{
    backoff::Backoff,
    command::{Admit, Begin, Change, Command, Entry, Found, Operate, Outcome},
    criteria::Criteria,
    id::{ClusterId, ContextId, FeatureLevel, Incarnation, LogIndex, NodeId, SessionId},
    limits::Limits,
    processor::{Definition, Handler, OnError, Processor, Start},
    sequence::Sequencing,
    time::Timestamp,
};

/// A state with its log: applies a command at the next index, a millisecond later.
struct Log {
    state: State,
    index: u64,
}

impl Log {
    /// Returns a cluster with this many members, all active.
    fn of(members: u64) -> Self {
        let mut log = Self { state: State::default(), index: 0 };
        let cluster = ClusterId(Uuid::from_u128(1));
        log.apply(Command::Found(Found { cluster, limits: Limits::DEFAULT, first: admit(1) }));
        (2..=members).for_each(|node| {
            log.apply(Command::Admit(admit(node)));
        });
        (1..=members).for_each(|node| {
            log.begin(node);
        });
        log
    }

    fn apply(&mut self, command: Command) -> Outcome {
        self.index += 1;
        let entry = Entry { proposed: Timestamp(self.index), context: ContextId::DEFAULT, commands: vec![command] };
        self.state.apply(LogIndex(self.index), &entry).remove(0)
    }

    /// Begins a new session of a member's process.
    fn begin(&mut self, node: u64) -> SessionId {
        let begin = begin(node, u128::from(self.index) << 64);
        match self.apply(Command::Begin(begin)) {
            Outcome::Begun(session) => session,
            other => panic!("a member's process begins: {other:?}"),
        }
    }

    fn change(&mut self, change: Change) -> Outcome {
        let operation = Uuid::from_u128(u128::from(self.index) << 64 | 1);
        self.apply(Command::Operate(Operate { operation, principal: None, reason: None, change }))
    }

    fn create(&mut self, on_error: OnError) {
        let outcome = self.change(Change::Create(definition(on_error).into()));
        assert_eq!(outcome, Outcome::Changed(1));
    }

    fn processor(&self) -> &Processor {
        self.state.processor("p").expect("it was created")
    }

    fn session(&self, node: u64) -> Option<SessionId> {
        self.state.sessions.get(&NodeId(node)).map(|session| session.session)
    }
}

fn admit(node: u64) -> Admit {
    Admit {
        name: std::format!("n{node}"),
        incarnation: Incarnation(Uuid::from_u128(u128::from(node))),
        peer: std::format!("n{node}:4751"),
        http: std::format!("http://n{node}:4750"),
        level: FeatureLevel::CURRENT,
    }
}

fn begin(node: u64, nonce: u128) -> Begin {
    let Admit { incarnation, peer, http, level, .. } = admit(node);
    Begin {
        node: NodeId(node),
        incarnation,
        peer,
        http,
        level,
        capabilities: [(String::from("p"), vec![1])].into(),
        weight: 1,
        nonce: Uuid::from_u128(nonce),
    }
}

fn definition(on_error: OnError) -> Definition {
    Definition {
        name: "p".into(),
        context: ContextId::DEFAULT,
        handler: Handler::Embedded,
        segments: 4,
        start: Start::Beginning,
        criteria: Criteria::ANY,
        sequencing: Sequencing::KeyElseStream,
        on_error,
        backoff: Backoff::default(),
    }
}

fn names(n: usize) -> Vec<String> {
    (0..n).map(|n| std::format!("s{n}")).collect()
}
