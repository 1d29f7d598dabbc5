//! The fence of a user's database across splits and merges: a former owner of a segment that no longer exists changes
//! nothing once an owner of its events has written (P4).

use std::string::String;

use super::{
    database::Rule,
    test_cluster::{Faults, NODES, TestCluster},
};
use crate::{
    hash,
    id::{NodeId, SegmentId},
    limits::Limits,
    processor::OnError,
    segment::Segment,
};

/// Returns a sequence name in the segment.
fn name_in(segment: Segment, prefix: &str) -> String {
    let mut names = (0..).map(|nth| std::format!("{prefix}{nth}"));
    names.find(|name| segment.holds(hash::sequence(name.as_bytes()))).expect("half of all names are in it")
}

/// Makes the owner of a segment lose its session while it handles an event; another node owns the segment then.
fn lose_owner(cluster: &mut TestCluster, segment: Segment, event: &str) {
    let owner = cluster.processor().segments[&segment.name()].claim.owner.expect("it was balanced");
    cluster.slow.insert(owner);
    cluster.append(event);
    cluster.run_until(|cluster| cluster.is_running(owner));
    cluster.kill(owner);
    assert_eq!(cluster.database.delayed.len(), 1);
    cluster.balance();
}

/// Returns whether a delayed write of the owner of segment 0 of 1 is accepted after a split and a write of a new owner.
fn is_delayed_write_accepted_after_split(rule: Rule) -> bool {
    let mut cluster = TestCluster::new(1, OnError::SetAside, Limits::DEFAULT, Faults::default());
    cluster.database.rule = rule;
    let upper = Segment { id: 1, mask: 1 };
    lose_owner(&mut cluster, Segment::ROOT, &name_in(upper, "late"));
    cluster.split(0);
    assert_eq!(cluster.segment_ids(), [SegmentId(0), SegmentId(1)]);
    handle(&mut cluster, &name_in(upper, "new"));
    cluster.database.write_delayed(0)
}

/// Returns whether a delayed write of the owner of segment 1 of 2 is accepted after a merge and a write of the new
/// owner.
fn is_delayed_write_accepted_after_merge(rule: Rule) -> bool {
    let mut cluster = TestCluster::new(2, OnError::SetAside, Limits::DEFAULT, Faults::default());
    cluster.database.rule = rule;
    let upper = Segment { id: 1, mask: 1 };
    lose_owner(&mut cluster, upper, &name_in(upper, "late"));
    cluster.merge(1);
    assert_eq!(cluster.segment_ids(), [SegmentId(0)]);
    handle(&mut cluster, &name_in(Segment { id: 0, mask: 1 }, "new"));
    cluster.database.write_delayed(0)
}

/// Lets an event of this sequence be handled, and no other.
fn handle(cluster: &mut TestCluster, name: &str) {
    let before = cluster.calls.len();
    cluster.append(name);
    let position = cluster.log.len() as u64 - 1;
    cluster.run_until(|cluster| cluster.calls.iter().skip(before).any(|call| call.position == position && call.ok));
    assert!((1..=NODES).map(NodeId).any(|node| cluster.nodes.contains_key(&node)));
}

#[test]
fn p4_a_former_owner_writes_nothing_once_an_owner_of_half_its_segment_has_written() {
    assert!(!is_delayed_write_accepted_after_split(Rule::Overlap));
}

#[test]
fn p4_a_former_owner_writes_nothing_once_the_owner_of_the_merged_segment_has_written() {
    assert!(!is_delayed_write_accepted_after_merge(Rule::Overlap));
}

#[test]
#[should_panic(expected = "was accepted after the newer")]
fn comparing_epochs_by_id_alone_lets_a_former_owner_write_after_a_split() {
    is_delayed_write_accepted_after_split(Rule::SameId);
}

#[test]
#[should_panic(expected = "was accepted after the newer")]
fn comparing_epochs_by_id_alone_lets_a_former_owner_write_after_a_merge() {
    is_delayed_write_accepted_after_merge(Rule::SameId);
}

#[test]
fn segments_overlap_if_one_of_them_covers_the_other() {
    let segments = (0..4_u32).flat_map(|bits| (0..1 << bits).map(move |id| Segment { id, mask: (1 << bits) - 1 }));
    let segments: std::vec::Vec<_> = segments.collect();
    for (one, other) in segments.iter().flat_map(|one| segments.iter().map(move |other| (*one, *other))) {
        assert_eq!(one.overlaps(other), one.covers(other) || other.covers(one), "{one:?} {other:?}");
    }
}
