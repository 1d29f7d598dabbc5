//! Which commands may enter the log, and how an undecodable entry is applied.

use evener_core::{
    append::{Append, Condition, Refusal},
    command::{Change, Operate, Outcome, RefusalReason},
    criteria::{Criteria, Criterion},
    id::FeatureLevel,
    replay::ResetTo,
};
use evener_store::{
    codec,
    payload::{EncodedCommand, EntryBuilder},
};

use super::*;
use crate::{
    proposal::{self, Group, ProposalResult},
    raft::Payload,
};

/// Returns a small command that no node can decode: the decoder limits the decoded size of the conditions.
fn unreadable() -> EncodedCommand {
    let item = Criterion { types: vec![String::new(); 256], tags: vec![] };
    let condition = Condition { criteria: Criteria(vec![item; 33]), marker: Position(0) };
    let Request { events, .. } = event(1);
    let encoded =
        EncodedCommand::new(&Command::Append(Append { conditions: vec![condition; 64], events, ..Append::default() }));
    assert!(encoded.decode().is_err() && encoded.bytes() < codec::ENTRY_BYTES_MAX);
    encoded
}

fn unreadable_group() -> Group {
    Group { context: ContextId::DEFAULT, events: 1, repeatable: true, commands: vec![unreadable()] }
}

#[tokio::test(start_paused = true)]
async fn an_undecodable_command_does_not_enter_the_log() {
    let cluster = TestCluster::founded(31, 3).await;
    let leader = cluster.leader().unwrap();
    let before = cluster.nodes[&leader].status().last;
    for nth in 1..=3 {
        let error = cluster.nodes[&nth].proposer.propose(unreadable_group()).await.unwrap_err();
        assert_eq!(error.class, Class::Invalid, "{error}");
        assert!(error.message.contains("failed to decode the conditions of an append"), "{error}");
    }
    // A peer without this check sends it to the leader.
    let groups = proposal::encode([unreadable_group()].iter());
    let answer = cluster.nodes[&leader].proposer.serve(groups, None).await.unwrap();
    let fates: Vec<ProposalResult> = codec::decode_message(&answer).unwrap();
    assert!(matches!(&fates[..], [ProposalResult::Refused(why)] if why.contains("could not read it")), "{fates:?}");
    assert_eq!(cluster.nodes[&leader].status().last, before, "nothing was written");
    assert_eq!(cluster.append(leader, 1).await.unwrap(), Position(0));
}

#[tokio::test(start_paused = true)]
async fn an_undecodable_entry_is_skipped_by_all_nodes() {
    let mut cluster = TestCluster::founded(32, 3).await;
    let leader = cluster.leader().unwrap();
    assert_eq!(cluster.append(leader, 2).await.unwrap(), Position(0));
    // Submitted below all checks, as an older version without them would do.
    let node = cluster.nodes[&leader].clone();
    let mut entry = EntryBuilder::default();
    let readable = Request { request: Uuid::nil(), ..event(3) };
    let readable = Append { events: readable.events, checked_to: Position(1), ..Append::default() };
    entry.push(&unreadable());
    entry.push(&EncodedCommand::new(&Command::Append(readable.clone())));
    let bytes = entry.finish(node.clock.wall(), ContextId::DEFAULT);
    let whole = Payload { context: ContextId::DEFAULT, count: 2, bytes };
    let torn = Payload { bytes: whole.bytes.slice(..20), ..whole.clone() };
    let (_, outcomes) = node.consensus.submit(whole).await.unwrap().applied().await.unwrap();
    assert_eq!(outcomes[0], Outcome::Refused(RefusalReason::Unreadable(2)));
    assert!(matches!(outcomes[1], Outcome::Appended(_)), "the entry's other command is applied: {outcomes:?}");
    let (_, outcomes) = node.consensus.submit(torn).await.unwrap().applied().await.unwrap();
    assert_eq!(outcomes, [Outcome::Refused(RefusalReason::Unreadable(0))]);
    drop(node);
    assert_eq!(cluster.append(leader, 4).await.unwrap(), Position(2));
    cluster.settle().await;
    let chain = cluster.nodes[&leader].state().chain;
    for nth in 1..=3 {
        cluster.kill(nth).await;
    }
    for nth in 1..=3 {
        cluster.revive(nth).await;
    }
    cluster.settle().await;
    assert_eq!(cluster.append(1, 4).await.unwrap(), Position(2), "the log was applied again");
    assert_eq!(cluster.append(2, 5).await.unwrap(), Position(3));
    cluster.same().await;
    assert_ne!(cluster.nodes[&1].state().chain, chain);
}

#[tokio::test(start_paused = true)]
async fn p3_events_of_older_members_are_recognized_after_the_level_is_raised() {
    let older = FeatureLevel(FeatureLevel::SOURCE_IDS.0 - 1);
    let mut cluster = TestCluster::new(34);
    let config = cluster.config(1);
    cluster.start(Config { bootstrap: true, level: older, ..config }).await.unwrap();
    let request = |source: &str| {
        let given = Uuid::from_u128(7).to_string();
        let Request { events, request, .. } = event(7);
        let events = events.into_iter().map(|event| Event {
            // Represents the id that is derived from both the source and the given id.
            id: Uuid::from_u128(7_000 + u128::from(source.as_bytes()[0])),
            given_id: Some(given.clone()),
            source: source.into(),
            ..event
        });
        Request { events: events.collect(), request, ..Request::default() }
    };
    let append = async |cluster: &TestCluster, source: &str| cluster.nodes[&1].append(&request(source)).await;
    let first = append(&cluster, "s").await.unwrap();
    assert_eq!((first.first, first.repeated), (Position(0), false));
    let stored = cluster.nodes[&1].events().get(ContextId::DEFAULT, Position(0)).unwrap().unwrap().event;
    assert_eq!((stored.id, stored.given_id), (Uuid::from_u128(7), None), "an older member can read the event");
    assert!(append(&cluster, "t").await.is_err(), "older versions identify an event by a UUID alone");

    cluster.kill(1).await;
    cluster.revive(1).await;
    cluster.until("the level is raised", |cluster| cluster.nodes[&1].state().level == FeatureLevel::CURRENT).await;
    let again = append(&cluster, "s").await.unwrap();
    assert_eq!((again.first, again.repeated), (Position(0), true));
    assert_eq!(append(&cluster, "t").await.unwrap().first, Position(1));
    let stored = cluster.nodes[&1].events().get(ContextId::DEFAULT, Position(1)).unwrap().unwrap().event;
    assert_eq!(stored, request("t").events[0]);
}

#[tokio::test(start_paused = true)]
async fn a_command_that_older_members_cannot_read_is_refused_until_they_are_upgraded() {
    let older = FeatureLevel(FeatureLevel::RESET.0 - 1);
    let mut cluster = TestCluster::new(35);
    let config = cluster.config(1);
    cluster.start(Config { bootstrap: true, level: older, ..config }).await.unwrap();
    let change = Change::Reset("p".into(), ResetTo::Beginning, None);
    let operate =
        |id| Operate { operation: Uuid::from_u128(id), principal: None, reason: None, change: change.clone() };
    let index = cluster.nodes[&1].applied().borrow().index;
    let error = cluster.nodes[&1].propose(Command::Operate(operate(1))).await.unwrap_err();
    assert_eq!(error.class, Class::Refused);
    assert!(error.to_string().contains("upgrade all members"), "{error}");
    assert_eq!(cluster.nodes[&1].applied().borrow().index, index, "nothing was written");
    cluster.kill(1).await;
    cluster.revive(1).await;
    cluster.until("the level is raised", |cluster| cluster.nodes[&1].state().level == FeatureLevel::CURRENT).await;
    let outcome = cluster.nodes[&1].propose(Command::Operate(operate(2))).await.unwrap();
    assert!(matches!(outcome, Outcome::Refused(RefusalReason::NotFound(_))), "{outcome:?}");
}

fn unless(id: u128, marker: Position) -> Request {
    let condition = Condition { criteria: Criteria::ANY, marker };
    Request { conditions: vec![condition], ..event(id) }
}

#[tokio::test(start_paused = true)]
async fn a_marker_is_refused_only_beyond_the_head_of_the_leader() {
    let cluster = TestCluster::founded(33, 3).await;
    let leader = cluster.leader().unwrap();
    let behind = 1 + leader % 3;
    let mut marker = Position(0);
    for id in 0..20 {
        assert_eq!(cluster.append(leader, id).await.unwrap(), marker);
        marker = marker.next();
        let head = cluster.nodes[&behind].events().head(ContextId::DEFAULT);
        if id % 2 == 0 {
            assert!(head < marker, "the follower has not applied the last event");
            let appended = cluster.nodes[&behind].append(&unless(100 + id, marker)).await.unwrap();
            assert_eq!(appended.first, marker);
            marker = appended.next;
        }
    }
    for nth in 1..=3 {
        let beyond = marker.next();
        let error = cluster.nodes[&nth].append(&unless(1_000, beyond)).await.unwrap_err();
        let expected = Refusal::Ahead { condition: 0, marker: beyond, head: marker };
        assert_eq!(error.refusal.as_deref(), Some(&expected), "{error}");
    }
}
