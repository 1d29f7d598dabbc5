use evener_core::id::{ClusterId, FeatureLevel, Incarnation};
use tokio::sync::broadcast::error::TryRecvError;
use uuid::Uuid;

use super::*;
use crate::{
    handshake::{Identity, PeerIdentity, Refused},
    link::{Refusal, Server, Service},
    sim_wire::{self, SimNet},
    transport::{BoxFuture, TcpTransport},
};

const ECHO: Kind = Kind(100);
const NEVER: Kind = Kind(101);
const SOON: Duration = Duration::from_secs(2);

struct Node(u64);

impl Admission for Node {
    fn me(&self) -> Identity {
        Identity {
            cluster: Some(ClusterId(Uuid::from_u128(1))),
            node: Some(NodeId(self.0)),
            incarnation: Incarnation::default(),
            level: FeatureLevel::CURRENT,
        }
    }

    fn admit(&self, them: &PeerIdentity) -> Result<(), Refused> {
        let cluster = ClusterId(Uuid::from_u128(1));
        them.node().filter(|node| node.0 > 9).map_or(Ok(()), |node| Err(Refused::stranger(node, cluster)))
    }
}

impl Service for Node {
    fn handle(&self, kind: Kind, _: Arc<PeerIdentity>, payload: Bytes) -> BoxFuture<'static, Result<Bytes, Refusal>> {
        Box::pin(async move {
            if kind == NEVER {
                std::future::pending::<()>().await;
            }
            Ok(payload)
        })
    }
}

/// Node 1's view of node 2, which serves at n2:1.
struct Story {
    net: SimNet,
    server: Server,
    peers: Peers,
    news: broadcast::Receiver<PeerEvent>,
}

async fn serve(net: &SimNet, number: u64) -> Server {
    let host = format!("n{number}");
    let listener = net.host(&host).bind(&format!("{host}:1")).await.unwrap();
    Server::start(listener, Arc::new(Node(number)), Arc::new(Node(number))).unwrap()
}

fn peers(net: &SimNet, number: u64) -> Peers {
    Peers::new(Arc::new(net.host(&format!("n{number}"))), Arc::new(Node(number)), Settings::default())
}

async fn story() -> Story {
    let net = SimNet::new(sim_wire::Settings::seeded(1));
    let server = serve(&net, 2).await;
    let peers = peers(&net, 1);
    let news = peers.events();
    Story { net, server, peers, news }
}

impl Story {
    /// With node 2 known and up.
    async fn up() -> Self {
        let mut t = story().await;
        t.peers.keep(NodeId(2), "n2:1");
        assert_eq!(t.next().await, PeerEvent::Up(NodeId(2)));
        t
    }

    async fn next(&mut self) -> PeerEvent {
        timeout(Duration::from_secs(60), self.news.recv()).await.expect("there is news").unwrap()
    }

    async fn echo(&self, lane: Lane) -> Result<Bytes, CallError> {
        self.peers.call(NodeId(2), lane, ECHO, Bytes::from_static(b"hey"), SOON).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_known_member_is_reached_on_every_lane_by_a_connection_of_its_own() {
    let t = Story::up().await;
    for lane in [Lane::Control, Lane::Append, Lane::Work, Lane::Work] {
        assert_eq!(t.echo(lane).await.unwrap(), "hey");
    }
    assert_eq!(t.net.connections(), 3);
    assert_eq!(t.peers.presence(NodeId(2)), Presence::Up);
    assert_eq!(t.peers.kept(), [NodeId(2)]);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_member_is_not_asked() {
    let t = story().await;
    let error = t.echo(Lane::Work).await.unwrap_err();
    assert!(!error.may_have_happened() && error.to_string().contains("no member that this node knows"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_killed_process_is_told_at_once_as_gone() {
    let mut t = Story::up().await;
    let start = Instant::now();
    t.net.kill("n2");
    assert_eq!(t.next().await, PeerEvent::Lost(NodeId(2), Sign::Gone));
    assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
    assert_eq!(t.peers.presence(NodeId(2)), Presence::Lost(Sign::Gone));
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(t.news.try_recv(), Err(TryRecvError::Empty), "told once");
    drop(t.server);
    t.server = serve(&t.net, 2).await;
    assert_eq!(t.next().await, PeerEvent::Up(NodeId(2)));
    assert!(t.echo(Lane::Control).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_broken_connection_to_a_living_process_is_mended_and_is_no_loss() {
    let mut t = Story::up().await;
    t.net.cut("n1", "n2");
    assert_eq!(t.next().await, PeerEvent::Up(NodeId(2)));
    assert!(t.echo(Lane::Control).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_member_cut_off_is_silent_not_gone() {
    let mut t = Story::up().await;
    t.net.partition(&["n1"], &["n2"]);
    assert_eq!(t.next().await, PeerEvent::Lost(NodeId(2), Sign::Silent));
    t.net.kill("n2");
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(t.news.try_recv(), Err(TryRecvError::Empty));
    t.net.heal();
    assert_eq!(t.next().await, PeerEvent::Lost(NodeId(2), Sign::Gone));
}

#[tokio::test(start_paused = true)]
async fn who_is_never_reached_is_told_too() {
    let mut t = story().await;
    t.peers.keep(NodeId(3), "n3:1");
    assert_eq!(t.next().await, PeerEvent::Lost(NodeId(3), Sign::Gone));
    t.peers.keep(NodeId(4), "n2:1");
    assert_eq!(t.next().await, PeerEvent::Lost(NodeId(4), Sign::Rejected(Reason::Node)));
}

#[tokio::test(start_paused = true)]
async fn after_a_failure_others_are_told_at_once_until_the_back_off_has_passed() {
    let mut t = Story::up().await;
    t.net.partition(&["n1"], &["n2"]);
    let start = Instant::now();
    let lost = t.echo(Lane::Work).await.unwrap_err();
    assert!(!lost.may_have_happened());
    let slow = start.elapsed();
    assert!(slow >= Settings::default().connect_wait);
    let again = t.echo(Lane::Work).await.unwrap_err();
    assert_eq!(start.elapsed(), slow, "nobody waits for what has just failed");
    assert!(again.to_string().contains("no connection within 1s"), "{again}");
    t.net.heal();
    tokio::time::sleep(Settings::default().backoff_max).await;
    assert!(t.echo(Lane::Work).await.is_ok());
    let _ = &mut t.news;
}

#[tokio::test(start_paused = true)]
async fn many_who_ask_at_once_share_one_attempt() {
    let t = Story::up().await;
    let asked = (0..50).map(|_| t.echo(Lane::Work));
    assert!(futures::future::join_all(asked).await.into_iter().all(|answer| answer.is_ok()));
    assert_eq!(t.net.connections(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_new_address_closes_the_links_to_the_old_one() {
    let mut t = Story::up().await;
    let old = t.peers.link(NodeId(2), Lane::Work).await.unwrap();
    t.peers.keep(NodeId(2), "n2:1"); // the same: nothing happens
    assert!(!old.is_closed());
    let listener = t.net.host("n2").bind("n2:2").await.unwrap();
    let _moved = Server::start(listener, Arc::new(Node(2)), Arc::new(Node(2))).unwrap();
    t.peers.keep(NodeId(2), "n2:2");
    assert_eq!(t.next().await, PeerEvent::Up(NodeId(2)));
    old.closed().await;
    assert_eq!(t.peers.link(NodeId(2), Lane::Work).await.unwrap().peer().addr, "n2:2");
}

#[tokio::test(start_paused = true)]
async fn who_is_forgotten_is_left_alone_and_calls_to_it_end() {
    let t = Story::up().await;
    let calling = t.peers.call(NodeId(2), Lane::Work, NEVER, Bytes::new(), Duration::from_secs(60));
    let forget = async {
        while t.net.connections() < 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        t.peers.forget(NodeId(2));
    };
    let (failed, ()) = tokio::join!(calling, forget);
    assert!(failed.unwrap_err().may_have_happened());
    assert_eq!(t.peers.presence(NodeId(2)), Presence::Unknown);
    assert!(t.echo(Lane::Work).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_stranger_may_ask() {
    let t = story().await;
    let link = t.peers.inquire("n2:1").await.unwrap();
    assert_eq!(link.peer().node(), Some(NodeId(2)));
    assert_eq!(link.call(ECHO, Bytes::from_static(b"who"), SOON).await.unwrap(), "who");
    let error = t.peers.inquire("n3:1").await.unwrap_err();
    assert_eq!(error.sign, Some(Sign::Gone));
    assert_eq!(error.to_string(), "failed to reach n3:1: connection refused");
}

#[tokio::test(start_paused = true)]
async fn shutdown_ends_all_links_and_tasks_on_both_sides() {
    let t = Story::up().await;
    t.echo(Lane::Append).await.unwrap();
    t.peers.shutdown().await;
    assert!(t.peers.link(NodeId(2), Lane::Work).await.is_err());
    t.peers.keep(NodeId(2), "n2:1");
    assert!(t.peers.kept().is_empty());
    t.server.shutdown().await;
    while t.net.connections() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn over_real_sockets_a_process_that_ends_is_gone_at_once() {
    let listener = TcpTransport.bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let server = Server::start(listener, Arc::new(Node(2)), Arc::new(Node(2))).unwrap();
    let peers = Peers::new(Arc::new(TcpTransport), Arc::new(Node(1)), Settings::default());
    let mut news = peers.events();
    peers.keep(NodeId(2), &addr);
    assert_eq!(news.recv().await.unwrap(), PeerEvent::Up(NodeId(2)));
    let answer = peers.call(NodeId(2), Lane::Append, ECHO, vec![3; 1 << 20].into(), SOON).await.unwrap();
    assert_eq!(answer.len(), 1 << 20);
    server.shutdown().await;
    let mut event = news.recv().await.unwrap();
    if event == PeerEvent::Lost(NodeId(2), Sign::Silent) {
        event = news.recv().await.unwrap(); // connected just before the door closed
    }
    assert_eq!(event, PeerEvent::Lost(NodeId(2), Sign::Gone));
    peers.shutdown().await;
}
