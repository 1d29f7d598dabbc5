//! Golden bytes of every layout: bytes written today remain readable in all later versions.

use super::*;

fn raft_member() -> RaftMember {
    RaftMember {
        name: "a".into(),
        peer: "h:1".into(),
        http: "http://h:2".into(),
        incarnation: Incarnation(Uuid::from_u128(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10)),
    }
}

fn place(term: u64, index: u64) -> LogId {
    LogId { leader_id: term.into(), index }
}

fn membership() -> Membership {
    Membership::new(vec![BTreeSet::from([1])], BTreeMap::from([(1, raft_member())])).unwrap()
}

fn entries() -> Vec<Entry> {
    let payload = Payload { context: ContextId(7), count: 2, bytes: Bytes::from_static(b"xyz") };
    vec![
        Entry::new(place(2, 5), EntryPayload::Blank),
        Entry::new(place(2, 6), EntryPayload::Membership(membership())),
        Entry::new(place(2, 7), EntryPayload::Normal(payload)),
    ]
}

/// Compares with golden bytes, which remain readable in all later versions.
#[track_caller]
fn check<T: Layout + std::fmt::Debug>(value: &T, golden: &str) {
    let bytes = value.to_bytes();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, golden.replace([' ', '\n'], ""), "the layout of {} has changed", T::WHAT);
    let back = T::from_bytes(bytes.clone()).unwrap();
    assert_eq!(format!("{back:?}"), format!("{value:?}"));
    for cut in 0..bytes.len() {
        T::from_bytes(bytes.slice(..cut)).expect_err("fewer bytes are refused");
    }
    let longer = [&bytes[..], &[0]].concat();
    T::from_bytes(longer.into()).expect_err("more bytes are refused");
}

const VOTE: &str = "01 0300000000000000 0200000000000000 01";

#[test]
fn golden_votes_and_places() {
    check(&Vote::new_committed(3, 2), VOTE);
    check(&Vote::new(3, 2), "01 0300000000000000 0200000000000000 00");
    check(&place(3, 9), "0300000000000000 0900000000000000");
}

#[test]
fn golden_membership() {
    let golden = "01 01 0100 0100000000000000 0100 0100000000000000
        0100 61 0300 683a31 0a00 687474703a2f2f683a32 0102030405060708090a0b0c0d0e0f10";
    check(&membership(), golden);
    check(&Membership::default(), "01 00 0000");
}

#[test]
fn golden_append() {
    let request = AppendEntriesRequest::<Types> {
        vote: Vote::new_committed(3, 2),
        prev_log_id: Some(place(1, 4)),
        entries: entries(),
        leader_commit: None,
    };
    let golden = format!(
        "{VOTE} 01 0100000000000000 0400000000000000 00 03000000
         0200000000000000 0500000000000000 00 00000000 00000000 00000000
         0200000000000000 0600000000000000 01 00000000 00000000 3a000000
            01 01 0100 0100000000000000 0100 0100000000000000
            0100 61 0300 683a31 0a00 687474703a2f2f683a32 0102030405060708090a0b0c0d0e0f10
         0200000000000000 0700000000000000 02 07000000 02000000 03000000 78797a"
    );
    check(&request, &golden);
    check::<Appended>(&Ok(Some(place(2, 7))), "00 01 0200000000000000 0700000000000000");
    check::<Appended>(&Err(StreamAppendError::Conflict(place(2, 7))), "01 0200000000000000 0700000000000000");
    check::<Appended>(&Err(StreamAppendError::HigherVote(Vote::new_committed(3, 2))), &format!("02 {VOTE}"));
}

#[test]
fn golden_ballots_and_transfer() {
    let last = "01 0200000000000000 0700000000000000";
    let mut request = VoteRequest::<Types>::new(Vote::new_committed(3, 2), Some(place(2, 7)));
    request.leadership_transfer = true;
    check(&request, &format!("{VOTE} {last} 01"));
    check(&VoteResponse::<Types>::new(Vote::new_committed(3, 2), None, true), &format!("{VOTE} 01 00"));
    let transfer = TransferLeaderRequest::<Types>::new(Vote::new_committed(3, 2), 4, Some(place(2, 7)));
    check(&transfer, &format!("{VOTE} 0400000000000000 {last}"));
}

#[test]
fn a_count_without_its_entries_is_refused() {
    let mut bytes = BytesMut::new();
    Vote::new_committed(3, 2).put(&mut bytes);
    bytes.put_slice(&[0, 0, 0xff, 0xff, 0xff, 0xff]);
    AppendEntriesRequest::<Types>::from_bytes(bytes.freeze()).expect_err("there are no such entries");
}
