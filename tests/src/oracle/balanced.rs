//! P7: every segment has an active owner, and the numbers of segments per node differ by at most one.

use std::collections::BTreeMap;

use evener_core::{id::NodeId, state::State};

use super::Violation;

/// Returns every segment without an active owner and every unbalanced processor, in a state in which nothing is
/// pending.
#[must_use]
pub fn check(state: &State) -> Vec<Violation> {
    let mut found = Vec::new();
    for processor in state.processors.values() {
        let name = &processor.definition.name;
        let mut owned: BTreeMap<NodeId, usize> =
            state.sessions.keys().filter(|node| state.can_run(**node, processor)).map(|node| (*node, 0)).collect();
        for (segment, share) in &processor.segments {
            match share.claim.owner.and_then(|owner| owned.get_mut(&owner)) {
                Some(count) => *count += 1,
                None => found.push(format!("segment {segment} of {name} has no active owner: {:?}", share.claim)),
            }
        }
        let spread = owned.values().max().unwrap_or(&0) - owned.values().min().unwrap_or(&0);
        if spread > 1 {
            found.push(format!("the segments of {name} are not balanced: {owned:?}"));
        }
    }
    found.into_iter().map(|what| Violation { promise: "P7", what }).collect()
}

#[cfg(test)]
mod tests {
    use evener_core::{
        backoff::Backoff,
        claim::Claim,
        criteria::Criteria,
        id::{ContextId, Generation, LogIndex, Position, ProcessorId, SessionId},
        processor::{Definition, Handler, OnError, Processor, Share, Start},
        segment::Segment,
        sequence::Sequencing,
        session::Session,
        time::Timestamp,
        token::Token,
    };

    use super::*;

    /// Returns a state with nodes 1 and 2, and a processor whose segments have these owners.
    fn owned_by(owners: &[Option<u64>]) -> State {
        let mut state = State::default();
        for node in [NodeId(1), NodeId(2)] {
            let session = Session {
                node,
                session: SessionId(node.0),
                since: LogIndex(0),
                capabilities: BTreeMap::new(),
                weight: 1,
                draining: false,
                nonce: uuid::Uuid::nil(),
            };
            state.sessions.insert(node, session);
        }
        let definition = Definition {
            name: "p".into(),
            context: ContextId::DEFAULT,
            handler: Handler::Exec("cat".into()),
            segments: 4,
            start: Start::Beginning,
            criteria: Criteria::ANY,
            sequencing: Sequencing::Stream,
            on_error: OnError::Stop,
            backoff: Backoff::default(),
        };
        let cover = Segment::cover(u32::try_from(owners.len()).unwrap());
        let share = |(segment, owner): (Segment, &Option<u64>)| Share {
            segment,
            token: Token::new(segment, Position(0)),
            claim: Claim { owner: owner.map(NodeId), ..Claim::default() },
            stalled: None,
            reshape: None,
        };
        let shares = cover.into_iter().zip(owners).map(|(segment, owner)| (segment.name(), share((segment, owner))));
        let processor = Processor {
            id: ProcessorId(1),
            fingerprint: 0,
            version: 1,
            generation: Generation(0),
            replay: None,
            paused: false,
            created: Timestamp(0),
            changed: LogIndex(0),
            segments: shares.collect(),
            set_aside: BTreeMap::new(),
            letters: 0,
            skipped: 0,
            definition,
        };
        state.processors.insert(ProcessorId(1), processor);
        state
    }

    #[test]
    fn unowned_segments_inactive_owners_and_imbalance_are_found() {
        assert_eq!(check(&owned_by(&[Some(1), Some(2), Some(1)])), []);
        assert_eq!(check(&owned_by(&[Some(1), None, Some(2)])).len(), 1);
        assert_eq!(check(&owned_by(&[Some(1), Some(3), Some(2)])).len(), 1);
        assert_eq!(check(&owned_by(&[Some(1), Some(1), Some(1), Some(2)])).len(), 1);
    }
}
