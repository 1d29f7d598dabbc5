use proptest::prelude::*;

use super::*;

struct Fixed {
    me: Identity,
    admits: Result<(), Refused>,
    principal: Option<Principal>,
}

impl Admission for Fixed {
    fn me(&self) -> Identity {
        self.me
    }

    fn admit(&self, _: &PeerIdentity) -> Result<(), Refused> {
        self.admits.clone()
    }

    fn principal(&self) -> Option<Principal> {
        self.principal.clone()
    }
}

fn node(cluster: u128, node: u64) -> Fixed {
    let me = Identity {
        cluster: Some(ClusterId(Uuid::from_u128(cluster))),
        node: Some(NodeId(node)),
        incarnation: Incarnation(Uuid::from_u128(0xAA00 + u128::from(node))),
        level: FeatureLevel(3),
    };
    Fixed { me, admits: Ok(()), principal: None }
}

type HandshakeResult = Result<PeerIdentity, HandshakeError>;

/// Returns the results of both sides.
async fn meet(near: Fixed, far: Fixed, purpose: Purpose, wanted: Option<u64>) -> (HandshakeResult, HandshakeResult) {
    let (left, right) = tokio::io::duplex(64);
    let (mut left, mut right): (BoxedStream, BoxedStream) = (Box::new(left), Box::new(right));
    let near = async move { initiate(&mut left, &near, purpose, wanted.map(NodeId), "far:1").await };
    let far = async move { respond(&mut right, &far, "near:9").await };
    tokio::join!(near, far)
}

/// Checks that both sides refuse for `reason`, and that the error of the connecting side contains these texts.
async fn check_refused(near: Fixed, far: Fixed, wanted: Option<u64>, reason: Reason, text: &[&str]) {
    let (near, far) = meet(near, far, Purpose::Peer, wanted).await;
    let (near, far) = (near.unwrap_err(), far.unwrap_err());
    assert_eq!(near.refused().unwrap().reason, reason);
    assert_eq!(far.refused().unwrap().reason, reason);
    for part in text {
        assert!(near.to_string().contains(part), "`{near}` does not contain `{part}`");
    }
}

#[test]
fn hello_and_reply_have_the_documented_layout() {
    let me = node(0x0102_0304_0506_0708_090A_0B0C_0D0E_0F10, 7).me;
    let hello = Hello { version: 1, me, purpose: Purpose::Peer, wanted: Some(NodeId(9)) };
    let ada = Principal("ada".into());
    let mut golden = *b"EVENER\r\n\x01\0\x03\0\x01\x07\0\0\
        \x01\x02\x03\x04\x05\x06\x07\x08\x09\x0A\x0B\x0C\x0D\x0E\x0F\x10\
        \x07\0\0\0\0\0\0\0\
        \0\0\0\0\0\0\0\0\0\0\0\0\0\0\xAA\x07\
        \x09\0\0\0\0\0\0\0";
    assert_eq!(hello.encode(None), golden);
    golden[14] = 3;
    assert_eq!(hello.encode(Some(&ada)), [&golden[..], b"ada"].concat());
    golden[8] = 2;
    golden[12..16].copy_from_slice(&[4, 3, 2, 0]);
    golden[56] = 0;
    let refused = Refused { reason: Reason::NotAMember, text: "no".into() };
    assert_eq!(reply(&me, Some(&refused)), [&golden[..], b"no"].concat());
}

#[tokio::test]
async fn two_members_exchange_their_identities() {
    let (near, far) = meet(node(1, 1), node(1, 2), Purpose::Peer, Some(2)).await;
    let (near, far) = (near.unwrap(), far.unwrap());
    assert_eq!((near.identity, near.addr.as_str()), (node(1, 2).me, "far:1"));
    assert_eq!((far.identity, far.addr.as_str()), (node(1, 1).me, "near:9"));
}

#[tokio::test]
async fn the_accepting_side_receives_the_principal() {
    for (name, received) in [("", false), ("ada", true), (&"ä".repeat(512), true), (&"ä".repeat(513), false)] {
        let principal = Some(Principal(name.into()));
        let near = Fixed { principal: principal.clone(), ..node(1, 1) };
        let (near, far) = meet(near, node(1, 2), Purpose::Peer, Some(2)).await;
        assert_eq!(far.unwrap().principal, principal.filter(|_| received));
        assert_eq!(near.unwrap().principal, None);
    }
}

#[tokio::test]
async fn a_principal_that_is_too_long_or_not_utf8_is_refused() {
    for (length, name) in [(1_025_u16, &b""[..]), (u16::MAX, b""), (2, b"\xc3\x28")] {
        let hello = Hello { version: PROTOCOL_VERSION, me: node(1, 1).me, purpose: Purpose::Peer, wanted: None };
        let mut hello = hello.encode(None);
        hello[14..16].copy_from_slice(&length.to_le_bytes());
        hello.extend_from_slice(name);
        let (mut left, right) = tokio::io::duplex(4096);
        let mut right: BoxedStream = Box::new(right);
        left.write_all(&hello).await.unwrap();
        let refused = respond(&mut right, &node(1, 2), "near:9").await;
        assert!(matches!(refused, Err(HandshakeError::NotAPeer { .. })), "{length}: {refused:?}");
    }
}

#[tokio::test]
async fn an_unidentified_peer_may_inquire_without_a_cluster() {
    let unidentified = Fixed { me: Identity { cluster: None, node: None, ..node(0, 0).me }, ..node(0, 0) };
    let (near, far) = meet(unidentified, node(1, 2), Purpose::Inquiry, None).await;
    assert_eq!(near.unwrap().identity.cluster, node(1, 2).me.cluster);
    assert_eq!(far.unwrap().node(), None);
}

#[tokio::test]
async fn another_cluster_is_refused_and_both_are_named() {
    let (one, two) = (Uuid::from_u128(1).to_string(), Uuid::from_u128(2).to_string());
    check_refused(node(1, 1), node(2, 2), None, Reason::Cluster, &[&one, &two, "--join", "refused by node 2 at far:1"])
        .await;
    let (near, _) = meet(node(1, 1), node(2, 2), Purpose::Inquiry, None).await;
    assert_eq!(near.unwrap_err().refused().unwrap().reason, Reason::Cluster);
}

#[tokio::test]
async fn a_peer_without_a_cluster_is_refused_until_it_joins() {
    let unidentified = || Fixed { me: Identity { cluster: None, node: None, ..node(0, 0).me }, ..node(0, 0) };
    check_refused(unidentified(), node(1, 2), None, Reason::NotReady, &["must join first"]).await;
    check_refused(node(1, 2), unidentified(), None, Reason::NotReady, &["must join first"]).await;
}

#[tokio::test]
async fn another_node_than_wanted_is_refused() {
    check_refused(node(1, 1), node(1, 2), Some(3), Reason::Node, &["you reached node 2, wanted node 3"]).await;
}

#[tokio::test]
async fn an_emptied_data_directory_is_refused_with_a_hint() {
    let (old, new) = (Incarnation(Uuid::from_u128(5)), node(1, 1).me.incarnation);
    let far = Fixed { admits: Err(Refused::emptied(NodeId(1), old, new)), ..node(1, 2) };
    let text = [&old.to_string(), &new.to_string(), "emptied", "remove the node"].map(|part| part.to_owned());
    check_refused(node(1, 1), far, None, Reason::Incarnation, &text.each_ref().map(String::as_str)).await;
}

#[tokio::test]
async fn the_connecting_side_can_refuse_too() {
    let near = Fixed { admits: Err(Refused::not_a_member(NodeId(2), ClusterId(Uuid::from_u128(1)))), ..node(1, 1) };
    let (near, far) = meet(near, node(1, 2), Purpose::Peer, None).await;
    assert!(near.unwrap_err().to_string().starts_with("refused node 2 at far:1: node 2 is not a member"));
    assert!(far.is_ok());
}

/// Returns the error of a connecting node for a reply that was encoded by hand.
async fn greeted(reply: &[u8]) -> HandshakeError {
    let (left, mut right) = tokio::io::duplex(4096);
    let mut left: BoxedStream = Box::new(left);
    right.write_all(reply).await.unwrap();
    initiate(&mut left, &node(1, 1), Purpose::Peer, None, "far:1").await.unwrap_err()
}

#[tokio::test(start_paused = true)]
async fn another_version_is_refused_by_either_side() {
    let mut hello = Hello { version: 9, me: node(1, 1).me, purpose: Purpose::Peer, wanted: None }
        .encode(Some(&Principal("ada".into())));
    hello[12] = 77; // a purpose of version 9
    let (mut left, right) = tokio::io::duplex(4096);
    let mut right: BoxedStream = Box::new(right);
    left.write_all(&hello).await.unwrap();
    let refused = respond(&mut right, &node(1, 2), "near:9").await.unwrap_err();
    assert!(refused.to_string().contains("peer protocol 9 does not match peer protocol 2: upgrade"), "{refused}");

    let mut answer = reply(&node(1, 2).me, None);
    answer[8] = 9;
    assert_eq!(greeted(&answer).await.refused().unwrap().reason, Reason::Protocol);
}

#[tokio::test(start_paused = true)]
async fn a_listener_that_is_not_a_peer_differs_from_one_that_does_not_answer() {
    let http = [&b"HTTP/1.1 400 Bad Request\r\n"[..], &[b' '; 64]].concat();
    assert!(greeted(&http).await.to_string().contains("not its http address"));
    assert!(matches!(greeted(b"EVENER").await, HandshakeError::TimedOut { .. }));

    let (mut left, right) = tokio::io::duplex(4096);
    let mut right: BoxedStream = Box::new(right);
    left.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    assert!(matches!(respond(&mut right, &node(1, 2), "near:9").await, Err(HandshakeError::NotAPeer { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_text_over_its_limit_is_cut_between_characters() {
    let far = Fixed { admits: Err(Refused::other("ä".repeat(REFUSAL_TEXT_BYTES_MAX))), ..node(1, 2) };
    let (near, _) = meet(node(1, 1), far, Purpose::Peer, None).await;
    assert_eq!(near.unwrap_err().refused().unwrap().text, "ä".repeat(REFUSAL_TEXT_BYTES_MAX / 2));
    let mut answer = reply(&node(1, 2).me, Some(&Refused::other("")));
    answer[14..16].copy_from_slice(&u16::MAX.to_le_bytes());
    answer.extend([b'x'; 2048]);
    assert_eq!(greeted(&answer).await.refused().unwrap().text.len(), REFUSAL_TEXT_BYTES_MAX);
}

proptest! {
    #[test]
    fn decoding_any_bytes_never_panics(
        halves in any::<[[u8; 32]; 2]>(),
        honest: bool,
    ) {
        let mut bytes: [u8; 64] = halves.concat().try_into().unwrap();
        if honest {
            bytes[..8].copy_from_slice(MAGIC);
        }
        prop_assert_eq!(Reply::decode(&bytes).is_some(), honest);
        if let Some(hello) = Hello::decode(&bytes) {
            let again = Hello::decode(hello.encode(None)[..].try_into().unwrap());
            prop_assert_eq!(again.map(|again| again.wanted), Some(hello.wanted));
        }
    }
}
